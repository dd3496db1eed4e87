"""Which of several starts goes on: the newest alone, or one that stands for all."""

from collections.abc import Sequence
from datetime import timedelta

from contracts.gates import (
    Batch,
    BatchBegan,
    Debounce,
    GateLimit,
    GateState,
    SlotFreed,
    SlotGranted,
    SlotsAwaited,
)
from contracts.limits import BATCH_BYTES
from orchestrator.gates import awaited, decide, evolve, freed
from orchestrator.gathering import BATCHES_AT_ONCE
from orchestrator.wishes import Asking, Decided
from tests.orchestrator.test_gates import NOON

QUIET = GateLimit(debounce=Debounce(seconds=5, at_most=12))
THREE = GateLimit(batch=Batch(size=3, seconds=10))


def came(**seconds: float) -> list[Asking]:
    """Each run, and how long after noon it came."""
    return [Asking(run=run, since=NOON + timedelta(seconds=after)) for run, after in seconds.items()]


def told(
    state: GateState, limit: GateLimit, asking: Sequence[Asking], seconds: float
) -> tuple[Decided, GateState]:
    """What is decided so long after noon, and the state with it."""
    at = NOON + timedelta(seconds=seconds)
    decided = decide(state, limit, asking, at)
    for event in (*decided.events, *awaited(state, decided)):
        state = evolve(state, event, at)
    return decided, state


def test_the_newest_begins_when_nothing_came_for_a_while() -> None:
    decided, state = told(GateState(), QUIET, came(a=0), 0)
    assert (decided.waiting, decided.again) == (("a",), NOON + timedelta(seconds=5))
    decided, state = told(state, QUIET, came(a=0, b=4), 4)
    assert decided.superseded == {"a": "b"}
    assert (decided.waiting, decided.again) == (("b",), NOON + timedelta(seconds=9))
    assert (state.next, state.first) == (("b",), NOON)
    decided, state = told(state, QUIET, came(b=4), 9)
    assert (decided.inside, decided.waiting, decided.again) == (("b",), (), None)
    assert (state.next, state.first) == ((), None)


def test_it_begins_at_the_latest_so_long_after_the_first_however_many_follow() -> None:
    decided, state = told(GateState(), QUIET, came(a=0), 0)
    for second in (4, 8, 11):
        decided, state = told(state, QUIET, came(a=0, **{f"b{second}": second}), second)
    assert decided.again == NOON + timedelta(seconds=12)
    assert told(state, QUIET, came(b11=11), 12)[0].inside == ("b11",)


def test_without_a_longest_time_it_waits_as_long_as_they_come() -> None:
    limit = GateLimit(debounce=Debounce(seconds=5))
    decided, state = told(GateState(), limit, came(a=0), 0)
    for second in range(4, 400, 4):
        decided, state = told(state, limit, came(b=second), second)
    assert decided.again == NOON + timedelta(seconds=401)


def test_whoever_came_before_the_one_that_went_on_does_not_go_on() -> None:
    _, state = told(GateState(), QUIET, came(b=4), 9)
    decided, _ = told(state, QUIET, came(a=0), 20)
    assert (decided.superseded, decided.waiting, decided.events) == ({"a": "b"}, (), ())
    decided, _ = told(state, QUIET, came(a=0, c=19), 20)
    assert (decided.superseded, decided.waiting) == ({"a": "b"}, ("c",))


def test_one_that_did_not_hear_it_is_told_again_beside_others() -> None:
    _, state = told(GateState(), QUIET, came(b=4), 9)
    decided, _ = told(state, QUIET, came(b=4, c=10), 11)
    assert (decided.inside, decided.waiting, decided.superseded) == (("b",), ("c",), {})


def test_a_burst_that_everybody_has_left_is_over() -> None:
    _, state = told(GateState(), QUIET, came(a=0), 0)
    _, state = told(state, QUIET, [], 3)
    assert (state.next, state.first) == ((), None)


def test_a_batch_is_whole_when_there_are_enough() -> None:
    decided, state = told(GateState(), THREE, came(c=2, a=0, b=1), 2)
    [granted] = decided.events
    assert isinstance(granted, SlotGranted)
    assert (granted.run, granted.members) == ("a", ("a", "b", "c"))
    assert (decided.inside, decided.waiting) == (("a",), ())
    assert state.holders[0].members == ("a", "b", "c")


def test_a_batch_is_whole_when_its_time_is_over() -> None:
    decided, state = told(GateState(), THREE, came(a=0, b=1), 2)
    assert (decided.events, decided.waiting, decided.again) == ((), ("a", "b"), NOON + timedelta(seconds=10))
    decided, _ = told(state, THREE, came(a=0, b=1), 10)
    [granted] = decided.events
    assert isinstance(granted, SlotGranted)
    assert granted.members == ("a", "b")


def test_who_is_left_begins_the_next_batch() -> None:
    decided, _ = told(GateState(), THREE, came(a=0, b=1, c=2, d=3, e=4, f=5, g=6), 6)
    assert [event.members for event in decided.events if isinstance(event, SlotGranted)] == [
        ("a", "b", "c"),
        ("d", "e", "f"),
    ]
    assert (decided.waiting, decided.again) == (("g",), NOON + timedelta(seconds=16))


def test_a_batch_carries_no_more_than_expressions_can_read() -> None:
    large = [Asking(run=run, since=NOON, size=BATCH_BYTES // 2) for run in "abcd"]
    decided, _ = told(GateState(), GateLimit(batch=Batch(size=100, seconds=10)), large, 0)
    [granted] = decided.events
    assert isinstance(granted, SlotGranted)
    assert granted.members == ("a", "b")
    one = [Asking(run="a", since=NOON, size=2 * BATCH_BYTES)]
    decided, _ = told(GateState(), THREE, one, 10)
    assert decided.inside == ("a",)


def test_nobody_is_in_two_batches() -> None:
    _, state = told(GateState(), THREE, came(a=0, b=1, c=2), 2)
    decided, state = told(state, THREE, came(a=0, b=1, c=2, d=3), 3)
    assert (decided.inside, decided.waiting, decided.events) == (("a",), ("d",), ())
    state = evolve(state, BatchBegan(run="a", grant=1), NOON)
    decided, _ = told(state, THREE, came(b=1, c=2), 30)
    assert (decided.inside, decided.waiting, decided.events) == ((), (), ())


def test_the_others_may_end_when_the_one_that_stands_for_them_has_what_started_them() -> None:
    _, state = told(GateState(), THREE, came(a=0, b=1, c=2), 2)
    assert freed(state, {}) == []
    assert freed(state, {"a": 1}, took=["a"]) == [BatchBegan(run="a", grant=1)]
    state = evolve(state, BatchBegan(run="a", grant=1), NOON)
    assert freed(state, {"a": 1}, took=["a"], told=["b"]) == [], "one of them does not know it yet"
    [gone] = freed(state, {}, told=["b", "c"])
    assert gone == SlotFreed(run="a", grant=1, why="told")
    assert evolve(state, gone, NOON).holders == ()


def test_if_it_ended_before_it_was_let_in_the_others_wait_on() -> None:
    _, state = told(GateState(), THREE, came(a=0, b=1, c=2), 2)
    [gone] = freed(state, {"a": 1})
    assert gone == SlotFreed(run="a", grant=1, why="gone")
    decided, _ = told(evolve(state, gone, NOON), THREE, came(b=1, c=2), 11)
    assert decided.inside == ("b",)


def test_so_many_batches_are_under_way_and_no_more() -> None:
    many = [Asking(run=f"r{number:03}", since=NOON) for number in range(BATCHES_AT_ONCE + 5)]
    decided, _ = told(GateState(), GateLimit(batch=Batch(size=1, seconds=1)), many, 5)
    assert len(decided.events) == BATCHES_AT_ONCE
    assert (len(decided.waiting), decided.again) == (5, None), "as soon as one of them is over"
    [*_, last] = awaited(GateState(), decided)
    assert isinstance(last, SlotsAwaited)
