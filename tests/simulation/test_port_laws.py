"""The simulator's fakes keep the laws that the real ports keep: one list of laws, run against both."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from chassis.testing.queues import MemoryInbox, MemoryOwnership, MemorySignals
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.tasks import MemoryTasks
from chassis.testing.world import START, World
from contracts.subjects import RUNS
from tests.integration import port_laws
from tests.simulation.archive import MemoryStreams

Law = Callable[..., Coroutine[Any, Any, None]]


def kept(law: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Play one law to its end in a world without faults, under several orders of everything."""
    for seed in range(5):
        world = World(seed)
        told = world.loop.spawn("law", law(world))
        try:
            world.loop.run_until(told.done, steps=500_000, seconds=3_600)
            told.result()
        finally:
            world.loop.close()


def named(laws: tuple[Law, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("law", laws, ids=lambda law: law.__name__)


@named(port_laws.LOG_LAWS)
def test_the_log_keeps_its_laws(law: Law) -> None:
    kept(lambda world: law(MemoryLog(world), "place"))


def test_one_stale_proposal_stops_no_other() -> None:
    kept(lambda world: port_laws.one_stale_proposal_stops_no_other(MemoryLog(world), "place", 40))


def test_of_two_writers_exactly_one_wins_each_place() -> None:
    async def law(world: World) -> None:
        log = MemoryLog(world)
        await port_laws.of_two_writers_exactly_one_wins_each_place(log, log, "place")

    kept(law)


@named(port_laws.READER_LAWS)
def test_the_reader_keeps_its_laws(law: Law) -> None:
    def told(world: World) -> Coroutine[Any, Any, None]:
        log = MemoryLog(world)
        return law(log, log, "place")

    kept(told)


@named(port_laws.SIGNAL_LAWS)
def test_signals_keep_their_laws(law: Law) -> None:
    def told(world: World) -> Coroutine[Any, Any, None]:
        signals = MemorySignals(world)
        return law(signals, signals, "place")

    kept(told)


@named(port_laws.INBOX_LAWS)
def test_inbox_and_ownership_keep_their_laws(law: Law) -> None:
    async def told(world: World) -> None:
        inbox = MemoryInbox(world)
        await law(inbox, MemoryOwnership(world, inbox, MemorySignals(world)), START)

    kept(told)


def test_a_call_reaches_the_owner() -> None:
    async def told(world: World) -> None:
        signals = MemorySignals(world)
        ownership = MemoryOwnership(world, MemoryInbox(world), signals)
        await port_laws.a_call_reaches_the_owner(signals, ownership)

    kept(told)


@named(port_laws.TASK_LAWS)
def test_tasks_keep_their_laws(law: Law) -> None:
    def told(world: World) -> Coroutine[Any, Any, None]:
        tasks = MemoryTasks(world)
        return law(tasks, tasks, "place")

    kept(told)


def test_a_task_that_is_done_and_lies_there_again_after_a_restart_is_nobodys_and_leaves() -> None:
    async def told(world: World) -> None:
        tasks = MemoryTasks(world)
        wanted = [port_laws.task("place", number) for number in range(20)]
        for subject in wanted:
            tasks.emit("default", subject, b"x")
        for delivery in await port_laws.taken(tasks, len(wanted)):
            delivery.done()
        world.restart_servers(0.1)
        await asyncio.sleep(0.2)
        ghosts, again = await tasks.waiting(wanted) - tasks.tasks.keys(), len(tasks.tasks)
        assert ghosts
        tasks.emit("default", min(ghosts), b"another")  # Its place is taken.
        await asyncio.sleep(0.1)
        for delivery in await port_laws.taken(tasks, again):
            assert delivery.body == b"x"
            delivery.done()
        await asyncio.sleep(31)
        assert await tasks.waiting(wanted) == set()

    kept(told)


@named(port_laws.BLOB_LAWS)
def test_blobs_keep_their_laws(law: Law) -> None:
    kept(lambda world: law(MemoryBlobs(world)))


@named(port_laws.LETTER_LAWS)
def test_letters_keep_their_laws(law: Law) -> None:
    kept(lambda world: law(MemoryLetters(world), "place"))


def purging(world: World) -> tuple[MemoryLog, port_laws.Purge]:
    log = MemoryLog(world)
    return log, partial(MemoryStreams(world, {RUNS: log}).purge, RUNS)


@named(port_laws.PURGE_LAWS)
def test_purging_keeps_its_laws(law: Law) -> None:
    kept(lambda world: law(*purging(world), "place"))


def test_a_reader_goes_past_what_has_left() -> None:
    def told(world: World) -> Coroutine[Any, Any, None]:
        log, purge = purging(world)
        return port_laws.a_reader_goes_past_what_has_left(log, log, purge, "place")

    kept(told)
