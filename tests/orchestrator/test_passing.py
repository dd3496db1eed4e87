"""Runs at gates: none of their steps begins before each gate has let them in, and whoever has ended says so."""

from datetime import timedelta
from typing import Any

from msgspec import structs

from chassis.testing.scenario import Scenario
from contracts.errors import Failure
from contracts.gates import FlowLimit, Rate
from contracts.limits import PRIORITIES
from contracts.messages import GiveSlot, Message, RefuseSlot
from contracts.plans import Plan
from contracts.runs import (
    AttemptScheduled,
    CancelRequested,
    DeadlinePassed,
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
from orchestrator.passing import is_inside, left, question
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
