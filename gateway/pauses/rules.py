"""What may be paused."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from chassis.pauses import AGGREGATE, NONE, Pauses, evolve
from contracts.limits import PAUSES
from contracts.pauses import PauseBegan, Paused, PauseEnded, PauseEvent
from contracts.runs import Actor
from gateway.domain import Aggregate
from gateway.rejected import Rejected


class What(Struct, frozen=True):
    """What is meant, and who means it."""

    what: Paused
    name: str
    by: Actor


def begin(pauses: Pauses, what: What, reason: str, at: datetime) -> list[PauseEvent]:
    """Pausing what is paused changes nothing: who did it first, and why, stands."""
    if (what.what, what.name) in pauses:
        return []
    if len(pauses) >= PAUSES:
        raise Rejected("conflict", f"An org has {PAUSES} pauses at the most.")
    return [PauseBegan(what=what.what, name=what.name, by=what.by, since=at, reason=reason)]


def end(pauses: Pauses, what: What) -> list[PauseEvent]:
    """Taking up what is not paused changes nothing."""
    if (what.what, what.name) not in pauses:
        return []
    return [PauseEnded(what=what.what, name=what.name, by=what.by)]


ORG_PAUSES: Final = Aggregate[Pauses, PauseEvent](name=AGGREGATE, new=NONE, evolve=evolve)
