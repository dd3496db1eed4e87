"""Approvals over HTTP: decided once, by who was asked, in time, and with what the form asks for."""

from typing import Any

import pytest
from msgspec import structs

from chassis.ids import digest
from chassis.sealing import open_document
from contracts.codec import decode_json, encode
from contracts.errors import Failure
from contracts.messages import Answer, DecideApproval
from contracts.payloads import Inline
from contracts.runs import (
    ApprovalDecided,
    ApprovalEscalated,
    RunCompleted,
    StepSucceeded,
    WaitEnded,
    WaitOpened,
)
from contracts.waits import Approval
from tests.gateway.fakes import NOON, Office
from tests.gateway.stories import published, started
from tests.gateway.test_runs_api import extended

FORM = {
    "type": "object",
    "properties": {"sum": {"type": "number", "maximum": 10}, "why": {"type": "string"}},
    "required": ["sum"],
}
ASKS = WaitOpened(wait="approval:ask", kind="approval", step="ask", approval=Approval(question="Pay?"))
YES = {"decision": "approved"}


def asks(**approval: Any) -> WaitOpened:
    return structs.replace(ASKS, approval=Approval(question="Pay?", **approval))


async def asking(office: Office, *events: Any) -> str:
    run = await started(office, await published(office))
    await extended(office, run, *events)
    return run


async def test_a_decision_reaches_the_runs_owner_with_whoever_made_it(office: Office) -> None:
    run = await asking(office, asks(form=FORM))
    wish = {"decision": "rejected", "fields": {"sum": 5, "why": "Ü"}, "comment": "No."}
    reply = await office.api("POST", f"/approvals/{run}/decide", wish)
    assert (reply.status, reply.json) == (
        202,
        {"run": run, "step": "ask", "decision": "rejected", "status": "accepted"},
    )
    heard = office.engine.heard[-1]
    assert isinstance(heard, DecideApproval)
    assert (heard.step, heard.decision, heard.comment) == ("ask", "rejected", "No.")
    assert heard.actor.startswith("key:")
    assert isinstance(heard.fields, Inline)
    assert bytes(heard.fields.value) == '{"sum":5,"why":"Ü"}'.encode()


def recorded(heard: DecideApproval) -> ApprovalDecided:
    """What the owner of the run makes of it."""
    return ApprovalDecided(
        wait="approval:ask",
        step="ask",
        decision="approved",
        by=heard.actor,
        on=NOON,
        request=heard.request,
        fields=heard.fields,
        comment=heard.comment,
    )


async def test_what_an_approval_marks_is_sealed_and_said_again_it_is_the_same_decision(
    office: Office,
) -> None:
    run = await asking(office, asks(form=FORM, sensitive=("/fields/why", "/comment")))
    wish = {"decision": "approved", "fields": {"sum": 5, "why": "CANARY"}, "comment": "CANARY too"}
    assert (await office.api("POST", f"/approvals/{run}/decide", wish)).status == 202
    heard = office.engine.heard[-1]
    assert isinstance(heard, DecideApproval)
    assert b"CANARY" not in encode(heard)
    assert isinstance(heard.fields, Inline)
    opener = await office.vault.opener("org_default", run, f"salt_{run}")
    told = open_document([decode_json(heard.fields.value), heard.comment], opener)
    assert told == [{"sum": 5, "why": "CANARY"}, "CANARY too"]
    await extended(office, run, recorded(heard))
    again = await office.api("POST", f"/approvals/{run}/decide", wish)
    assert (again.status, again.json["status"]) == (200, "unchanged")
    assert heard.request != digest(encode([wish["decision"], wish["fields"], wish["comment"]]))


@pytest.mark.parametrize(
    ("body", "code", "pointers"),
    [
        ({}, "malformed", {""}),
        ({"decision": "maybe"}, "malformed", {"/decision"}),
        (YES | {"comment": "x" * 4_001}, "malformed", {"/comment"}),
        (YES | {"comment": "\0"}, "malformed", {"/comment"}),
        (YES, "approval.bad_fields", {"/fields/sum"}),
        (YES | {"fields": {"sum": True}}, "approval.bad_fields", {"/fields/sum"}),
        (YES | {"fields": {"sum": 11, "why": 5, "x/y": 1}}, "approval.bad_fields", {"/fields/sum", "/fields/why", "/fields/x~1y"}),
        (YES | {"fields": {"sum": 1, "why": "x" * 33_000}}, "approval.bad_fields", {"/fields", "/fields/why"}),
        (YES | {"step": "No!"}, "malformed", {"/step"}),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_told_by_its_place(
    office: Office, body: dict[str, Any], code: str, pointers: set[str]
) -> None:
    run = await asking(office, asks(form=FORM))
    before = len(office.engine.heard)
    reply = await office.api("POST", f"/approvals/{run}/decide", body)
    assert reply.json["code"] == code
    assert {error["pointer"] for error in reply.json["errors"]} == pointers
    assert len(office.engine.heard) == before


async def test_only_those_who_are_asked_may_decide_and_others_once_it_was_escalated(office: Office) -> None:
    key = next(iter(await office.vault.list_keys("org_default"))).id
    elsewhere = asks(deciders=("key:other",), escalate_to=(f"key:{key}",))
    run = await asking(office, elsewhere)
    reply = await office.api("POST", f"/approvals/{run}/decide", YES)
    assert (reply.status, reply.json["code"]) == (403, "approval.not_yours")
    await extended(
        office,
        run,
        WaitEnded(wait="escalation:ask"),
        ApprovalEscalated(wait="approval:ask", step="ask", to=(f"key:{key}",)),
    )
    assert (await office.api("POST", f"/approvals/{run}/decide", YES)).status == 202
    named = await asking(office, asks(deciders=(f"key:{key}",)))
    assert (await office.api("POST", f"/approvals/{named}/decide", YES)).status == 202


async def test_the_same_person_said_the_same_before_and_anything_else_is_too_late(office: Office) -> None:
    run = await asking(office, ASKS)
    await office.api("POST", f"/approvals/{run}/decide", YES)
    heard = office.engine.heard[-1]
    assert isinstance(heard, DecideApproval)
    await extended(office, run, recorded(heard), StepSucceeded(step="ask", node="ask"), RunCompleted())
    again = await office.api("POST", f"/approvals/{run}/decide", YES)
    assert (again.status, again.json["status"]) == (200, "unchanged")
    for body in ({"decision": "rejected"}, YES | {"comment": "Well."}):
        reply = await office.api("POST", f"/approvals/{run}/decide", body)
        assert (reply.status, reply.json["code"]) == (409, "wait.over")
    other = await office.key_for("org_default")
    reply = await office.api("POST", f"/approvals/{run}/decide", YES, key=other)
    assert (reply.status, reply.json["code"]) == (409, "wait.over")


async def test_behind_the_deadline_nothing_is_decided(office: Office) -> None:
    run = await asking(office, structs.replace(ASKS, due=NOON))
    reply = await office.api("POST", f"/approvals/{run}/decide", YES)
    assert (reply.status, reply.json["code"]) == (409, "wait.over")


async def test_what_the_owner_refuses_is_refused_unless_it_was_this_very_decision(office: Office) -> None:
    run = await asking(office, ASKS)
    failure = Failure(code="wait.over", message="The run does not wait for this any more.")
    office.engine.answer_with = Answer(run="", result="refused", epoch=1, sequence=1, error=failure)
    reply = await office.api("POST", f"/approvals/{run}/decide", YES)
    assert (reply.status, reply.json["code"]) == (409, "wait.over")


async def test_a_run_that_asks_several_questions_wants_to_know_which_is_meant(office: Office) -> None:
    other = structs.replace(ASKS, wait="approval:each[0].ask", step="each[0].ask")
    run = await asking(office, ASKS, other)
    reply = await office.api("POST", f"/approvals/{run}/decide", YES)
    assert (reply.status, reply.json["errors"][0]["pointer"]) == (400, "/step")
    reply = await office.api("POST", f"/approvals/{run}/decide", YES | {"step": "each[0].ask"})
    assert (reply.status, reply.json["step"]) == (202, "each[0].ask")
    reply = await office.api("POST", f"/approvals/{run}/decide", YES | {"step": "each[1].ask"})
    assert reply.status == 404


async def test_a_run_that_asks_nothing_has_no_approval(office: Office) -> None:
    run = await started(office, await published(office))
    assert (await office.api("POST", f"/approvals/{run}/decide", YES)).status == 404


async def test_a_decision_that_no_owner_hears_now_is_queued(office: Office) -> None:
    run = await asking(office, ASKS)
    office.engine.away = True
    reply = await office.api("POST", f"/approvals/{run}/decide", YES)
    assert (reply.status, reply.json["status"]) == (202, "queued")
