"""What the orchestrator promises about a run that stops: it ends once, says what it could not undo, and can be reopened."""

from datetime import timedelta

import pytest
from msgspec import structs

from chassis.testing.scenario import Scenario
from contracts.messages import Message, RetryRun
from contracts.runs import (
    AttemptCancelled,
    AttemptFailed,
    AttemptScheduled,
    CancelRequested,
    DeadlinePassed,
    DoubtResolved,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunParked,
    RunReopened,
    RunStarted,
    RunStopping,
    RunUnparked,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSucceeded,
    Unfinished,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.run import Run, outstanding, waiting_for
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    NOON,
    PATIENT,
    REFUSED,
    RETRY,
    START,
    TO,
    TRY_AGAIN,
    UNPARK,
    action,
    broken,
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

LINE = drawn("fetch>send")
TWO = drawn("a b a>c b>c")
ASKED = CancelRequested(by="key:1", reason="enough")
GRACE = WaitOpened(wait="grace:1", kind="grace", due=NOON + timedelta(seconds=2))


def cancelled(step: str) -> StepCancelled:
    return StepCancelled(step=step, node=step)


# --- Cancelling -------------------------------------------------------------------------------


def test_a_cancelled_run_gives_its_attempts_a_moment_to_let_go() -> None:
    told = started(LINE).when(CANCEL)
    told.then(ASKED, RunStopping(outcome="cancelled"), cancelled("send"), GRACE)
    assert told.state.status == "stopping"


def test_the_run_is_cancelled_when_the_executor_has_let_go() -> None:
    started(LINE).when(CANCEL, let_go("fetch")).then(
        AttemptCancelled(step="fetch", attempt=1, effect="none"),
        cancelled("fetch"),
        WaitDropped(wait="grace:1"),
        RunCancelled(reason="enough", unfinished=(Unfinished(step="fetch", attempt=1, effect="none"),)),
    )


def test_what_could_not_be_undone_is_said() -> None:
    told = started(LINE).when(CANCEL, let_go("fetch", effect="done"))
    assert told.state.unfinished == (Unfinished(step="fetch", attempt=1, effect="done"),)


def test_the_grace_ends_for_an_executor_that_says_nothing() -> None:
    told = started(LINE).when(CANCEL).later(2).when(wake("grace:1"))
    told.then_kinds(WaitEnded, StepCancelled, RunCancelled)
    assert [(entry.step, entry.effect) for entry in told.state.unfinished] == [("fetch", "possible")]


def test_a_step_that_was_done_before_it_could_let_go_keeps_its_output() -> None:
    told = started(LINE).when(CANCEL, done("fetch", output="here"))
    told.then_kinds(StepReported, StepSucceeded, WaitDropped, RunCancelled)
    assert told.state.step("fetch").output == value("here")
    assert told.state.unfinished == ()


def test_an_attempt_that_fails_while_the_run_stops_is_not_made_again() -> None:
    told = started(drawn("a", action("a", retry=PATIENT))).when(CANCEL, broken("a", error=TRY_AGAIN))
    told.then_kinds(AttemptFailed, StepCancelled, WaitDropped, RunCancelled)


def test_a_run_that_only_waits_is_cancelled_at_once() -> None:
    plan = drawn("nap>go", control("nap", "delay", {"seconds": 60}))
    started(plan).when(CANCEL).then(
        ASKED,
        WaitDropped(wait="delay:nap"),
        cancelled("nap"),
        cancelled("go"),
        RunCancelled(reason="enough"),
    )


def test_a_step_in_doubt_is_listed_by_the_run_that_is_cancelled() -> None:
    told = started(LINE).when(doubted("fetch"), CANCEL)
    assert [(entry.step, entry.effect) for entry in told.state.unfinished] == [("fetch", "possible")]


@pytest.mark.parametrize("late", [done("fetch"), let_go("fetch"), wake("grace:1"), LOOK])
def test_nothing_moves_a_run_that_was_cancelled(late: Message) -> None:
    told = started(LINE).when(CANCEL, let_go("fetch")).later(10)
    told.when(late).then_nothing()


def test_cancelling_twice_changes_nothing_more() -> None:
    started(LINE).when(CANCEL, CANCEL).then_nothing()


def test_cancelling_a_run_that_ended_is_refused() -> None:
    started(LINE).when(CANCEL, let_go("fetch"), CANCEL).then_refused("run.ended")


def test_cancelling_a_run_that_nobody_started_is_refused() -> None:
    story(LINE).when(CANCEL).then_refused("not_found")


def test_a_cancellation_that_lost_the_race_against_the_end_is_refused() -> None:
    told = started(LINE).when(done("fetch"))
    told.when_another_was_faster(done("send"), CANCEL).then_refused("run.ended")


def test_an_executor_cannot_let_go_of_a_run_that_goes_on() -> None:
    started(LINE).when(let_go("fetch")).then_nothing()


# --- Failing ----------------------------------------------------------------------------------


def test_a_failure_that_nothing_handles_fails_the_run_in_the_same_commit() -> None:
    started(LINE).when(broken("fetch")).then(
        AttemptFailed(step="fetch", attempt=1, error=REFUSED),
        StepFailed(step="fetch", node="fetch", error=REFUSED),
        cancelled("send"),
        RunFailed(error=REFUSED, step="fetch"),
    )


def test_a_failure_stops_the_other_branches_first() -> None:
    told = started(TWO).when(broken("a"))
    told.then(
        AttemptFailed(step="a", attempt=1, error=REFUSED),
        StepFailed(step="a", node="a", error=REFUSED),
        RunStopping(outcome="failed", error=REFUSED),
        cancelled("c"),
        GRACE,
    )
    told.when(let_go("b", effect="possible")).then(
        AttemptCancelled(step="b", attempt=1, effect="possible"),
        cancelled("b"),
        WaitDropped(wait="grace:1"),
        RunFailed(error=REFUSED, step="a", unfinished=(Unfinished(step="b", attempt=1, effect="possible"),)),
    )


def test_a_run_out_of_time_fails() -> None:
    told = started(drawn("a", timeout_s=60)).later(60).when(LOOK)
    told.then_kinds(DeadlinePassed, RunStopping, WaitOpened)
    told = told.when(let_go("a"))
    assert told.state.error is not None
    assert (told.state.status, told.state.error.code) == ("failed", "run.deadline")


def test_a_failure_during_the_grace_of_another_reason_is_not_blamed() -> None:
    told = started(drawn("a", timeout_s=60)).later(60).when(LOOK, broken("a"))
    failed = told.said[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.step, failed.error.code) == (None, "run.deadline")


def test_looking_before_anything_is_due_changes_nothing() -> None:
    started(drawn("a", timeout_s=60)).later(59).when(LOOK).then_nothing()


def test_looking_finds_a_wait_that_nobody_was_woken_for() -> None:
    plan = drawn("nap>go", control("nap", "delay", {"seconds": 60}))
    told = started(plan).later(61).when(LOOK)
    told.then_kinds(WaitEnded, StepSucceeded, AttemptScheduled)


def test_looking_twice_changes_nothing_more() -> None:
    started(drawn("a", timeout_s=60)).later(60).when(LOOK, LOOK).then_nothing()


# --- Reopening --------------------------------------------------------------------------------


def test_a_failed_run_goes_on_from_the_step_that_failed() -> None:
    told = started(LINE).when(done("fetch"), broken("send"), RETRY)
    told.then(RunReopened(by="key:1", steps=("send",)), scheduled("send", 2))
    assert (told.state.opening, told.state.status) == (2, "running")
    told.when(done("send", 2)).then_kinds(StepReported, StepSucceeded, RunCompleted)


def test_what_came_after_the_failed_step_is_open_again() -> None:
    told = started(LINE).when(broken("fetch"), RETRY)
    told.then(RunReopened(by="key:1", steps=("fetch", "send")), scheduled("fetch", 2))
    told.when(done("fetch", 2)).then_kinds(StepReported, StepSucceeded, AttemptScheduled)


def test_what_succeeded_stays() -> None:
    told = started(TWO).when(done("b", output=7), broken("a"), RETRY)
    assert told.state.step("b").output == value(7)
    told.when(done("a", 2)).then(
        StepReported(step="a", attempt=2, output=value(None)),
        StepSucceeded(step="a", node="a"),
        scheduled("c"),
    )


def test_a_failure_that_was_handled_is_not_tried_again() -> None:
    told = started(drawn("call.error>mend mend>last")).when(broken("call"), broken("mend"), RETRY)
    told.then(RunReopened(by="key:1", steps=("mend", "last")), scheduled("mend", 2))
    assert told.state.stopping is None
    told.when(done("mend", 2), done("last")).then_kinds(StepReported, StepSucceeded, RunCompleted)


def test_a_reopened_step_has_all_its_retries_again() -> None:
    plan = drawn("a", action("a", retry=PATIENT))
    told = started(plan).when(broken("a"), RETRY).when(broken("a", 2, TRY_AGAIN))
    assert told.state.waits["retry:a:3"].due == NOON + timedelta(seconds=10)


def test_each_opening_has_one_end() -> None:
    told = started(LINE).when(broken("fetch"), RETRY, broken("fetch", 2), RETRY, CANCEL, let_go("fetch", 3))
    ends = [e.event for e in told.history if isinstance(e.event, RunFailed | RunCancelled | RunCompleted)]
    assert [type(end) for end in ends] == [RunFailed, RunFailed, RunCancelled]
    assert told.state.opening == 3


def test_an_effect_that_may_have_happened_is_in_doubt_again() -> None:
    told = started(LINE).when(CANCEL, let_go("fetch", effect="possible"), RETRY)
    told.then(RunReopened(by="key:1", steps=("fetch", "send")))
    assert told.state.step("fetch").status == "in_doubt"
    told.when(resolve("fetch", "done")).then_kinds(DoubtResolved, StepSucceeded, AttemptScheduled)


def test_a_repeatable_step_is_just_made_again() -> None:
    plan = drawn("fetch", action("fetch", repeat="by-key"))
    told = started(plan).when(CANCEL, let_go("fetch", effect="possible"), RETRY)
    told.then(RunReopened(by="key:1", steps=("fetch",)), scheduled("fetch", 2, repeat="by-key"))


def test_a_late_wake_up_of_the_grace_before_does_not_end_the_grace_after() -> None:
    told = started(LINE).when(CANCEL, let_go("fetch"), RETRY, CANCEL).later(2)
    assert list(told.state.waits) == ["grace:2"]
    told.when(wake("grace:1")).then_nothing()


def test_the_time_that_a_reopened_run_has_begins_anew() -> None:
    told = started(drawn("a", timeout_s=60)).later(50).when(broken("a")).later(100).when(RETRY)
    assert told.state.deadline == NOON + timedelta(seconds=150 + 60)


@pytest.mark.parametrize("before", [[], [done("fetch"), done("send")], [CANCEL]])
def test_a_run_that_did_not_fail_is_not_reopened(before: list[Message]) -> None:
    started(LINE).when(*before).when(RETRY).then_refused("run.not_reopenable")


def test_a_retry_that_comes_again_is_refused() -> None:
    told = started(LINE).when(broken("fetch"))
    told.when_another_was_faster(RETRY, RETRY).then_refused("run.not_reopenable")


def test_a_step_that_succeeded_is_not_tried_again() -> None:
    wish = RetryRun(**TO, actor="key:1", steps=("fetch",))
    started(LINE).when(done("fetch"), broken("send"), wish).then_refused("run.not_reopenable")


# --- Parking ----------------------------------------------------------------------------------

PARKED = RunParked(reason="poison", needs_release="9.0")


def test_a_parked_run_keeps_what_it_is_told_and_decides_nothing() -> None:
    told = started(LINE).given(PARKED).when(done("fetch", output=1))
    told.then(StepReported(step="fetch", attempt=1, output=value(1)))
    assert told.state.status == "parked"
    assert [(entry.kind, entry.name) for entry in waiting_for(told.state)] == [("release", "9.0")]


def test_a_run_that_is_taken_up_again_decides_on_all_of_it() -> None:
    plan = drawn("a nap>b", control("nap", "delay", {"seconds": 60}))
    told = started(plan).given(PARKED).when(done("a")).later(60).when(wake("delay:nap")).then_nothing()
    told.when(UNPARK).then_kinds(WaitEnded, RunUnparked, StepSucceeded, StepSucceeded, AttemptScheduled)


def test_a_run_parked_before_it_began_begins_when_it_is_taken_up() -> None:
    told = story(LINE).given(PARKED).when(START).then_kinds(RunStarted)
    told.when(UNPARK).then(RunUnparked(by="key:1"), scheduled("fetch"))


def test_taking_up_a_run_that_is_not_parked_changes_nothing() -> None:
    started(LINE).when(UNPARK).then_nothing()


def test_a_parked_run_can_be_cancelled() -> None:
    told = started(LINE).given(PARKED).when(CANCEL)
    told.then_kinds(CancelRequested, RunStopping, StepCancelled, WaitOpened)
    assert told.state.status == "stopping"


def test_what_a_parked_run_has_under_way_stays_outstanding() -> None:
    told = started(LINE).given(PARKED)
    assert [attempt.step for attempt in outstanding(told.state).attempts] == ["fetch"]


def test_a_run_that_ended_is_not_parked() -> None:
    told = started(LINE).when(broken("fetch")).given(PARKED)
    assert told.state.status == "failed"


def test_a_wish_that_meant_an_earlier_opening_is_not_heard_in_the_next_one() -> None:
    again = started(drawn("a")).when(broken("a")).when(structs.replace(RETRY, opening=1))
    assert again.state.opening == 2
    for late in (structs.replace(CANCEL, opening=1), structs.replace(RETRY, opening=1)):
        heard = again.when(late)
        assert heard.said == ()
        assert heard.refusal is None
        assert heard.state == again.state


# --- What nobody could look at in time, or with no plan -----------------------------------------


def test_a_wake_up_behind_the_deadline_begins_nothing_more() -> None:
    nap = drawn("nap>after", control("nap", "delay", {"seconds": 40}), timeout_s=30)
    late = started(nap).later(40).when(wake("delay:nap"))
    assert isinstance(late.said[0], DeadlinePassed)
    assert not outstanding(late.state).attempts
    assert late.state.status == "failed"


def without_plan(told: Scenario[Run, Message, RunEvent]) -> Scenario[Run, Message, RunEvent]:
    """The same run, and the store has lost its plan."""
    lost = story(None)
    return structs.replace(told, accept=lost.accept, decide=lost.decide)


def test_a_run_whose_plan_is_lost_ends_with_its_grace_and_once() -> None:
    told = without_plan(started(drawn("a>c b>c"))).when(done("a"))
    assert told.state.status == "stopping"
    told = told.later(2).when(wake("grace:1"))
    assert isinstance(told.said[-1], RunFailed)
    assert told.said[-1].error.code == "run.no_plan"
    assert not told.later(60).when(LOOK).said


def test_what_succeeded_before_its_plan_was_found_lost_is_not_done_again() -> None:
    plan = drawn("call>after")
    told = without_plan(started(plan)).when(done("call", output="made"))
    assert told.state.step("call").status == "succeeded"
    assert told.state.status == "failed"
    whole = started(plan)
    again = structs.replace(told, accept=whole.accept, decide=whole.decide).when(RETRY)
    assert [attempt.step for attempt in outstanding(again.state).attempts] == ["after"]
