"""Moments that are near, kept in memory: a clock that rings to the millisecond, beside the wake-ups that lie in INBOX.

A convenience and no promise. What lies in INBOX costs a sync when it comes, some hundred of them a second; these cost
nothing, so that many schedules may fire at the same moment. Dying with the process they lose nothing: the wake-up in INBOX
is a moment later, and is moved on when the alarm was heard.
"""

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias

from chassis.clock import Clock

Key: TypeAlias = tuple[str, str]
"""An org and a schedule in it."""

LONGEST_NAP: Final = 1.0
"""The wall's clock may be set anew meanwhile."""
MOST: Final = 50_000


class Alarms:
    """`ring` is told the key, and what was handed over with it."""

    def __init__(self, clock: Clock, ring: Callable[[Key, int], None]) -> None:
        self._clock, self._ring = clock, ring
        self._set: dict[Key, tuple[datetime, int]] = {}
        self._heap: list[tuple[datetime, Key]] = []
        self._changed = asyncio.Event()

    def set(self, key: Key, due: datetime, mark: int) -> None:
        """One alarm for each key: the one that was set last."""
        if key not in self._set and len(self._set) >= MOST:
            return
        self._set[key] = due, mark
        heapq.heappush(self._heap, (due, key))
        if self._heap[0] == (due, key):
            self._changed.set()

    def drop(self, key: Key) -> None:
        self._set.pop(key, None)

    async def run(self) -> None:
        """Ring for ever."""
        while True:
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                due, key = heapq.heappop(self._heap)
                if key in self._set and self._set[key][0] == due:
                    self._ring(key, self._set.pop(key)[1])
            left = (self._heap[0][0] - now).total_seconds() if self._heap else LONGEST_NAP
            self._changed.clear()
            try:
                async with asyncio.timeout(min(left, LONGEST_NAP)):
                    await self._changed.wait()
            except TimeoutError:
                pass  # A moment has come, or it is time to look at the wall's clock again.
