"""Composition root of the gateway: the only place that knows its parts by their concrete names."""

import gc

if __name__ == "__main__":
    gc.disable()  # Nothing that is imported is garbage: whoever runs the service has the collector look again.

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import redis.asyncio
from msgspec import Struct

from chassis.chains import Chains
from chassis.clock import Clock, SystemClock
from chassis.cursors import Cursors
from chassis.disk import WhileRoom
from chassis.dispatch import Dispatch
from chassis.edge.connections import ConnectionCap
from chassis.edge.trails import Trails
from chassis.egress import Egress
from chassis.egress.opening import egress_of
from chassis.expressions import Language
from chassis.held import HeldEverywhere
from chassis.http import serve, tls_of
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.log import JetStreamLog
from chassis.key_files import master_key
from chassis.lifecycle import Stopping, companions, run_service
from chassis.postgres import Pool, pool
from chassis.rate_limit import RateLimit, redis_client
from chassis.settings import Settings
from chassis.telemetry import Metrics, Tracer, notes_of, tracer_for
from chassis.vault import Vault
from contracts.subjects import DOMAIN, HOOKS, RUNS, TASKS
from gateway.apis.store import Apis
from gateway.app import Parts, framework, gateway_app
from gateway.approvals.queries import ApprovalQueries
from gateway.approvals.store import Approvals
from gateway.authentication import Callers, still_valid
from gateway.cases.resealing import Resealing
from gateway.cases.store import Cases
from gateway.cases.trying import Trying
from gateway.directory import Directory
from gateway.domain import Domain
from gateway.gates.queries import GateQueries
from gateway.keys.store import Keys
from gateway.live.missed import PostgresArchive
from gateway.live.streams import Live
from gateway.live.tail import Tail
from gateway.logs.live import LogStreams
from gateway.logs.reading import Logs, StoredLogs
from gateway.logs.search import LogSearch
from gateway.pauses.store import OrgPauses
from gateway.places import Places, PostgresPositions
from gateway.pools.store import Pools
from gateway.pools.watch import Watch
from gateway.ports.store import Ports
from gateway.release import RELEASE
from gateway.runs.histories import StoredHistories
from gateway.runs.inspection import RemoteInspector
from gateway.runs.queries import RunQueries
from gateway.runs.routes import Reading
from gateway.runs.store import Runs
from gateway.sealing import Sealing
from gateway.secrets.store import Secrets
from gateway.triggers.asking import Asking
from gateway.triggers.binding import Binding
from gateway.triggers.looks import Looks
from gateway.triggers.queries import TriggerQueries
from gateway.triggers.redelivery import Redelivery
from gateway.triggers.retroactive import Retroactive
from gateway.triggers.store import Triggers
from gateway.triggers.trials import Trials
from gateway.workers.claims import Claims
from gateway.workers.desk import Desk
from gateway.workers.leases import Leases
from gateway.workers.means import Means
from gateway.workers.types import Types
from gateway.workflows.compiling import RemoteCompiler
from gateway.workflows.queries import WorkflowQueries
from gateway.workflows.store import Workflows


class Gateway(Struct, frozen=True, kw_only=True):
    """The parts that run beside the routes, and the routes' own."""

    directory: Directory
    places: Places
    binding: Binding
    tail: Tail
    dispatch: Dispatch
    watch: Watch
    held: HeldEverywhere
    parts: Parts


async def main(settings: Settings, stopping: Stopping) -> None:
    """Answer until told to stop; then end the streams and answer what is under way."""
    clock, metrics = SystemClock(), Metrics("gateway")
    master = master_key(settings)
    async with (
        egress_of(settings) as egress,
        jetstream(settings, "gateway", clock) as js,
        pool(settings) as postgres,
        counting(settings.redis_url) as counts,
        companions() as beside,
    ):
        with closing(tracer_for("gateway", settings)) as tracer:
            vault = Vault(postgres, master, clock)
            limit = RateLimit(counts, clock, prefix="api")
            trails = Trails(Chains(master.causes, clock))
            gateway = gateway_of(js, postgres, vault, egress, clock, settings, trails)
            show(metrics, gateway, limit, trails)

            async def unready() -> list[str]:
                reasons = []
                if not gateway.directory.complete.is_set():
                    reasons.append("Workflows and triggers are not read yet.")
                if not gateway.tail.following.is_set():
                    reasons.append("The log is not followed yet.")
                return [*reasons, *js.unready()]

            for work in (
                js.run(),
                gateway.dispatch.run(),
                gateway.directory.follow(),
                gateway.places.run(),
                gateway.binding.run(),
                gateway.tail.run(),
                gateway.watch.run(),
                gateway.parts.desk.run(),
                gateway.held.follow(),
                limit.run(),
            ):
                beside.create_task(work)
            routes: Any = framework(RELEASE)
            callers = Callers(vault.find_key, limit)
            app = gateway_app(
                routes,
                gateway.parts,
                callers=callers,
                ready=unready,
                notes=notes_of(settings),
                metrics=metrics,
                tracer=tracer,
                trusted_proxies=settings.trusted_proxies,
            )
            async with (
                worker_calls(gateway.parts, callers, tracer, settings),
                asyncio.TaskGroup() as group,
            ):
                server = await serve(
                    app,
                    settings.host,
                    settings.gateway_port,
                    group,
                    tls=tls_of(settings),
                    drain_seconds=settings.drain_seconds,
                    cap=ConnectionCap(trusted_proxies=settings.trusted_proxies),
                )
                await stopping.wait()
                gateway.tail.close()
                gateway.parts.desk.close()
                server.should_exit = True


@asynccontextmanager
async def worker_calls(
    parts: Parts, callers: Callers, tracer: Tracer, settings: Settings
) -> AsyncIterator[None]:
    """The worker API over gRPC, where it has a port; else nothing of it is even imported."""
    if not settings.grpc_port:
        yield
        return
    from gateway.workers.rpc import Calls, serving

    calls = Calls(parts.desk, parts.worker_types, callers, tracer)
    async with serving(
        calls,
        settings.host,
        settings.grpc_port,
        tls=tls_of(settings),
        drain_seconds=settings.drain_seconds,
    ):
        yield


@asynccontextmanager
async def counting(url: str) -> "AsyncIterator[redis.asyncio.Redis]":
    """Redis, and none of its connections left behind."""
    client = redis_client(url)
    try:
        yield client
    finally:
        await client.aclose(close_connection_pool=True)


def gateway_of(  # noqa: PLR0913, PLR0917  # What the world offers.
    js: JetStream,
    postgres: Pool,
    vault: Vault,
    egress: Egress,
    clock: Clock,
    settings: Settings,
    trails: Trails,
) -> Gateway:
    """Put the parts together."""
    domain = Domain(js.domain, clock, RELEASE)
    directory = Directory(js.reader(DOMAIN))
    places = Places(PostgresPositions(postgres))
    blobs = WhileRoom(js.blobs, lambda: js.disk.state.stops_uploads)
    dispatch = Dispatch(js.signals, js.inbox)
    looks = Looks(dispatch)
    binding = Binding(domain, directory, places, looks)
    histories = StoredHistories(postgres, js.log)
    held = HeldEverywhere(js.signals, clock)
    tail = Tail(js.reader(RUNS), js.log)
    run_queries, trigger_queries = RunQueries(postgres), TriggerQueries(postgres)
    sealing = Sealing(vault)
    runs = Runs(
        dispatch=dispatch,
        log=js.log,
        blobs=blobs,
        directory=directory,
        places=places,
        clock=clock,
        queries=run_queries,
        histories=histories,
        sealing=sealing,
        disk_is_full=lambda: js.disk.state.stops_starts,
        trails=trails,
        crowds=lambda org: held.crowds(org, settings.most_backlog),
    )
    secrets = Secrets(vault, domain, places, egress)
    apis = Apis(domain, blobs, places, egress, vault)
    language = Language(kept=16)
    worker_types = Types(domain, directory, js.blobs, places)
    compiler = RemoteCompiler(js.signals, apis, worker_types)
    triggers = Triggers(
        domain=domain,
        binding=binding,
        secrets=secrets,
        places=places,
        language=language,
        looks=looks,
        clock=clock,
        public_url=settings.public_url,
        compiler=compiler,
    )

    live = Live(
        tail,
        histories,
        lambda subject: js.reader(RUNS, subject),
        PostgresArchive(postgres),
        still_valid(vault.find_key),
    )
    logs = Logs(StoredLogs(js.connection, clock))
    watch = Watch(js.signals, clock)
    redelivery = Redelivery(
        triggers=triggers,
        queries=trigger_queries,
        runs=runs,
        histories=histories,
        hooks=JetStreamLog(js.connection, HOOKS),
        blobs=js.blobs,
        vault=vault,
    )
    trying = Trying(
        domain=domain,
        compiler=compiler,
        runs=runs,
        histories=histories,
        redelivery=redelivery,
        resealing=Resealing(vault, blobs),
        sealing=sealing,
        blobs=blobs,
        clock=clock,
    )
    desk = Desk(
        Means(
            handing=js.handing,
            leases=Leases(vault),
            sealing=sealing,
            claims=Claims(js.effects),
            types=worker_types,
            runs=js.log,
            tasks=JetStreamLog(js.connection, TASKS),
            # An output of a run that was accepted waits for room only when the engine's own part is nearly gone.
            blobs=WhileRoom(js.blobs, lambda: js.disk.state.stops_outputs),
            dispatch=dispatch,
            letters=js.letters,
            signals=js.signals,
            clock=clock,
        )
    )
    parts = Parts(
        domain=domain,
        places=places,
        workflows=Workflows(domain, blobs, compiler, binding, places),
        workflow_queries=WorkflowQueries(postgres),
        trying=trying,
        cases=Cases(domain=domain, trying=trying, places=places, blobs=blobs, language=language),
        triggers=triggers,
        trigger_queries=trigger_queries,
        redelivery=redelivery,
        retroactive=Retroactive(
            triggers=triggers,
            queries=trigger_queries,
            redelivery=redelivery,
            runs=runs,
            blobs=js.blobs,
            language=Language(kept=16),
        ),
        trials=Trials(
            triggers=triggers,
            redelivery=redelivery,
            runs=runs,
            asking=Asking(
                runs=runs,
                histories=histories,
                compiler=compiler,
                cursors=Cursors(js.marks),
                blobs=js.blobs,
                clock=clock,
            ),
            sealing=sealing,
            blobs=js.blobs,
            language=Language(kept=16),
            clock=clock,
        ),
        runs=runs,
        run_queries=run_queries,
        reading=Reading(places, runs),
        approvals=Approvals(runs, histories, sealing, clock),
        approval_queries=ApprovalQueries(postgres),
        gate_queries=GateQueries(postgres),
        ports=Ports(WorkflowQueries(postgres), run_queries, histories, js.blobs),
        histories=histories,
        inspector=RemoteInspector(js.signals, js.blobs),
        logs=logs,
        log_streams=LogStreams(live, logs),
        log_search=LogSearch(postgres),
        live=live,
        secrets=secrets,
        keys=Keys(vault, domain, places, clock),
        catalogue=js.catalogue,
        apis=apis,
        pools=Pools(js.connection, watch, js.signals, desk.asked_at),
        desk=desk,
        worker_types=worker_types,
        pauses=OrgPauses(domain, directory, places, held, clock),
    )
    return Gateway(
        directory=directory,
        places=places,
        binding=binding,
        tail=tail,
        dispatch=dispatch,
        watch=watch,
        held=held,
        parts=parts,
    )


def show(metrics: Metrics, gateway: Gateway, limit: RateLimit, trails: Trails) -> None:
    """Have the plain numbers read whenever somebody asks."""
    tail, places, live = gateway.tail, gateway.places, gateway.parts.live
    metrics.gauge("gateway_streams_open", "Live streams.", lambda: sum(live.open.values()))
    metrics.counter("gateway_streams_let_go_total", "Live streams that did not keep up.", lambda: tail.let_go)
    logs, search = gateway.parts.logs, gateway.parts.log_search
    metrics.counter(
        "gateway_log_bytes_total", "Log lines looked at for somebody, in bytes.", lambda: logs.looked_at
    )
    metrics.counter(
        "gateway_log_records_searched_total", "Log records that searches looked at.", lambda: search.looked_at
    )
    metrics.counter(
        "gateway_reads_behind_total",
        "Reads that were answered before the read models had caught up.",
        lambda: places.gave_up,
    )
    metrics.counter(
        "gateway_conflicts_total",
        "Changes that were decided again because another was first.",
        lambda: gateway.parts.domain.conflicts,
    )
    metrics.counter(
        "gateway_triggers_rebound_total",
        "Triggers that were bound behind a publisher that died.",
        lambda: gateway.binding.repaired,
    )
    desk = gateway.parts.desk
    metrics.gauge(
        "gateway_workers_waiting", "Calls of workers outside that wait for work.", lambda: desk.waiting
    )
    metrics.counters(
        "gateway_worker_tasks_total",
        "Tasks of workers outside, by what became of them.",
        "what",
        lambda: dict(desk.counts),
    )
    metrics.counter(
        "gateway_limits_without_redis_total",
        "Decisions about a rate made without Redis.",
        lambda: limit.fallbacks,
    )
    metrics.counters(
        "gateway_trails_total",
        "Wishes for a run that said which run has them, by what became of that.",
        "result",
        lambda: trails.counts,
    )


if __name__ == "__main__":
    sys.exit(run_service("gateway", main))
