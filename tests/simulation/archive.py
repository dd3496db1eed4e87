"""The archive and what else stands on the tables, in memory: who should have moved, what may leave the log."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from chassis.testing.stores import MemoryLog
from chassis.testing.world import World
from projections.shelf import EndedRun
from projections.streams import StreamFacts
from projections.sweeper import Key, Straggler
from tests.promises.tables import Tables

IMPATIENCE: Final = timedelta(seconds=25)
"""Still runs are found this much earlier than the real tables find them, so that a schedule sees many looks."""


class MemoryStragglers:
    """The runs that should have moved by now."""

    def __init__(self, world: World, tables: Tables) -> None:
        self._world = world
        self._tables = tables

    async def due(self, at: datetime, after: Key | None, most: int) -> Sequence[Straggler]:
        return await self._world.operation(lambda: self._due(at, after)[:most])

    def _due(self, at: datetime, after: Key | None) -> list[Straggler]:
        return [
            Straggler(row.org, row.id, row.sequence)
            for key, row in sorted(self._tables.runs.items())
            if row.ended is None
            and row.look_at is not None
            and row.look_at < at + (IMPATIENCE if row.steps_running else timedelta(0))
            and (after is None or key > after)
        ]


class MemoryArchive:
    """Histories that have left the log."""

    def __init__(self, world: World, tables: Tables) -> None:
        self._world = world
        self._tables = tables

    async def commits(self, org: str, run: str) -> list[bytes]:
        return await self._world.operation(lambda: self._tables.history(org, run))


class MemoryShelf:
    """The archive's side of retention. Nothing leaves the archive here."""

    def __init__(self, world: World, tables: Tables) -> None:
        self._world = world
        self._tables = tables
        self.purged: dict[Key, bytes] = {}
        """Runs that have left the log, with the hash of their last commit."""

    async def ended(self, before: datetime, after: EndedRun | None, most: int) -> Sequence[EndedRun]:
        return await self._world.operation(lambda: self._ended(before, after)[:most])

    def _ended(self, before: datetime, after: EndedRun | None) -> list[EndedRun]:
        found = [
            EndedRun(
                org=row.org,
                run=row.run,
                hash=row.hash,
                ended=row.ended,
                whole=self._is_whole(row.org, row.run),
            )
            for key, row in self._tables.ended.items()
            if row.ended is not None and row.ended < before and self.purged.get(key) != row.hash
        ]
        found.sort(key=lambda run: (run.ended, run.org, run.run))
        place = (after.ended, after.org, after.run) if after is not None else None
        return [run for run in found if place is None or (run.ended, run.org, run.run) > place]

    def _is_whole(self, org: str, run: str) -> bool:
        return len(self._tables.history(org, run)) == self._tables.ended[org, run].version

    async def flush(self) -> None:
        await self._world.operation(lambda: None)

    async def mark_purged(self, runs: Sequence[EndedRun], at: datetime) -> None:
        await self._world.operation(
            lambda: self.purged.update({(run.org, run.run): run.hash for run in runs})
        )

    async def drop(self, before: datetime, at: datetime, most: int) -> int:
        return 0

    async def drop_weeks(self, before: date) -> int:
        return 0

    async def prune_hooks(self, before: datetime) -> None:
        return


class MemoryStreams:
    """Purging."""

    def __init__(self, world: World, logs: Mapping[str, MemoryLog]) -> None:
        self._world = world
        self._logs = logs

    async def facts(self, stream: str) -> StreamFacts:
        log = self._logs[stream]
        last = await self._world.operation(lambda: len(log.messages))
        return StreamFacts(name=stream, created="", epoch=log.epoch, first=1, last=last)

    async def begin_epoch(self, stream: str, epoch: int) -> None:
        raise NotImplementedError("no simulated process asks for it")

    async def purge(self, stream: str, subjects: str, before: int | None = None) -> int:
        log = self._logs[stream]
        return await self._world.operation(lambda: log.purge(_fits(subjects), before))


def _fits(pattern: str) -> Callable[[str], bool]:
    if pattern.endswith(".>"):
        return lambda subject: subject.startswith(pattern[:-1])
    return lambda subject: subject == pattern
