"""Tells every second that this executor is there, what it takes and how much it has; and hears that it shall leave.

Said by core NATS and stored nowhere: whoever is silent is not there.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

import structlog

from chassis.ports import Signals
from contracts.codec import Decoder, Malformed, encode
from contracts.pools import DrainExecutor, ExecutorHere, Labels
from contracts.subjects import drain, here

EVERY_SECONDS: Final = 1.0

log = structlog.get_logger()
_decode: Final = Decoder[DrainExecutor](DrainExecutor)


class Working(Protocol):
    """The executor, as far as others hear of it."""

    @property
    def draining(self) -> bool: ...

    def shares(self) -> Iterable[tuple[str, int, int]]:
        """Of each pool: its name, how many attempts are made at once, how many are under way."""
        ...

    def drain(self) -> None: ...


class Presence:
    """One per process. `run` tells for ever."""

    def __init__(self, signals: Signals, executor: Working, name: str, labels: Labels) -> None:
        """`name`: under which the executor is asked to leave."""
        self._signals, self._executor = signals, executor
        self._name, self._labels = name, labels

    async def run(self) -> None:
        async with self._signals.listen(drain(self._name), self._asked):
            while True:
                self._tell()
                await asyncio.sleep(EVERY_SECONDS)

    def _tell(self) -> None:
        for pool, capacity, under_way in self._executor.shares():
            said = ExecutorHere(
                executor=self._name,
                pool=pool,
                capacity=capacity,
                under_way=under_way,
                draining=self._executor.draining,
                labels=self._labels,
            )
            self._signals.publish(here(pool), encode(said))

    def _asked(self, _subject: str, body: bytes, _answer: object) -> None:
        try:
            wanted = _decode(body)
        except Malformed as error:
            log.error("drain.malformed", reason=str(error))
            return
        if wanted.executor == self._name:
            log.info("executor.drains")
            self._executor.drain()
            self._tell()
