"""What the orchestrator promises about attempts: bounded and patient retries, and doubt where nobody knows."""

from datetime import timedelta

import msgspec
import pytest

from contracts.errors import Failure
from contracts.messages import Message
from contracts.payloads import Inline
from contracts.runs import (
    AttemptDoubted,
    AttemptFailed,
    AttemptScheduled,
    DoubtResolved,
    RunCompleted,
    RunFailed,
    StepFailed,
    StepReported,
    StepSucceeded,
    WaitEnded,
    WaitOpened,
)
from contracts.workflows import Retry
from orchestrator.run import waiting_for
from tests.orchestrator.stories import (
    NOON,
    PATIENT,
    REFUSED,
    TRY_AGAIN,
    action,
    broken,
    control,
    done,
    doubted,
    drawn,
    resolve,
    scheduled,
    started,
    value,
    wake,
)

CALL = drawn("call>next", action("call", retry=PATIENT))


def attempt_failed(step: str, attempt: int = 1, error: Failure = TRY_AGAIN) -> AttemptFailed:
    return AttemptFailed(step=step, attempt=attempt, error=error)


# --- Retries ----------------------------------------------------------------------------------


def test_a_failed_attempt_is_made_again_after_a_pause() -> None:
    told = started(CALL).when(broken("call", error=TRY_AGAIN))
    pause = WaitOpened(wait="retry:call:2", kind="retry", due=NOON + timedelta(seconds=10), step="call")
    told.then(attempt_failed("call"), pause)
    told.later(10).when(wake("retry:call:2")).then(WaitEnded(wait="retry:call:2"), scheduled("call", 2))


def test_the_second_pause_is_longer() -> None:
    told = started(CALL).when(broken("call", error=TRY_AGAIN)).later(10).when(wake("retry:call:2"))
    told = told.when(broken("call", 2, TRY_AGAIN))
    assert told.state.waits["retry:call:3"].due == NOON + timedelta(seconds=10 + 20)


def test_the_last_attempt_fails_the_step() -> None:
    told = started(CALL).when(broken("call", error=TRY_AGAIN)).later(10).when(wake("retry:call:2"))
    told = told.when(broken("call", 2, TRY_AGAIN)).later(20).when(wake("retry:call:3"))
    told = told.when(broken("call", 3, TRY_AGAIN))
    assert told.said[:2] == (
        attempt_failed("call", 3),
        StepFailed(step="call", node="call", error=TRY_AGAIN),
    )
    assert told.state.status == "failed"


def test_a_failure_that_no_retry_can_mend_fails_the_step_at_once() -> None:
    told = started(CALL).when(broken("call"))
    assert told.said[1] == StepFailed(step="call", node="call", error=REFUSED)


def test_retry_after_is_honoured_when_it_is_longer_than_the_pause() -> None:
    told = started(CALL).when(broken("call", error=TRY_AGAIN, retry_after_s=120))
    assert told.state.waits["retry:call:2"].due == NOON + timedelta(seconds=120)


def test_a_pause_of_nothing_is_no_wait() -> None:
    hasty = drawn("call", action("call", retry=Retry(attempts=2, first_pause_s=0)))
    started(hasty).when(broken("call", error=TRY_AGAIN)).then(attempt_failed("call"), scheduled("call", 2))


def test_an_early_outcome_of_the_attempt_before_changes_nothing() -> None:
    told = started(CALL).when(broken("call", error=TRY_AGAIN)).later(10).when(wake("retry:call:2"))
    told.when(done("call", 1)).then_nothing()


def test_a_success_after_a_retry_forgets_the_error() -> None:
    told = started(CALL).when(broken("call", error=TRY_AGAIN)).later(10).when(wake("retry:call:2"))
    told = told.when(done("call", 2))
    assert told.state.step("call").error is None
    assert told.state.step("call").status == "succeeded"


# --- Doubt ------------------------------------------------------------------------------------


def test_a_step_in_doubt_waits_for_somebody_who_knows() -> None:
    told = started(CALL).when(doubted("call"))
    told.then_kinds(AttemptDoubted)
    assert told.state.step("call").status == "in_doubt"
    assert told.state.status == "waiting"
    assert [entry.kind for entry in waiting_for(told.state)] == ["decision"]


def test_doubt_that_comes_again_changes_nothing() -> None:
    started(CALL).when(doubted("call"), doubted("call")).then_nothing()


def test_a_late_outcome_ends_the_doubt() -> None:
    told = started(CALL).when(doubted("call"), done("call", output="late"))
    told.then(
        StepReported(step="call", attempt=1, output=value("late")),
        StepSucceeded(step="call", node="call"),
        scheduled("next"),
    )
    assert told.state.step("call").output == value("late")


def test_a_late_failure_ends_the_doubt_and_is_retried() -> None:
    told = started(CALL).when(doubted("call"), broken("call", error=TRY_AGAIN))
    told.then_kinds(AttemptFailed, WaitOpened)
    assert told.state.step("call").status == "waiting"
    told.later(10).when(wake("retry:call:2")).then(WaitEnded(wait="retry:call:2"), scheduled("call", 2))


def resolved(resolution: str, output: object = None) -> DoubtResolved:
    return DoubtResolved(
        step="call",
        attempt=1,
        resolution=resolution,  # type: ignore[arg-type]  # One of three words.
        output=value(output),
        by="key:1",
    )


def test_a_person_who_says_retry_has_the_attempt_made_again_under_the_same_key() -> None:
    told = started(CALL).when(doubted("call"), resolve("call", "retry"))
    told.then(resolved("retry"), scheduled("call", 2))


def test_a_person_who_says_done_gives_the_output() -> None:
    told = started(CALL).when(doubted("call"), resolve("call", "done", "seen"))
    told.then(resolved("done", "seen"), StepSucceeded(step="call", node="call"), scheduled("next"))
    assert told.state.step("call").output == value("seen")


def test_a_person_who_says_failed_fails_the_step() -> None:
    told = started(CALL).when(doubted("call"), resolve("call", "failed"))
    assert told.state.status == "failed"
    assert told.state.error is not None
    assert told.state.error.code == "in_doubt.abandoned"


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ([], "step.not_in_doubt"),
        ([broken("call")], "run.ended"),
        ([doubted("call"), done("call")], "step.not_in_doubt"),
    ],
)
def test_only_a_step_in_doubt_can_be_resolved(before: list[Message], code: str) -> None:
    started(CALL).when(*before).when(resolve("call", "done")).then_refused(code)


def test_a_resolution_that_lost_the_race_against_the_late_outcome_is_refused() -> None:
    told = started(CALL).when(doubted("call"))
    told.when_another_was_faster(done("call"), resolve("call", "retry")).then_refused("step.not_in_doubt")


def test_other_steps_go_on_while_one_is_in_doubt() -> None:
    told = started(drawn("call other>more")).when(doubted("call"), done("other"))
    assert list(told.state.attempts) == ["more"]
    told.when(done("more"), done("call")).then_kinds(StepReported, StepSucceeded, RunCompleted)


def test_the_step_that_failed_is_named() -> None:
    told = started(CALL).when(broken("call"))
    failed = told.said[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.step, failed.error) == ("call", REFUSED)


def test_a_node_that_continues_hands_its_error_on_and_the_run_goes_on() -> None:
    plan = drawn("call>after", action("call", on_error="continue"))
    told = started(plan).when(broken("call"))
    told.then_kinds(AttemptFailed, StepFailed, AttemptScheduled)
    assert told.state.step("call").status == "failed"
    assert told.state.step("call").ports == ("main",)
    told = told.when(done("after"))
    assert told.state.status == "completed"


def test_an_error_path_wins_over_going_on() -> None:
    plan = drawn("call>after call.error>mend", action("call", on_error="continue"))
    told = started(plan).when(broken("call"))
    assert told.state.step("call").ports == ("error",)
    assert told.state.step("after").status == "skipped"


def test_a_node_that_continues_ends_a_map_with_its_error_as_the_result() -> None:
    plan = drawn(
        "",
        control("each", "map", {"items": [1]}),
        action("call", inside="each", on_error="continue"),
    )
    told = started(plan).when(broken("each[0].call"))
    assert told.state.status == "completed"
    assert isinstance(told.state.output, Inline)
    assert msgspec.json.decode(told.state.output.value)["results"][0]["code"] == REFUSED.code
