"""What the orchestrator promises about a run that goes well: it starts once, goes on step by step, and is completed."""

from datetime import timedelta
from typing import get_args

import pytest

from contracts.errors import Failure
from contracts.runs import (
    AttemptScheduled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunResponded,
    RunStarted,
    StepFailed,
    StepReported,
    StepSkipped,
    StepSucceeded,
    WaitEnded,
    WaitOpened,
)
from orchestrator.evolution import FOLDS
from orchestrator.run import Run, waiting_for
from tests.orchestrator.stories import (
    NOON,
    PATIENT,
    REFUSED,
    START,
    STARTED,
    action,
    broken,
    control,
    done,
    drawn,
    scheduled,
    started,
    story,
    value,
    wake,
)

LINE = drawn("fetch>send")


def reported(step: str, output: object = None, attempt: int = 1) -> StepReported:
    return StepReported(step=step, attempt=attempt, output=value(output))


def succeeded(step: str, **more: object) -> StepSucceeded:
    return StepSucceeded(step=step, node=step, **more)  # type: ignore[arg-type]  # Ports and output.


# --- Starting ---------------------------------------------------------------------------------


def test_a_new_run_starts_with_its_first_step() -> None:
    story(LINE).when(START).then(STARTED, scheduled("fetch"))


def test_a_start_that_comes_again_changes_nothing() -> None:
    started(LINE).when(START).then_nothing()


def test_a_start_that_lost_the_race_finds_the_run_started() -> None:
    story(LINE).when_another_was_faster(START, START).then_nothing()


def test_a_run_that_ended_is_not_started_again() -> None:
    started(LINE).when(done("fetch"), done("send"), START).then_nothing()


def test_a_run_without_its_plan_fails_by_name() -> None:
    told = story(None).when(START).then_kinds(RunStarted, RunFailed)
    assert told.state.error is not None
    assert told.state.error.code == "run.no_plan"


def test_the_deadline_counts_from_the_start() -> None:
    told = started(drawn("a", timeout_s=60))
    assert told.state.deadline == NOON + timedelta(seconds=60)


# --- Going on ---------------------------------------------------------------------------------


def test_the_next_step_follows_a_success() -> None:
    started(LINE).when(done("fetch")).then(reported("fetch"), succeeded("fetch"), scheduled("send"))


def test_the_run_completes_with_its_last_step_and_gives_its_output() -> None:
    started(LINE).when(done("fetch"), done("send", output="sent")).then(
        reported("send", "sent"), succeeded("send"), RunCompleted(output=value("sent"))
    )


def test_several_last_steps_give_an_object_of_their_outputs() -> None:
    told = started(drawn("a>b a>c")).when(done("a"), done("c", output=3), done("b", output=2))
    assert told.state.output == value({"b": 2, "c": 3})


@pytest.mark.parametrize("late", [done("fetch"), broken("fetch"), done("fetch", attempt=7), done("send")])
def test_an_outcome_of_an_attempt_that_is_not_under_way_changes_nothing(late: object) -> None:
    told = started(LINE).when(done("fetch"), done("send"))
    told.when(late).then_nothing()  # type: ignore[arg-type]  # A message.


def test_an_outcome_that_lost_the_race_changes_nothing() -> None:
    started(LINE).when_another_was_faster(done("fetch", output=1), broken("fetch")).then_nothing()


def test_parallel_steps_begin_in_the_order_of_the_plan_in_one_commit() -> None:
    started(drawn("a>b a>c a>d")).when(done("a")).then(
        reported("a"), succeeded("a"), scheduled("b"), scheduled("c"), scheduled("d")
    )


def test_every_attempt_at_a_step_has_the_same_key() -> None:
    again = Failure(code="unreachable", message="", retryable=True)
    told = started(drawn("a", action("a", retry=PATIENT))).when(broken("a", error=again)).later(10)
    told.when(wake("retry:a:2")).then(WaitEnded(wait="retry:a:2"), scheduled("a", 2))
    assert {e.event.key for e in told.history if isinstance(e.event, AttemptScheduled)} == {"run-1/a"}


# --- Branches and joins -----------------------------------------------------------------------

FORK = drawn(
    "check.true>yes check.false>no yes>last no>last",
    control("check", "if", {"condition": False}),
)


def test_a_branch_that_is_not_taken_is_skipped() -> None:
    started(FORK).then(
        STARTED,
        succeeded("check", ports=("false",), output=value({"n": 1})),
        StepSkipped(step="yes", node="yes"),
        scheduled("no"),
    )


def test_a_join_waits_for_the_branches_that_can_still_come() -> None:
    started(FORK).when(done("no")).then(reported("no"), succeeded("no"), scheduled("last"))


def test_what_no_branch_reaches_is_skipped_to_the_end() -> None:
    plan = drawn("stop>a a>b b>c", control("stop", "filter", {"condition": False}))
    told = started(plan)
    told.then_kinds(RunStarted, StepSucceeded, StepSkipped, StepSkipped, StepSkipped, RunCompleted)
    assert told.state.output == value(None)


def test_a_join_of_all_waits_for_both() -> None:
    told = started(drawn("a>both b>both")).when(done("b"))
    told.then(reported("b"), succeeded("b")).when(done("a")).then(
        reported("a"), succeeded("a"), scheduled("both")
    )


def test_a_join_of_any_begins_with_the_first_and_only_once() -> None:
    plan = drawn("a>one b>one", control("one", "merge", {"mode": "any"}, join="any"))
    told = started(plan).when(done("b", output="b"))
    told.then(reported("b", "b"), succeeded("b"), succeeded("one", output=value({"b": "b"})))
    told.when(done("a")).then(reported("a"), succeeded("a"), RunCompleted(output=value({"b": "b"})))


def test_a_merge_gives_the_outputs_of_the_branches_that_were_taken() -> None:
    plan = drawn("a>all b>all", control("all", "merge", {"output": "list"}))
    told = started(plan).when(done("b", output=2), done("a", output=1))
    assert told.state.output == value([1, 2])


def test_a_run_of_control_nodes_alone_is_one_commit() -> None:
    plan = drawn(
        "keep>first first>second second>answer",
        control("keep", "filter", {"condition": True}),
        control("first", "set", {"fields": {"a": 1}}),
        control("second", "set", {"fields": {"b": 2}, "keep_input": True}),
        control("answer", "respond", {"status": 201, "body": "thanks"}),
    )
    told = started(plan)
    assert told.said[-3:] == (
        RunResponded(step="answer", status=201, body=value("thanks")),
        succeeded("answer"),
        RunCompleted(output=value("thanks")),
    )
    assert told.state.step("second").output == value({"a": 1, "b": 2})


def test_the_first_answer_counts() -> None:
    plan = drawn("one>two", control("one", "respond", {"body": 1}), control("two", "respond", {"body": 2}))
    told = started(plan)
    assert [event.body for event in told.said if isinstance(event, RunResponded)] == [value(1)]
    assert told.state.output == value(2)


def test_an_answer_that_was_recorded_is_never_another() -> None:
    told = started(drawn("one", control("one", "respond", {"body": 1})))
    told = told.given(RunResponded(step="one", status=500, body=value("other")))
    assert told.state.responded == RunResponded(step="one", status=200, body=value(1))


# --- Delays -----------------------------------------------------------------------------------

NAP = drawn("nap>go", control("nap", "delay", {"seconds": 60}))
ASLEEP = WaitOpened(wait="delay:nap", kind="delay", due=NOON + timedelta(seconds=60), step="nap")


def test_a_delay_waits_and_then_passes_its_input_on() -> None:
    told = started(NAP).then(STARTED, ASLEEP)
    assert told.state.status == "waiting"
    told.later(60).when(wake("delay:nap")).then(
        WaitEnded(wait="delay:nap"), succeeded("nap", output=value({"n": 1})), scheduled("go")
    )


@pytest.mark.parametrize(("seconds", "wakes"), [(59.9, False), (59.996, True), (60, True), (1e6, True)])
def test_a_wake_up_counts_when_its_moment_has_come(seconds: float, wakes: bool) -> None:
    told = started(NAP).later(seconds).when(wake("delay:nap"))
    assert bool(told.said) is wakes


def test_a_wake_up_of_a_wait_that_is_closed_finds_nothing_to_do() -> None:
    told = started(NAP).later(60).when(wake("delay:nap"))
    told.when(wake("delay:nap")).then_nothing()
    told.when(wake("delay:other")).then_nothing()


def test_a_delay_until_a_moment_that_is_past_does_not_wait() -> None:
    plan = drawn("nap", control("nap", "delay", {"until": "2026-11-20T11:00:00+00:00"}))
    started(plan).then_kinds(RunStarted, StepSucceeded, RunCompleted)


# --- Error paths ------------------------------------------------------------------------------


def test_a_failure_takes_the_error_path_alone() -> None:
    told = started(drawn("call>next call.error>mend")).when(broken("call"))
    assert told.said[1:] == (
        StepFailed(step="call", node="call", error=REFUSED, handled=True),
        StepSkipped(step="next", node="next"),
        scheduled("mend"),
    )


def test_a_run_whose_failures_were_handled_is_completed() -> None:
    told = started(drawn("call>next call.error>mend")).when(broken("call"), done("mend", output="mended"))
    assert told.state.status == "completed"
    assert told.state.output == value({"mend": "mended"})


def test_a_control_node_on_the_error_path_sees_the_error() -> None:
    plan = drawn("call.error>mend", control("mend", "filter", {"condition": True}))
    told = started(plan).when(broken("call"))
    assert told.state.output == value({"code": "refused", "message": "No."})


def test_an_expression_that_fails_fails_its_step_with_the_place() -> None:
    error = Failure(code="expression", message="no such key", node="b", field="/url", position=3)
    told = started(drawn("a>b b.error>c"), b=error).when(done("a"))
    assert told.said[2:] == (StepFailed(step="b", node="b", error=error, handled=True), scheduled("c"))


def test_a_value_that_does_not_fit_a_control_node_fails_its_step() -> None:
    told = started(drawn("check", control("check", "if", {"condition": "yes"})))
    assert told.state.status == "failed"
    assert told.state.error == Failure(
        code="expression",
        message="The condition gave a text, not true or false.",
        node="check",
        field="/condition",
    )


# --- What a run can say about itself -----------------------------------------------------------


def test_a_run_names_what_it_waits_for() -> None:
    told = started(drawn("a nap", control("nap", "delay", {"seconds": 60})))
    assert [(entry.kind, entry.name) for entry in waiting_for(told.state)] == [
        ("attempt", "a/1"),
        ("delay", "delay:nap"),
    ]
    assert [entry.kind for entry in waiting_for(Run.new("org", "r"))] == ["start"]


def test_every_event_has_its_fold() -> None:
    assert set(FOLDS) == set(get_args(RunEvent))
