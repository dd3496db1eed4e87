"""Polls over HTTP: a small workflow is compiled for them, their owner is told, and what is wrong has its place."""

from typing import Any

import pytest

from contracts.codec import decode_domain_commit, decode_json
from contracts.schedules import Interval
from contracts.workflows import Fault
from tests.gateway.fakes import Office
from tests.gateway.stories import published

POLL = {
    "kind": "poll",
    "schedule": {"when": {"by": "cron", "expression": "*/5 * * * *"}},
    "request": {"url": "https://api.example.com/orders", "query": {"after": "{{ trigger.cursor }}"}},
    "items": "steps.fetch.output.body.orders",
    "key": "entry.id",
    "cursor": "steps.fetch.output.body.last",
}


async def polling(office: Office, **changes: Any) -> Any:
    body = {"name": "orders", "workflow": await published(office), "on": POLL | changes}
    office.engine.looks.clear()
    return await office.api("POST", "/triggers", body)


def recorded(office: Office) -> list[Any]:
    return [
        event
        for stored in office.domain_log.messages
        if stored.subject.split(".")[2] == "trigger"
        for event in decode_domain_commit(stored.body, "trigger").events
    ]


async def test_a_poll_has_a_plan_of_its_own_and_its_owner_is_told(office: Office) -> None:
    reply = await polling(office)
    assert reply.status == 201, reply.body
    assert set(office.engine.looks) == {reply.json["id"]}
    made = recorded(office)[0]
    request = office.engine.compiled[-1]
    assert (request.workflow, request.keep) == (reply.json["id"], True)
    drawn = decode_json(bytes(request.definition))
    fetch, select = drawn["nodes"]
    assert (fetch["type"], fetch["config"]) == ("http.request", POLL["request"])
    assert select["config"]["fields"]["items"] == (
        "{{ (steps.fetch.output.body.orders).map(entry, {'key': string(entry.id), 'item': entry}) }}"
    )
    assert select["config"]["fields"]["cursor"] == "{{ steps.fetch.output.body.last }}"
    assert len(made.plan) == 64


async def test_what_is_sensitive_in_what_is_found_is_marked_where_it_comes_from(office: Office) -> None:
    assert (await polling(office, sensitive=["/body/orders/*/iban"])).status == 201
    drawn = decode_json(bytes(office.engine.compiled[-1].definition))
    assert drawn["nodes"][0]["sensitive"] == ["/body/orders/*/iban"]


async def test_without_a_cursor_it_gives_none(office: Office) -> None:
    assert (await polling(office, cursor="")).status == 201
    drawn = decode_json(bytes(office.engine.compiled[-1].definition))
    assert drawn["nodes"][1]["config"]["fields"]["cursor"] is None


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("/nodes/0/config/url", "/on/request/url"),
        ("/nodes/0/sensitive", "/on/sensitive"),
        ("/nodes/1/config/fields/items", "/on/items"),
        ("/nodes/1/config/fields/cursor", "/on/cursor"),
        ("/edges/0", "/on"),
    ],
)
async def test_what_the_compiler_finds_has_its_place_in_the_poll(
    office: Office, theirs: str, ours: str
) -> None:
    workflow = await published(office)
    office.engine.faults = [Fault(code="workflow.bad_expression", pointer=theirs, message="no")]
    body = {"name": "orders", "workflow": workflow, "on": POLL}
    reply = await office.api("POST", "/triggers", body)
    assert (reply.status, reply.json["code"]) == (422, "trigger.unusable")
    assert [fault["pointer"] for fault in reply.json["faults"]] == [ours]
    assert recorded(office) == []


async def test_an_edit_makes_another_plan_and_moves_no_interval(office: Office) -> None:
    every = {"when": {"by": "interval", "seconds": 600}}
    trigger = (await polling(office, schedule=every)).json["id"]
    start = recorded(office)[0].on.schedule.when
    assert isinstance(start, Interval)
    office.clock.moved = 1_000
    change = {"name": "orders", "on": POLL | {"schedule": every, "key": "entry.number"}}
    assert (await office.api("PUT", f"/triggers/{trigger}", change)).status == 200
    made, changed = recorded(office)[0], recorded(office)[-1]
    assert changed.on.schedule.when == start
    assert changed.plan != made.plan
    reply = await office.api("PUT", f"/triggers/{trigger}", {"name": "x", "schedule": every})
    assert (reply.status, reply.json["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    "changes", [{"items": ""}, {"key": ""}, {"request": "x"}, {"schedule": {"when": {"by": "moon"}}}]
)
async def test_what_is_no_poll_is_malformed(office: Office, changes: Any) -> None:
    reply = await polling(office, **changes)
    assert (reply.status, reply.json["code"]) == (400, "malformed")


async def test_a_schedule_that_cannot_be_kept_is_refused(office: Office) -> None:
    reply = await polling(office, schedule=POLL["schedule"] | {"zone": "Europe/Bielefeld"})  # type: ignore[operator]  # An object.
    assert (reply.status, reply.json["code"]) == (422, "schedule.unusable")
