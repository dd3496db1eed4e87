"""Polls over HTTP: a small workflow is compiled for them, their owner is told, and what is wrong has its place."""

import asyncio
from typing import Any

import msgspec
import pytest

from chassis.ports import Proposal
from contracts.codec import decode_domain_commit, decode_json, encode
from contracts.errors import Failure
from contracts.limits import POLL_SHOWN
from contracts.messages import StartRun
from contracts.occasions import Cursor
from contracts.payloads import Inline
from contracts.runs import RunCompleted, RunFailed
from contracts.schedules import Interval
from contracts.subjects import cursor as cursor_subject
from contracts.subjects import run as run_subject
from contracts.workflows import Fault
from tests.gateway.fakes import NOON, Office, commit_of
from tests.gateway.stories import published, triggered

ORG = "org_default"
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


# --- Tried out ----------------------------------------------------------------------------------


async def tried(office: Office, trigger: str, output: Any, **wanted: Any) -> Any:
    """What the test of a poll answers when its run gives this; an `Exception` in its place: it fails."""

    async def ends() -> None:
        while not office.runs_log.messages[begun:]:
            await asyncio.sleep(0.01)
        [start] = [each for each in office.engine.heard if isinstance(each, StartRun)]
        end = (
            RunFailed(error=Failure(code="refused", message="no"))
            if output is None
            else RunCompleted(output=Inline(value=msgspec.Raw(encode(output))))
        )
        ended = commit_of(start.org, start.run, [end], version=2)
        await office.runs_log.append([Proposal(run_subject(start.org, start.run), encode(ended), begun + 1)])

    office.engine.heard.clear()
    begun = len(office.runs_log.messages)
    async with asyncio.TaskGroup() as group:
        group.create_task(ends())
        return await office.api("POST", f"/triggers/{trigger}/test", wanted)


def intake(count: int, cursor: Any = 7) -> Any:
    return {"items": [{"key": f"k{n}", "item": {"n": n}} for n in range(count)], "cursor": cursor}


async def test_a_poll_that_is_tried_out_asks_from_where_the_cursor_is_and_shows_what_it_found(
    office: Office,
) -> None:
    trigger = (await polling(office)).json["id"]
    made = recorded(office)[0]
    before = encode(Cursor(planned=NOON, cursor=msgspec.Raw(b'{"page":3}')))
    await office.marks_log.append([Proposal(cursor_subject(ORG, trigger), before, 0)])
    reply = await tried(office, trigger, intake(3))
    assert reply.status == 200, reply.body
    assert (reply.json["run"], reply.json["reason"]) == (None, "")
    asked = reply.json["asked"]
    assert (asked["status"], asked["found"], asked["cursor"]) == ("completed", 3, 7)
    assert asked["items"][0] == {"key": "k0", "item": {"n": 0}}
    [start] = office.engine.heard
    assert isinstance(start, StartRun)
    assert (start.run, start.plan, start.workflow) == (asked["run"], made.plan, trigger)
    assert (start.mode, start.trigger, start.dedupe) == ("test", None, None), "nothing follows a test"
    assert isinstance(start.input, Inline)
    given = decode_json(start.input.value)
    assert (given["method"], given["cursor"], given["body"]) == ("POLL", {"page": 3}, None)
    [mark] = office.marks_log.messages
    assert mark.body == before, "the cursor stays"


async def test_what_is_shown_of_a_poll_is_bounded(office: Office) -> None:
    trigger = (await polling(office)).json["id"]
    asked = (await tried(office, trigger, intake(500))).json["asked"]
    assert (asked["found"], len(asked["items"])) == (500, POLL_SHOWN)
    large = {"items": [{"key": f"k{n}", "item": "x" * 100_000} for n in range(5)], "cursor": None}
    asked = (await tried(office, trigger, large)).json["asked"]
    assert (asked["found"], len(asked["items"])) == (5, 2)


async def test_the_first_thing_found_starts_the_workflow_where_that_is_wanted(office: Office) -> None:
    trigger = (await polling(office)).json["id"]
    reply = await tried(office, trigger, intake(2), start=True)
    looked, started = office.engine.heard
    assert isinstance(started, StartRun)
    assert reply.json["asked"]["run"] == looked.run
    assert (reply.json["run"], started.mode, started.version) == (started.run, "test", 1)
    assert isinstance(started.input, Inline)
    given = decode_json(started.input.value)
    assert (given["body"], given["method"]) == ({"n": 0}, "POLL")
    nothing = (await tried(office, trigger, intake(0), start=True)).json
    assert (nothing["run"], nothing["reason"], nothing["asked"]["found"]) == (None, "It found nothing.", 0)


async def test_why_nothing_is_shown_of_a_poll_is_told(office: Office) -> None:
    trigger = (await polling(office)).json["id"]
    failed = (await tried(office, trigger, None)).json
    assert (failed["run"], failed["reason"], failed["asked"]["status"]) == (None, "refused: no", "failed")
    other = (await tried(office, trigger, {"items": 5, "cursor": None})).json
    assert other["reason"].startswith("It gave something else than items with keys: ")
    office.engine.heard.clear()
    slow = (await office.api("POST", f"/triggers/{trigger}/test", {})).json
    assert slow["asked"]["status"] == "running"
    assert slow["reason"].endswith("and goes on: look at its run.")


async def test_with_a_sample_a_poll_is_tried_out_without_asking_anybody(office: Office) -> None:
    trigger = (await polling(office)).json["id"]
    office.engine.heard.clear()
    reply = (await office.api("POST", f"/triggers/{trigger}/test", {"body": {"n": 9}})).json
    [start] = office.engine.heard
    assert (reply["run"], reply["asked"]) == (start.run, None)


async def test_only_a_poll_is_asked_and_only_for_those_who_may_read_runs(office: Office) -> None:
    trigger = (await polling(office)).json["id"]
    writer = await office.key_for(ORG, ["tests:write"])
    reply = await office.api("POST", f"/triggers/{trigger}/test", {}, key=writer)
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    stranger = await office.key_for("org_other")
    assert (await office.api("POST", f"/triggers/{trigger}/test", {}, key=stranger)).status == 404
    address = (await triggered(office, await published(office)))["id"]
    refused = await office.api("POST", f"/triggers/{address}/test", {"start": True})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, "/start")
