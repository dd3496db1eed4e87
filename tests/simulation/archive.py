"""The archive and what else stands on the tables, in memory: who should have moved, what may leave the log."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from chassis.past import PastRun
from chassis.testing.stores import MemoryLog
from chassis.testing.world import World
from projections.events import ASKED_FOR
from projections.rows import RunIdRow, RunRow, SeamRow
from projections.shelf import ClosedSegment, EndedRun
from projections.stragglers import BEHIND
from projections.streams import StreamFacts
from projections.sweeper import Key, Straggler
from tests.promises.tables import Tables
from tests.simulation.models import MemoryModels

IMPATIENCE: Final = timedelta(seconds=25)
"""Still runs are found this much earlier than the real tables find them, so that a schedule sees many looks."""


class MemoryStragglers:
    """The runs that should have moved by now."""

    def __init__(self, world: World, tables: Tables, impatience: timedelta = IMPATIENCE) -> None:
        self._world = world
        self._tables = tables
        self._impatience = impatience

    async def due(
        self, at: datetime, after: Key | None, most: int, ahead: timedelta = timedelta()
    ) -> Sequence[Straggler]:
        return await self._world.operation(lambda: self._due(at, ahead, after)[:most])

    def _due(self, at: datetime, ahead: timedelta, after: Key | None) -> list[Straggler]:
        rows = [row for _, row in sorted(self._tables.runs.items()) if row.ended is None]
        found = {Straggler(row.org, row.id, row.sequence) for row in rows if self._is_still(row, at, ahead)}
        at += ahead
        found |= self._who_wait_in_vain(at - BEHIND)
        found |= {
            Straggler(row.org, row.id, row.sequence)
            for row in self._tables.runs.values()
            if row.ended is not None
            and row.ended < at - BEHIND
            and any(self._run(row.org, handler) is None for handler in filter(None, row.handlers.split(",")))
        }
        found |= {
            Straggler(row.org, row.id, row.sequence, unwanted=True)
            for row in rows
            if row.parent_waits and row.opening == 1 and not self._is_awaited(row)
        }
        return sorted(
            (each for each in found if after is None or (each.org, each.run) > after),
            key=lambda each: (each.org, each.run, each.unwanted),
        )

    def _is_still(self, row: RunRow, at: datetime, ahead: timedelta) -> bool:
        if row.look_at is None:
            return False
        if row.steps_running:
            ahead += self._impatience
        elif (row.waits != "[]" or row.steps_in_doubt) and not any(
            f'"kind":"{kind}"' in row.waits for kind in ASKED_FOR
        ):
            ahead = timedelta(0)
        return row.look_at < at + ahead

    def _who_wait_in_vain(self, before: datetime) -> set[Straggler]:
        """Runs that wait for one that is over, or was never there."""
        found = set[Straggler]()
        for step in self._tables.steps.values():
            if not step.awaits or step.scheduled is None or step.scheduled >= before:
                continue
            parent, child = self._run(step.org, step.run), self._run(step.org, step.child)
            in_vain = child is None or (child.ended is not None and child.ended < before)
            if parent is not None and parent.ended is None and in_vain:
                found.add(Straggler(parent.org, parent.id, parent.sequence))
        return found

    def _is_awaited(self, child: RunRow) -> bool:
        parent = self._run(child.org, child.parent_run)
        if parent is None:
            return True  # Nobody can say: its row is not there yet.
        step = self._tables.steps.get((child.org, parent.id, child.parent_step or ""))
        goes_on = parent.ended is None and parent.status != "stopping"
        return goes_on and step is not None and step.awaits and step.child == child.id

    def _run(self, org: str, run: str | None) -> RunRow | None:
        return self._tables.runs.get((org, run or ""))


class MemoryArchive:
    """Histories that have left the log."""

    def __init__(self, world: World, tables: Tables) -> None:
        self._world = world
        self._tables = tables

    async def commits(self, org: str, run: str) -> list[bytes]:
        return await self._world.operation(lambda: self._tables.history(org, run))


class MemoryShelf:
    """The archive's side of retention. Nothing leaves the archive here."""

    def __init__(self, world: World, models: MemoryModels) -> None:
        self._world = world
        self._models = models
        self._tables = models.tables

    @property
    def all_purged(self) -> bool:
        """Whether every run that ended has left the log but for its last commit."""
        return all(self._models.purged.get(key) == row.hash for key, row in self._ended_rows())

    def all_forgotten(self, before: datetime) -> bool:
        """Whether the log knows nothing of any run that ended before this moment."""
        forgotten = self._models.forgotten
        return all(
            forgotten.get(key) == row.hash
            for key, row in self._ended_rows()
            if row.ended is not None and row.ended < before
        )

    def _ended_rows(self) -> list[tuple[Key, RunIdRow]]:
        return [(key, row) for key, row in self._tables.ended.items() if row.ended is not None]

    async def ended(self, before: datetime, after: EndedRun | None, most: int) -> Sequence[EndedRun]:
        return await self._world.operation(lambda: _behind(self._ended(before), after)[:most])

    def _ended(self, before: datetime) -> list[EndedRun]:
        return [
            self._run(row, row.ended)
            for key, row in self._ended_rows()
            if row.ended is not None and row.ended < before and self._models.purged.get(key) != row.hash
        ]

    def _run(self, row: RunIdRow, ended: datetime) -> EndedRun:
        return EndedRun(
            org=row.org,
            run=row.run,
            hash=row.hash,
            ended=ended,
            keyed=row.keyed,
            whole=len(self._tables.history(row.org, row.run)) == row.version,
        )

    async def segments(
        self, before: datetime, after: ClosedSegment | None, most: int
    ) -> Sequence[ClosedSegment]:
        def found() -> list[ClosedSegment]:
            seams, standing = self._tables.seams, list[ClosedSegment]()
            for (org, run, version), row in seams.items():
                if row.time >= before or (org, run, version) in self._models.let_go or self._awaited(row):
                    continue
                earlier = max((v for o, r, v in seams if (o, r) == (org, run) and v < version), default=1)
                there = sum((org, run, each) in self._tables.archive for each in range(earlier, version))
                standing.append(
                    ClosedSegment(
                        org=org,
                        run=run,
                        version=version,
                        epoch=row.epoch,
                        sequence=row.sequence,
                        time=row.time,
                        whole=there == version - earlier,
                    )
                )
            standing.sort(key=_seam_place)
            return [each for each in standing if after is None or _seam_place(each) > _seam_place(after)][
                :most
            ]

        return await self._world.operation(found)

    def _awaited(self, seam: SeamRow) -> bool:
        """Whether somebody who answers the run has to find what it asked before this seam."""
        waits = json.loads(self._tables.runs[seam.org, seam.run].waits)
        return any(
            wait["kind"] in ("call", "approval", "escalation")
            and datetime.fromisoformat(wait["since"]) <= seam.time
            for wait in waits
        )

    async def mark_segments(self, segments: Sequence[ClosedSegment], at: datetime) -> None:
        let_go, gone = self._models.let_go, {(each.org, each.run, each.version) for each in segments}

        def write() -> None:
            self._models.disk.write(lambda: let_go.update(gone))
            self._models.disk.flush()

        await self._world.operation(write)

    async def flush(self) -> None:
        await self._world.operation(self._models.disk.flush)

    async def mark_purged(self, runs: Sequence[EndedRun], at: datetime) -> None:
        purged, gone = self._models.purged, {(run.org, run.run): run.hash for run in runs}
        await self._world.operation(lambda: self._models.disk.write(lambda: purged.update(gone)))

    async def tombstones(
        self, before: datetime, after: EndedRun | None, most: int, *, keyed: bool, beyond: int
    ) -> Sequence[EndedRun]:
        def found() -> list[EndedRun]:
            purged, forgotten = self._models.purged, self._models.forgotten
            standing = [
                self._run(row, row.ended)
                for key, row in self._ended_rows()
                if row.ended is not None and row.keyed == keyed
                if purged.get(key) == row.hash and forgotten.get(key) != row.hash
            ]
            standing.sort(key=_place)
            old = standing[: max(0, len(standing) - beyond)]
            return _behind([run for run in old if run.ended < before], after)[:most]

        return await self._world.operation(found)

    async def mark_forgotten(self, runs: Sequence[EndedRun], at: datetime) -> None:
        forgotten, gone = self._models.forgotten, {(run.org, run.run): run.hash for run in runs}
        await self._world.operation(lambda: self._models.disk.write(lambda: forgotten.update(gone)))

    async def has_forgotten(self) -> bool:
        rows = self._tables.ended
        return await self._world.operation(lambda: any(rows[key].keyed for key in self._models.forgotten))

    async def drop(self, before: datetime, at: datetime, most: int) -> int:
        return 0

    async def drop_weeks(self, before: date) -> int:
        return 0

    async def prune_hooks(self, before: datetime) -> None:
        return


def _place(run: EndedRun) -> tuple[datetime, str, str]:
    return run.ended, run.org, run.run


def _seam_place(segment: ClosedSegment) -> tuple[datetime, str, str, int]:
    return segment.time, segment.org, segment.run, segment.version


def _behind(runs: list[EndedRun], after: EndedRun | None) -> list[EndedRun]:
    runs.sort(key=_place)
    return [run for run in runs if after is None or _place(run) > _place(after)]


def past_runs(tables: Tables, org: str) -> dict[str, PastRun]:
    """What the archive's list of ids says of an org."""
    return {
        row.run: PastRun(
            run=row.run, receipt=row.receipt, request=row.request, version=row.version, hash=row.hash.hex()
        )
        for key, row in tables.ended.items()
        if key[0] == org
    }


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
        log, fits = self._logs[stream], _fits(subjects)

        def half() -> int:
            # Nobody promises that a purge which was not acknowledged is whole or nothing.
            return log.purge(fits, self._world.random.randrange(before)) if before else 0

        return await self._world.operation(lambda: log.purge(fits, before), half)


def _fits(pattern: str) -> Callable[[str], bool]:
    if pattern.endswith(".>"):
        return lambda subject: subject.startswith(pattern[:-1])
    return lambda subject: subject == pattern
