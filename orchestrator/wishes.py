"""Who wants to pass a gate, and what was decided of all who do."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from contracts.gates import GateEvent


class Asking(Struct, frozen=True, kw_only=True):
    """A run that wants to pass."""

    run: str
    opening: int = 1
    since: datetime
    """When it began to wait: the same however often it asks."""
    rank: int = 0
    """The lower, the sooner."""
    size: int = 0
    """Bytes of what started it."""


class Decided(Struct, frozen=True, kw_only=True):
    """What follows, and what is to be done besides."""

    events: tuple[GateEvent, ...] = ()
    inside: tuple[str, ...] = ()
    """Of those who ask: who is let in, or was before and did not hear it."""
    refused: tuple[str, ...] = ()
    """Of those who ask: who is not let in and may not wait."""
    waiting: tuple[str, ...] = ()
    """Of those who ask: who may wait, in the order in which they come in."""
    stop: tuple[str, ...] = ()
    """Whoever is inside and shall stop. The slot is free when it has."""
    again: datetime | None = None
    """When the next one is let in, if it is time that somebody waits for."""
    superseded: Mapping[str, str] = {}
    """Of those who ask: who does not go on, and the newer one that does."""
    first: datetime | None = None
    """When the first of those came of which only the newest goes on."""
