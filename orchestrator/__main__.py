"""Composition root of the orchestrator: the only place that knows its parts by their concrete names."""

import gc

if __name__ == "__main__":
    gc.disable()  # Nothing that is imported is garbage: whoever runs the service has the collector look again.

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from typing import Final

from msgspec import Struct

from chassis.archive import Lying, Since, commits_of, pages_of
from chassis.clock import SystemClock
from chassis.cursors import Cursors
from chassis.dispatch import Dispatch
from chassis.expressions import Language
from chassis.expressions.worker import WorkerProcess
from chassis.held import Announcing, HeldEverywhere
from chassis.http import health_app, serve
from chassis.jetstream import jetstream
from chassis.lifecycle import Stopping, companions, run_service
from chassis.past import Horizon, PostgresRunIds
from chassis.pauses import PausesFollowed
from chassis.ports import Log
from chassis.postgres import Pool, pool
from chassis.settings import Settings
from chassis.telemetry import Metrics, Tracer, notes_of, tracer_for
from contracts.subjects import DOMAIN, PAUSES
from orchestrator.answers import Replies
from orchestrator.catalogue import SPECS
from orchestrator.domain import Domain
from orchestrator.emission import Emission
from orchestrator.evaluation import Compiled
from orchestrator.family import Family
from orchestrator.gatekeeping import Gatekeeper
from orchestrator.held_back import HeldBack
from orchestrator.judge import Judge
from orchestrator.lanes import Lanes
from orchestrator.past import Past
from orchestrator.questions import Questions
from orchestrator.schedules import Schedules
from orchestrator.service import Orchestrator
from orchestrator.sources import Sources
from orchestrator.standing_for import StandingFor

PATIENCE_SECONDS: Final = 30.0


class Histories(Struct, frozen=True):
    """Every commit of a run, from the archive and from the log."""

    postgres: Pool
    log: Log

    async def commits(self, org: str, run: str) -> list[bytes]:
        return await commits_of(self.postgres, self.log, org, run)

    def pages(self, org: str, run: str, since: Since) -> AsyncIterator[Sequence[Lying]]:
        return pages_of(self.postgres, self.log, org, run, since)


async def main(settings: Settings, stopping: Stopping) -> None:
    """Decide until told to stop; then hand the partitions over at once and finish what is under way."""
    with closing(tracer_for("orchestrator", settings)) as tracer:
        await _decide(settings, stopping, tracer)


async def _decide(settings: Settings, stopping: Stopping, tracer: Tracer) -> None:
    clock, metrics = SystemClock(), Metrics("orchestrator")
    async with (
        jetstream(settings, "orchestrator", clock, batch_from=settings.batch_from) as js,
        pool(settings) as postgres,
        WorkerProcess() as worker,
        companions() as beside,
    ):
        language = Language().warm()
        histories, horizon = Histories(postgres, js.log), Horizon(js.marks, clock)
        domain = Domain(js.domain)
        sources = Sources(
            log=js.log,
            blobs=js.blobs,
            archive=histories,
            compile_plan=lambda plan: Compiled(plan, language),
            worker=worker,
            past=Past(PostgresRunIds(postgres), horizon, clock),
            directory=domain,
        )
        ownership = js.ownership()
        dispatch = Dispatch(js.signals, js.inbox)
        lateness = metrics.histogram(
            "orchestrator_schedule_lateness_seconds", "How long after its planned time a run was asked for."
        )
        schedules = Schedules(
            history=js.schedules,
            domain=domain,
            sender=dispatch,
            inbox=js.inbox,
            dead_letters=js.letters,
            clock=clock,
            is_full=lambda: js.disk.state.stops_starts,
            lateness=lateness.observe,
            cursors=Cursors(js.marks),
        )
        family, gates = (
            Family(dispatch),
            Gatekeeper(
                history=js.gates,
                sender=dispatch,
                inbox=js.inbox,
                dead_letters=js.letters,
                ownership=ownership,
                clock=clock,
                standing_for=StandingFor(sources),
                limits_of=domain.limits_of,
            ),
        )
        orchestrator = Orchestrator(
            history=js.log,
            ownership=ownership,
            emission=Emission(
                tasks=js.tasks,
                inbox=js.inbox,
                signals=js.signals,
                ownership=ownership,
                clock=clock,
                lanes=Lanes(),
            ),
            sources=sources,
            judge=Judge(sources),
            replies=Replies(js.signals),
            dead_letters=js.letters,
            clock=clock,
            tracer=tracer,
            schedules=schedules,
            family=family,
            gates=gates,
        )
        holding = orchestrator.holding
        pauses = PausesFollowed(js.reader(DOMAIN, PAUSES), holding.pause)
        held = HeldEverywhere(js.signals, clock)
        questions = Questions(
            signals=js.signals,
            blobs=js.blobs,
            catalogue=js.catalogue,
            histories=histories,
            sources=sources,
            language=language,
            held_back=HeldBack(held, pauses, js.tasks),
        )
        show(metrics, orchestrator, schedules, family)

        async def unready() -> list[str]:
            reasons = [] if pauses.complete.is_set() else ["What is paused is not read yet."]
            return [*reasons, *js.unready()]

        for work in (
            js.run(),
            questions.serve(),
            dispatch.run(),
            schedules.run(),
            horizon.run(),
            pauses.follow(),
            held.follow(),
            Announcing(js.signals, js.connection.instance, holding.told, gates.told).run(),
        ):
            beside.create_task(work)
        for spec in SPECS.values():
            await js.catalogue.announce(spec)
        async with asyncio.TaskGroup() as group:
            server = await serve(
                health_app(unready, metrics, notes_of(settings)),
                settings.host,
                settings.orchestrator_port,
                group,
            )
            # Nothing is asked for before it is known what is paused. Who cannot know it is started again.
            async with asyncio.timeout(PATIENCE_SECONDS):
                await pauses.complete.wait()
            serving = group.create_task(orchestrator.serve())
            await stopping.wait()
            await ownership.release()
            await serving
            server.should_exit = True


def show(metrics: Metrics, orchestrator: Orchestrator, schedules: Schedules, family: Family) -> None:
    """Have the plain numbers read whenever somebody asks."""
    metrics.counters(
        "orchestrator_work_total", "What was done, by kind.", "kind", lambda: dict(orchestrator.counts)
    )
    metrics.counters(
        "orchestrator_children_total",
        "What runs said to the runs that they start, by kind.",
        "kind",
        lambda: dict(family.counts),
    )
    show_schedules(metrics, schedules)
    gates = orchestrator.gates
    if gates is not None:
        metrics.counters(
            "orchestrator_gates_total", "What was done at gates, by kind.", "kind", lambda: dict(gates.counts)
        )
        metrics.gauge(
            "orchestrator_gate_waiting", "Runs that are known to wait at gates.", lambda: gates.names
        )
    lanes = orchestrator.holding.lanes
    metrics.gauge("orchestrator_held_attempts", "Attempts that are held, by name.", lambda: lanes.names)


def show_schedules(metrics: Metrics, schedules: Schedules) -> None:
    metrics.counters(
        "orchestrator_schedules_total",
        "What became of planned times, by kind; `missed` is the one to be woken for.",
        "kind",
        lambda: dict(schedules.counts),
    )


if __name__ == "__main__":
    sys.exit(run_service("orchestrator", main))
