"""Pauses as the API tells and takes them."""

from datetime import datetime

from msgspec import Struct

from contracts.limits import Id
from contracts.pauses import Paused, PauseReason
from contracts.runs import Actor


class BeginPause(Struct, frozen=True, kw_only=True):
    """Ask for no further attempts of it. Why is told to whoever finds it paused."""

    what: Paused
    name: Id
    """The org's own id, a workflow's, or a pool's name."""
    reason: PauseReason = ""


class EndPause(Struct, frozen=True, kw_only=True):
    """Take it up again."""

    what: Paused
    name: Id


class PauseView(Struct, frozen=True, kw_only=True):
    """Something that is paused."""

    what: Paused
    name: str
    by: Actor
    since: datetime
    reason: str


class HeldView(Struct, frozen=True, kw_only=True):
    """What the org wants of a pool, where some of it is held; as the engine said it within the last two seconds."""

    pool: str
    waiting: int
    """Attempts that are held until there is room."""
    paused: int
    """Attempts that are held because somebody paused them."""
    out: int
    """Attempts that are asked for: an executor has them, or will have them soon."""


class PausesView(Struct, frozen=True, kw_only=True):
    """Everything that is paused, and everything that is held."""

    pauses: list[PauseView]
    held: list[HeldView]
