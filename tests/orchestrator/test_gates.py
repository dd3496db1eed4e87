"""What a gate promises: never more inside than it allows, in order, and nobody waits at a free one."""

import random
from datetime import timedelta

import pytest

from contracts.gates import (
    GateLimit,
    GateState,
    OrgLimit,
    Rate,
    SlotFreed,
    SlotGranted,
    SlotsAwaited,
    bounded,
)
from contracts.limits import GATE_NEXT, GATE_SLOTS
from orchestrator.gates import AT_ONCE, awaited, decide, evolve, freed
from orchestrator.wishes import Asking, Decided
from tests.orchestrator.stories import NOON

TWO = GateLimit(at_once=2)
SECOND = timedelta(seconds=1)


def asking(*runs: str, rank: int = 0) -> list[Asking]:
    """One second after the other."""
    return [Asking(run=run, since=NOON + number * SECOND, rank=rank) for number, run in enumerate(runs)]


def after(state: GateState, decided: Decided, at: timedelta = timedelta()) -> GateState:
    for event in decided.events:
        state = evolve(state, event, NOON + at)
    return state


def holding(*runs: str) -> GateState:
    state = GateState()
    for number, run in enumerate(runs, 1):
        state = evolve(state, SlotGranted(run=run, grant=number), NOON)
    return state


def test_so_many_are_let_in_and_the_others_wait_in_their_order() -> None:
    decided = decide(GateState(), TWO, asking("a", "b", "c", "d"), NOON)
    assert (decided.inside, decided.refused, decided.stop, decided.again) == (("a", "b"), (), (), None)
    state = after(GateState(), decided)
    assert decide(state, TWO, asking("c", "d"), NOON).events == ()
    state = evolve(state, SlotFreed(run="a", grant=1), NOON)
    assert decide(state, TWO, asking("c", "d"), NOON).inside == ("c",)


def test_the_order_is_rank_then_when_a_run_began_to_wait_however_late_it_asks() -> None:
    later, first = Asking(run="late", since=NOON + SECOND), Asking(run="early", since=NOON)
    urgent = Asking(run="urgent", since=NOON + 9 * SECOND, rank=-1)
    one = GateLimit(at_once=1)
    assert decide(GateState(), one, [later, first], NOON).inside == ("early",)
    assert decide(GateState(), one, [later, first, urgent], NOON).inside == ("urgent",)


def test_who_is_inside_and_did_not_hear_it_is_told_again_and_given_nothing_twice() -> None:
    state = holding("a", "b")
    decided = decide(state, TWO, asking("a", "a", "c"), NOON)
    assert (decided.events, decided.inside) == ((), ("a", "a"))
    assert decide(holding("a"), TWO, asking("b", "b"), NOON).inside == ("b",)


def test_a_limit_that_is_lowered_sends_nobody_out_and_lets_nobody_in() -> None:
    decided = decide(holding("a", "b", "c"), GateLimit(at_once=1), asking("d"), NOON)
    assert (decided.events, decided.stop) == ((), ())


def test_what_is_freed_is_the_grant_and_not_the_run() -> None:
    state = evolve(holding("a"), SlotFreed(run="a", grant=1), NOON)
    state = evolve(state, SlotGranted(run="a", grant=2), NOON)
    assert evolve(state, SlotFreed(run="a", grant=1), NOON) == state, "it is heard late"


def test_a_run_that_asks_in_a_later_opening_has_left_with_the_one_before() -> None:
    state = holding("a", "b", "c")
    gone = freed(state, {"c": 1}, [Asking(run="a", opening=2, since=NOON), Asking(run="b", since=NOON)])
    assert gone == [SlotFreed(run="a", grant=1, why="asked"), SlotFreed(run="c", grant=3)]


def test_what_is_said_of_an_earlier_opening_frees_nothing_of_a_later_one() -> None:
    state = evolve(GateState(), SlotGranted(run="a", opening=2, grant=1), NOON)
    assert freed(state, {"a": 1}) == []
    assert freed(state, {"a": 2}) == [SlotFreed(run="a", grant=1)]


def test_one_decision_lets_in_no_more_than_a_commit_has_room_for() -> None:
    many = asking(*(f"r{number}" for number in range(AT_ONCE + 1)))
    decided = decide(GateState(), GateLimit(at_once=GATE_SLOTS), many, NOON)
    assert len(decided.events) == AT_ONCE
    assert len(decide(after(GateState(), decided), GateLimit(at_once=GATE_SLOTS), many, NOON).events) == 1


def test_who_is_next_is_recorded_when_somebody_begins_to_wait_and_when_nobody_does_any_more() -> None:
    state = holding("a", "b")
    decided = decide(state, TWO, asking("c", "d"), NOON)
    [told] = awaited(state, decided)
    assert told == SlotsAwaited(runs=("c", "d"))
    state = evolve(state, told, NOON)
    assert awaited(state, decided) == []
    more = decide(state, TWO, asking("c", "d", "e"), NOON)
    assert awaited(state, more) == [], "one more who waits is not worth a commit"
    assert awaited(state, decide(state, TWO, asking("c", "d", "e", "f"), NOON)), "twice as many are"
    assert awaited(state, Decided()) == [SlotsAwaited(runs=())]


def test_who_is_next_is_recorded_anew_beside_whatever_else_is_and_never_more_than_a_few() -> None:
    state = evolve(holding("a"), SlotsAwaited(runs=("b",)), NOON)
    many = asking(*(f"r{number:03}" for number in range(GATE_NEXT + 5)))
    [told] = awaited(state, decide(state, TWO, many, NOON))
    assert told == SlotsAwaited(runs=tuple(f"r{number:03}" for number in range(1, GATE_NEXT + 1)))


def test_what_the_org_says_counts_where_the_workflow_says_something_of_that_kind() -> None:
    rate = Rate(count=5, seconds=1)
    limit = GateLimit(at_once=2, queue=7)
    assert bounded(limit, None) == limit
    assert bounded(limit, OrgLimit(at_once=9)) == GateLimit(at_once=9, queue=7)
    assert bounded(limit, OrgLimit(queue=0)) == GateLimit(at_once=2, queue=0)
    assert bounded(limit, OrgLimit(rate=rate)) == GateLimit(at_once=2, rate=rate, queue=7)
    passing = GateLimit(rate=Rate(count=1, seconds=1))
    assert bounded(passing, OrgLimit(at_once=9, rate=rate)) == GateLimit(rate=rate), "nobody stays inside"


def test_where_the_queue_is_full_the_last_who_came_is_refused() -> None:
    limit = GateLimit(at_once=1, queue=1)
    assert decide(holding("a"), limit, asking("b", "c", "d"), NOON).refused == ("c", "d")


def test_a_gate_that_skips_lets_nobody_wait() -> None:
    limit = GateLimit(at_once=1, when_full="skip")
    decided = decide(GateState(), limit, asking("a", "b"), NOON)
    assert (decided.inside, decided.refused) == (("a",), ("b",))


def test_the_oldest_shall_stop_for_each_who_waits_and_keeps_its_slot_until_it_has() -> None:
    limit = GateLimit(at_once=2, when_full="cancel_oldest")
    decided = decide(holding("a", "b"), limit, asking("c"), NOON)
    assert (decided.stop, decided.events) == (("a",), ())


def test_a_rate_lets_in_what_it_says_and_then_tells_when_the_next_may_come() -> None:
    limit = GateLimit(rate=Rate(count=2, seconds=10))
    decided = decide(GateState(), limit, asking("a", "b", "c"), NOON)
    assert decided.inside == ("a", "b")
    assert decided.again == NOON + 5 * SECOND
    state = after(GateState(), decided)
    early = decide(state, limit, asking("c"), NOON + 4 * SECOND)
    assert (early.events, early.again) == ((), NOON + 5 * SECOND)
    assert decide(state, limit, asking("c", "d"), NOON + 5 * SECOND).inside == ("c",)


def test_a_quiet_time_saves_up_no_more_than_one_round() -> None:
    limit = GateLimit(rate=Rate(count=2, seconds=10))
    state = after(GateState(), decide(GateState(), limit, asking("a"), NOON))
    decided = decide(state, limit, asking("b", "c", "d"), NOON + timedelta(days=1))
    assert decided.inside == ("b", "c")


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    limit = GateLimit(rate=Rate(count=1, seconds=10))
    state = after(GateState(), decide(GateState(), limit, asking("a"), NOON))
    assert decide(state, limit, asking("b"), NOON - timedelta(hours=1)).events == ()


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_asked_and_freed_in_whatever_order_the_laws_hold(seed: int) -> None:
    """Never more inside than the limit; no free slot beside somebody who waits; no more in a time than the rate says."""
    chance = random.Random(seed)
    rate = Rate(count=3, seconds=10) if chance.random() < 0.5 else None
    limit = GateLimit(at_once=chance.choice((None, 1, 3)) if rate else chance.choice((1, 2, 5)), rate=rate)
    state, waiting, passed, now = GateState(), dict[str, Asking](), list[float](), NOON
    for number in range(200):
        now += timedelta(seconds=chance.random() * 2)
        if chance.random() < 0.6:
            waiting[f"r{number}"] = Asking(run=f"r{number}", since=now, rank=chance.randrange(2))
        if state.holders and chance.random() < 0.4:
            gone = chance.choice(state.holders)
            state = evolve(state, SlotFreed(run=gone.run, grant=gone.grant), now)
        decided = decide(state, limit, list(waiting.values()), now)
        for event in decided.events:
            state = evolve(state, event, now)
            passed.append((now - NOON).total_seconds())
        for run in decided.inside:
            waiting.pop(run, None)
        assert limit.at_once is None or len(state.holders) <= limit.at_once
        has_place = limit.at_once is None or len(state.holders) < limit.at_once
        assert not waiting or not has_place or (rate is not None and decided.again is not None)
        if rate is not None:
            for first in passed:
                within = sum(first <= moment < first + rate.seconds for moment in passed)
                assert within <= 2 * rate.count, "a full round, and what came back meanwhile"
