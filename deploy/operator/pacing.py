"""So many runs a minute: spread over it, and never more in any minute, wherever one begins to count.

Rule that holds here: what was started counts from the moment at which its answer came, so it is never counted too early.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_MINUTE: Final = 60.0


class Pace:
    """Asked before every page how long to rest, and told behind it what it has started."""

    def __init__(
        self,
        per_minute: int,
        most: int,
        *,
        now: Callable[[], float] = time.monotonic,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        """`most`: so many a page may start. A page is what may start within a second, where that is less."""
        self.page: Final = max(1, min(most, per_minute // 60))
        self._per_minute, self._now, self._rest = per_minute, now, rest
        self._started = deque[tuple[float, int]]()
        self._due = self._began = now()

    def begin(self) -> None:
        """Rest until the next page may start all that it may."""
        while (due := max(self._due, self._room_at())) > (now := self._now()):
            self._rest(due - now)
        self._began = self._now()

    def started(self, count: int) -> None:
        """A page has started so many."""
        self._due = self._began + count * _MINUTE / self._per_minute
        if count:
            self._started.append((self._now(), count))

    def _room_at(self) -> float:
        """When a whole page fits into the minute that ends then."""
        now = self._now()
        while self._started and self._started[0][0] <= now - _MINUTE:
            self._started.popleft()
        left = self._per_minute - sum(count for _, count in self._started)
        for at, count in self._started:
            if left >= self.page:
                break
            left, now = left + count, at + _MINUTE
        return now
