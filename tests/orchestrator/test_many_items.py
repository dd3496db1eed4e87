"""Maps with more items than a commit has room for: they take turns, and nothing is lost or out of order between them."""

from collections.abc import Sequence

from msgspec import Struct

from contracts.codec import encode
from contracts.limits import COMMIT_BYTES, EVENTS_PER_TURN, INLINE_BYTES, ITEMS, ITEMS_PER_PAGE, KIB
from contracts.plans import PlanNode
from contracts.runs import (
    ItemsBegan,
    ItemsKept,
    RunEvent,
    StepFailed,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.run import outstanding
from orchestrator.segments import snapshot
from tests.orchestrator.stories import REFUSED, action, broken, control, done, started, wake
from tests.orchestrator.test_maps import Told, asked, each, finished, output, replays


def light(*names: str) -> list[PlanNode]:
    return [control(name, "noop", inside="each") for name in names]


def waits_its_turn(told: Told) -> bool:
    return [wait.kind for wait in outstanding(told.state).waits] == ["turn"]


def begun(events: Sequence[RunEvent]) -> list[int]:
    return [
        number
        for event in events
        if isinstance(event, ItemsBegan)
        for number in range(event.first, event.first + event.count)
    ]


def test_a_map_of_light_nodes_ends_its_turn_when_it_has_said_so_much() -> None:
    told = started(each(list(range(1_000)), *light("n")))
    assert waits_its_turn(told)
    assert EVENTS_PER_TURN / 2 < len(told.said) <= EVENTS_PER_TURN + 10
    assert not [event for event in told.said if isinstance(event, StepFailed)]


def test_more_than_ten_pages_of_results_stand_in_the_order_of_their_items() -> None:
    count = 11 * ITEMS_PER_PAGE + 1
    told = started(each(list(range(count)), *light("n")))
    while waits_its_turn(told):
        told = told.when(wake("turn:each"))
    assert output(told) == {"results": list(range(count)), "errors": []}
    events = [entry.event for entry in told.history]
    assert begun(events) == list(range(count))
    assert [event.page for event in events if isinstance(event, ItemsKept)] == list(range(12))
    assert asked(told) == ["after"]


class Size(Struct, frozen=True, kw_only=True):
    """How large a map has become that went through all its items."""

    history: int
    largest_event: int
    largest_commit: int
    largest_state: int


def through(count: int) -> Size:
    """A light node for each of so many items, to the end of the run, measured at the end of each turn."""
    told = started(each(list(range(count)), *light("n")))
    events, commits, states = [], [], []
    while True:
        sizes = [len(encode(event)) for event in told.said]
        events += sizes
        commits.append(sum(sizes))
        states.append(len(snapshot(told.state)))
        if told.state.status == "completed":
            break
        told = told.when(wake("turn:each") if waits_its_turn(told) else done("after"))
    assert output(told) == {"results": list(range(count)), "errors": []}
    return Size(
        history=sum(events),
        largest_event=max(events),
        largest_commit=max(commits),
        largest_state=max(states),
    )


def test_ten_times_the_items_have_ten_times_the_history_and_nothing_grows_with_the_square() -> None:
    tenth, whole = through(ITEMS // 10), through(ITEMS)
    assert ITEMS == 10_000
    assert whole.history / ITEMS <= 1.2 * tenth.history / (ITEMS / 10)
    assert whole.largest_event <= INLINE_BYTES + KIB, (
        "the list of all results, as large as a value may be inline"
    )
    assert whole.largest_commit <= COMMIT_BYTES
    assert whole.largest_state <= 256 * KIB
    assert whole.largest_state <= 12 * tenth.largest_state, (
        "what is remembered of it grows with the results alone"
    )


def crowded() -> list[PlanNode]:
    """So much in each item that one turn is not enough for as many as may be under way."""
    return [*light("one", "two", "three"), action("call", inside="each")]


def test_what_ends_inside_of_a_map_that_waits_for_its_turn_begins_nothing_before_it() -> None:
    plan = each(list(range(300)), *crowded(), at_once=200)
    told = started(plan)
    assert waits_its_turn(told)
    before = told.state.items["each"].begun
    told = told.when(done("each[0].call", output="a"))
    assert begun(told.said) == []
    assert not any(isinstance(event, WaitOpened) for event in told.said)
    told = told.when(wake("turn:each"))
    assert isinstance(told.said[0], WaitEnded)
    assert begun(told.said)[0] == before
    while waits_its_turn(told):
        told = told.when(wake("turn:each"))
    assert replays(told, plan)


def test_a_map_that_fails_while_it_waits_for_its_turn_waits_for_it_no_longer() -> None:
    plan = each(list(range(300)), *crowded(), at_once=200, arrows="each>after each.error>mend")
    told = started(plan)
    assert waits_its_turn(told)
    told = finished_inside(told.when(broken("each[0].call")))
    assert WaitDropped(wait="turn:each") in told.said
    assert StepFailed(step="each", node="each", error=REFUSED, handled=True) in told.said
    assert asked(told) == ["mend"]
    assert not told.state.waits
    assert not told.when(wake("turn:each")).said
    told = finished(told)
    assert told.state.status == "completed"
    assert replays(told, plan)


def finished_inside(told: Told) -> Told:
    """Every attempt inside of the map succeeds."""
    while inside := [step for step in asked(told) if "[" in step]:
        told = told.when(done(inside[0]))
    return told
