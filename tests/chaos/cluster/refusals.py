"""Who was refused, and whether anybody may have been.

Only without a majority, while a new leader is chosen, and while those who were sent away meanwhile come back all at once.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from tests.promises.evidence import Violation

ELECTION_SECONDS: Final = 12.0
"""After a fault began, or was healed, for so long a stream may have no leader: the copies wait 4-9 s before they choose a
new one, and what was sent into a cut comes through late (TCP waits longer and longer)."""
RECOVERED_SECONDS: Final = 30.0
"""So long after a fault those who were sent away may be too many at once: what any overload has to be over after (P11)."""
_IN_FLIGHT_SECONDS: Final = 1.0


class Struck(Struct, frozen=True, kw_only=True):
    """A fault that happened."""

    kind: str
    began: float
    ended: float
    """When nothing stood between the nodes any more."""
    healthy: float
    """When all of them were whole again."""
    majority_lost: bool = False
    said: dict[str, Any] = {}


class Told(Struct, frozen=True, kw_only=True):
    """One delivery in the ledger of the senders, and what came of it."""

    key: str
    began: float
    ended: float
    what: str


def told_in(ledger: Path) -> list[Told]:
    found: list[Told] = []
    for line in ledger.read_bytes().splitlines() if ledger.exists() else ():
        said = msgspec.json.decode(line)
        if said["w"] != "invoke":
            found.append(Told(key=said["k"], began=said["t"] - said["s"], ended=said["t"], what=said["w"]))
    return found


def misjudged(told: Sequence[Told], struck: Sequence[Struck]) -> Iterator[Violation]:
    """Refused although the cluster could write and no crowd was there; accepted although it could not."""
    crowd = _crowd(told, struck)
    for each in told:
        if each.what == "fail" and not (
            any(_excuses(fault, each) for fault in struck) or _is_crowded(each.ended, crowd, struck)
        ):
            yield Violation("P11", f"{each.key} was refused at {each.ended:.1f}, when nothing was wrong")
        if each.what == "ok":
            for fault in struck:
                if (
                    fault.majority_lost
                    and fault.began + _IN_FLIGHT_SECONDS < each.began
                    and each.ended < fault.ended
                ):
                    yield Violation("P1", f"{each.key} was accepted at {each.ended:.1f} without a majority")


def _excuses(fault: Struck, told: Told) -> bool:
    return fault.began <= told.ended and told.began <= max(fault.ended + ELECTION_SECONDS, fault.healthy)


def _crowd(told: Sequence[Told], struck: Sequence[Struck]) -> list[tuple[float, float]]:
    """Of everybody who was sent away for a fault: from when, and until when he was let in."""
    away: dict[str, float] = {}
    let_in: dict[str, float] = {}
    for each in sorted(told, key=lambda each: each.ended):
        if each.what in {"ok", "dup"}:
            let_in.setdefault(each.key, each.ended)
        elif any(_excuses(fault, each) for fault in struck):
            away.setdefault(each.key, each.ended)
    return [(since, let_in.get(key, float("inf"))) for key, since in away.items()]


def _is_crowded(moment: float, crowd: Sequence[tuple[float, float]], struck: Sequence[Struck]) -> bool:
    return any(fault.ended <= moment <= fault.ended + RECOVERED_SECONDS for fault in struck) and any(
        since <= moment <= until for since, until in crowd
    )
