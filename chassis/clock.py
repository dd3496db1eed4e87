"""Time as a value: whoever needs the hour is handed a clock."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

CLOCKS_APART_SECONDS: Final = 1.0
"""How far the clock of another machine may be ahead of or behind ours."""


class Clock(Protocol):
    """What the shells ask for the time. Decisions never do: they are told."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        ...

    def seconds(self) -> float:
        """A clock that only goes forward, for measuring and for bounds."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:  # noqa: TID251  # The one place that reads it.
        self._wall = wall

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    def seconds(self) -> float:
        return time.monotonic()
