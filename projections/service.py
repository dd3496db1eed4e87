"""The service's parts, put to work together: projections, sweeper, archiver, anchors."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog
from msgspec import Struct

from chassis.clock import Clock
from chassis.jetstream.wire import unix_seconds
from chassis.lifecycle import Stopping, companions
from chassis.ports import Away, Reader
from projections.anchors import Anchors
from projections.archiver import Archiver
from projections.collector import Collector
from projections.figures import Progress
from projections.guard import why_not
from projections.log_records import LogRetention
from projections.models import Position
from projections.projector import Projection, Projector
from projections.streams import StreamFacts, Streams
from projections.sweeper import Sweeper

log = structlog.get_logger()

WATCH_SECONDS: Final = 1.0
READY_LAG_SECONDS: Final = 10.0


class StreamChanged(Exception):
    """The stream that is read is not the one that was read: start again, and let the guard look."""


class Line(Struct, frozen=True, kw_only=True):
    """One projection with what it reads and what it tells."""

    projection: Projection
    reader: Reader
    progress: Progress
    lossy: bool = False
    """Its stream may lose its end and nobody minds; that it lags makes nothing else unreliable."""


class Watch:
    """Asks how long the streams are, how old what is unread can be, and whether they still are the same."""

    def __init__(
        self, streams: Streams, known: Mapping[str, StreamFacts], lines: Sequence[Line], clock: Clock
    ) -> None:
        self._streams, self._known, self._lines, self._clock = streams, known, lines, clock

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self.look()
            except Away as away:
                log.warning("watch.put-off", reason=str(away))

    async def look(self) -> None:
        for line in self._lines:
            progress = line.progress
            asked = self._clock.now().timestamp()
            facts = await self._streams.facts(progress.stream)
            known = self._known[progress.stream]
            read = min(progress.sequence, facts.last) if line.lossy else progress.sequence
            position = Position(epoch=known.epoch, sequence=read, generation="", created=known.created)
            if facts.epoch != known.epoch or why_not(position, facts):
                raise StreamChanged(why_not(position, facts) or f"{facts.name} is at epoch {facts.epoch} now")
            if read >= facts.last:
                # What comes next is younger than this look, however long ago the last message came.
                progress.last_time = max(progress.last_time, asked)
            elif not progress.last_time:
                # Nothing was read yet: no message is older than its stream.
                progress.last_time = unix_seconds(facts.created)
            progress.end = facts.last


def reasons(lines: Sequence[Line], clock: Clock) -> list[str]:
    """Why the read models are not to be relied on now."""
    now = clock.now().timestamp()
    relied_on = [line for line in lines if not line.lossy]
    told = [f"{line.progress.name}: {line.progress.trouble}" for line in relied_on if line.progress.trouble]
    for line in relied_on:
        lag = line.progress.lag_seconds(now)
        if lag > READY_LAG_SECONDS:
            told.append(f"{line.progress.name} is {line.progress.behind} messages ({lag:.0f} s) behind")
    return told


class Part(Protocol):
    async def run(self) -> None:
        """For ever."""
        ...


class Parts(Struct, frozen=True, kw_only=True):
    """Everything that runs in this service."""

    lines: Sequence[Line]
    epochs: Mapping[str, int]
    watch: Watch
    sweeper: Sweeper
    schedule_sweeper: Sweeper
    archiver: Archiver
    anchors: Anchors
    collector: Collector
    starter: Part
    log_retention: LogRetention


async def serve(parts: Parts, clock: Clock, stopping: Stopping) -> None:
    """Work until asked to stop; then anchor what changed since the last anchor."""
    async with companions() as tasks:
        for line in parts.lines:
            epoch = parts.epochs[line.progress.stream]
            projector = Projector(line.projection, line.reader, epoch, clock, line.progress)
            tasks.create_task(projector.run())
        for part in (
            parts.watch,
            parts.sweeper,
            parts.schedule_sweeper,
            parts.archiver,
            parts.anchors,
            parts.collector,
            parts.starter,
            parts.log_retention,
        ):
            tasks.create_task(part.run())
        await stopping.wait()
    try:
        await parts.anchors.anchor()
    except Away as away:
        log.warning("anchor.not-stored", reason=str(away))
