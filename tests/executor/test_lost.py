"""What becomes of the attempts of an executor that was killed: by when another one has them, in exact time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from contracts.limits import HEARTBEAT_SECONDS, LEASE_SECONDS
from contracts.messages import StepDone, StepInDoubt, Task
from contracts.streams import pool_consumer
from executor.node import Context
from tests.executor.fakes import Delivery, Source, World, scheduled, simulated, task, until
from tests.executor.nodes import Outside, Scripted

NANO = 1_000_000_000
SOON = 0.1
"""What talking takes beside the waiting; everything else is exact."""


class Leased(Source):
    """A durable of JetStream: what is neither kept nor acknowledged within `ack_wait` is delivered again."""

    def __init__(self) -> None:
        super().__init__()
        self.ack_wait = pool_consumer("default").settings()["ack_wait"] / NANO
        self.given: list[tuple[float, Delivery]] = []

    async def take(self, room: Callable[[], int]) -> AsyncIterator[Sequence[Delivery]]:
        async for deliveries in super().take(room):
            now = asyncio.get_running_loop().time()
            for delivery in deliveries:
                self.given.append((now, delivery))
                self._watch(delivery, now)
            yield deliveries

    def _watch(self, delivery: Delivery, kept: float) -> None:
        asyncio.get_running_loop().call_at(kept + self.ack_wait, self._lapse, delivery, kept)

    def _lapse(self, delivery: Delivery, kept: float) -> None:
        newest = delivery.beats[-1] if delivery.beats else kept
        if delivery.acknowledged:
            return
        if newest > kept:
            self._watch(delivery, newest)
        else:
            self.put(delivery.body)


def lost(work: Any, wanted: Task, killed_after: float) -> tuple[World, float, list[float]]:
    """An executor takes the task and is killed; another one is there all the time. When each was given it."""
    world = World(Scripted(work))
    world.runs.commit(scheduled())
    source = world.source = Leased()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with world.executor() as first:
            source.put(wanted)
            await asyncio.sleep(killed_after)
            await first.kill()
        killed = loop.time()
        async with world.executor():
            await until(lambda: bool(world.outcomes))
            return killed

    killed = simulated(main())
    return world, killed, [at for at, _ in source.given]


async def _long(_: Context) -> str:
    await asyncio.sleep(20)
    return "long"


def test_the_lease_of_a_task_is_the_heartbeat_bound_that_is_promised() -> None:
    assert Leased().ack_wait == LEASE_SECONDS == 3.0
    assert 4 * HEARTBEAT_SECONDS < LEASE_SECONDS, "a few heartbeats may be lost before anybody is"


def test_what_may_be_repeated_is_with_another_within_the_heartbeat_bound() -> None:
    world, killed, [_, again] = lost(_long, task(node_type="test"), 7.3)
    assert LEASE_SECONDS - HEARTBEAT_SECONDS - SOON <= again - killed <= LEASE_SECONDS + SOON
    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)


def test_what_had_begun_and_must_not_be_repeated_is_in_doubt_within_the_heartbeat_bound() -> None:
    outside = Outside(takes=5.0)
    world, killed, [_, again] = lost(outside, task(node_type="test", repeat="no"), 7.3)
    assert LEASE_SECONDS - HEARTBEAT_SECONDS - SOON <= again - killed <= LEASE_SECONDS + SOON
    [outcome] = world.outcomes
    assert isinstance(outcome, StepInDoubt)
    assert len(outside.calls) == 1


def test_what_had_not_begun_is_made_by_another_and_only_once() -> None:
    outside = Outside(takes=5.0)
    world, killed, [_, again] = lost(outside, task(node_type="test", repeat="no"), 3.0)
    assert again - killed <= LEASE_SECONDS + SOON
    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)
    assert len(outside.calls) == 1
