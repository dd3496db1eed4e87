"""Faults on the ways between a service and what it stands on: cut, slow, broken, deaf on one side."""

import random
from typing import Any, Final

from tests.chaos.faults import Once
from tests.chaos.field import Field

_KINDS: Final = ("nats", "nats", "nats", "postgres", "redis", "world")
_USERS: Final = {
    "nats": ("ingress", "orchestrator", "executor", "projections", "gateway"),
    "postgres": ("ingress", "executor", "projections", "gateway"),
    "redis": ("ingress", "gateway"),
    "world": ("executor",),
}


class Manners(Once):
    """A way has bad manners for a while."""

    def __init__(self, kind: str, link: str, seconds: float, **manners: Any) -> None:
        shown = " ".join(f"{name}={value}" for name, value in manners.items())
        super().__init__(kind, f"{link} {shown}")
        self.seconds, self._link, self._manners = seconds, link, manners

    async def begin(self, field: Field) -> dict[str, Any]:
        field.manners(self._link, **self._manners)
        return {}

    async def end(self, field: Field) -> dict[str, Any]:
        field.manners(self._link)
        return {}


def partition(chance: random.Random) -> Manners:
    """F6: nothing gets through, or only one way, or nobody may connect."""
    manners: dict[str, Any] = chance.choice(
        ({"hold": True}, {"half": "down"}, {"half": "down"}, {"half": "up"}, {"refuse": True})
    )
    return Manners("F6", _link(chance), chance.uniform(1, 12), **manners)


def bad_line(chance: random.Random) -> Manners:
    """F7. A flipped bit only where it is noticed: TCP and TLS have checksums, our proxy is behind them."""
    link = _link(chance)
    choices: list[dict[str, Any]] = [
        {"latency": round(chance.uniform(0.05, 0.5), 2), "jitter": 0.1},
        {"latency": 0.0, "jitter": 0.3},
        {"slice": 1},
        {"rate": 64_000.0},
        {"rst": True},
        {"cut": chance.randint(1, 20_000)},
    ]
    if link.endswith("-nats"):
        choices.append({"flip": 0.05})
    return Manners("F7", link, chance.uniform(1, 8), **chance.choice(choices))


def _link(chance: random.Random) -> str:
    kind = chance.choice(_KINDS)
    return f"{chance.choice(_USERS[kind])}-{kind}"
