"""Composition root of the executor: the only place that knows its parts by their concrete names."""

import gc

if __name__ == "__main__":
    gc.disable()  # Nothing that is imported is garbage: whoever runs the service has the collector look again.

import asyncio
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import structlog

from chassis.chains import Chains
from chassis.clock import SystemClock
from chassis.disk import WhileRoom
from chassis.dispatch import Dispatch
from chassis.egress.opening import egress_of
from chassis.http import health_app, serve
from chassis.ids import receipt
from chassis.jetstream import jetstream
from chassis.key_files import master_key
from chassis.lifecycle import CannotStart, Stopping, companions, run_service
from chassis.links import Links
from chassis.postgres import pool
from chassis.settings import Settings
from chassis.telemetry import Metrics, notes_of, tracer_for
from chassis.vault import Vault
from contracts.limits import PoolName
from contracts.pools import WORKERS, Labels, labels_in
from executor.attempt import Means
from executor.catalogue import Announcing
from executor.effects import Effects
from executor.figures import show
from executor.journal import Journal
from executor.opening import Opening
from executor.presence import Presence
from executor.registry import registry
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox
from executor.service import Executor

log = structlog.get_logger()

_GIVING_BACK_SECONDS: Final = 1.0
"""Kept of the time for draining, to give back what does not end by itself."""


async def main(settings: Settings, stopping: Stopping) -> None:
    """Make attempts until told to stop; then finish what is under way and give back the rest."""
    clock, metrics = SystemClock(), Metrics("executor")
    name = receipt()
    instance = f"executor:{name}"
    pools, labels, master = pools_of(settings), labels_of(settings), master_key(settings)
    async with (
        egress_of(settings) as egress,
        jetstream(settings, "executor", clock) as js,
        pool(settings) as postgres,
        sandbox_of(settings) as sandbox,
        companions() as beside,
    ):
        with closing(tracer_for("executor", settings)) as tracer, closing(Relay.of(settings)) as relay:
            dispatch = Dispatch(js.signals, js.inbox)
            journal = Journal(js.letters, clock, instance, lambda: not js.disk.state.stops_uploads)
            found = registry(journal=journal)
            for fault in found.faults:
                log.error("plugin.left-out", plugin=fault.plugin, reason=fault.reason)
            means = Means(
                actor=instance,
                registry=found,
                effects=Effects(js.effects, clock, instance),
                runs=js.log,
                opening=Opening(Vault(postgres, master, clock)),
                links=Links(settings.public_url, master.links),
                chains=Chains(master.causes, clock),
                # An output of a run that was accepted waits for room only when the engine's own part is nearly gone.
                blobs=WhileRoom(js.blobs, lambda: js.disk.state.stops_outputs),
                egress=egress,
                relay=relay,
                sandbox=sandbox,
                clock=clock,
                tracer=tracer,
                took=metrics.histogram("executor_attempt_seconds", "How long attempts took."),
            )
            executor = Executor(
                means=means,
                pools={name: (js.source(name), settings.pool_capacity) for name in pools},
                dispatch=dispatch,
                signals=js.signals,
                letters=js.letters,
                drain_seconds=max(0.0, settings.drain_seconds - _GIVING_BACK_SECONDS),
            )
            specs = [spec for spec in found.announced if spec.pool in pools]
            announcing = Announcing(js.catalogue, specs)
            presence = Presence(js.signals, executor, name, labels)
            show(metrics, executor, found, journal)

            async def unready() -> list[str]:
                reasons = [] if announcing.done else ["The node types are not announced yet."]
                return [*reasons, *js.unready()]

            for work in (js.run(), dispatch.run(), announcing.run(), journal.run(), presence.run()):
                beside.create_task(work)
            async with asyncio.TaskGroup() as group:
                server = await serve(
                    health_app(unready, metrics, notes_of(settings)),
                    settings.host,
                    settings.executor_port,
                    group,
                )
                await executor.serve(stopping)
                await journal.drained(_GIVING_BACK_SECONDS)
                server.should_exit = True


def pools_of(settings: Settings) -> tuple[str, ...]:
    """The pools that this process serves. Raises `CannotStart` on a name that is none."""
    names = tuple(filter(None, (name.strip() for name in settings.pools.split(","))))
    try:
        pools = msgspec.convert(names, tuple[PoolName, ...])
    except msgspec.ValidationError as error:
        raise CannotStart(f"AUTOMATEOS_POOLS: {settings.pools!r} is not a list of pools") from error
    for name in pools:
        if name.startswith(WORKERS):
            raise CannotStart(
                f"AUTOMATEOS_POOLS: {name!r} is a pool of workers outside; no executor serves it"
            )
    return pools


def labels_of(settings: Settings) -> Labels:
    """What this executor is called by those who look at its pools. Raises `CannotStart` on labels that are none."""
    try:
        return labels_in(settings.pool_labels)
    except msgspec.ValidationError as error:
        raise CannotStart(
            f"AUTOMATEOS_POOL_LABELS: {settings.pool_labels!r} is not a list such as zone=a,gpu=l4"
        ) from error


def sandbox_of(settings: Settings) -> Sandbox:
    """Where the code of users runs: as many at once as there are processors."""
    return Sandbox(Path(settings.data_dir) / "engines", at_once=os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(run_service("executor", main))
