"""Who is there: what executors said of themselves last, and when. Nothing of it is stored; a second after a start it is known."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import structlog
from msgspec import Struct

from chassis.clock import Clock
from chassis.ports import Signals
from contracts.codec import Decoder, Malformed
from contracts.limits import EXECUTORS_SHOWN
from contracts.pools import ExecutorHere, Labels
from contracts.subjects import HERE_ALL

LOST_SECONDS: Final = 3.0
"""Who was silent for so long is lost: what it had is given to others by then."""
FORGOTTEN_SECONDS: Final = 3600.0

log = structlog.get_logger()
_decode: Final = Decoder[ExecutorHere](ExecutorHere)


class Seen(Struct, frozen=True, kw_only=True):
    """An executor in one pool, as it was when it spoke last."""

    said: ExecutorHere
    at: float
    """Unix seconds, by our own clock."""


class Watch:
    """Listens while `run` runs."""

    def __init__(self, signals: Signals, clock: Clock, most: int = EXECUTORS_SHOWN) -> None:
        self._signals, self._clock, self._most = signals, clock, most
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self._spoke = asyncio.Condition()

    async def run(self) -> None:
        """Hear them for ever."""
        heard = asyncio.Event()

        def hear(subject: str, body: bytes, _answer: object) -> None:
            self._take(subject, body)
            heard.set()

        async with self._signals.listen(HERE_ALL, hear):
            while True:
                await heard.wait()
                heard.clear()
                async with self._spoke:
                    self._spoke.notify_all()

    def now(self) -> float:
        return self._clock.now().timestamp()

    def of(self, pool: str) -> list[Seen]:
        """The executors of a pool, those that were lost lately included."""
        return [seen for seen in self._fresh() if seen.said.pool == pool]

    def pools(self) -> set[str]:
        return {seen.said.pool for seen in self._fresh()}

    def is_lost(self, seen: Seen) -> bool:
        return self.now() - seen.at > LOST_SECONDS

    def labelled(self, pool: str, labels: Labels) -> list[Seen]:
        """Those of a pool that are there now and say all of this of themselves."""
        there = (seen for seen in self.of(pool) if not self.is_lost(seen))
        return [seen for seen in there if labels.items() <= seen.said.labels.items()]

    def find(self, pool: str, executor: str) -> Seen | None:
        """One that is there now."""
        seen = self._seen.get((pool, executor))
        return None if seen is None or self.is_lost(seen) else seen

    async def until_draining(self, pool: str, executor: str, seconds: float) -> Seen | None:
        """How it is once it says that it drains; None when it has not said so in time."""

        def drains() -> bool:
            seen = self._seen.get((pool, executor))
            return seen is not None and seen.said.draining

        try:
            async with asyncio.timeout(seconds), self._spoke:
                await self._spoke.wait_for(drains)
        except TimeoutError:
            return None
        return self._seen.get((pool, executor))

    def _take(self, subject: str, body: bytes) -> None:
        try:
            said = _decode(body)
        except Malformed as error:
            log.warning("pools.unreadable", subject=subject[:100], reason=str(error))
            return
        name = (said.pool, said.executor)
        self._seen[name] = Seen(said=said, at=self.now())
        self._seen.move_to_end(name)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def _fresh(self) -> Iterator[Seen]:
        until = self.now() - FORGOTTEN_SECONDS
        return (seen for seen in list(self._seen.values()) if seen.at > until)
