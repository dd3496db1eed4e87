"""What the executor's shell promises about tasks, leases and outcomes."""

import asyncio
from itertools import pairwise

import pytest
from msgspec.structs import replace

from chassis.ports import Stored
from chassis.unwanted import Unwanted
from contracts.codec import decode_bundle, encode
from contracts.errors import Failure
from contracts.messages import StepBroken, StepDone, StepLetGo
from contracts.payloads import Blob, Inline
from contracts.runs import AttemptFailed
from contracts.subjects import run
from executor.node import Binary, Context
from tests.executor.fakes import ORG, RUN, START, STEP, World, scheduled, simulated, task, until
from tests.executor.nodes import Outside, Scripted


async def _slow(_: Context) -> str:
    await asyncio.sleep(20)
    return "slow"


def test_a_lease_is_kept_from_the_fetch_until_the_outcome_was_accepted() -> None:
    world = World(Scripted(_slow))
    world.owner.deaf = world.owner.inbox_away = True

    async def main() -> list[float]:
        async with world.executor():
            [delivery] = world.source.put(task(node_type="test"))
            await asyncio.sleep(30)
            assert not delivery.acknowledged, "the attempt is over, but nobody took its outcome"
            world.owner.deaf = False
            await until(lambda: delivery.acknowledged)
            beats = len(delivery.beats)
            await asyncio.sleep(5)
            assert len(delivery.beats) == beats, "nobody keeps what was acknowledged"
            return delivery.beats

    beats = simulated(main())

    assert len(beats) > 45
    assert max(later - earlier for earlier, later in pairwise([0.0, *beats])) < 0.7
    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)


def test_an_outcome_that_nobody_hears_goes_to_the_inbox_and_then_the_task_is_done() -> None:
    world = World()
    world.owner.deaf = True

    async def main() -> int:
        async with world.executor():
            [delivery] = world.source.put(task({"value": 7}))
            await until(lambda: delivery.acknowledged)
            return delivery.acknowledged

    assert simulated(main()) == 1
    [bundle] = world.owner.inbox
    [outcome] = decode_bundle(bundle)
    assert isinstance(outcome, StepDone)


def test_never_more_attempts_run_at_once_than_there_is_room_for() -> None:
    under_way: list[int] = []
    at_once = 0

    async def script(_: Context) -> None:
        nonlocal at_once
        at_once += 1
        under_way.append(at_once)
        await asyncio.sleep(1)
        at_once -= 1

    world = World(Scripted(script), capacity=7)

    async def main() -> None:
        async with world.executor():
            world.source.put(*(task(node_type="test", attempt=number) for number in range(1, 51)))
            await until(lambda: len(world.outcomes) == 50)

    simulated(main())

    assert max(under_way) == 7
    assert world.source.most <= 7


def test_a_task_that_comes_again_while_it_is_worked_on_is_not_worked_on_twice() -> None:
    outside = Outside()
    world = World(outside.node)

    async def main() -> list[int]:
        async with world.executor():
            deliveries = world.source.put(task(node_type="test"))
            await asyncio.sleep(1.5)
            deliveries += world.source.put(task(node_type="test"))
            await until(lambda: world.outcomes)
            await asyncio.sleep(0.1)
            assert deliveries[1].beats, "the second delivery's lease is kept, too"
            return [delivery.acknowledged for delivery in deliveries]

    assert simulated(main()) == [1, 1]
    assert len(outside.calls) == 1
    assert len(world.outcomes) == 1


def test_after_a_reconnect_a_finished_attempt_is_not_made_again_and_its_run_is_looked_at() -> None:
    outside = Outside()
    world = World(outside.node)
    world.runs.commit(scheduled())
    world.runs.commit(AttemptFailed(step=STEP, attempt=1, error=Failure(code="refused", message="")))
    world.source.connected_since = START.timestamp() + 11

    async def main() -> int:
        async with world.executor():
            [delivery] = world.source.put(task(node_type="test"))
            await until(lambda: delivery.acknowledged)
            return delivery.acknowledged

    assert simulated(main()) == 1
    assert not outside.prepared
    assert not world.outcomes


def test_after_a_reconnect_an_open_attempt_is_made() -> None:
    world = World(Outside().node)
    world.runs.commit(scheduled())
    world.source.connected_since = START.timestamp() + 11

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test"))
            await until(lambda: world.outcomes)

    simulated(main())

    assert isinstance(world.outcomes[0], StepDone)


def test_a_task_that_was_scheduled_after_the_connect_is_not_looked_up() -> None:
    world = World()

    async def main() -> None:
        async with world.executor():
            world.source.put(task({"value": 1}))
            await until(lambda: world.outcomes)

    simulated(main())

    assert world.runs.reads == 0


@pytest.mark.parametrize(
    ("body", "subject"),
    [
        (b"\xff\x00 not a task", "dlq.TASKS._._"),
        (b'{"org": "' + ORG.encode() + b'", "run": "run-1", "step": 7}', f"dlq.TASKS.{ORG}.{RUN}"),
        (b'{"org": "a.>", "run": "*"}', "dlq.TASKS._._"),
        (b"[" * 5_000, "dlq.TASKS._._"),
    ],
)
def test_a_task_that_cannot_be_read_becomes_a_dead_letter_and_delays_nobody(
    body: bytes, subject: str
) -> None:
    world = World()
    world.shelf.away = 3

    async def main() -> None:
        async with world.executor():
            [poison] = world.source.put(body)
            world.source.put(task({"value": 1}))
            await until(lambda: world.outcomes)
            await until(lambda: poison.acknowledged)

    simulated(main())

    [(stored_at, stored, headers)] = world.shelf.letters
    assert (stored_at, stored) == (subject, body)
    assert headers["error"]


def test_a_task_whose_history_cannot_be_read_becomes_a_dead_letter() -> None:
    world = World()
    world.source.connected_since = 1e12
    world.runs.stored.append(Stored(run(ORG, RUN), 1, b"not a commit"))

    async def main() -> None:
        async with world.executor():
            [poison] = world.source.put(task())
            await until(lambda: poison.acknowledged)

    simulated(main())

    assert [letter[0] for letter in world.shelf.letters] == [f"dlq.TASKS.{ORG}.{RUN}"]


def test_an_unknown_node_type_is_left_to_others_for_a_while_and_then_told() -> None:
    world = World()

    async def main() -> None:
        async with world.executor():
            [young] = world.source.put(task(node_type="vendor.thing", scheduled_at=START.timestamp()))
            await until(lambda: young.given_back)
            assert not world.outcomes
            await asyncio.sleep(6)
            world.source.put(task(node_type="vendor.thing", scheduled_at=START.timestamp() + 0.5))
            await until(lambda: world.outcomes)

    world.source.connected_since = -1e12
    simulated(main())

    [outcome] = world.outcomes
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("workflow.unknown_node_type", True)


def test_a_large_output_travels_as_a_reference_and_waits_for_the_store() -> None:
    world = World()
    world.shelf.away = 4
    text = "x" * 70_000

    async def main() -> None:
        async with world.executor():
            world.source.put(task({"value": text}), task({"value": "small"}, attempt=2))
            await until(lambda: len(world.outcomes) == 2)

    simulated(main())

    small, large = world.outcomes
    assert isinstance(small, StepDone)
    assert isinstance(large, StepDone)
    assert isinstance(small.output, Inline)
    assert isinstance(large.output, Blob)
    assert world.shelf.blobs[large.output.sha256] == encode(text)


def test_bytes_in_an_output_are_stored_and_referred_to() -> None:
    async def script(_: Context) -> object:
        return {"file": Binary(b"\x00\x01", "image/png")}

    world = World(Scripted(script))

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test"))
            await until(lambda: world.outcomes)

    simulated(main())

    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Inline)
    [(sha256, data)] = world.shelf.blobs.items()
    assert data == b"\x00\x01"
    assert sha256.encode() in bytes(outcome.output.value)


def test_a_configuration_that_does_not_fit_fails_its_step_and_says_where() -> None:
    world = World()

    async def main() -> None:
        async with world.executor():
            world.source.put(
                task({"val": 1}),
                task(b"[1]", attempt=2),
                task({"url": 7}, attempt=3, node_type="http.request"),
            )
            await until(lambda: len(world.outcomes) == 3)

    simulated(main())

    broken = [outcome.error for outcome in world.outcomes if isinstance(outcome, StepBroken)]
    assert [(error.code, error.retryable) for error in broken] == [("workflow.bad_config", False)] * 3
    assert broken[2].field == "/url"


def test_a_configuration_beyond_the_inline_bound_is_fetched() -> None:
    world = World()

    async def main() -> None:
        blob = await world.shelf.put(b'{"value":"fetched"}')
        missing = Blob(sha256="0" * 64, size=1)
        world.shelf.away = 2
        async with world.executor():
            world.source.put(replace(task(), config=blob))
            await until(lambda: len(world.outcomes) == 1)
            world.source.put(replace(task(attempt=2), config=missing))
            await until(lambda: len(world.outcomes) == 2)

    simulated(main())

    done, broken = world.outcomes
    assert isinstance(done, StepDone)
    assert isinstance(broken, StepBroken)
    assert broken.error.code == "payload.missing"


def test_asked_to_stop_it_finishes_what_is_under_way_and_takes_nothing_new() -> None:
    world = World(Outside().node)

    async def main() -> int:
        async with world.executor() as running:
            world.source.put(task(node_type="test"))
            await asyncio.sleep(0.5)
            running.stop()
            await asyncio.sleep(0.1)
            [late] = world.source.put(task(node_type="test", attempt=2))
            await asyncio.sleep(10)
            return late.acknowledged + len(late.given_back)

    assert simulated(main()) == 0
    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)


def test_who_drains_takes_nothing_more_and_ends_what_it_has_however_long_that_takes() -> None:
    world = World(Scripted(_slow))

    async def main() -> None:
        async with world.executor(drain_seconds=2) as running:
            [delivery] = world.source.put(task(node_type="test"))
            await asyncio.sleep(0.5)
            running.shell.drain()
            running.shell.drain()
            await asyncio.sleep(10)
            [late] = world.source.put(task(node_type="test", attempt=2))
            assert running.serving is not None
            assert not running.serving.done()
            assert running.shell.draining
            assert list(running.shell.shares()) == [("default", 100, 1)]
            await until(running.serving.done)
            assert delivery.acknowledged
            assert not delivery.given_back
            assert not late.acknowledged
            assert not late.given_back

    simulated(main())
    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)


def test_who_drains_and_is_told_to_stop_gives_back_what_does_not_end_in_time() -> None:
    world = World(Scripted(_slow))

    async def main() -> list[float]:
        async with world.executor(drain_seconds=2) as running:
            [delivery] = world.source.put(task(node_type="test"))
            await asyncio.sleep(0.5)
            running.shell.drain()
            await asyncio.sleep(1)
            running.stop()
            await asyncio.sleep(2.1)
            assert running.serving is not None
            assert running.serving.done()
            return delivery.given_back

    assert simulated(main()) == [0.0]
    assert not world.outcomes


def test_who_has_nothing_leaves_at_once() -> None:
    world = World()

    async def main() -> None:
        async with world.executor() as running:
            running.shell.drain()
            await asyncio.sleep(0.1)
            assert running.serving is not None
            assert running.serving.done()

    simulated(main())


def test_what_does_not_end_in_time_is_given_back() -> None:
    world = World(Scripted(_slow))

    async def main() -> list[float]:
        async with world.executor(drain_seconds=2) as running:
            [delivery] = world.source.put(task(node_type="test"))
            await asyncio.sleep(0.5)
            running.stop()
            await asyncio.sleep(2.1)
            assert running.serving is not None
            assert running.serving.done()
            assert not delivery.acknowledged
            return delivery.given_back

    assert simulated(main()) == [0.0]
    assert not world.outcomes


def test_cancellations_beyond_memory_are_looked_up_in_the_history() -> None:
    unwanted = Unwanted(most=2)
    for number in range(1, 4):
        unwanted.add((ORG, RUN, STEP, number), float(number))

    assert (ORG, RUN, STEP, 1) not in unwanted
    assert (ORG, RUN, STEP, 3) in unwanted
    assert unwanted.forgot_until == 1.0


def test_a_thousand_attempts_are_all_told_and_all_acknowledged() -> None:
    world = World()

    async def main() -> int:
        async with world.executor():
            deliveries = world.source.put(*(task({"value": n}, attempt=n) for n in range(1, 1_001)))
            await until(lambda: len(world.outcomes) == 1_000)
            await asyncio.sleep(0.1)
            return sum(delivery.acknowledged for delivery in deliveries)

    assert simulated(main()) == 1_000
    assert sorted(outcome.attempt for outcome in world.outcomes) == list(range(1, 1_001))
    assert not any(isinstance(outcome, StepLetGo) for outcome in world.outcomes)
