"""The gateway as a process: opens what it stands on, answers until it is told to stop."""

import gc

if __name__ == "__main__":
    gc.disable()  # Nothing that is imported is garbage: whoever runs the service has the collector look again.

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import redis.asyncio

from chassis.chains import Chains
from chassis.clock import SystemClock
from chassis.edge.connections import ConnectionCap
from chassis.edge.trails import Trails
from chassis.egress.opening import egress_of
from chassis.http import serve, tls_of
from chassis.jetstream import jetstream
from chassis.key_files import master_key
from chassis.lifecycle import Stopping, companions, run_service
from chassis.postgres import pool
from chassis.rate_limit import RateLimit, redis_client
from chassis.settings import Settings
from chassis.telemetry import Metrics, Tracer, notes_of, tracer_for
from chassis.vault import Vault
from gateway.app import Parts, framework, gateway_app
from gateway.assembly import gateway_of
from gateway.authentication import Callers
from gateway.figures import show
from gateway.release import RELEASE


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


if __name__ == "__main__":
    sys.exit(run_service("gateway", main))
