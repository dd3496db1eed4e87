"""Runs that wait for what somebody says: now, before, twice, too late, or never."""

from datetime import timedelta

import pytest
from msgspec import structs

from chassis.ids import digest
from contracts.limits import SIGNALS_KEPT, SIGNALS_REMEMBERED
from contracts.runs import (
    AttemptScheduled,
    RunCancelled,
    RunCompleted,
    RunParked,
    RunUnparked,
    SignalReceived,
    StepCancelled,
    StepSkipped,
    StepSucceeded,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.run import outstanding, waiting_for
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    NOON,
    RETRY,
    UNPARK,
    broken,
    control,
    done,
    drawn,
    signal,
    started,
    story,
    value,
    wake,
)

PAID = drawn("ask>go ask.timeout>remind", control("ask", "wait.signal", {"signal": "paid"}))
HASTY = drawn(
    "ask>go ask.timeout>remind", control("ask", "wait.signal", {"signal": "paid", "timeout_seconds": 60})
)
OPEN = WaitOpened(wait="signal:ask", kind="signal", step="ask", signal="paid")


def said(
    name: str = "paid", key: str = "once", body: object = None, step: str | None = None
) -> SignalReceived:
    return SignalReceived(signal=name, key=key, by="key:person", body=value(body), step=step)


def test_a_run_waits_until_somebody_says_it() -> None:
    told = started(PAID)
    assert told.said[-1:] == (OPEN,)
    assert told.state.status == "waiting"
    assert [(entry.kind, entry.due) for entry in waiting_for(told.state)] == [("signal", None)]
    after = told.later(1e7).when(signal("paid", body={"sum": 5}))
    after.then_kinds(SignalReceived, StepSucceeded, AttemptScheduled, StepSkipped)
    assert after.state.step("ask").output == value({"sum": 5})
    assert not outstanding(after.state).waits


def test_what_was_said_before_is_for_the_first_that_waits_for_it() -> None:
    plan = drawn("call>one one>two", *(control(n, "wait.signal", {"signal": "paid"}) for n in ("one", "two")))
    told = started(plan).when(signal("paid", "first", 1)).then(said(key="first", body=1))
    told = told.when(signal("paid", "second", 2)).then(said(key="second", body=2))
    assert told.state.status == "running"
    over = told.when(done("call"))
    assert over.state.status == "completed"
    assert [over.state.step(name).output for name in ("one", "two")] == [value(1), value(2)]
    assert over.state.signals == ()


def test_the_same_saying_counts_once_also_when_nothing_waits_any_more() -> None:
    plan = drawn("one>two", *(control(n, "wait.signal", {"signal": "paid"}) for n in ("one", "two")))
    told = started(plan).when(signal("paid"))
    assert told.state.step("one").status == "succeeded"
    told.when(signal("paid")).then_nothing()
    assert told.when(signal("paid", "another")).state.status == "completed"


def test_another_name_is_not_what_it_waits_for() -> None:
    told = started(PAID).when(signal("refunded"))
    assert told.state.status == "waiting"
    assert told.state.signals == (said("refunded"),)


def test_who_waits_no_longer_than_a_time_goes_on_by_another_port() -> None:
    told = started(HASTY)
    due = NOON + timedelta(seconds=60)
    assert told.said[-1] == WaitOpened(wait="signal:ask", kind="signal", due=due, step="ask", signal="paid")
    late = told.later(60).when(wake("signal:ask"))
    late.then_kinds(WaitEnded, StepSucceeded, StepSkipped, AttemptScheduled)
    assert late.state.step("ask").ports == ("timeout",)
    # What is said now is kept, and changes nothing of what was decided.
    assert late.when(signal("paid")).state.step("ask").ports == ("timeout",)


def test_what_is_said_in_time_wins_and_the_wake_up_finds_nothing() -> None:
    told = started(HASTY).later(59).when(signal("paid"))
    told.later(2).when(wake("signal:ask")).then_nothing()


def test_a_run_that_is_cancelled_waits_for_nobody() -> None:
    told = started(PAID).when(CANCEL)
    assert told.state.status == "cancelled"
    assert {type(event) for event in told.said} >= {WaitDropped, StepCancelled, RunCancelled}
    told.when(signal("paid")).then_refused("run.ended")


def test_nobody_can_fill_a_run_with_what_it_does_not_wait_for() -> None:
    told = started(PAID)
    for number in range(SIGNALS_KEPT):
        told = told.when(signal("other", f"k{number}"))
    told.when(signal("other", "one more")).then_refused("signal.too_many")
    assert told.when(signal("paid", "awaited")).state.step("ask").status == "succeeded"


def test_a_run_remembers_so_many_keys_and_those_of_everything_that_it_keeps() -> None:
    asking = [
        control(f"n{number}", "wait.signal", {"signal": "paid"}) for number in range(SIGNALS_REMEMBERED)
    ]
    arrows = " ".join(f"n{number}>n{number + 1}" for number in range(SIGNALS_REMEMBERED - 1))
    told = started(drawn(f"n{SIGNALS_REMEMBERED - 1}>call {arrows}", *asking)).when(signal("other", "kept"))
    for number in range(SIGNALS_REMEMBERED):
        told = told.when(signal("paid", f"k{number}"))
    assert told.state.step("call").status == "scheduled"
    assert len(told.state.heard) == SIGNALS_REMEMBERED
    told.when(signal("other", "kept")).then_nothing()
    told.when(signal("paid", "k1")).then_nothing()
    assert told.when(signal("paid", "k0")).state.signals[-1].key == "k0"


def test_under_one_key_nothing_else_may_be_said() -> None:
    first, other = (structs.replace(signal("paid"), request=digest(text)) for text in (b"5", b"6"))
    for told in (started(PAID).when(first), started(drawn("call")).when(first)):
        told.when(first).then_nothing()
        told.when(other).then_refused("idempotency_mismatch")


def test_what_is_said_to_a_parked_run_wins_over_a_time_that_passes_meanwhile() -> None:
    parked = started(HASTY).given(RunParked(reason="no code")).when(signal("paid", body=5))
    assert parked.said[-1] == said(body=5, step="ask")
    over = parked.later(3600).when(UNPARK)
    over.then_kinds(RunUnparked, StepSucceeded, AttemptScheduled, StepSkipped)
    assert (over.state.step("ask").ports, over.state.step("ask").output) == (("main",), value(5))


def test_what_was_heard_before_a_run_stopped_is_not_asked_for_again() -> None:
    parked = started(PAID).given(RunParked(reason="no code")).when(signal("paid", body=5)).when(CANCEL)
    assert (parked.state.status, parked.state.step("ask").status) == ("cancelled", "succeeded")
    assert parked.when(RETRY).state.attempts.keys() == {"go"}


def test_what_nothing_had_waited_for_is_there_when_the_run_is_opened_again() -> None:
    told = started(drawn("call>ask", control("ask", "wait.signal", {"signal": "paid"}))).when(signal("paid"))
    again = told.when(broken("call")).when(RETRY).when(done("call", 2))
    assert again.state.status == "completed"


def test_of_a_history_that_has_left_nothing_is_waited_for() -> None:
    asking = control("ask", "wait.signal", {"signal": "paid", "timeout_seconds": 0})
    told = started(drawn("call>ask", asking)).when(signal("paid")).when(done("call"))
    assert told.state.status == "completed"
    tombstone = story(drawn("call>ask", asking)).given(
        *told.said
    )  # It does not say what had been said before.
    assert tombstone.state.phase == "completed"
    tombstone.later(60).when(LOOK).then_nothing()
    tombstone.later(60).when(wake("signal:ask")).then_nothing()


def test_two_who_wait_for_one_name_need_two_sayings() -> None:
    told = started(drawn("", *(control(n, "wait.signal", {"signal": "paid"}) for n in ("one", "two"))))
    first = told.when(signal("paid", "first", 1))
    assert [first.state.step(name).status for name in ("one", "two")] == ["succeeded", "waiting"]
    assert first.when(signal("paid", "second", 2)).state.step("two").output == value(2)


@pytest.mark.parametrize("seconds", [-1, "soon", True, None, 1e12])
def test_a_time_to_wait_that_is_none_is_told_by_its_place(seconds: object) -> None:
    told = started(
        drawn("ask", control("ask", "wait.signal", {"signal": "paid", "timeout_seconds": seconds}))
    )
    assert told.state.error is not None
    assert (told.state.error.code, told.state.error.field) == ("expression", "/timeout_seconds")


def test_who_waits_no_time_at_all_asks_whether_it_was_said() -> None:
    plan = drawn(
        "call>ask ask>yes ask.timeout>no",
        control("ask", "wait.signal", {"signal": "paid", "timeout_seconds": 0}),
    )
    told = started(plan)
    assert told.when(signal("paid")).when(done("call")).state.attempts.keys() == {"yes"}
    assert told.when(done("call")).when(wake("signal:ask")).state.attempts.keys() == {"no"}


# --- Stopping with an error, and doing nothing ------------------------------------------------


def test_a_run_can_fail_on_purpose() -> None:
    plan = drawn("call>wrong", control("wrong", "stop", {"message": "No stock is left."}))
    told = started(plan).when(done("call"))
    assert told.state.status == "failed"
    assert told.state.error is not None
    assert (told.state.error.code, told.state.error.message) == ("stopped", "No stock is left.")


@pytest.mark.parametrize("message", ["", None, 5])
def test_a_message_that_is_no_text_is_said_to_be_none(message: object) -> None:
    told = started(drawn("wrong", control("wrong", "stop", {"message": message})))
    assert told.state.error is not None
    assert (told.state.error.code, told.state.error.field) == ("expression", "/message")


def test_a_purposeful_failure_takes_its_error_path() -> None:
    told = started(drawn("wrong.error>mend", control("wrong", "stop", {"message": "No."})))
    assert told.state.status == "running"
    assert told.when(broken("mend")).state.status == "failed"


def test_doing_nothing_passes_the_input_on() -> None:
    told = started(drawn("call>idle", control("idle", "noop"))).when(done("call", output={"n": 7}))
    told.then_kinds(*(type(event) for event in told.said[:-1]), RunCompleted)
    assert told.state.step("idle").output == value({"n": 7})
