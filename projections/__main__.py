"""Composition root of the projections: the only place that knows its parts by their concrete names."""

import gc

if __name__ == "__main__":
    gc.disable()  # Nothing that is imported is garbage: whoever runs the service has the collector look again.

import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from chassis.clock import Clock, SystemClock
from chassis.dispatch import Dispatch
from chassis.expressions import Language
from chassis.http import health_app, serving
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.log import JetStreamLog
from chassis.key_files import signing_key
from chassis.lifecycle import Stopping, run_service
from chassis.ports import Away
from chassis.postgres import Pool, connected, pool
from chassis.settings import Settings
from chassis.telemetry import Metrics, notes_of
from contracts.messages import Said
from contracts.subjects import ANCHORS, DLQ, DOMAIN, HOOKS, LOGS, RUNS, SCHEDULES
from projections.anchors import Anchors, PostgresHeads
from projections.archiver import Archiver, Tombstones
from projections.collector import Collector
from projections.dead_letters import DeadLetterTable
from projections.deliveries import DeliveryTable
from projections.domain_tables import DomainTables
from projections.figures import Figures, Progress, expose
from projections.following import Following, Means, WhileWanted
from projections.guard import check
from projections.intake import Intakes
from projections.log_records import LogRecords, LogRetention, LossyReader
from projections.models import Moved, PostgresPositions, PostgresRuns
from projections.origins import Origins
from projections.pending import pending
from projections.projector import Projection
from projections.queries import ROW_TYPES
from projections.reference_tables import ReferenceTables
from projections.run_tables import RunTables
from projections.schedules import ScheduleTables
from projections.service import Line, Parts, Watch, reasons, serve
from projections.shelf import PostgresShelf
from projections.stragglers import OverdueSchedules, PostgresStragglers
from projections.streams import JetStreamStreams, StreamFacts
from projections.subscriptions import Subscriptions
from projections.sweeper import Straggler, Stragglers, Sweeper, look_at_run, look_at_schedule
from projections.taking_up import take_up

log = structlog.get_logger()

CONNECTIONS: Final = 12
LONG_SECONDS: Final = 600.0
_PAUSE_SECONDS: Final = 0.5
_FIRST: Final = "select body from archive.commits where org = $1 and run = $2 and version = 1"


async def main(settings: Settings, stopping: Stopping) -> None:
    """Follow the log until told to stop."""
    clock, figures, metrics = SystemClock(), Figures(), Metrics("projections")
    key = signing_key(settings)
    async with (
        jetstream(settings, "projections", clock) as js,
        pool(
            settings,
            most=CONNECTIONS,
            statement_seconds=LONG_SECONDS,
            by_index=True,
            begins_with=ROW_TYPES,
        ) as postgres,
    ):
        starter = Starter(js, postgres, clock)
        lines = [*_lines(js, postgres, figures, clock), *starter.lines()]
        metrics.counters(
            "projections_event_triggers_total",
            "What became of events that triggers follow, by kind; `filter_failed`, `loops` and `refused` are told to the trigger.",
            "kind",
            lambda: dict(starter.counts),
        )
        expose(metrics, figures, [line.progress for line in lines], clock)

        async def unready() -> list[str]:
            return [*js.unready(), *reasons(lines, clock)]

        async with serving(
            health_app(unready, metrics, notes_of(settings)), settings.host, settings.projections_port
        ):
            streams = JetStreamStreams(js.connection)
            facts = await _safe_to_go_on(streams, postgres, stopping)
            if facts is None:
                return
            parts = Parts(
                lines=lines,
                epochs={name: each.epoch for name, each in facts.items()},
                watch=Watch(streams, facts, lines, clock),
                sweeper=_sweeper(js, PostgresStragglers(postgres), clock, figures, _of(lines, "runs")),
                schedule_sweeper=_sweeper(
                    js,
                    OverdueSchedules(postgres),
                    clock,
                    figures,
                    _of(lines, "domain", "schedules"),
                    look_at_schedule,
                ),
                archiver=Archiver(
                    PostgresShelf(postgres),
                    streams,
                    js.log,
                    clock,
                    figures,
                    log_days=settings.retention_days,
                    archive_days=settings.archive_days,
                    tombstones=Tombstones(marks=js.marks, most=settings.tombstones),
                    followed=PostgresPositions(postgres, "triggers", RUNS).position,
                ),
                anchors=Anchors(
                    PostgresHeads(postgres), JetStreamLog(js.connection, ANCHORS), key, clock, figures
                ),
                collector=collector(js, postgres, streams, clock, figures),
                starter=starter,
                log_retention=LogRetention(postgres, streams, figures),
            )
            await serve(parts, clock, stopping)


async def _safe_to_go_on(
    streams: JetStreamStreams, postgres: Pool, stopping: Stopping
) -> Mapping[str, StreamFacts] | None:
    """Wait for both stores, let the guard look, take up what an older release could not read. None: told to stop."""
    while not stopping.requested:
        try:
            facts = await check(postgres, streams)
            await take_up(postgres, PostgresRuns(postgres))
        except (Away, Moved) as reason:
            log.warning("start.waits", reason=str(reason))
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return facts
    return None


def _sweeper(
    js: JetStream,
    stragglers: Stragglers,
    clock: Clock,
    figures: Figures,
    rows_of: Sequence[Progress],
    look: Callable[[Straggler], Said] = look_at_run,
) -> Sweeper:
    """`rows_of`: the projections whose rows it goes by."""

    def lag() -> float:
        now = clock.now().timestamp()
        return max(progress.lag_seconds(now) for progress in rows_of)

    return Sweeper(stragglers, Dispatch(js.signals, js.inbox), clock, figures, lag, look)


def _of(lines: Sequence[Line], *names: str) -> list[Progress]:
    return [line.progress for line in lines if line.progress.name in names]


class Starter:
    """Starts the runs of triggers that follow events."""

    def __init__(self, js: JetStream, postgres: Pool, clock: Clock) -> None:
        self._js, self._postgres, self._clock = js, postgres, clock
        self._dispatch = Dispatch(js.signals, js.inbox)
        self._subscriptions = Subscriptions(js.reader(DOMAIN))
        self.counts: defaultdict[str, int] = defaultdict(int)

    async def run(self) -> None:
        """Know who wants what and how full the disk is, and carry what is said: for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._subscriptions.follow())
            group.create_task(self._dispatch.run())
            group.create_task(self._js.disk.run())

    def lines(self) -> list[Line]:
        js = self._js
        means = Means(
            subscriptions=self._subscriptions,
            origins=Origins(js.log, self._first),
            intakes=Intakes(self._dispatch, js.blobs, js.marks, self._subscriptions),
            sender=self._dispatch,
            blobs=js.blobs,
            letters=js.letters,
            language=Language(),
            clock=self._clock,
            is_full=lambda: js.disk.state.stops_starts,
            counts=self.counts,
        )
        return [
            Line(
                projection=Following(name, stream, means, PostgresPositions(self._postgres, name, stream)),
                reader=WhileWanted(js.reader(stream), self._subscriptions, self._clock),
                progress=Progress(name=name, stream=stream),
            )
            for name, stream in (
                ("triggers", RUNS),
                ("domain_triggers", DOMAIN),
                ("schedule_triggers", SCHEDULES),
            )
        ]

    async def _first(self, org: str, run: str) -> bytes | None:
        """From the archive: a history may be long, and its beginning says how the run began."""
        async with connected(self._postgres) as connection:
            body: bytes | None = await connection.fetchval(_FIRST, org, run)
        return body


def collector(
    js: JetStream, postgres: Pool, streams: JetStreamStreams, clock: Clock, figures: Figures
) -> Collector:
    return Collector(
        tables=ReferenceTables(postgres),
        streams=streams,
        objects=js.blobs,
        readers={HOOKS: js.reader(HOOKS), DLQ: js.reader(DLQ)},
        inbox=lambda: pending(js.connection),
        clock=clock,
        figures=figures,
    )


def _lines(js: JetStream, postgres: Pool, figures: Figures, clock: Clock) -> list[Line]:
    projections: tuple[Projection, ...] = (
        RunTables(PostgresRuns(postgres), js.letters, figures),
        DomainTables(postgres, js.letters, figures),
        DeliveryTable(postgres, js.letters, figures),
        DeadLetterTable(postgres),
        ScheduleTables(postgres, js.letters, figures),
        LogRecords(postgres, figures, clock),
    )
    return [
        Line(
            projection=each,
            reader=LossyReader(js.reader(LOGS)) if each.stream == LOGS else js.reader(each.stream),
            progress=Progress(name=each.name, stream=each.stream),
            lossy=each.stream == LOGS,
        )
        for each in projections
    ]


if __name__ == "__main__":
    sys.exit(run_service("projections", main))
