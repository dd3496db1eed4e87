"""Runs at gates: none of their steps begins before each gate has let them in, and whoever has ended says so."""

from datetime import timedelta
from typing import Any

from msgspec import structs

from chassis.testing.scenario import Scenario
from contracts.codec import encode
from contracts.errors import Failure
from contracts.gates import ALL_RUNS, Debounce, FlowLimit, OrgLimit, Rate
from contracts.limits import PRIORITIES
from contracts.messages import GiveSlot, Message, RefuseSlot
from contracts.plans import Plan
from contracts.runs import (
    AttemptScheduled,
    CancelRequested,
    DeadlinePassed,
    Parent,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunParked,
    RunReopened,
    RunStarted,
    RunUnparked,
    SlotRefused,
    SlotTaken,
    StepCancelled,
    StepReported,
    StepSucceeded,
    WaitDropped,
    WaitOpened,
)
from contracts.workflows import Flow
from orchestrator.passing import gate_of_all_runs, is_inside, left, question, rank_of
from orchestrator.run import waiting_for
from orchestrator.state import Run
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    NOON,
    RETRY,
    START,
    TO,
    UNPARK,
    broken,
    done,
    doubted,
    drawn,
    resolve,
    started,
    story,
)

ONE = FlowLimit(name="crm", at_once=1)


def gated(*limits: FlowLimit, arrows: str = "a", priority: int = 5, **more: Any) -> Plan:
    return structs.replace(drawn(arrows, **more), flow=Flow(priority=priority, limits=limits or (ONE,)))


def standing(told: Scenario[Run, Message, RunEvent]) -> WaitOpened:
    """The wait at the gate before which the run stands."""
    return next(wait for wait in told.state.waits.values() if wait.kind == "slot")


def given(told: Scenario[Run, Message, RunEvent], **more: Any) -> GiveSlot:
    slot = standing(told).slot
    assert slot is not None
    return GiveSlot(**{**TO, "gate": slot.gate, "opening": told.state.opening, **more})


def refused(told: Scenario[Run, Message, RunEvent], why: Any) -> RefuseSlot:
    slot = standing(told).slot
    assert slot is not None
    return RefuseSlot(**TO, gate=slot.gate, opening=told.state.opening, why=why)


def let_in(told: Scenario[Run, Message, RunEvent]) -> Scenario[Run, Message, RunEvent]:
    return told.when(given(told))


def test_a_run_waits_at_the_gate_and_begins_when_it_is_let_in() -> None:
    told = started(gated()).then_kinds(RunStarted, WaitOpened)
    assert told.state.status == "waiting"
    [waits] = waiting_for(told.state)
    slot = standing(told).slot
    assert slot is not None
    assert (waits.kind, waits.limit, waits.gate) == ("slot", "crm", slot.gate)
    told = let_in(told).then_kinds(SlotTaken, AttemptScheduled)
    told.when(done("a")).then_kinds(StepReported, StepSucceeded, RunCompleted).then_redelivery_is_harmless()


def test_a_slot_that_is_given_twice_is_taken_once() -> None:
    told = started(gated())
    message = given(told)
    told.when(message, message).then_nothing()


def test_what_another_gate_gives_or_what_an_earlier_opening_was_given_is_not_taken() -> None:
    told = started(gated())
    told.when(given(told, gate="another")).then_nothing()
    told.when(given(told, opening=2)).then_nothing()


def test_nothing_begins_while_a_run_stands_at_a_gate_whoever_looks() -> None:
    started(gated()).when(LOOK).then_nothing()


def test_gates_of_the_workflow_come_before_those_of_the_org_each_by_its_name() -> None:
    """So no two runs wait for what the other one has."""
    names = [("b", "org"), ("a", "org"), ("z", "workflow"), ("c", "workflow")]
    limits = [FlowLimit(name=name, at_once=1, across=across) for name, across in names]  # type: ignore[arg-type]  # Two words.
    told, passed = started(gated(*limits)), list[str]()
    while told.state.waits:
        slot = standing(told).slot
        assert slot is not None
        passed.append(slot.name)
        told = let_in(told)
    assert passed == ["c", "z", "a", "b"]
    assert list(told.state.attempts) == ["a"]


def test_a_gate_of_the_org_is_one_for_all_workflows_and_each_key_has_its_own() -> None:
    def gate(workflow: str, limit: FlowLimit) -> str:
        start = structs.replace(START, workflow=workflow)
        slot = standing(story(gated(limit)).when(start)).slot
        assert slot is not None
        return slot.gate

    shared = structs.replace(ONE, across="org")
    assert gate("one", shared) == gate("two", shared)
    assert gate("one", ONE) != gate("two", ONE)
    assert gate("one", ONE) != gate("one", shared)
    assert gate("one", structs.replace(ONE, per="ada")) != gate("one", structs.replace(ONE, per="bob"))


def test_a_run_asks_by_its_priority_and_by_when_it_was_opened_however_often() -> None:
    told = started(gated(priority=9))
    asked = question(told.state, standing(told), "trace")
    assert asked is not None
    assert (asked.holder, asked.opening, asked.since, asked.wanted.rank) == ("run-1", 1, NOON, 0)
    assert question(told.later(60).when(LOOK).state, standing(told), "trace") == asked
    assert standing(started(gated(priority=0))).slot.rank == PRIORITIES  # type: ignore[union-attr]  # It stands at one.


def test_who_finds_a_queue_full_fails_and_may_be_tried_again() -> None:
    told = started(gated())
    told = told.when(refused(told, "full")).then_kinds(SlotRefused, StepCancelled, RunFailed)
    assert told.state.error is not None
    assert told.state.error.code == "flow.full"
    told = told.when(RETRY).then_kinds(RunReopened, WaitOpened)
    let_in(told).then_kinds(SlotTaken, AttemptScheduled)


def test_who_is_skipped_is_cancelled_and_no_error_workflow_hears_of_it() -> None:
    told = started(gated(on_failure="told"))
    told = told.when(refused(told, "skipped")).then_kinds(SlotRefused, StepCancelled, RunCancelled)
    assert told.state.cancel is not None
    assert told.state.cancel.by.startswith("gate:")


def test_a_run_that_is_cancelled_at_a_gate_ends_at_once_and_is_not_inside() -> None:
    told = started(gated())
    message = given(told)
    told = told.when(CANCEL).then_kinds(CancelRequested, WaitDropped, StepCancelled, RunCancelled)
    told.when(message).then_nothing()
    assert not is_inside(told.state, message)


def test_the_deadline_passes_at_a_gate_as_everywhere() -> None:
    told = started(gated(timeout_s=60)).later(61).when(LOOK)
    told.then_kinds(DeadlinePassed, WaitDropped, StepCancelled, RunFailed)


def test_a_run_that_ended_has_left_all_its_gates_and_one_opened_again_asks_for_all() -> None:
    told = let_in(started(gated()))
    assert left(told.state) == []
    assert is_inside(told.state, GiveSlot(**TO, gate=told.state.slots[0].gate, opening=1))
    told = told.when(broken("a"))
    assert [slot.name for slot in left(told.state)] == ["crm"]
    assert not is_inside(told.state, GiveSlot(**TO, gate=told.state.slots[0].gate, opening=1))
    told = told.when(RETRY).then_kinds(RunReopened, WaitOpened)
    assert standing(told).wait != "slot:1:1"
    assert left(told.state) == []
    let_in(told).then_kinds(SlotTaken, AttemptScheduled)


def test_where_only_a_rate_counts_a_run_leaves_as_soon_as_it_is_in() -> None:
    told = let_in(started(gated(FlowLimit(name="calls", rate=Rate(count=1, seconds=1)))))
    assert [slot.name for slot in left(told.state)] == ["calls"]
    assert not is_inside(told.state, GiveSlot(**TO, gate=told.state.slots[0].gate, opening=1))


def test_a_parked_run_is_let_in_and_begins_when_it_is_taken_up_again() -> None:
    told = started(gated())
    message = given(told)
    parked = told.given(RunParked(reason="a defect"))
    parked.when(message).then_kinds(SlotTaken)
    parked.when(message, UNPARK).then_kinds(RunUnparked, AttemptScheduled)
    parked.when(UNPARK).then_kinds(RunUnparked)


def test_a_doubt_is_not_tried_again_at_a_gate_and_may_be_ended() -> None:
    told = let_in(started(gated(arrows="a>b"))).when(doubted("a"), CANCEL, RETRY)
    assert told.state.doubts
    told.when(resolve("a", "retry")).then_refused("conflict")
    ended = told.when(resolve("a", "done"))
    assert ended.state.step("a").status == "succeeded"
    assert ended.state.status == "waiting"
    let_in(ended).then_kinds(SlotTaken, AttemptScheduled)


def test_a_key_that_cannot_be_told_fails_the_run_before_it_begins() -> None:
    error = Failure(code="expression", message="no such field", field="/flow/limits/0/per")
    told = started(gated(structs.replace(ONE, name="crm")), crm=error)
    told.then_kinds(RunStarted, StepCancelled, RunFailed)
    assert told.state.error == error


def test_who_tries_a_workflow_out_takes_nobodys_place() -> None:
    start = structs.replace(START, mode="test")
    story(gated()).when(start).then_kinds(RunStarted, AttemptScheduled)


def test_since_is_the_moment_in_which_the_run_was_opened_last() -> None:
    told = let_in(started(gated())).when(broken("a")).later(60).when(RETRY)
    asked = question(told.state, standing(told), "")
    assert asked is not None
    assert asked.since == NOON + timedelta(seconds=60)


# --- What an org says of all its runs -----------------------------------------------------------------


def of_all_runs(said: OrgLimit, plan: Plan | None = None, **more: Any) -> Scenario[Run, Message, RunEvent]:
    """A run that was asked for while its org said so."""
    return story(plan or drawn("a")).when(structs.replace(START, org_limit=said, **more))


BUSY = OrgLimit(at_once=2)


def test_a_run_whose_workflow_names_no_limit_passes_the_gate_of_all_runs() -> None:
    told = of_all_runs(BUSY).then_kinds(RunStarted, WaitOpened)
    slot = standing(told).slot
    assert slot is not None
    assert (slot.name, slot.gate, slot.bounds.at_once) == (ALL_RUNS, gate_of_all_runs("org"), 2)
    told.when(LOOK).then_nothing()
    told = let_in(told).then_kinds(SlotTaken, AttemptScheduled)
    assert is_inside(told.state, GiveSlot(**TO, gate=slot.gate, opening=1))
    told = told.when(done("a"))
    assert [slot.name for slot in left(told.state)] == [ALL_RUNS]


def test_the_gate_of_all_runs_is_one_for_every_workflow_and_is_no_gate_of_any() -> None:
    one, two = (standing(of_all_runs(BUSY, workflow=name)).slot for name in ("one", "two"))
    assert one == two
    shared = FlowLimit(name=ALL_RUNS, at_once=1, across="org")  # As an older release took it.
    assert standing(started(gated(shared))).slot.gate != gate_of_all_runs("org")  # type: ignore[union-attr]  # It stands at one.


def test_it_comes_before_the_limits_of_workflows_and_behind_what_gathers_starts() -> None:
    """Who is inside wants no place there any more, so nobody waits for one who waits for what he has."""
    burst = FlowLimit(name="z", debounce=Debounce(seconds=5))
    told = of_all_runs(BUSY, gated(structs.replace(ONE, across="org"), FlowLimit(name="b", at_once=1), burst))
    passed = list[str]()
    while told.state.waits:
        slot = standing(told).slot
        assert slot is not None
        passed.append(slot.name)
        told = let_in(told)
    assert passed == ["z", ALL_RUNS, "b", "crm"]
    assert list(told.state.attempts) == ["a"]


def test_a_run_that_another_one_waits_for_takes_no_place_of_its_own() -> None:
    awaited = Parent(run="run-0", step="call")
    of_all_runs(BUSY, parent=awaited).then_kinds(RunStarted, AttemptScheduled)
    forgotten = structs.replace(awaited, waits=False)
    of_all_runs(BUSY, parent=forgotten).then_kinds(RunStarted, WaitOpened)
    again = of_all_runs(BUSY, parent=awaited).when(broken("a"), RETRY)
    again.then_kinds(RunReopened, AttemptScheduled)


def test_who_tries_a_workflow_out_is_not_counted_among_all_runs() -> None:
    of_all_runs(BUSY, mode="test").then_kinds(RunStarted, AttemptScheduled)


def test_a_run_that_is_opened_again_goes_by_what_was_said_when_it_was_asked_for() -> None:
    told = let_in(of_all_runs(BUSY)).when(broken("a"), RETRY).then_kinds(RunReopened, WaitOpened)
    let_in(told).then_kinds(SlotTaken, AttemptScheduled)


def test_where_the_org_says_nothing_nothing_stands_in_the_history() -> None:
    [begun, *_] = started(drawn("a")).said
    assert b"org_limit" not in encode(begun)
    assert b"priority" not in encode(begun)


# --- What workflows share -----------------------------------------------------------------------------


def test_a_debounce_of_the_org_is_one_for_its_workflows_and_no_gate_that_bounds_runs() -> None:
    def gate(workflow: str, **more: Any) -> str:
        limit = FlowLimit(name="sync", across="org", **more)
        slot = standing(story(gated(limit)).when(structs.replace(START, workflow=workflow))).slot
        assert slot is not None
        return slot.gate

    newest = Debounce(seconds=5)
    assert gate("one", debounce=newest) == gate("two", debounce=newest)
    assert gate("one", debounce=newest) != gate("one", at_once=1)


# --- Priorities ---------------------------------------------------------------------------------------


def hurrying() -> Plan:
    return structs.replace(drawn("a"), flow=Flow(priority="trigger.body.rank", limits=(ONE,)))


def test_a_priority_that_cannot_be_told_fails_the_run_before_it_stands_anywhere() -> None:
    error = Failure(code="expression", message="no such field", field="/flow/priority")
    told = started(hurrying(), priority=error).then_kinds(RunStarted, StepCancelled, RunFailed)
    assert told.state.error == error
    story(hurrying(), priority=error).when(structs.replace(START, mode="test")).then_kinds(
        RunStarted, AttemptScheduled
    )


def test_a_run_has_the_rank_that_its_start_recorded_and_else_that_of_its_version() -> None:
    run = started(drawn("a")).state
    said, drawn_by = structs.replace(run, priority=8), Flow(priority="trigger.body.rank")
    assert [rank_of(said, flow) for flow in (None, Flow(priority=2), drawn_by)] == [1, 1, 1]
    assert [rank_of(run, flow) for flow in (None, Flow(priority=2), drawn_by)] == [4, 7, 4]
