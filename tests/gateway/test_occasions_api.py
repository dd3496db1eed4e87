"""Triggers that follow events, over HTTP: what is taken, what is refused and where."""

from typing import Any

import pytest

from contracts.codec import decode_domain_commit
from contracts.limits import EVENT_TRIGGERS
from contracts.triggers import Happening, RunEnd
from tests.gateway.fakes import Office
from tests.gateway.stories import created, published, triggered

FAILURES = {"kind": "run_end", "outcomes": ["failed"], "filter": "trigger.body.error.code != 'stopped'"}
STEPS = {"kind": "event", "types": ["step.failed", "workflow.version-published"]}
EVERY_MINUTE = {"when": {"by": "cron", "expression": "* * * * *"}}


async def following(office: Office, on: Any = FAILURES, **more: Any) -> Any:
    body = {"name": "after", "workflow": await published(office, **more), "on": on}
    return await office.api("POST", "/triggers", body, **more)


def recorded(office: Office) -> list[Any]:
    return [
        event
        for stored in office.domain_log.messages
        if stored.subject.split(".")[2] == "trigger"
        for event in decode_domain_commit(stored.body, "trigger").events
    ]


FORM = {"kind": "form", "title": "Pay", "questions": {"properties": {"iban": {"title": "IBAN"}}}}


@pytest.mark.parametrize(
    ("on", "kind"),
    [(FAILURES, "RunEndCreated"), ({"kind": "run_end"}, "RunEndCreated"), (STEPS, "EventCreated")],
)
async def test_a_trigger_that_follows_events_is_one_without_an_address(
    office: Office, on: Any, kind: str
) -> None:
    reply = await following(office, on)
    assert reply.status == 201, reply.body
    assert (reply.json["address"], reply.json["secret"], reply.json["bound_version"]) == (None, None, 1)
    assert [type(event).__name__ for event in recorded(office)] == [kind, "TriggerBound"]
    assert office.engine.looks == [], "no owner looks at it"


@pytest.mark.parametrize(
    ("on", "pointer", "says"),
    [
        (STEPS | {"types": ["step.failed", "step.flew"]}, "/on/types/1", "step.flew"),
        (STEPS | {"types": ["gate.opened"]}, "/on/types/0", "gate.opened"),
        (FAILURES | {"filter": "trigger.body.error.code =="}, "/on/filter", ""),
        (FAILURES | {"filter": "trigger.body.status == 'failed'"}, "/on/filter", "trigger.body.status"),
        (STEPS | {"filter": "trigger.body.outcome == 'failed'"}, "/on/filter", "trigger.body.outcome"),
        (STEPS | {"filter": "steps.a.output == 1"}, "/on/filter", "steps"),
        (STEPS | {"filter": "trigger.planned != ''"}, "/on/filter", "trigger.planned"),
        (STEPS | {"filter": "1 == 1"}, "/on/filter", "reads nothing"),
        (FORM | {"sensitive": ["/iban", "/ibna"]}, "/on/sensitive/1", "ibna"),
        ({"kind": "chat", "sensitive": ["/text"]}, "/on/sensitive/0", "text"),
    ],
)
async def test_what_cannot_work_is_refused_with_its_place(
    office: Office, on: Any, pointer: str, says: str
) -> None:
    reply = await following(office, on)
    assert (reply.status, reply.json["code"]) == (422, "trigger.unusable")
    assert [fault["pointer"] for fault in reply.json["faults"]] == [pointer]
    assert says in reply.json["faults"][0]["message"]
    assert recorded(office) == []


@pytest.mark.parametrize(
    "on",
    [
        {},
        {"kind": "moon"},
        {"kind": "event"},
        {"kind": "event", "types": []},
        {"kind": "event", "types": ["*"]},
        {"kind": "event", "types": ["run.failed"] * 21},
        {"kind": "run_end", "outcomes": []},
        {"kind": "run_end", "outcomes": ["exploded"]},
        {"kind": "run_end", "workflows": ["a b"]},
        {"kind": "run_end", "workflows": ["w"] * 51},
        {"kind": "run_end", "filter": "x" * 5_000},
    ],
)
async def test_what_is_no_such_trigger_at_all_is_malformed(office: Office, on: Any) -> None:
    reply = await following(office, on)
    assert (reply.status, reply.json["code"]) == (400, "malformed")
    assert recorded(office) == []


async def test_what_the_clock_decides_may_be_followed(office: Office) -> None:
    types = ["schedule.missed", "fire.refused", "schedule.fired", "fire.started", "schedule.planned"]
    missed = {"kind": "event", "types": types, "filter": "trigger.body.event.count > 1"}
    assert (await following(office, missed)).status == 201


async def test_a_workflow_that_is_followed_must_be_one_of_the_org(office: Office) -> None:
    stranger = await office.key_for("org_other")
    theirs = await published(office, key=stranger)
    for workflow in (theirs, "nothing"):
        reply = await following(office, {"kind": "run_end", "workflows": [workflow]})
        assert reply.status == 404
    ours = await created(office)
    assert (await following(office, {"kind": "run_end", "workflows": [ours]})).status == 201


async def test_it_is_changed_as_a_whole_and_stays_of_its_kind(office: Office) -> None:
    trigger = (await following(office)).json["id"]
    path = f"/triggers/{trigger}"
    assert (await office.api("PUT", path, {"name": "x", "on": {"kind": "run_end"}})).status == 200
    assert recorded(office)[-1].on == RunEnd()
    for other in ({"on": STEPS}, {"schedule": EVERY_MINUTE}, {"webhook": {}}):
        reply = await office.api("PUT", path, {"name": "x"} | other)
        assert (reply.status, reply.json["code"]) == (409, "conflict"), other
    reply = await office.api("PUT", path, {"name": "x", "on": {"kind": "run_end", "filter": "1"}})
    assert reply.status == 422
    for verb in ("rotate-token", "rotate-secret"):
        assert (await office.api("POST", f"{path}/{verb}", {})).status == 409
    assert (await office.api("GET", f"{path}/coming")).status == 409
    assert type(recorded(office)[-1]).__name__ == "RunEndChanged"


async def test_an_address_and_a_schedule_do_not_become_one(office: Office) -> None:
    workflow = await published(office)
    address = (await triggered(office, workflow))["id"]
    body = {"name": "s", "workflow": workflow, "schedule": EVERY_MINUTE}
    schedule = (await office.api("POST", "/triggers", body)).json["id"]
    for trigger in (address, schedule):
        reply = await office.api("PUT", f"/triggers/{trigger}", {"name": "x", "on": STEPS})
        assert (reply.status, reply.json["code"]) == (409, "conflict")
    reply = await office.api("POST", "/triggers", body | {"on": STEPS})
    assert (reply.status, reply.json["code"]) == (400, "malformed")


@pytest.mark.parametrize("verb", ["disable", "enable"])
async def test_it_is_switched_off_and_on(office: Office, verb: str) -> None:
    trigger = (await following(office, STEPS)).json["id"]
    assert (await office.api("POST", f"/triggers/{trigger}/disable")).status == 204
    assert (await office.api("POST", f"/triggers/{trigger}/{verb}")).status == 204
    state = office.directory.trigger("org_default", trigger)
    assert state is None or state.on == Happening(types=("step.failed", "workflow.version-published"))


async def test_another_orgs_trigger_is_not_there(office: Office) -> None:
    trigger = (await following(office)).json["id"]
    stranger = await office.key_for("org_other")
    for method, path, body in (
        ("PUT", f"/triggers/{trigger}", {"name": "x", "on": FAILURES}),
        ("DELETE", f"/triggers/{trigger}", None),
        ("POST", f"/triggers/{trigger}/disable", None),
    ):
        assert (await office.api(method, path, body, key=stranger)).status == 404


async def test_an_org_has_only_so_many(office: Office) -> None:
    workflow = await published(office)
    body = {"name": "after", "workflow": workflow, "on": {"kind": "run_end"}}
    for _ in range(EVENT_TRIGGERS):
        reply = await office.api("POST", "/triggers", body)
        assert reply.status == 201
    await office.directory.reached(len(office.domain_log.messages))
    assert (await office.api("POST", "/triggers", body)).status == 409
    assert (await office.api("DELETE", f"/triggers/{reply.json['id']}")).status in (200, 204)
    await office.directory.reached(len(office.domain_log.messages))
    assert (await office.api("POST", "/triggers", body)).status == 201
