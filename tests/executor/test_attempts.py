"""What an executor promises about one attempt: it happens once, or says that it may not have."""

import asyncio
from functools import partial
from typing import Any

import pytest

from chassis.ports import Ambiguous, Away, Full
from contracts.errors import Failure
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt, StepLetGo
from contracts.payloads import Inline
from contracts.runs import AttemptFailed, RunStopping
from executor.node import Context, Result
from tests.executor.fakes import STEP, Delivery, World, scheduled, simulated, task, until
from tests.executor.nodes import Outside, Scripted


def made(node: Any, world: World | None = None, **settings: Any) -> Outcome:
    """The outcome of one attempt at a node, with `settings` for its task."""

    async def main() -> Outcome:
        surroundings = world or World(node)
        async with surroundings.executor():
            surroundings.source.put(task(node_type="test", **settings))
            await until(lambda: surroundings.outcomes, 200)
        [outcome] = surroundings.outcomes
        return outcome

    return simulated(main())


def value(outcome: Outcome) -> bytes:
    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Inline)
    return bytes(outcome.output.value)


def test_an_output_is_reported_with_the_port_that_it_leaves_by() -> None:
    async def script(context: Context) -> Result:
        await asyncio.sleep(2)
        return Result(output={"key": context.key}, ports=("other",))

    outcome = made(Scripted(script))

    assert value(outcome) == b'{"key":"run-1/call"}'
    assert isinstance(outcome, StepDone)
    assert (outcome.ports, outcome.took_ms) == (("other",), 2000)


@pytest.mark.parametrize("repeat", ["no", "by-key", "yes"])
def test_a_failure_before_the_call_is_a_plain_failure(repeat: str) -> None:
    world = Outside()
    world.fails = "preparing"

    outcome = made(world.node, repeat=repeat)

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable, outcome.error.node) == (
        "attempt.crashed",
        False,
        "call",
    )
    assert "before" not in outcome.error.message, "the text of a strange exception may hold a secret"


@pytest.mark.parametrize(
    ("fails", "kind", "code", "retryable"),
    [
        ("connecting", StepBroken, "unreachable", True),
        ("silent", StepInDoubt, "unreachable", True),
        ("answered", StepBroken, "refused", True),
        ("raising", StepInDoubt, "attempt.crashed", False),
        ("finishing", StepInDoubt, "attempt.crashed", False),
    ],
)
def test_a_step_is_in_doubt_exactly_when_the_call_left_and_nobody_said_what_came_of_it(
    fails: str, kind: type, code: str, retryable: bool
) -> None:
    world = Outside()
    world.fails = fails

    outcome = made(world.node, repeat="no")

    assert isinstance(outcome, kind)
    assert isinstance(outcome, StepBroken | StepInDoubt)
    assert (outcome.error.code, outcome.error.retryable) == (code, retryable)


@pytest.mark.parametrize("repeat", ["by-key", "yes"])
@pytest.mark.parametrize("fails", ["silent", "raising"])
def test_an_effect_that_may_be_repeated_is_never_in_doubt(fails: str, repeat: str) -> None:
    world = Outside()
    world.fails = fails

    assert isinstance(made(world.node, repeat=repeat), StepBroken)


@pytest.mark.parametrize(
    ("timeout", "kind", "retryable"),
    [(0.5, StepBroken, True), (1.5, StepInDoubt, False), (2.5, StepInDoubt, False)],
)
def test_a_timeout_is_a_doubt_once_the_call_has_begun(timeout: float, kind: type, retryable: bool) -> None:
    outcome = made(Outside().node, repeat="no", timeout_s=timeout)

    assert isinstance(outcome, kind)
    assert isinstance(outcome, StepBroken | StepInDoubt)
    assert (outcome.error.code, outcome.error.retryable) == ("attempt.timeout", retryable)


def test_a_step_that_never_answers_ends_with_its_timeout() -> None:
    async def script(_: Context) -> None:
        await asyncio.Event().wait()

    outcome = made(Scripted(script), timeout_s=30.0)

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable, outcome.took_ms) == ("attempt.timeout", True, 30_000)


def test_a_node_that_ignores_its_timeout_is_left_behind() -> None:
    world = World()

    async def script(_: Context) -> str:
        while True:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                if world.outcomes:
                    raise
                continue
            return "too late"

    world = World(Scripted(script))
    outcome = made(None, world, timeout_s=1.0)

    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "attempt.timeout"


def test_a_node_that_raises_what_it_likes_harms_nobody_else() -> None:
    errors = [
        SystemExit(1),
        asyncio.CancelledError(),
        RecursionError(),
        MemoryError(),
        TimeoutError(),
        KeyError(),
    ]

    async def script(_: Context) -> None:
        raise errors[len(world.outcomes)]

    world = World(Scripted(script))

    async def main() -> None:
        async with world.executor():
            for attempt in range(1, len(errors) + 1):
                [delivery] = world.source.put(task(node_type="test", attempt=attempt))
                await until(partial(getattr, delivery, "acknowledged"))
            world.source.put(task({"value": 1}, attempt=99))
            await until(lambda: len(world.outcomes) > len(errors))

    simulated(main())

    *broken, fine = world.outcomes
    assert [outcome.error.code for outcome in broken if isinstance(outcome, StepBroken)] == [
        "attempt.crashed"
    ] * 6
    assert value(fine) == b"1"


@pytest.mark.parametrize(
    "brought", [{"x": float("nan")}, {1, object()}, "x" * (33 * 2**20), Result(ports=("nowhere",))]
)
def test_an_output_that_cannot_be_kept_fails_the_step_for_good(brought: Any) -> None:
    async def script(_: Context) -> Any:
        return brought

    outcome = made(Scripted(script), repeat="no")

    assert isinstance(outcome, StepBroken)
    assert outcome.error.code in ("attempt.crashed", "payload.too_large")
    assert not outcome.error.retryable


# --- The ledger --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failures",
    [
        [(Ambiguous("stored"), True)],
        [(Ambiguous("not stored"), False)],
        [(Away("nothing"), False), (Ambiguous("stored"), True), (Full("nothing"), False)],
    ],
)
def test_a_claim_whose_fate_is_unknown_is_made_again_until_it_is_known(
    failures: list[tuple[Exception, bool]],
) -> None:
    outside = Outside()
    world = World(outside.node)
    world.ledger.failing = list(failures)

    outcome = made(None, world, repeat="no")

    assert isinstance(outcome, StepDone)
    assert len(world.ledger.stored) == 1
    assert outside.calls == ["run-1/call"]


@pytest.mark.parametrize("repeat", ["by-key", "yes"])
def test_an_effect_that_may_be_repeated_is_not_claimed(repeat: str) -> None:
    world = World(Outside().node)

    assert isinstance(made(None, world, repeat=repeat), StepDone)
    assert not world.ledger.stored


def test_the_ledger_being_away_delays_the_call_and_what_is_said_of_it_and_leaves_no_doubt() -> None:
    outside = Outside()
    world = World(outside.node)
    world.ledger.failing = [(Ambiguous("?"), True)] * 18

    outcome = made(None, world, repeat="no", timeout_s=20.0)

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("attempt.timeout", True)
    assert not outside.calls


# --- Killed before, during and after an unsafe call -----------------------------------------------


def killed_at(moment: float, repeat: str, history: bool = True) -> tuple[Outside, World, list[Delivery]]:
    """Kill an executor `moment` seconds into a call that is made from 1 to 2 and reported at 3; start another."""
    outside = Outside()
    world = World(outside.node)
    if history:
        world.runs.commit(scheduled())

    async def main() -> list[Delivery]:
        async with world.executor() as first:
            first_delivery = world.source.put(task(node_type="test", repeat=repeat))
            await asyncio.sleep(moment)
            await first.kill()
        if world.outcomes:
            world.runs.commit(AttemptFailed(step=STEP, attempt=1, error=Failure(code="refused", message="")))
        world.source.connected_since = 1e12
        async with world.executor():
            again = world.source.put(task(node_type="test", repeat=repeat))
            await until(lambda: again[0].acknowledged)
        return first_delivery + again

    return outside, world, simulated(main())


def test_killed_before_an_unsafe_call_it_is_made_by_the_next_executor() -> None:
    outside, world, _ = killed_at(0.5, "no")

    assert len(outside.calls) == 1
    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)


def test_killed_during_an_unsafe_call_the_step_is_in_doubt() -> None:
    outside, world, deliveries = killed_at(1.5, "no")

    assert len(outside.calls) == 1, "nobody makes the call again"
    [outcome] = world.outcomes
    assert isinstance(outcome, StepInDoubt)
    assert [delivery.acknowledged for delivery in deliveries] == [0, 1]


def test_killed_after_an_unsafe_call_but_before_its_outcome_the_step_is_in_doubt() -> None:
    outside, world, _ = killed_at(2.5, "no")

    assert len(outside.calls) == 1
    [outcome] = world.outcomes
    assert isinstance(outcome, StepInDoubt)


def test_killed_after_the_outcome_nothing_happens_again() -> None:
    outside, world, deliveries = killed_at(3.5, "no")

    assert len(outside.calls) == 1
    assert len(world.outcomes) == 1
    assert deliveries[1].acknowledged == 1


@pytest.mark.parametrize("repeat", ["yes", "by-key"])
def test_killed_during_a_safe_call_it_is_repeated_under_the_same_key(repeat: str) -> None:
    outside, world, _ = killed_at(1.5, repeat)

    assert outside.calls == ["run-1/call", "run-1/call"]
    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)


def test_a_claim_of_our_own_whose_outcome_is_known_is_no_doubt() -> None:
    """The task comes again without a reconnect, so the ledger is asked before the history is."""
    outside = Outside()
    world = World(outside.node)
    world.runs.commit(scheduled())

    async def main() -> Delivery:
        async with world.executor():
            world.source.put(task(node_type="test", repeat="no"))
            await until(lambda: world.outcomes)
            world.runs.commit(AttemptFailed(step=STEP, attempt=1, error=Failure(code="refused", message="")))
            await asyncio.sleep(0.1)
            [again] = world.source.put(task(node_type="test", repeat="no"))
            await until(lambda: again.acknowledged)
            return again

    simulated(main())

    assert len(outside.calls) == 1
    assert len(world.outcomes) == 1


# --- Cancellation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("moment", "effect"), [(0.5, "none"), (1.5, "possible"), (2.5, "done")])
def test_a_cancelled_attempt_says_within_two_seconds_what_it_could_not_undo(
    moment: float, effect: str
) -> None:
    world = World(Outside().node)

    async def main() -> float:
        async with world.executor():
            [delivery] = world.source.put(task(node_type="test", repeat="yes"))
            await asyncio.sleep(moment)
            world.owner.cancel((STEP, 1))
            await until(lambda: world.outcomes)
            assert delivery.acknowledged == 1
            return asyncio.get_running_loop().time() - moment

    assert simulated(main()) < 2
    [outcome] = world.outcomes
    assert isinstance(outcome, StepLetGo)
    assert outcome.effect == effect


def test_a_node_that_ignores_its_cancellation_is_left_behind_within_two_seconds() -> None:
    async def script(_: Context) -> None:
        while not world.outcomes:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    world = World(Scripted(script))

    async def main() -> float:
        async with world.executor():
            world.source.put(task(node_type="test"))
            await asyncio.sleep(5)
            world.owner.cancel((STEP, 1))
            world.owner.cancel((STEP, 1))
            await until(lambda: world.outcomes)
            return asyncio.get_running_loop().time() - 5

    assert simulated(main()) < 2
    [outcome] = world.outcomes
    assert isinstance(outcome, StepLetGo)


def test_a_task_that_comes_after_its_cancellation_is_let_go_at_once() -> None:
    outside = Outside()
    world = World(outside.node)

    async def main() -> None:
        async with world.executor():
            world.owner.cancel((STEP, 1))
            world.source.put(task(node_type="test"))
            await until(lambda: world.outcomes)

    simulated(main())

    [outcome] = world.outcomes
    assert isinstance(outcome, StepLetGo)
    assert outcome.effect == "none"
    assert not outside.prepared


def test_a_task_of_a_run_that_is_stopping_is_let_go_when_it_is_looked_up() -> None:
    outside = Outside()
    world = World(outside.node)
    world.runs.commit(scheduled())
    world.runs.commit(RunStopping(outcome="cancelled"))
    world.source.connected_since = 1e12

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test"))
            await until(lambda: world.outcomes)

    simulated(main())

    [outcome] = world.outcomes
    assert isinstance(outcome, StepLetGo)
    assert not outside.prepared


def test_cancelling_another_attempt_leaves_this_one_alone() -> None:
    world = World(Outside().node)

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test"))
            await asyncio.sleep(0.5)
            world.owner.cancel((STEP, 2), ("other", 1))
            world.owner.publish("cancel.x.y", b"not json")
            await until(lambda: world.outcomes)

    simulated(main())

    assert isinstance(world.outcomes[0], StepDone)


def test_a_node_that_fails_while_it_is_stopped_was_let_go() -> None:
    async def script(context: Context) -> None:
        async with context.effect():
            try:
                await asyncio.sleep(100)
            finally:
                raise KeyError

    world = World(Scripted(script))

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test", repeat="no"))
            await asyncio.sleep(1)
            world.owner.cancel((STEP, 1))
            await until(lambda: world.outcomes)
            world.source.put(task({"value": 1}, attempt=2))
            await until(lambda: len(world.outcomes) == 2)

    simulated(main())

    let_go, done = world.outcomes
    assert isinstance(let_go, StepLetGo)
    assert let_go.effect == "possible"
    assert isinstance(done, StepDone)


def test_the_lease_of_a_node_that_was_left_behind_is_kept_until_its_outcome_is_accepted() -> None:
    async def script(_: Context) -> str:
        while not world.outcomes:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue
        return "too late"

    world = World(Scripted(script))
    world.owner.deaf = world.owner.inbox_away = True

    async def main() -> list[float]:
        async with world.executor():
            [delivery] = world.source.put(task(node_type="test", timeout_s=1.0))
            await asyncio.sleep(10)
            again = world.source.put(task(node_type="test", timeout_s=1.0))
            await asyncio.sleep(10)
            world.owner.deaf = False
            await until(lambda: delivery.acknowledged)
            assert again[0].acknowledged == 1
            await asyncio.sleep(200)
            return delivery.beats

    assert len(simulated(main())) > 30
    [outcome] = world.outcomes
    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "attempt.timeout"
