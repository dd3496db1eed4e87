"""Runs that start other runs: waited for, failed, forgotten, too late, cancelled, tried again, and too deep."""

from datetime import timedelta

import msgspec
import pytest
from msgspec import structs

from chassis.testing.scenario import Scenario
from contracts.causes import behind, stopped
from contracts.errors import Failure
from contracts.gates import OrgLimit
from contracts.limits import CAUSES_ALIKE, CAUSES_DEEP, CHILDREN_CANCEL_SECONDS
from contracts.messages import Message
from contracts.payloads import Inline
from contracts.plans import Plan, PlanNode
from contracts.runs import (
    AttemptCancelled,
    AttemptFailed,
    AttemptScheduled,
    Cause,
    ChildAsked,
    ChildBegan,
    ChildEnded,
    HandlerAsked,
    HandlerRefused,
    Parent,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunParked,
    RunStopping,
    RunUnparked,
    StepCancelled,
    StepFailed,
    StepSucceeded,
    Unfinished,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.kinship import end_of, is_awaited, start_of, start_of_handler
from orchestrator.run import Run, outstanding, waiting_for
from tests.orchestrator.stories import (
    CANCEL,
    CHILD_PLAN,
    NOON,
    PATIENT,
    RETRY,
    START,
    TRY_AGAIN,
    UNPARK,
    broken,
    child_over,
    child_started,
    control,
    done,
    drawn,
    let_go,
    started,
    story,
    value,
    wake,
)

Told = Scenario[Run, Message, RunEvent]
FAILED = Failure(code="refused", message="No.")


def call(name: str = "call", **more: object) -> PlanNode:
    config = {"workflow": "child", "input": {"n": 1}} | {
        each: more.pop(each) for each in ("mode", "version", "timeout_seconds", "workflow") if each in more
    }
    return control(name, "workflow.run", config, **more)


CALLING = drawn("call>after", call())
FORGETTING = drawn("call>after", call(mode="start"))
MENDED = drawn("call>after call.error>mend", call())
PATIENTLY = drawn("call>after", call(retry=PATIENT))
TWO = drawn("call other", call())


def child(told: Told, step: str = "call") -> str:
    return told.state.children[step].child


# --- Waiting for a run ------------------------------------------------------------------------


def test_a_step_asks_for_a_run_and_waits_for_its_end() -> None:
    told = started(CALLING)
    asked = told.state.children["call"]
    assert told.said[1:] == (
        WaitOpened(wait="child:call:1", kind="child", step="call"),
        ChildAsked(
            step="call",
            node="call",
            attempt=1,
            child=asked.child,
            workflow="child",
            version=1,
            plan=CHILD_PLAN,
            input=asked.input,
        ),
    )
    assert isinstance(asked.input, Inline)
    assert msgspec.json.decode(asked.input.value)["body"] == {"n": 1}
    assert (told.state.status, told.state.step("call").status) == ("waiting", "waiting")
    [waits] = waiting_for(told.state)
    assert (waits.kind, waits.step, waits.run, waits.due) == ("child", "call", asked.child, None)
    assert outstanding(told.state).children == (asked,)
    ended = told.later(1e7).when(child_over("call", asked.child, output={"sum": 5}))
    ended.then_kinds(ChildEnded, StepSucceeded, AttemptScheduled)
    assert ended.state.step("call").output == value({"sum": 5})
    assert not ended.state.children
    assert not ended.state.waits


def test_the_child_that_is_asked_for_is_the_same_however_often_it_is_asked_for() -> None:
    told = started(CALLING)
    start = start_of(told.state, told.state.children["call"], "trace")
    assert start == start_of(started(CALLING).state, told.state.children["call"], "trace")
    assert (start.run, start.plan, start.version) == (child(told), CHILD_PLAN, 1)
    assert start.parent == Parent(run="run-1", step="call")
    assert start.cause == Cause(kind="run", id="run-1", depth=1, chain=("flow",))
    assert start.dedupe is not None  # Its id is kept when its history leaves the log.


def test_a_child_goes_by_what_its_org_had_said_when_its_parent_was_asked_for() -> None:
    said = OrgLimit(at_once=2)
    run = structs.replace(started(CALLING).state, org_limit=said)
    assert start_of(run, run.children["call"], "").org_limit == said


def test_the_end_of_a_child_counts_once() -> None:
    told = started(CALLING)
    over = child_over("call", child(told), output=1)
    told.when(over).when(over).then_nothing()
    told.when(over).when(child_over("call", over.child, "failed", error=FAILED)).then_nothing()
    told.when(over).then_redelivery_is_harmless()


def test_only_the_child_that_is_waited_for_ends_the_wait() -> None:
    told = started(CALLING)
    told.when(child_over("call", "another")).then_nothing()
    told.when(child_over("after", child(told))).then_nothing()
    told.when(child_started("call", child(told))).then_nothing()


def test_a_child_that_failed_fails_its_step_with_its_error() -> None:
    told = started(CALLING)
    name = child(told)
    failed = told.when(child_over("call", name, "failed", error=FAILED))
    failed.then_kinds(ChildEnded, StepFailed, StepCancelled, RunFailed)
    error = failed.state.error
    assert error == Failure(code="child.failed", message=f"Run {name} failed: refused: No.")


def test_the_error_path_of_a_step_takes_the_failure_of_its_child() -> None:
    told = started(MENDED)
    failed = told.when(child_over("call", child(told), "failed", error=FAILED))
    assert failed.state.attempts.keys() == {"mend"}


def test_a_child_that_somebody_cancelled_fails_its_step_and_is_not_tried_again() -> None:
    told = started(PATIENTLY)
    cancelled = told.when(child_over("call", child(told), "cancelled", error=FAILED))
    assert cancelled.state.status == "failed"
    assert cancelled.state.error is not None
    assert cancelled.state.error.code == "child.cancelled"


def test_the_retry_of_a_step_is_another_run() -> None:
    told = started(PATIENTLY)
    first = child(told)
    pauses = told.when(child_over("call", first, "failed", error=TRY_AGAIN))
    assert pauses.said[1:] == (
        WaitOpened(wait="retry:call:2", kind="retry", due=NOON + timedelta(seconds=10), step="call"),
    )
    again = pauses.later(10).when(wake("retry:call:2"))
    again.then_kinds(WaitEnded, WaitOpened, ChildAsked)
    assert child(again) != first
    assert again.state.children["call"].attempt == 2
    again.when(child_over("call", first)).then_nothing()
    assert again.when(child_over("call", child(again))).state.step("call").status == "succeeded"


def test_a_failure_that_will_not_pass_is_not_tried_again() -> None:
    told = started(PATIENTLY)
    assert told.when(child_over("call", child(told), "failed", error=FAILED)).state.status == "failed"


def test_a_run_without_a_pause_between_its_children_asks_at_once() -> None:
    told = started(drawn("call", call(retry=structs.replace(PATIENT, first_pause_s=0))))
    told.when(child_over("call", child(told), "failed", error=TRY_AGAIN)).then_kinds(
        ChildEnded, WaitOpened, ChildAsked
    )


def test_a_step_may_give_up_on_its_child() -> None:
    told = started(drawn("call>after", call(timeout_seconds=60, retry=PATIENT)))
    assert [wait.due for wait in told.state.waits.values()] == [NOON + timedelta(seconds=60)]
    asked = told.state.children["call"]
    late = told.later(60).when(wake("child:call:1"))
    late.then_kinds(WaitEnded, WaitOpened)
    assert not is_awaited(late.state, asked)
    assert late.state.waits.keys() == {"retry:call:2"}
    late.when(child_over("call", asked.child)).then_nothing()
    given_up = started(drawn("call", call(timeout_seconds=60))).later(60).when(wake("child:call:1"))
    assert given_up.state.error is not None
    assert given_up.state.error.code == "child.timeout"


@pytest.mark.parametrize("seconds", [-1, "soon", True])
def test_a_time_to_wait_for_a_run_that_is_none_is_told_by_its_place(seconds: object) -> None:
    told = started(drawn("call", call(timeout_seconds=seconds)))
    assert told.state.error is not None
    assert (told.state.error.code, told.state.error.field) == ("expression", "/timeout_seconds")


def test_a_workflow_that_is_not_there_fails_the_step_with_its_reason() -> None:
    missing = Failure(code="child.not_published", message="No version.", field="/workflow")
    told = started(MENDED, call=missing)
    assert told.state.step("call").error == missing
    assert told.state.attempts.keys() == {"mend"}
    assert not told.state.children


# --- Going on without it ----------------------------------------------------------------------


def test_a_step_that_does_not_wait_goes_on_when_the_run_is_there() -> None:
    told = started(FORGETTING)
    name = child(told)
    assert [(each.kind, each.run) for each in waiting_for(told.state)] == [("start", name)]
    told.when(child_over("call", name)).then_nothing()
    there = told.when(child_started("call", name))
    there.then_kinds(ChildBegan, StepSucceeded, AttemptScheduled)
    assert there.state.step("call").output == value({"run": name})
    there.when(child_started("call", name)).then_nothing()


# --- Stopping ---------------------------------------------------------------------------------


def test_a_run_that_stops_waits_for_its_children_a_while() -> None:
    told = started(TWO).when(CANCEL)
    told.then_kinds(type(told.said[0]), RunStopping, WaitOpened)
    grace = told.state.waits["grace:1"]
    assert grace.due == NOON + timedelta(seconds=CHILDREN_CANCEL_SECONDS)
    assert not is_awaited(told.state, told.state.children["call"])
    assert {each.kind for each in waiting_for(told.state)} == {"attempt", "child", "grace"}
    name = child(told)
    waits = told.when(child_over("call", name, "cancelled", error=FAILED))
    waits.then_kinds(ChildEnded, StepCancelled)
    ended = waits.when(let_go("other"))
    ended.then_kinds(AttemptCancelled, StepCancelled, WaitDropped, type(ended.said[-1]))
    assert (ended.state.status, ended.state.unfinished[0].step) == ("cancelled", "other")


def test_a_child_that_has_not_ended_is_waited_for_when_every_attempt_has() -> None:
    told = started(TWO).when(CANCEL).when(let_go("other"))
    assert told.state.phase == "stopping"
    assert told.when(child_over("call", child(told), "cancelled")).state.status == "cancelled"


def test_what_a_child_gave_before_it_could_be_cancelled_is_kept() -> None:
    told = started(CALLING).when(CANCEL)
    ended = told.when(child_over("call", child(told), output=7))
    assert (ended.state.status, ended.state.step("call").output) == ("cancelled", value(7))


def test_a_child_that_does_not_end_in_time_is_named() -> None:
    told = started(CALLING).when(CANCEL)
    name = child(told)
    late = told.later(CHILDREN_CANCEL_SECONDS).when(wake("grace:1"))
    assert late.state.unfinished == (
        Unfinished(step="call", attempt=1, effect="possible", detail=f"Run {name} had not ended."),
    )
    assert (late.state.children, late.state.waits) == ({}, {})
    late.when(child_over("call", name)).then_nothing()
    again = late.when(RETRY)
    assert again.state.step("call").status == "waiting"
    assert child(again) != name


def test_a_failure_beside_it_stops_a_child() -> None:
    told = started(TWO).when(broken("other"))
    assert told.state.phase == "stopping"
    ended = told.when(child_over("call", child(told), "cancelled"))
    assert (ended.state.status, ended.state.error) == ("failed", Failure(code="refused", message="No."))


def test_a_child_that_fails_while_its_parent_stops_is_not_tried_again() -> None:
    told = started(PATIENTLY).when(CANCEL)
    ended = told.when(child_over("call", child(told), "failed", error=TRY_AGAIN))
    assert (ended.state.status, ended.state.step("call").status) == ("cancelled", "cancelled")


def test_a_parked_run_hears_how_its_child_ended_and_decides_later() -> None:
    told = started(CALLING).given(RunParked(reason="no code"))
    heard = told.when(child_over("call", child(told), output=1))
    heard.then_kinds(ChildEnded)
    heard.when(UNPARK).then_kinds(RunUnparked, StepSucceeded, AttemptScheduled)


@pytest.mark.parametrize(("outcome", "status"), [("completed", "succeeded"), ("failed", "failed")])
def test_a_run_whose_plan_is_gone_keeps_what_its_child_said(outcome: str, status: str) -> None:
    told = started(CALLING)
    lost = structs.replace(story(None), state=told.state)
    ended = lost.when(child_over("call", child(told), outcome, error=FAILED))
    assert (ended.state.status, ended.state.step("call").status) == ("failed", status)


# --- In maps ----------------------------------------------------------------------------------


def mapped(**more: object) -> Plan:
    config = {"items": [1, 2, 3], **more}
    return drawn("", control("each", "map", config), call(inside="each"))


def test_every_item_has_a_run_of_its_own() -> None:
    told = started(mapped())
    assert sorted(told.state.children) == ["each[0].call", "each[1].call", "each[2].call"]
    assert len({asked.child for asked in told.state.children.values()}) == 3
    for path in sorted(told.state.children, reverse=True):
        told = told.when(child_over(path, child(told, path), output=path))
    assert told.state.status == "completed"
    assert told.state.output == value(
        {"results": ["each[0].call", "each[1].call", "each[2].call"], "errors": []}
    )


def test_a_map_goes_on_without_the_item_whose_child_failed() -> None:
    told = started(mapped(on_item_error="continue"))
    told = told.when(child_over("each[1].call", child(told, "each[1].call"), "failed", error=FAILED))
    assert sorted(told.state.children) == ["each[0].call", "each[2].call"]
    assert told.state.status == "waiting"


def test_where_an_item_fails_nobody_waits_for_its_other_children() -> None:
    plan = drawn(
        "", control("each", "map", {"items": [1], "on_item_error": "continue"}), call(inside="each"),
        call("beside", inside="each"),
    )  # fmt: skip
    told = started(plan)
    asked = told.state.children["each[0].beside"]
    over = told.when(child_over("each[0].call", child(told, "each[0].call"), "failed", error=FAILED))
    assert WaitDropped(wait="child:each[0].beside:1") in over.said
    assert not is_awaited(over.state, asked)
    over.then_kinds(*(type(event) for event in over.said[:-1]), RunCompleted)


# --- What is told to the parent -----------------------------------------------------------------


def test_a_child_tells_its_end_to_whoever_waits_for_it() -> None:
    run = started(drawn("a")).state
    waits, forgot = Parent(run="parent", step="call"), Parent(run="parent", step="call", waits=False)
    assert end_of(run, waits, "") is None
    ended = started(drawn("a")).when(done("a", output=5)).state
    assert end_of(ended, forgot, "") is None
    told = end_of(ended, waits, "")
    assert told is not None
    assert (told.run, told.step, told.child, told.outcome) == ("parent", "call", "run-1", "completed")
    assert told.output == value(5)
    gone = end_of(ended, waits, "", gone=True)
    assert gone is not None
    assert (gone.outcome, gone.error.code if gone.error else "") == ("failed", "child.gone")


# --- Error workflows ----------------------------------------------------------------------------

ALARMED = drawn("a b", on_failure="alarm")


def test_a_run_that_fails_starts_its_error_workflow_before_it_is_over() -> None:
    told = started(drawn("a>b", on_failure="alarm")).later(5).when(broken("a"))
    told.then_kinds(AttemptFailed, StepFailed, StepCancelled, HandlerAsked, RunFailed)
    asked = told.state.handler
    assert isinstance(asked, HandlerAsked)
    assert (asked.workflow, asked.version, asked.plan) == ("alarm", 1, CHILD_PLAN)
    assert isinstance(asked.input, Inline)
    assert msgspec.json.decode(asked.input.value)["body"] == {
        "run": "run-1",
        "workflow": "flow",
        "version": 1,
        "trigger": None,
        "error": {"code": "refused", "message": "No."},
        "step": "a",
        "started_at": "2026-11-20T12:00:00Z",
        "failed_at": "2026-11-20T12:00:05Z",
    }
    start = start_of_handler(told.state, asked, "")
    assert (start.parent, start.cause) == (None, Cause(kind="run", id="run-1", depth=1, chain=("flow",)))
    told.then_redelivery_is_harmless()


def test_the_error_workflow_is_told_when_everything_under_way_has_ended() -> None:
    told = started(ALARMED).when(broken("a"))
    assert told.state.handler is None
    ended = told.when(let_go("b"))
    assert [type(event) for event in ended.said[-2:]] == [HandlerAsked, RunFailed]


def test_only_a_failure_is_told() -> None:
    cancelled = started(ALARMED).when(CANCEL).when(let_go("a")).when(let_go("b"))
    assert (cancelled.state.status, cancelled.state.handler) == ("cancelled", None)
    completed = started(ALARMED).when(done("a")).when(done("b"))
    assert (completed.state.status, completed.state.handler) == ("completed", None)
    test = story(ALARMED).when(structs.replace(START, mode="test")).when(broken("a")).when(let_go("b"))
    assert (test.state.status, test.state.handler) == ("failed", None)


def test_each_failure_is_told_once() -> None:
    told = started(drawn("a", on_failure="alarm")).when(broken("a"))
    first = told.state.handler
    again = told.when(RETRY)
    assert again.state.handler is None
    second = again.when(broken("a", 2)).state.handler
    assert isinstance(first, HandlerAsked)
    assert isinstance(second, HandlerAsked)
    assert first.child != second.child


def test_an_error_workflow_that_is_not_there_does_not_keep_a_run_from_its_end() -> None:
    missing = Failure(code="child.no_workflow", message="There is no workflow alarm.")
    told = started(drawn("a", on_failure="alarm"), on_failure=missing).when(broken("a"))
    told.then_kinds(AttemptFailed, StepFailed, HandlerRefused, RunFailed)
    assert told.state.handler == HandlerRefused(workflow="alarm", error=missing)


def test_an_error_workflow_that_fails_again_and_again_is_stopped() -> None:
    cause = Cause(kind="run", id="r", depth=CAUSES_ALIKE, chain=("alarm",) * CAUSES_ALIKE)
    start = structs.replace(START, workflow="alarm", cause=cause)
    told = story(drawn("a", on_failure="alarm")).when(start).when(broken("a"))
    assert isinstance(told.state.handler, HandlerRefused)
    assert told.state.handler.error.code == "cause.too_deep"
    assert "alarm → alarm" in told.state.handler.error.message


# --- The chain of causes ------------------------------------------------------------------------


def test_a_chain_that_comes_back_to_itself_is_stopped_and_names_its_loop() -> None:
    cause = Cause(kind="webhook", id="hook")
    for number in range(CAUSES_DEEP):
        assert stopped(cause, "billing") is None
        cause = behind(cause, "run", f"run-{number}", "invoice" if number % 2 else "billing")
    assert stopped(cause, "billing") is None
    cause = behind(cause, "run", "run-n", "billing")
    refused = stopped(cause, "invoice")
    assert refused is not None
    assert refused.code == "cause.too_deep"
    assert refused.message.endswith(": invoice → billing → invoice.")


def test_a_step_too_deep_in_the_chain_fails_and_starts_nothing() -> None:
    chain = ("flow",) * CAUSES_DEEP
    start = structs.replace(START, cause=Cause(kind="run", id="r", depth=CAUSES_DEEP, chain=chain))
    told = story(MENDED).when(start)
    error = told.state.step("call").error
    assert error is not None
    assert error.code == "cause.too_deep"
    assert not told.state.children
    assert told.state.attempts.keys() == {"mend"}


def test_a_chain_of_workflows_that_all_differ_is_named_by_its_end() -> None:
    chain = tuple(f"w{number}" for number in range(CAUSES_DEEP))
    refused = stopped(Cause(kind="run", depth=CAUSES_DEEP + 1, chain=chain), "last")
    assert refused is not None
    assert refused.message.endswith(f"w{CAUSES_DEEP - 1} → last.")
    assert "…" in refused.message
