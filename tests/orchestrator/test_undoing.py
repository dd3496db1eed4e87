"""Compensation: what a run has done is undone before it fails or is cancelled, once, the last step first."""

from datetime import timedelta

import pytest
from msgspec import structs

from chassis.testing.scenario import Scenario
from contracts.cases import Pin
from contracts.limits import EVENTS_PER_TURN, UNDOS_BYTES, UNDOS_KEPT, UNDOS_SHOWN
from contracts.messages import Message
from contracts.plans import Plan, PlanNode
from contracts.runs import (
    AttemptDoubted,
    AttemptFailed,
    AttemptScheduled,
    CancelRequested,
    ChildAsked,
    ChildBegan,
    ChildEnded,
    DoubtResolved,
    HandlerAsked,
    ItemDone,
    ItemsKept,
    RunCancelled,
    RunCompensating,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunParked,
    RunUnparked,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSucceeded,
    UndoKept,
    Undone,
    Unfinished,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.kinship import is_awaited
from orchestrator.run import Run, evolve, waiting_for
from orchestrator.stopping import end_without_plan
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    NOON,
    PATIENT,
    REFUSED,
    RETRY,
    TRY_AGAIN,
    UNPARK,
    action,
    broken,
    child_over,
    child_started,
    control,
    done,
    doubted,
    drawn,
    let_go,
    resolve,
    scheduled,
    started,
    story,
    value,
    wake,
)


def undoes(name: str, of: str, **more: object) -> PlanNode:
    return action(name, undoes=of, **more)


def trip(*more: PlanNode, on_failure: str | None = None) -> Plan:
    """A flight, then a hotel, then a bill; the first two can be undone."""
    given = {node.id: node for node in more}
    nodes = {
        "flight": action("flight", compensate="unfly"),
        "hotel": action("hotel", compensate="leave"),
        "unfly": undoes("unfly", "flight"),
        "leave": undoes("leave", "hotel", config={"room": 7}),
    }
    return drawn("flight>hotel hotel>bill", *(nodes | given).values(), on_failure=on_failure)


def booked(plan: Plan | None = None) -> Scenario[Run, Message, RunEvent]:
    """Both have succeeded; the bill is under way."""
    return started(plan or trip()).when(done("flight"), done("hotel"))


def failed(plan: Plan | None = None) -> Scenario[Run, Message, RunEvent]:
    return booked(plan).when(broken("bill"))


KEPT = UndoKept(step="leave", node="leave", undoes="hotel", config=value({"room": 7}))
COMPENSATING = RunCompensating(outcome="failed", error=REFUSED, step="bill")


def ended(told: Scenario[Run, Message, RunEvent]) -> Undone | None:
    end = told.said[-1]
    assert isinstance(end, RunFailed | RunCancelled)
    return end.undone


# --- What is kept -----------------------------------------------------------------------------


def test_with_a_success_stands_what_undoes_it() -> None:
    started(trip()).when(done("flight"), done("hotel")).then(
        StepReported(step="hotel", attempt=1, output=value(None)),
        StepSucceeded(step="hotel", node="hotel"),
        KEPT,
        scheduled("bill"),
    )


def test_an_undo_is_no_step_of_a_run_that_goes_well() -> None:
    told = booked().when(done("bill", output="paid"))
    told.then_kinds(StepReported, StepSucceeded, RunCompleted)
    assert told.state.output == value("paid")
    assert "leave" not in told.state.steps
    assert told.state.undos == {}


def test_what_failed_has_nothing_to_be_undone() -> None:
    told = started(trip()).when(broken("flight"))
    told.then_kinds(AttemptFailed, StepFailed, StepCancelled, StepCancelled, RunFailed)
    assert ended(told) is None


def test_a_child_that_completed_can_be_undone() -> None:
    call = control("part", "workflow.run", {"workflow": "other"}, compensate="unpart")
    told = started(drawn("part>b", call, undoes("unpart", "part")))
    child = told.state.children["part"].child
    told = told.when(child_over("part", child), broken("b"))
    assert told.said[-1] == scheduled("unpart")


def test_a_success_while_the_run_stops_is_undone_too() -> None:
    told = started(trip()).when(CANCEL, done("flight"))
    told.then_kinds(StepReported, StepSucceeded, UndoKept, WaitDropped, RunCompensating, AttemptScheduled)
    assert told.state.status == "compensating"


def test_what_a_person_says_was_done_is_undone() -> None:
    told = started(trip()).when(doubted("flight"), resolve("flight", "done"), broken("hotel"))
    assert told.said[-1] == scheduled("unfly")


def test_when_so_much_is_kept_nothing_more_of_the_kind_begins() -> None:
    told = started(trip())
    kept = {f"u{number}": structs.replace(KEPT, step=f"u{number}") for number in range(UNDOS_KEPT)}
    told = structs.replace(told, state=structs.replace(told.state, undos=kept)).when(done("flight"))
    [stopped] = [event for event in told.said if isinstance(event, StepFailed)]
    assert (stopped.step, stopped.error.code) == ("hotel", "undo.too_many")


def test_what_takes_much_room_to_remember_is_bounded_too() -> None:
    told = started(trip())
    large = value("x" * (UNDOS_BYTES // 2))
    kept = {name: structs.replace(KEPT, step=name, config=large) for name in ("u1", "u2")}
    few = structs.replace(told, state=structs.replace(told.state, undos={"u1": kept["u1"]}))
    assert few.when(done("flight")).said[-1] == scheduled("hotel")
    told = structs.replace(told, state=structs.replace(told.state, undos=kept)).when(done("flight"))
    [stopped] = [event for event in told.said if isinstance(event, StepFailed)]
    assert (stopped.step, stopped.error.code) == ("hotel", "undo.too_many")


# --- The order, and one at a time -------------------------------------------------------------


def test_the_last_success_is_undone_first_and_before_the_end() -> None:
    failed().then(
        AttemptFailed(step="bill", attempt=1, error=REFUSED),
        StepFailed(step="bill", node="bill", error=REFUSED),
        COMPENSATING,
        scheduled("leave", config={"room": 7}),
    )


def test_one_undo_is_made_after_the_other_and_then_the_run_ends_as_it_would() -> None:
    told = failed().when(done("leave"))
    told.then(
        StepReported(step="leave", attempt=1, output=value(None)),
        StepSucceeded(step="leave", node="leave"),
        scheduled("unfly"),
    )
    told.when(done("unfly")).then(
        StepReported(step="unfly", attempt=1, output=value(None)),
        StepSucceeded(step="unfly", node="unfly"),
        RunFailed(error=REFUSED, step="bill", undone=Undone(steps=2)),
    )


def test_a_cancelled_run_is_undone_and_is_cancelled_then() -> None:
    told = booked().when(CANCEL, let_go("bill"))
    assert told.said[-1] == scheduled("leave", config={"room": 7})
    told = told.when(done("leave"), done("unfly"))
    assert told.said[-1] == RunCancelled(
        reason="enough",
        unfinished=(Unfinished(step="bill", attempt=1, effect="none"),),
        undone=Undone(steps=2),
    )
    assert told.state.status == "cancelled"


def test_steps_beside_each_other_are_undone_in_the_order_of_their_successes() -> None:
    plan = drawn(
        "a>c b>c",
        action("a", compensate="x"),
        action("b", compensate="y"),
        undoes("x", "a"),
        undoes("y", "b"),
    )
    told = started(plan).when(done("b"), done("a"), broken("c"))
    assert told.said[-1] == scheduled("x")
    assert told.when(done("x")).said[-1] == scheduled("y")


def test_items_of_a_map_are_undone_one_by_one_though_their_steps_are_forgotten() -> None:
    plan = drawn(
        "each>b",
        control("each", "map", {"items": [1, 2]}),
        action("call", inside="each", compensate="undo"),
        undoes("undo", "call", inside="each"),
    )
    told = started(plan).when(done("each[0].call"), done("each[1].call"))
    told.then_kinds(
        StepReported, StepSucceeded, UndoKept, ItemDone, ItemsKept, StepSucceeded, AttemptScheduled
    )
    told = told.when(broken("b"))
    assert told.said[-1] == scheduled("each[1].undo", node="undo")
    told = told.when(done("each[1].undo"))
    assert told.said[-1] == scheduled("each[0].undo", node="undo")
    assert ended(told.when(done("each[0].undo"))) == Undone(steps=2)


def test_the_error_workflow_is_told_when_everything_is_undone() -> None:
    told = failed(trip(on_failure="alarm"))
    assert not any(isinstance(event, HandlerAsked) for event in told.said)
    told.when(done("leave"), done("unfly")).then_kinds(StepReported, StepSucceeded, HandlerAsked, RunFailed)


# --- Failures, pauses and doubts of undos ------------------------------------------------------


def test_an_undo_has_the_retries_of_its_own_node() -> None:
    told = failed(trip(undoes("leave", "hotel", retry=PATIENT))).when(broken("leave", error=TRY_AGAIN))
    told.then_kinds(AttemptFailed, WaitOpened)
    assert told.state.status == "compensating"
    assert [each.kind for each in waiting_for(told.state)] == ["retry"]
    told = told.later(10).when(wake("retry:leave:2"))
    told.then(WaitEnded(wait="retry:leave:2"), scheduled("leave", 2))


def test_a_wake_up_that_was_lost_is_made_up_for_by_a_look() -> None:
    told = failed(trip(undoes("leave", "hotel", retry=PATIENT))).when(broken("leave", error=TRY_AGAIN))
    told.later(11).when(LOOK).then(WaitEnded(wait="retry:leave:2"), scheduled("leave", 2))


def test_an_undo_that_fails_for_good_stops_no_other_and_is_told() -> None:
    told = failed().when(broken("leave"))
    told.then(
        AttemptFailed(step="leave", attempt=1, error=REFUSED),
        StepFailed(step="leave", node="leave", error=REFUSED, handled=True),
        scheduled("unfly"),
    )
    assert ended(told.when(done("unfly"))) == Undone(steps=1, left=("hotel",), left_in_all=1)


def test_an_undo_in_doubt_waits_for_a_person_and_so_do_those_behind_it() -> None:
    told = failed().when(doubted("leave"))
    told.then_kinds(AttemptDoubted)
    assert [each.kind for each in waiting_for(told.state)] == ["decision"]
    told.when(LOOK).then_nothing()
    told = told.when(resolve("leave", "done"))
    told.then_kinds(DoubtResolved, StepSucceeded, AttemptScheduled)


@pytest.mark.parametrize(("resolution", "follows"), [("retry", AttemptScheduled), ("failed", StepFailed)])
def test_a_person_has_an_undo_made_again_or_gives_it_up(resolution: str, follows: type) -> None:
    told = failed().when(doubted("leave"), resolve("leave", resolution))
    assert type(told.said[1]) is follows
    assert ("hotel" in told.state.undone.left) == (resolution == "failed")


def test_an_undo_that_could_not_be_expressed_fails_when_it_is_to_be_made() -> None:
    plan = trip()
    told = started(plan, leave=REFUSED).when(done("flight"), done("hotel"))
    assert told.said[2] == UndoKept(step="leave", node="leave", undoes="hotel", error=REFUSED)
    told = told.when(broken("bill"))
    told.then_kinds(AttemptFailed, StepFailed, RunCompensating, StepFailed, AttemptScheduled)
    assert told.state.undone.left == ("hotel",)


def test_many_undos_that_cannot_be_made_take_turns() -> None:
    told = booked()
    many = EVENTS_PER_TURN + UNDOS_SHOWN
    kept = {
        f"u{number}": UndoKept(step=f"u{number}", node="leave", undoes=f"s{number}", error=REFUSED)
        for number in range(many)
    }
    # Paths that are no nodes of the plan: only the node that undoes counts.
    kept = {
        f"each[{n}].leave": structs.replace(each, step=f"each[{n}].leave")
        for n, each in enumerate(kept.values())
    }
    told = structs.replace(told, state=structs.replace(told.state, undos=kept)).when(broken("bill"))
    assert told.said[-1] == WaitOpened(wait="turn:undo", kind="turn", due=NOON)
    told = told.when(wake("turn:undo"))
    came = ended(told)
    assert came is not None
    assert (len(came.left), came.left_in_all) == (UNDOS_SHOWN, many)


def test_a_pinned_undo_is_made_by_nobody_and_comes_out_as_the_test_says() -> None:
    pinned = undoes("leave", "hotel", pin=Pin(output=value("left")))
    told = failed(trip(pinned))
    told.then_kinds(AttemptFailed, StepFailed, RunCompensating, StepSucceeded, AttemptScheduled)
    told = failed(trip(structs.replace(pinned, pin=Pin(error=REFUSED))))
    assert told.state.undone == Undone(left=("hotel",), left_in_all=1)


# --- Runs that undo ---------------------------------------------------------------------------


def undone_by_a_run(**config: object) -> Scenario[Run, Message, RunEvent]:
    """A shop has taken an order, and the bill cannot be paid; the order is taken back by a run of `returns`."""
    back = control("back", "workflow.run", {"workflow": "returns"} | config, undoes="order", retry=PATIENT)
    plan = drawn("order>bill", action("order", compensate="back"), action("bill"), back)
    return started(plan).when(done("order"), broken("bill"))


def child(told: Scenario[Run, Message, RunEvent]) -> str:
    return told.state.children["back"].child


def test_a_run_may_undo_and_is_of_the_version_that_was_published_when_the_step_succeeded() -> None:
    told = undone_by_a_run(timeout_seconds=60)
    [kept] = [entry.event for entry in told.history if isinstance(entry.event, UndoKept)]
    assert kept.run is not None
    assert (kept.run.workflow, kept.run.timeout_s) == ("returns", 60)
    told.then_kinds(AttemptFailed, StepFailed, RunCompensating, WaitOpened, ChildAsked)
    asked = told.said[-1]
    assert isinstance(asked, ChildAsked)
    assert (asked.version, asked.plan, asked.input) == (kept.run.version, kept.run.plan, kept.config)
    assert is_awaited(told.state, asked)
    assert [each.kind for each in waiting_for(told.state)] == ["child"]
    told = told.when(child_over("back", child(told), output="taken back"))
    told.then_kinds(ChildEnded, StepSucceeded, RunFailed)
    assert (ended(told), told.state.steps["back"].output) == (Undone(steps=1), value("taken back"))


def test_its_time_begins_when_it_is_asked_for() -> None:
    back = control(
        "back", "workflow.run", {"workflow": "returns", "timeout_seconds": 60}, undoes="order", retry=PATIENT
    )
    plan = drawn("order>bill", action("order", compensate="back"), action("bill"), back)
    told = started(plan).when(done("order")).later(3600).when(broken("bill"))
    [wait] = told.state.waits.values()
    assert wait.due == NOON + timedelta(seconds=3660)
    told = told.later(61).when(wake(wait.wait))
    told.then_kinds(WaitEnded, WaitOpened)
    assert [each.kind for each in waiting_for(told.state)] == ["retry"]


def test_a_run_that_undoes_and_failed_is_tried_again_by_another_one() -> None:
    told = undone_by_a_run()
    first = child(told)
    told = told.when(child_over("back", first, "failed", error=TRY_AGAIN))
    told.then_kinds(ChildEnded, WaitOpened)
    told = told.later(10).when(wake("retry:back:2"))
    told.then_kinds(WaitEnded, WaitOpened, ChildAsked)
    assert child(told) != first
    told = told.when(child_over("back", first), child_over("back", child(told), "failed", error=REFUSED))
    told.then_kinds(ChildEnded, StepFailed, RunFailed)
    assert ended(told) == Undone(left=("order",), left_in_all=1)


def test_a_run_that_nobody_waits_for_has_undone_when_it_is_there() -> None:
    told = undone_by_a_run(mode="start")
    told.when(child_started("back", child(told))).then_kinds(ChildBegan, StepSucceeded, RunFailed)


def test_a_run_that_undoes_is_let_go_when_the_plan_of_its_parent_is_lost() -> None:
    told = undone_by_a_run()
    asked = told.state.children["back"]
    after = told.state
    for event in end_without_plan(after, NOON):
        after = evolve(after, event, NOON)
    assert (is_awaited(told.state, asked), is_awaited(after, asked), after.children) == (True, False, {})


# --- Never twice ------------------------------------------------------------------------------


def test_said_again_nothing_is_undone_again() -> None:
    told = failed().when(done("leave"), done("leave"))
    told.then_nothing()
    told.when(LOOK).then_nothing()
    told = told.when(done("unfly"))
    told.then_redelivery_is_harmless()
    keys = [entry.event.key for entry in told.history if isinstance(entry.event, AttemptScheduled)]
    assert keys.count("run-1/leave") == keys.count("run-1/unfly") == 1


def test_a_run_that_was_undone_is_not_opened_again() -> None:
    failed().when(done("leave"), done("unfly"), RETRY).then_refused("run.not_reopenable")


def test_a_cancellation_says_nothing_new_to_a_run_that_undoes() -> None:
    failed().when(CANCEL).then_nothing()


def test_the_deadline_does_not_cut_the_undoing_short() -> None:
    plan = structs.replace(trip(), timeout_s=60)
    told = failed(plan).later(61).when(LOOK)
    told.then_nothing()
    assert told.state.status == "compensating"


def test_a_deadline_has_the_run_undone() -> None:
    plan = structs.replace(trip(), timeout_s=60)
    told = booked(plan).later(61).when(LOOK, let_go("bill"))
    assert told.said[-1] == scheduled("leave", config={"room": 7})


def test_a_parked_run_goes_on_with_its_undoing() -> None:
    told = failed().given(RunParked(reason="our own code raised")).when(done("leave"))
    told.then_kinds(StepReported)
    told.when(UNPARK).then_kinds(RunUnparked, StepSucceeded, AttemptScheduled)


def test_cancelling_a_parked_run_that_undoes_has_it_go_on() -> None:
    told = failed().given(RunParked(reason="our own code raised"))
    told.when(CANCEL).then_kinds(CancelRequested)
    assert told.when(CANCEL).state.status == "compensating"


# --- Without a plan ---------------------------------------------------------------------------


def test_without_its_plan_a_run_says_what_it_leaves_done() -> None:
    state = booked().when(CANCEL).state
    [*_, end] = end_without_plan(structs.replace(state, waits={}), NOON)
    assert isinstance(end, RunCancelled)
    assert end.undone == Undone(left=("hotel", "flight"), left_in_all=2)


def test_without_its_plan_a_run_that_undoes_ends_with_what_is_left() -> None:
    [*_, end] = end_without_plan(failed().when(done("leave")).state, NOON)
    assert end == RunFailed(
        error=REFUSED, step="bill", undone=Undone(steps=1, left=("flight",), left_in_all=1)
    )


def test_what_succeeded_while_nobody_had_the_plan_is_undone_when_it_is_back() -> None:
    lost = story(None)
    state = structs.replace(started(trip()).state)
    told = structs.replace(lost, state=state).when(done("flight"))
    assert told.state.status == "failed"
    assert told.state.undos == {}
    told = structs.replace(story(trip()), state=told.state).when(RETRY)
    assert any(isinstance(event, UndoKept) for event in told.said)
    assert told.when(broken("hotel")).said[-1] == scheduled("unfly")
