"""Calls of workers outside that wait for work: so many at the most, each over when whoever made it has gone."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from chassis.edge.problems import Problem
from chassis.ports import Given, Handing
from contracts.limits import WORKER_POLLS, WORKER_POLLS_IN_ALL
from contracts.streams import Consumer

ANEW_SECONDS: Final = 5.0
"""As often as executors ask."""


class Waiting:
    """One per process."""

    def __init__(self, handing: Handing) -> None:
        self._handing = handing
        self._calls: Counter[str] = Counter()
        self._waits: set[asyncio.Timeout] = set()
        self._closed = False

    @property
    def calls(self) -> int:
        return self._calls.total()

    def close(self) -> None:
        """Answer everybody who waits for work."""
        self._closed = True
        for wait in self._waits:
            _end(wait)

    @contextmanager
    def room(self, token: str) -> Iterator[None]:
        """For one more call of a token. Raises `Problem` when too many wait."""
        if self._calls[token] >= WORKER_POLLS or self._calls.total() >= WORKER_POLLS_IN_ALL:
            raise Problem(
                "rate_limited",
                f"{WORKER_POLLS} calls of a token may wait for work at once.",
                headers={"retry-after": "1"},
            )
        self._calls[token] += 1
        try:
            yield
        finally:
            self._calls[token] -= 1
            if not self._calls[token]:
                del self._calls[token]

    async def fetch(self, consumer: Consumer, most: int, seconds: float, gone: "Gone | None") -> list[Given]:
        """What comes within these seconds; nothing when nobody waits for it any more."""
        if self._closed or (gone is not None and gone.is_gone):
            return []
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                if gone is not None:
                    gone.tell = lambda: _end(wait)
                try:
                    return await self._asked(consumer, most, seconds)
                finally:
                    self._waits.discard(wait)
                    if gone is not None:
                        gone.tell = _nobody_waits
        except TimeoutError:
            return []

    async def _asked(self, consumer: Consumer, most: int, seconds: float) -> list[Given]:
        """Whoever asked while the pool was held is given nothing when it goes on: so the question is put anew."""
        loop = asyncio.get_running_loop()
        while True:
            patience, began = min(seconds, ANEW_SECONDS), loop.time()
            given = await self._handing.fetch(consumer, most, patience)
            seconds -= patience
            cut_short = loop.time() - began < patience / 2
            if given or seconds <= 0 or cut_short:
                return given


class Gone:
    """Tells that whoever asked has gone."""

    def __init__(self) -> None:
        self.is_gone = False
        self.tell: Callable[[], None] = _nobody_waits

    def set(self) -> None:
        self.is_gone = True
        self.tell()


def _nobody_waits() -> None:
    """Nothing is to be ended."""


def _end(wait: asyncio.Timeout) -> None:
    if not wait.expired():
        wait.reschedule(asyncio.get_running_loop().time())
