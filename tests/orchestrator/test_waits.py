"""Runs that wait for people who decide and for programs that call: in time, twice, too late, or never."""

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from chassis.ids import digest
from chassis.testing.scenario import Scenario
from contracts.messages import Message
from contracts.payloads import Inline, Payload
from contracts.runs import (
    ApprovalDecided,
    ApprovalEscalated,
    AttemptScheduled,
    CallReceived,
    RunEvent,
    RunParked,
    RunUnparked,
    StepCancelled,
    StepSkipped,
    StepSucceeded,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from contracts.triggers import HeaderToken
from contracts.waits import Approval, AwaitedCall
from orchestrator.run import outstanding, waiting_for
from orchestrator.state import Run
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    NOON,
    RETRY,
    UNPARK,
    called,
    control,
    decide_on,
    done,
    drawn,
    started,
    value,
    wake,
)

QUESTION = {"question": "Pay 5 € to Ada?"}
HOUR = timedelta(hours=1)
ARROWS = "ask.approved>pay ask.rejected>tell ask.timeout>remind"


def asking(**config: Any) -> Scenario[Run, Message, RunEvent]:
    return started(drawn(ARROWS, control("ask", "wait.approval", QUESTION | config)))


def awaiting(**config: Any) -> Scenario[Run, Message, RunEvent]:
    return started(drawn("ask>go ask.timeout>remind", control("ask", "wait.webhook", config)))


def said(payload: Payload | None) -> Any:
    assert isinstance(payload, Inline)
    return json.loads(bytes(payload.value))


def test_a_run_waits_until_somebody_decides_and_knows_who_it_was() -> None:
    told = asking()
    approval = Approval(question="Pay 5 € to Ada?")
    assert told.said[-1:] == (
        WaitOpened(wait="approval:ask", kind="approval", step="ask", approval=approval),
    )
    assert [(entry.kind, entry.question) for entry in waiting_for(told.state)] == [
        ("approval", "Pay 5 € to Ada?")
    ]
    after = told.later(1e7).when(decide_on("ask", fields={"sum": 5}, comment="Good."))
    after.then_kinds(ApprovalDecided, StepSucceeded, AttemptScheduled, StepSkipped, StepSkipped)
    assert after.state.attempts.keys() == {"pay"}
    assert said(after.state.step("ask").output) == {
        "decision": "approved",
        "fields": {"sum": 5},
        "by": "key:person",
        "at": f"{NOON + timedelta(seconds=1e7):%Y-%m-%dT%H:%M:%SZ}",
        "comment": "Good.",
    }
    assert not outstanding(after.state).waits


def test_who_says_no_is_heard_as_well() -> None:
    assert asking().when(decide_on("ask", "rejected")).state.attempts.keys() == {"tell"}


def test_the_first_decision_counts_and_the_same_one_again_is_nothing_new() -> None:
    told = asking().when(decide_on("ask"))
    told.when(decide_on("ask")).then_nothing()
    told.when(decide_on("ask", "rejected")).then_refused("wait.over")
    told.when(decide_on("ask", by="key:other")).then_refused("wait.over")
    assert told.state.step("ask").ports == ("approved",)


def test_a_decision_behind_its_time_is_never_believed_also_when_nobody_was_woken() -> None:
    told = asking(timeout_seconds=3600)
    told.later(3599).when(decide_on("ask")).then_kinds(
        ApprovalDecided, StepSucceeded, AttemptScheduled, StepSkipped, StepSkipped
    )
    late = told.later(3600)
    late.when(decide_on("ask")).then_refused("wait.over")
    over = late.when(wake("approval:ask"))
    over.then_kinds(WaitEnded, StepSucceeded, StepSkipped, StepSkipped, AttemptScheduled)
    assert over.state.attempts.keys() == {"remind"}
    assert said(over.state.step("ask").output) == {
        "decision": "timeout",
        "fields": {},
        "by": None,
        "at": "2026-11-20T13:00:00Z",
        "comment": "",
    }
    over.when(decide_on("ask")).then_refused("wait.over")


def test_only_those_who_are_asked_may_decide() -> None:
    told = asking(deciders=["key:ada", "member:bob"], by_link=False)
    told.when(decide_on("ask", by="key:other")).then_refused("approval.not_yours")
    told.when(decide_on("ask", by="link")).then_refused("approval.not_yours")
    for one in ("key:ada", "member:bob"):
        assert told.when(decide_on("ask", by=one)).state.attempts.keys() == {"pay"}
    assert asking(deciders=["key:ada"]).when(decide_on("ask", by="link")).state.attempts.keys() == {"pay"}


def test_others_may_decide_as_well_when_nobody_did_for_so_long() -> None:
    told = asking(
        deciders=["key:ada"], escalate_after_seconds=60, escalate_to=["key:boss"], timeout_seconds=3600
    )
    assert [(wait.kind, wait.due) for wait in told.state.waits.values()] == [
        ("approval", NOON + HOUR),
        ("escalation", NOON + timedelta(seconds=60)),
    ]
    told.when(decide_on("ask", by="key:boss")).then_refused("approval.not_yours")
    escalated = told.later(60).when(wake("escalation:ask"))
    escalated.then(
        WaitEnded(wait="escalation:ask"),
        ApprovalEscalated(wait="approval:ask", step="ask", to=("key:boss",)),
    )
    assert escalated.state.status == "waiting"
    for one in ("key:boss", "key:ada"):
        decided = escalated.when(decide_on("ask", by=one))
        assert decided.state.attempts.keys() == {"pay"}
    over = escalated.later(3600).when(wake("approval:ask"))
    assert over.state.attempts.keys() == {"remind"}


def test_a_decision_is_the_end_of_the_escalation_too() -> None:
    told = asking(escalate_after_seconds=60).when(decide_on("ask"))
    assert not told.state.waits
    told.later(60).when(wake("escalation:ask")).then_nothing()


def test_both_times_that_passed_while_nobody_looked_are_told_in_their_order() -> None:
    told = asking(escalate_after_seconds=60, timeout_seconds=3600).later(7200).when(LOOK)
    told.then_kinds(
        WaitEnded, ApprovalEscalated, WaitEnded, StepSucceeded, StepSkipped, StepSkipped, AttemptScheduled
    )
    parked = asking(escalate_after_seconds=60, timeout_seconds=3600).given(RunParked(reason="no code"))
    over = parked.later(7200).when(UNPARK)
    over.then_kinds(
        WaitEnded, WaitEnded, RunUnparked, StepSucceeded, StepSkipped, StepSkipped, AttemptScheduled
    )
    assert over.state.attempts.keys() == {"remind"}


def test_what_was_decided_while_the_run_was_parked_counts_when_it_goes_on() -> None:
    parked = asking(timeout_seconds=60).given(RunParked(reason="no code")).when(decide_on("ask"))
    parked.then_kinds(ApprovalDecided)
    over = parked.later(7200).when(UNPARK)
    assert over.state.attempts.keys() == {"pay"}
    assert said(over.state.step("ask").output)["at"] == "2026-11-20T12:00:00Z"


def test_a_run_that_is_cancelled_asks_nobody_and_asks_again_when_it_is_opened_again() -> None:
    told = asking(escalate_after_seconds=60).when(CANCEL)
    assert [event for event in told.said if isinstance(event, WaitDropped)] == [
        WaitDropped(wait="approval:ask")
    ]
    assert StepCancelled(step="ask", node="ask") in told.said
    assert not told.state.waits
    told.when(decide_on("ask")).then_refused("run.ended")
    again = told.when(RETRY)
    assert again.state.waits.keys() == {"approval:ask", "escalation:ask"}
    assert again.when(decide_on("ask")).state.attempts.keys() == {"pay"}


def test_nothing_is_decided_that_is_not_asked_yet() -> None:
    told = started(drawn("call>ask", control("ask", "wait.approval", QUESTION)))
    told.when(decide_on("ask")).then_refused("wait.not_open")
    told.when(called("ask")).then_refused("wait.not_open")
    told.when(decide_on("nowhere")).then_refused("wait.not_open")
    told.when(done("call")).when(called("ask")).then_refused("wait.over")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"question": 5}, "/question"),
        ({"question": ""}, "/question"),
        ({"question": "x" * 2001}, "/question"),
        ({"details": None}, "/details"),
        ({"deciders": "key:ada"}, "/deciders"),
        ({"deciders": ["ada"]}, "/deciders"),
        ({"escalate_to": [5]}, "/escalate_to"),
        ({"timeout_seconds": "soon"}, "/timeout_seconds"),
        ({"timeout_seconds": 60, "escalate_after_seconds": 60}, "/escalate_after_seconds"),
    ],
)
def test_what_cannot_be_asked_is_told_by_its_place(config: dict[str, Any], field: str) -> None:
    error = asking(**config).state.error
    assert error is not None
    assert (error.code, error.field) == ("expression", field)


# --- Calls ------------------------------------------------------------------------------------


def test_a_run_waits_until_its_address_is_called() -> None:
    told = awaiting(methods=["PUT"], status=201, body={"thanks": True})
    (wait,) = told.state.waits.values()
    assert (wait.kind, wait.due) == ("call", None)
    assert wait.call == AwaitedCall(methods=("PUT",), status=201, body=value({"thanks": True}))
    after = told.when(called("ask", {"sum": 5}))
    after.then_kinds(CallReceived, StepSucceeded, AttemptScheduled, StepSkipped)
    assert after.state.step("ask").output == value({"sum": 5})


def test_the_first_call_counts_and_the_same_one_again_is_nothing_new() -> None:
    told = awaiting().when(called("ask", 1))
    told.when(called("ask", 1)).then_nothing()
    told.when(called("ask", 2)).then_refused("wait.over")


def test_who_waits_for_a_call_no_longer_than_a_time_goes_on_by_another_port() -> None:
    told = awaiting(timeout_seconds=60)
    over = told.later(60).when(wake("call:ask"))
    over.then_kinds(WaitEnded, StepSucceeded, StepSkipped, AttemptScheduled)
    assert (over.state.step("ask").ports, over.state.step("ask").output) == (("timeout",), value({"n": 1}))
    told.later(60).when(called("ask")).then_refused("wait.over")


def test_how_a_call_is_authenticated_stands_with_the_wait_and_its_secret_is_a_name() -> None:
    given = {"scheme": "header_token", "header": "X-Token", "secret": {"$secret": "s1"}}
    (wait,) = awaiting(authentication=given).state.waits.values()
    assert wait.call is not None
    assert wait.call.authentication == HeaderToken(header="X-Token", secret="s1")  # A name.
    wrong = awaiting(authentication={"scheme": "header_token"}).state.error
    assert wrong is not None
    assert wrong.field == "/authentication"


def test_each_item_of_a_map_asks_for_itself() -> None:
    plan = drawn(
        "each>last",
        control("each", "map", {"items": [1, 2]}),
        control("ask", "wait.approval", QUESTION | {"escalate_after_seconds": 60}, inside="each"),
    )
    told = started(plan)
    assert set(told.state.waits) == {
        f"{kind}:each[{item}].ask" for kind in ("approval", "escalation") for item in (0, 1)
    }
    first = told.when(decide_on("each[1].ask"))
    assert first.state.step("each").status == "running"
    both = first.when(decide_on("each[0].ask", "rejected"))
    results = said(both.state.step("each").output)["results"]
    assert [result["decision"] for result in results] == ["rejected", "approved"]


def test_another_request_of_another_caller_is_another_call() -> None:
    told = awaiting().when(called("ask", 1))
    told.when(structs.replace(called("ask", 1), request=digest(b"other"))).then_refused("wait.over")
