"""A clock that stands still until a test moves it."""

from datetime import datetime, timedelta

from chassis.testing.world import START


class HandClock:
    """Wall clock and monotonic clock, moved together, in seconds since the beginning."""

    def __init__(self, at: datetime = START) -> None:
        self._at = at
        self.moved = 0.0

    def now(self) -> datetime:
        return self._at + timedelta(seconds=self.moved)

    def seconds(self) -> float:
        return 1_000.0 + self.moved
