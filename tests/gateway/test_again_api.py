"""A trigger is tried out, and past deliveries are run again: what starts, under which name, and what is told of the rest."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import Raw

from chassis.ids import run_id
from chassis.sealing import open_document
from chassis.seals import is_sealed
from contracts.codec import decode_commit, decode_json, encode
from contracts.messages import StartRun
from contracts.payloads import Inline
from contracts.runs import Cause, RunStarted
from gateway.pages import cursor_of, parse_cursor
from gateway.runs.histories import first_of
from gateway.triggers.queries import TriggerQueries
from tests.gateway.fakes import NOON, Office
from tests.gateway.stories import created, published, triggered

ORG = "org_default"
SPAN = {"since": NOON.isoformat(), "until": (NOON + timedelta(hours=1)).isoformat()}
FORM = {
    "kind": "form",
    "title": "t",
    "questions": {"properties": {"seats": {"type": "integer", "maximum": 9}}, "required": ["seats"]},
}


class Rows(TriggerQueries):
    """The rows of deliveries that a test says there are."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}

    async def delivery(self, org: str, trigger_id: str, receipt: str) -> Any:
        return self.rows[receipt]

    async def past(self, org: str, trigger_id: str, wanted: Any) -> Sequence[Any]:
        after = ("", "") if wanted.cursor is None else _key(*parse_cursor(wanted.cursor))
        found = [
            row
            for row in self.rows.values()
            if wanted.since <= row["time"] < wanted.until
            and row["result"] in wanted.results
            and _key(row["time"], row["receipt"]) > after
        ]
        return sorted(found, key=lambda row: _key(row["time"], row["receipt"]))[: wanted.limit + 1]


def _key(time: datetime, receipt: str) -> tuple[str, str]:
    return time.isoformat(), receipt


class Bench:
    """An office with a trigger and its past deliveries."""

    def __init__(self, office: Office, rows: Rows, workflow: str, trigger: str) -> None:
        self.office, self.rows, self.workflow, self.trigger = office, rows, workflow, trigger

    async def delivered(self, receipt: str, body: Any = None, minutes: float = 1.0) -> None:
        run = run_id(ORG, self.trigger, f"receipt:{receipt}")
        await self.office.engine.start(
            StartRun(
                org=ORG,
                run=run,
                plan="0" * 64,
                workflow=self.workflow,
                version=1,
                receipt=receipt,
                cause=Cause(kind="webhook", id=receipt),
                input=Inline(value=Raw(encode({"body": body, "method": "POST"}))),
                trigger=self.trigger,
            )
        )
        at = NOON + timedelta(minutes=minutes)
        self.rows.rows[receipt] = {
            "receipt": receipt,
            "run": run,
            "result": "accepted",
            "sequence": 1,
            "time": at,
        }

    async def again(self, **wanted: Any) -> Any:
        body = {"name": "repair", **SPAN, **wanted}
        return await self.office.api("POST", f"/triggers/{self.trigger}/run-again", body)

    async def attempt(self, **wanted: Any) -> Any:
        return await self.office.api("POST", f"/triggers/{self.trigger}/test", wanted)

    async def started(self, run: str) -> RunStarted:
        lying = await first_of(self.office.parts.histories, ORG, run)
        assert lying is not None
        event = decode_commit(lying.body).events[0]
        assert isinstance(event, RunStarted)
        return event

    @property
    def runs(self) -> set[str]:
        return {stored.subject for stored in self.office.runs_log.messages}


@pytest.fixture
async def bench(office: Office) -> Bench:
    rows = Rows()
    office.parts.redelivery._queries = office.parts.retroactive._queries = rows
    workflow = await published(office)
    return Bench(office, rows, workflow, (await triggered(office, workflow))["id"])


# --- Past deliveries ----------------------------------------------------------------------------


async def test_a_dry_run_counts_and_starts_nothing(bench: Bench) -> None:
    for number in range(3):
        await bench.delivered(f"d{number}", {"n": number})
    before = bench.runs
    reply = await bench.again()
    assert reply.status == 200, reply.body
    assert (reply.json["deliveries"], reply.json["wanted"], reply.json["started"]) == (3, 3, 0)
    filtered = (await bench.again(filter="trigger.body.n >= 1")).json
    assert (filtered["deliveries"], filtered["wanted"], filtered["next"]) == (3, 2, None)
    assert bench.runs == before


async def test_each_delivery_starts_one_run_under_one_name(bench: Bench) -> None:
    for number in range(3):
        await bench.delivered(f"d{number}", {"n": number})
    before = bench.runs
    first = (await bench.again(dry_run=False, filter="trigger.body.n != 1")).json
    assert (first["wanted"], first["started"], first["known"]) == (2, 2, 0)
    again = (await bench.again(dry_run=False)).json
    assert (again["wanted"], again["started"], again["known"]) == (3, 1, 2)
    new = bench.runs - before
    assert len(new) == 3
    other = (await bench.again(dry_run=False, name="another")).json
    assert (other["started"], other["known"]) == (3, 0)
    for subject in new:
        started = await bench.started(subject.split(".")[2])
        assert started.cause.kind == "redelivery"
        assert (started.trigger, started.workflow, started.mode) == (None, bench.workflow, "live")
    assert {(await bench.started(s.split(".")[2])).cause.id for s in new} == {"d0", "d1", "d2"}


async def test_another_workflow_of_the_org_may_be_named(bench: Bench) -> None:
    await bench.delivered("d1")
    other = await published(bench.office)
    before = bench.runs
    assert (await bench.again(dry_run=False, workflow=other)).json["started"] == 1
    [subject] = bench.runs - before
    assert (await bench.started(subject.split(".")[2])).workflow == other
    assert (await bench.again(dry_run=False)).json["started"] == 1, "the trigger's own is another undertaking"
    stranger = await bench.office.key_for("org_other")
    theirs = await published(bench.office, key=stranger)
    for workflow in (theirs, "nothing"):
        assert (await bench.again(workflow=workflow)).status == 404
    assert (await bench.again(workflow=await created(bench.office))).status == 409


async def test_pages_go_from_the_oldest_to_the_newest_within_the_span(bench: Bench) -> None:
    for number in range(5):
        await bench.delivered(f"d{number}", minutes=5 - number)
    await bench.delivered("late", minutes=60)
    await bench.delivered("early", minutes=-1)
    seen, cursor = [], None
    while True:
        page = (await bench.again(dry_run=False, limit=2, cursor=cursor)).json
        seen.append((page["deliveries"], page["started"], page["through"]))
        cursor = page["next"]
        if cursor is None:
            break
    assert [each[:2] for each in seen] == [(2, 2), (2, 2), (1, 1)]
    assert seen[-1][2].startswith("2026-11-21T12:05")


async def test_what_cannot_be_run_again_is_told_and_holds_up_nothing(bench: Bench) -> None:
    await bench.delivered("d1", {"n": 1})
    await bench.delivered("d2", {"n": "x"})
    bench.rows.rows["d3"] = bench.rows.rows["d1"] | {"receipt": "d3", "run": "nowhere"}
    reply = (await bench.again(dry_run=False, filter="trigger.body.n > 0")).json
    assert reply["started"] == 1
    assert [each["receipt"] for each in reply["skipped"]] == ["d2", "d3"]


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"until": SPAN["since"]}, 400, "malformed"),
        ({"name": "a b"}, 400, "malformed"),
        ({"results": ["refused"]}, 400, "malformed"),
        ({"limit": 0}, 400, "malformed"),
        ({"limit": 10_000}, 400, "malformed"),
        ({"cursor": "nonsense!"}, 400, "malformed"),
        ({"filter": "trigger.body.n >"}, 422, "trigger.unusable"),
        ({"filter": "steps.a.output"}, 422, "trigger.unusable"),
    ],
)
async def test_what_is_no_such_wish_is_refused(bench: Bench, wanted: Any, status: int, code: str) -> None:
    await bench.delivered("d1")
    reply = await bench.again(**wanted)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert cursor_of(NOON, "x")


# --- A trigger is tried out ---------------------------------------------------------------------


async def test_a_sample_starts_a_run_in_test_mode_that_is_no_delivery(bench: Bench) -> None:
    reply = await bench.attempt(body={"n": 1}, headers={"x-a": "b"})
    assert reply.status == 200, reply.body
    started = await bench.started(reply.json["run"])
    assert (started.mode, started.trigger, started.cause.kind) == ("test", None, "test")
    assert isinstance(started.input, Inline)
    assert b'"n": 1' in bytes(started.input.value)
    assert (await bench.attempt(body={"n": 1})).json["run"] != reply.json["run"]


async def test_a_recorded_delivery_is_tried_as_it_came(bench: Bench) -> None:
    await bench.delivered("d1", {"n": 7})
    started = await bench.started((await bench.attempt(delivery="d1")).json["run"])
    assert isinstance(started.input, Inline)
    assert bytes(started.input.value) == b'{"body":{"n":7},"method":"POST"}'


async def of_kind(bench: Bench, **kind: Any) -> None:
    body = {"name": "t", "workflow": bench.workflow} | kind
    reply = await bench.office.api("POST", "/triggers", body)
    assert reply.status == 201, reply.body
    bench.trigger = reply.json["id"]


@pytest.mark.parametrize(
    ("wanted", "body", "reason"),
    [
        ("trigger.body.outcome == 'failed'", {"outcome": "failed"}, ""),
        ("trigger.body.outcome == 'failed'", {"outcome": "completed"}, "says no"),
        ("trigger.body.version > 1", {"version": "x"}, "The filter:"),
    ],
)
async def test_a_trigger_that_follows_events_asks_its_filter(
    bench: Bench, wanted: str, body: Any, reason: str
) -> None:
    await of_kind(bench, on={"kind": "run_end", "filter": wanted})
    reply = await bench.attempt(body=body)
    assert (reply.json["run"] is None) == bool(reason)
    assert reason in reply.json["reason"]


async def test_a_forms_sample_is_held_to_its_questions_and_a_chats_to_a_message(bench: Bench) -> None:
    await of_kind(bench, on=FORM)
    reply = await bench.attempt(body={"seats": 12, "x": 1})
    assert reply.status == 400
    assert {each["pointer"] for each in reply.json["errors"]} == {"/body/seats", "/body/x"}
    assert (await bench.attempt(body={"seats": 3})).json["run"]
    await of_kind(bench, on={"kind": "chat"})
    assert (await bench.attempt(body={"message": "hello"})).status == 400
    assert (await bench.attempt(body={"session": "s", "message": "hello"})).json["run"]


@pytest.mark.parametrize(
    ("kind", "body", "place"),
    [
        ({"webhook": {"sensitive": ["/card"]}}, {"card": "CANARY"}, "card"),
        (
            {"on": {"kind": "chat", "sensitive": ["/message"]}},
            {"session": "s", "message": "CANARY"},
            "message",
        ),
        ({"on": FORM | {"sensitive": ["/seats"]}}, {"seats": 3}, "seats"),
    ],
)
async def test_what_a_trigger_marks_is_sealed_in_a_sample_too(
    bench: Bench, kind: Any, body: Any, place: str
) -> None:
    await of_kind(bench, **kind)
    run = (await bench.attempt(body=body)).json["run"]
    given = (await bench.started(run)).input
    assert isinstance(given, Inline)
    told = decode_json(given.value)["body"]
    opener = await bench.office.vault.opener(ORG, run, f"salt_{run}")
    assert is_sealed(told[place])
    assert open_document(told, opener) == body


async def test_a_schedule_is_tried_with_its_own_body(bench: Bench) -> None:
    every = {"when": {"by": "cron", "expression": "@yearly"}, "body": '{"report":1}'}
    await of_kind(bench, schedule=every)
    started = await bench.started((await bench.attempt()).json["run"])
    assert isinstance(started.input, Inline)
    assert b'"body":{"report":1}' in bytes(started.input.value)
    assert b'"planned":"2026' in bytes(started.input.value)


async def test_what_is_not_published_or_another_orgs_is_not_tried(bench: Bench) -> None:
    stranger = await bench.office.key_for("org_other")
    for path, body in (("test", {}), ("run-again", {"name": "n", **SPAN})):
        reply = await bench.office.api("POST", f"/triggers/{bench.trigger}/{path}", body, key=stranger)
        assert reply.status == 404
    draft = await created(bench.office)
    body = {"name": "t", "workflow": draft, "on": {"kind": "run_end"}}
    bench.trigger = (await bench.office.api("POST", "/triggers", body)).json["id"]
    assert (await bench.attempt()).status == 409
    assert (await bench.again()).status == 409


async def test_a_form_has_two_addresses_and_new_ones_when_asked(bench: Bench) -> None:
    body = {"name": "f", "workflow": bench.workflow, "on": FORM}
    made = (await bench.office.api("POST", "/triggers", body)).json
    assert made["address"]["url"].startswith("https://hooks.example.com/forms/")
    rotated = (await bench.office.api("POST", f"/triggers/{made['id']}/rotate-token")).json
    assert rotated["url"].startswith("https://hooks.example.com/forms/")
    assert rotated["url"] != made["address"]["url"]
    chat = (await bench.office.api("POST", "/triggers", body | {"on": {"kind": "chat"}})).json
    assert chat["address"]["url"].startswith("https://hooks.example.com/hooks/")
    wrong = {
        "kind": "form",
        "title": "t",
        "questions": {"properties": {"a": {"type": "integer", "enum": ["x"]}}},
    }
    reply = await bench.office.api("POST", "/triggers", body | {"on": wrong})
    assert (reply.status, reply.json["code"]) == (422, "trigger.unusable")
    assert [fault["pointer"] for fault in reply.json["faults"]] == ["/on/questions/properties/a/enum"]
    unknown = {"kind": "form", "title": "t", "questions": {"properties": {"a": {"pattern": "x"}}}}
    assert (await bench.office.api("POST", "/triggers", body | {"on": unknown})).status == 400
