"""Composition root of ingress: the only place that knows its parts by their concrete names."""

import gc

if __name__ == "__main__":
    gc.disable()  # Nothing that is imported is garbage: whoever runs the service has the collector look again.

import asyncio
import sys
from typing import Final

from chassis import ids
from chassis.admission import Admission
from chassis.backlog import Backlog
from chassis.chains import Chains
from chassis.clock import SystemClock
from chassis.dispatch import Dispatch
from chassis.edge.connections import ConnectionCap
from chassis.edge.trails import Trails
from chassis.expressions import Language
from chassis.held import HeldEverywhere
from chassis.http import serve, tls_of
from chassis.jetstream import jetstream
from chassis.key_files import master_key
from chassis.lifecycle import Stopping, companions, run_service
from chassis.links import Links
from chassis.past import Horizon, PastRuns, PostgresRunIds
from chassis.postgres import pool
from chassis.rate_limit import RateLimit, redis_client
from chassis.settings import Settings
from chassis.telemetry import Metrics, notes_of, tracer_for
from chassis.vault import Vault
from contracts.subjects import DOMAIN
from ingress.accept import Door
from ingress.answering import Desk
from ingress.app import door_keeper, ingress_app
from ingress.directory import Directory
from ingress.forms import Forms
from ingress.hooks import Hooks
from ingress.starts import Starts
from ingress.waiting import Waiting

LET_GO_AFTER: Final = 0.7
"""Of the time that it has to stop in: whoever waits for a run then is told that it goes on, and hears it before he is cut off."""


async def main(settings: Settings, stopping: Stopping) -> None:
    """Accept deliveries until told to stop; then answer what is under way."""
    clock, metrics, tracer = SystemClock(), Metrics("ingress"), tracer_for("ingress", settings)
    master = master_key(settings)
    async with (
        jetstream(settings, "ingress", clock, batch_from=settings.batch_from) as js,
        pool(settings) as postgres,
        redis_client(settings.redis_url) as redis,
        companions() as beside,
    ):
        directory, horizon = Directory(js.reader(DOMAIN)), Horizon(js.marks, clock)
        dispatch, hooks = Dispatch(js.signals, js.inbox), Hooks(js.letters, clock)
        backlog, held = Backlog(js.connection), HeldEverywhere(js.signals, clock)
        admission = Admission(
            dispatch,
            clock,
            most=settings.most_starts,
            backlog=lambda: backlog.waiting,
            most_backlog=settings.most_backlog,
        )
        waiting = Waiting(js.signals, ids.receipt().replace("-", ""), settings.most_waiting)
        limit = RateLimit(redis, clock, prefix="hooks", processes=settings.ingress_processes)
        vault, trails = Vault(postgres, master, clock), Trails(Chains(master.causes, clock))
        desk = Desk(
            links=Links(settings.public_url, master.links),
            dispatch=dispatch,
            history=js.log,
            blobs=js.blobs,
            keys=vault,
            limit=limit,
            clock=clock,
        )
        starts = Starts(
            directory=directory,
            dispatch=admission,
            history=js.log,
            trails=trails,
            past=PastRuns(PostgresRunIds(postgres), horizon).of,
        )
        door = Door(
            directory=directory,
            starts=starts,
            blobs=js.blobs,
            hooks=hooks,
            keys=vault,
            limit=limit,
            waiting=waiting,
            clock=clock,
            receipts=ids.receipt,
            disk_is_full=lambda: js.disk.state.stops_starts,
            uploads_stop=lambda: js.disk.state.stops_uploads,
            language=Language(),
            crowds=lambda org: held.crowds(org, settings.most_backlog),
        )
        forms = Forms(
            directory=directory,
            starts=starts,
            hooks=hooks,
            blobs=js.blobs,
            keys=vault,
            limit=limit,
            clock=clock,
            receipts=ids.receipt,
            disk_is_full=lambda: js.disk.state.stops_starts,
        )
        show(metrics, door, hooks, limit)
        show_answers(metrics, desk, forms, trails)
        show_admission(metrics, admission, waiting, backlog, door)

        async def unready() -> list[str]:
            reasons = [] if directory.complete.is_set() else ["The triggers are not read yet."]
            return [*reasons, *js.unready()]

        for work in (
            js.run(),
            directory.follow(),
            dispatch.run(),
            hooks.run(),
            limit.run(),
            horizon.run(),
            backlog.run(),
            held.follow(),
        ):
            beside.create_task(work)
        app = ingress_app(
            door=door,
            desk=desk,
            forms=forms,
            admission=admission,
            ready=unready,
            metrics=metrics,
            tracer=tracer,
            clock=clock,
            trusted_proxies=settings.trusted_proxies,
            notes=notes_of(settings),
        )
        async with waiting.listening(), asyncio.TaskGroup() as group:
            cap = ConnectionCap(trusted_proxies=settings.trusted_proxies, turn_away=door_keeper(admission))
            server = await serve(
                app,
                settings.host,
                settings.ingress_port,
                group,
                tls=tls_of(settings),
                drain_seconds=settings.drain_seconds,
                cap=cap,
            )
            await stopping.wait()
            server.should_exit = True
            asyncio.get_running_loop().call_later(LET_GO_AFTER * settings.drain_seconds, waiting.let_go)
        await hooks.drained()
    tracer.close()


def show(metrics: Metrics, door: Door, hooks: Hooks, limit: RateLimit) -> None:
    """Have the plain numbers read whenever somebody asks."""
    metrics.counters(
        "ingress_deliveries_total",
        "Deliveries by what became of them.",
        "result",
        lambda: {"accepted": door.accepted, "duplicate": door.duplicates, "refused": door.refused},
    )
    metrics.counter(
        "ingress_hooks_dropped_total", "Deliveries whose record found no place.", lambda: hooks.dropped
    )
    metrics.counter(
        "ingress_limits_without_redis_total",
        "Decisions about a rate made without Redis.",
        lambda: limit.fallbacks,
    )


def show_answers(metrics: Metrics, desk: Desk, forms: Forms, trails: Trails) -> None:
    """What people send, and what runs send to ourselves."""
    metrics.counters(
        "ingress_forms_total",
        "What was sent to forms, by what became of it.",
        "result",
        lambda: forms.answers,
    )
    metrics.counters(
        "ingress_answers_total",
        "Requests under resumption links by what became of them.",
        "result",
        lambda: {"accepted": desk.answered, "refused": desk.refused},
    )
    metrics.counters(
        "ingress_trails_total",
        "Deliveries that said which run had sent them, by what became of that.",
        "result",
        lambda: trails.counts,
    )


def show_admission(
    metrics: Metrics, admission: Admission, waiting: Waiting, backlog: Backlog, door: Door
) -> None:
    """What overload looks like from inside."""
    metrics.counters(
        "ingress_overload_refused_total",
        "Deliveries refused because there was too much of something.",
        "bound",
        lambda: admission.refused | {"waiting": waiting.refused, "held": door.crowded},
    )
    metrics.gauge("ingress_starts_bound", "Starts that may be under way now.", lambda: admission.bound)
    metrics.gauge("ingress_starts", "Starts under way.", lambda: admission.under_way)
    metrics.gauge("ingress_bodies_bytes", "Bytes of bodies that are held.", lambda: admission.bytes)
    metrics.gauge("ingress_waiting", "Deliveries that wait for their run's answer.", lambda: len(waiting))
    metrics.gauge("ingress_backlog", "Attempts that wait for an executor.", lambda: backlog.waiting)


if __name__ == "__main__":
    sys.exit(run_service("ingress", main))
