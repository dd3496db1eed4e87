"""Log lines of attempts, kept in LOGS for whoever looks at a run.

Stored beside the work, not before it: what waits is bounded, and what finds no place is counted and gone. The history of a run
never depends on them. A quiet attempt that ends well within a second leaves none: its history says all there is to say.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from chassis.clock import Clock
from chassis.ports import Away, Letters
from contracts.codec import encode
from contracts.logs import LogRecord
from contracts.subjects import log as log_subject
from executor.allowances import Allowances

log = structlog.get_logger()

WAITING: Final = 2_000
AT_ONCE: Final = 16
LOOK_SECONDS: Final = 1.0
"""So old a line becomes before it is stored while its attempt goes on."""


class Speaking(Protocol):
    """An attempt under way, as the journal sees it."""

    def records(self) -> list[LogRecord]:
        """What was said since the last look."""
        ...

    def unstored(self, record: LogRecord) -> None:
        """One of them found no place."""
        ...


class Journal:
    """One per process. `run` stores what attempts say."""

    def __init__(self, letters: Letters, clock: Clock, executor: str, room: Callable[[], bool]) -> None:
        """`room`: whether the disk has room for what is no part of a history."""
        self.clock, self.executor = clock, executor
        self._letters, self._room = letters, room
        self._under_way: set[Speaking] = set()
        self._waiting: asyncio.Queue[tuple[LogRecord, Speaking]] = asyncio.Queue(WAITING)
        self.allowances = Allowances()
        self.stored = self.dropped = 0
        """Lines."""

    def begins(self, attempt: Speaking) -> None:
        self._under_way.add(attempt)

    def ends(self, attempt: Speaking) -> None:
        self._under_way.discard(attempt)
        self._keep(attempt)

    async def run(self) -> None:
        """Store for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._store_each())
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                for attempt in list(self._under_way):
                    self._keep(attempt)

    async def drained(self, seconds: float) -> None:
        """Return when everything said so far was stored, or could not be; after so long in any case."""
        try:
            async with asyncio.timeout(seconds):
                await self._waiting.join()
        except TimeoutError:
            log.warning("log-lines.left", records=self._waiting.qsize())

    def _keep(self, attempt: Speaking) -> None:
        for record in attempt.records():
            if not self._room() or self._waiting.full():
                self._drop(record, attempt)
            else:
                self._waiting.put_nowait((record, attempt))

    def _drop(self, record: LogRecord, attempt: Speaking) -> None:
        self.dropped += len(record.lines)
        attempt.unstored(record)

    async def _store_each(self) -> None:
        while True:
            record, attempt = await self._waiting.get()
            try:
                await self._letters.store(log_subject(record.org, record.run, record.step), encode(record))
                self.stored += len(record.lines)
            except Away as away:
                self._drop(record, attempt)
                log.warning("log-lines.dropped", run=record.run, step=record.step, reason=str(away))
            finally:
                self._waiting.task_done()
