"""Who waits in this process for a run's own answer: one subject each, under one subscription."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog

from chassis.edge.problems import Problem
from chassis.ports import Signals
from contracts.codec import Decoder, Malformed
from contracts.messages import Responded
from contracts.subjects import reply

log = structlog.get_logger()

_decode = Decoder[Responded](Responded)


class Waiting:
    """Answers by number. `listening` must be open while somebody waits."""

    def __init__(self, signals: Signals, instance: str, most: int = 2_000) -> None:
        """`most` may wait at once."""
        self._signals = signals
        self._instance = instance
        self._most = most
        self._numbers = itertools.count(1)
        self._places: dict[str, asyncio.Future[Responded | None]] = {}
        self._over = False
        self.refused = 0
        """Deliveries that found no place."""

    def __len__(self) -> int:
        return len(self._places)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with self._signals.listen(reply("ingress", self._instance, "*"), self._heard):
            yield

    @contextmanager
    def place(self) -> Iterator[tuple[str, "asyncio.Future[Responded | None]"]]:
        """A subject to be answered on, and the answer to come; None where nobody waits for it any longer.

        Raises `Problem` when too many wait.
        """
        if len(self._places) >= self._most:
            self.refused += 1
            raise Problem("overloaded", "Too many wait for an answer.", headers={"retry-after": "5"})
        number = str(next(self._numbers))
        answered: asyncio.Future[Responded | None] = asyncio.get_running_loop().create_future()
        self._places[number] = answered
        if self._over:
            answered.set_result(None)
        try:
            yield reply("ingress", self._instance, number), answered
        finally:
            del self._places[number]

    def let_go(self) -> None:
        """Tell whoever waits that the run goes on: we end before it does."""
        self._over = True
        for answered in self._places.values():
            if not answered.done():
                answered.set_result(None)

    def _heard(self, subject: str, body: bytes, _answer: Callable[[bytes], None]) -> None:
        place = self._places.get(subject.rsplit(".", 1)[1])
        if place is None or place.done():
            return
        try:
            place.set_result(_decode(body))
        except Malformed as malformed:
            log.error("answer.unreadable", reason=str(malformed))
