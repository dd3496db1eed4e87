"""The faults of a campaign. Each begins, lasts, ends, and says what it did."""

import random
import signal
from collections.abc import Callable
from typing import Any, Final, Protocol

from deploy.testing.installation import SERVICES
from tests.chaos.field import Field


class Fault(Protocol):
    """One thing that goes wrong for a while."""

    kind: str
    name: str
    seconds: float
    kills: bool
    """Whether it ends a process, so that one may ask how long it took until all had moved on."""

    async def begin(self, field: Field) -> dict[str, Any]:
        """What there is to say about it."""
        ...

    async def end(self, field: Field) -> dict[str, Any]: ...


class Nothing:
    """What most faults have in common: nothing to end."""

    kind = ""
    kills = False
    seconds = 0.5

    def __init__(self, name: str) -> None:
        self.name = name

    async def begin(self, field: Field) -> dict[str, Any]:
        raise NotImplementedError

    async def end(self, _field: Field) -> dict[str, Any]:
        return {}


class Kill(Nothing):
    """SIGKILL to a service (F1) or a server (F2, F3, F4)."""

    kills = True

    def __init__(self, kind: str, victim: str) -> None:
        super().__init__(f"kill -9 {victim}")
        self.kind, self._victim = kind, victim

    async def begin(self, field: Field) -> dict[str, Any]:
        return {"pid": field.strike(self._victim, signal.SIGKILL)}


Maker = Callable[[random.Random], Fault]

DECK: Final[tuple[tuple[int, Maker], ...]] = (
    (8, lambda chance: Kill("F1", chance.choice(SERVICES))),
    (3, lambda _: Kill("F2", "nats")),
    (2, lambda _: Kill("F3", "postgres")),
    (1, lambda _: Kill("F4", "redis")),
)
