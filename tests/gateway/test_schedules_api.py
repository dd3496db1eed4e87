"""Schedules over HTTP: what is taken, what is refused and where, and who is told of a change."""

from typing import Any

import pytest

from contracts.codec import decode_domain_commit
from contracts.schedules import Interval
from tests.gateway.fakes import Office
from tests.gateway.stories import created, published, triggered

EVERY_MINUTE = {"when": {"by": "cron", "expression": "* * * * *"}}
BERLIN = {"when": {"by": "cron", "expression": "30 2 * * *"}, "zone": "Europe/Berlin"}


async def scheduled(office: Office, schedule: Any = EVERY_MINUTE, **more: Any) -> Any:
    body = {"name": "nightly", "workflow": await published(office, **more), "schedule": schedule}
    return await office.api("POST", "/triggers", body, **more)


def recorded(office: Office) -> list[Any]:
    return [
        event
        for stored in office.domain_log.messages
        if stored.subject.split(".")[2] == "trigger"
        for event in decode_domain_commit(stored.body, "trigger").events
    ]


async def test_a_schedule_is_a_trigger_without_an_address_and_its_owner_is_told(office: Office) -> None:
    reply = await scheduled(office)
    assert reply.status == 201, reply.body
    assert (reply.json["address"], reply.json["secret"], reply.json["bound_version"]) == (None, None, 1)
    assert set(office.engine.looks) == {reply.json["id"]}
    assert [type(event).__name__ for event in recorded(office)] == ["ScheduleCreated", "TriggerBound"]


@pytest.mark.parametrize("verb", ["disable", "enable", "delete", "change"])
async def test_the_owner_is_told_of_every_change_also_of_one_that_changes_nothing(
    office: Office, verb: str
) -> None:
    trigger = (await scheduled(office)).json["id"]
    for _ in range(2):
        office.engine.looks.clear()
        match verb:
            case "delete":
                reply = await office.api("DELETE", f"/triggers/{trigger}")
            case "change":
                reply = await office.api("PUT", f"/triggers/{trigger}", {"name": "x", "schedule": BERLIN})
            case _:
                reply = await office.api("POST", f"/triggers/{trigger}/{verb}")
        if reply.status != 404:
            assert reply.status in (200, 204)
            assert office.engine.looks == [trigger]


async def test_publishing_for_the_first_time_sets_the_schedule_going(office: Office) -> None:
    workflow = await created(office)
    body = {"name": "nightly", "workflow": workflow, "schedule": EVERY_MINUTE}
    trigger = (await office.api("POST", "/triggers", body)).json
    assert trigger["bound_version"] is None
    assert (await office.api("GET", f"/triggers/{trigger['id']}/coming")).json == {"fires": []}
    office.engine.looks.clear()
    assert (await office.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    assert office.engine.looks == [trigger["id"]]


async def test_a_change_is_kept_when_nobody_can_be_told(office: Office) -> None:
    trigger = (await scheduled(office)).json["id"]
    office.engine.away = True
    assert (await office.api("POST", f"/triggers/{trigger}/disable")).status == 204
    assert office.engine.inbox, "INBOX tells it when somebody is there"


@pytest.mark.parametrize(
    ("schedule", "pointer"),
    [
        ({"when": {"by": "cron", "expression": "* * *"}}, "/schedule/when/expression"),
        ({"when": {"by": "cron", "expression": "0 0 30 2 *"}}, "/schedule/when/expression"),
        (EVERY_MINUTE | {"zone": "Europe/Bielefeld"}, "/schedule/zone"),
        (EVERY_MINUTE | {"zone": "../../etc/passwd"}, "/schedule/zone"),
        (
            EVERY_MINUTE | {"excluded": [{"first": "2026-12-24", "last": "2026-12-01"}]},
            "/schedule/excluded/0/last",
        ),
        (EVERY_MINUTE | {"excluded": [{"first": "9999-12-31"}]}, "/schedule/excluded/0"),
        (
            EVERY_MINUTE | {"excluded": [{"first": "2024-01-01", "last": "2024-12-31", "yearly": True}]},
            "/schedule/when",
        ),
        (EVERY_MINUTE | {"body": "{"}, "/schedule/body"),
        (EVERY_MINUTE | {"body": "[" * 100 + "]" * 100}, "/schedule/body"),
        (
            {"when": {"by": "interval", "seconds": 5, "start": "9999-12-31T23:00:00-05:00"}},
            "/schedule/when/start",
        ),
    ],
)
async def test_what_cannot_be_kept_is_refused_with_its_place(
    office: Office, schedule: Any, pointer: str
) -> None:
    reply = await scheduled(office, schedule)
    assert (reply.status, reply.json["code"]) == (422, "schedule.unusable")
    assert [fault["pointer"] for fault in reply.json["faults"]] == [pointer]
    preview = await office.api("POST", "/triggers/preview-schedule", {"schedule": schedule})
    assert preview.status in (200, 422)
    assert recorded(office) == []


@pytest.mark.parametrize(
    "schedule",
    [
        {},
        {"when": {"by": "moon"}},
        {"when": {"by": "cron", "expression": "*" * 201}},
        {"when": {"by": "interval", "seconds": 0}},
        {"when": {"by": "interval", "seconds": 1.5}},
        {"when": {"by": "interval", "seconds": 10**12}},
        EVERY_MINUTE | {"missed": "twice"},
        EVERY_MINUTE | {"late_s": 3601},
        EVERY_MINUTE | {"excluded": [{"first": "2026-01-01"}] * 401},
        EVERY_MINUTE | {"excluded": [{"first": "tomorrow"}]},
        EVERY_MINUTE | {"body": "1" * 20_000},
    ],
)
async def test_what_is_no_schedule_at_all_is_malformed(office: Office, schedule: Any) -> None:
    reply = await scheduled(office, schedule)
    assert (reply.status, reply.json["code"]) == (400, "malformed")
    assert recorded(office) == []


async def test_an_interval_is_counted_from_now_and_an_edit_does_not_move_it(office: Office) -> None:
    every = {"when": {"by": "interval", "seconds": 3600}}
    trigger = (await scheduled(office, every)).json["id"]
    start = recorded(office)[0].schedule.when
    assert isinstance(start, Interval)
    assert start.start == office.clock.now()
    office.clock.moved = 1000
    reply = await office.api("PUT", f"/triggers/{trigger}", {"name": "renamed", "schedule": every})
    assert reply.status == 200
    assert recorded(office)[-1].schedule.when == start
    quicker = {"when": {"by": "interval", "seconds": 60}}
    await office.api("PUT", f"/triggers/{trigger}", {"name": "renamed", "schedule": quicker})
    assert recorded(office)[-1].schedule.when.start == office.clock.now()


async def test_coming_times_are_told_for_any_schedule_and_for_one_that_is_stored(office: Office) -> None:
    wanted = {"schedule": BERLIN, "after": "2026-03-28T00:00:00Z", "count": 3}
    reply = await office.api("POST", "/triggers/preview-schedule", wanted)
    assert reply.json == {"fires": ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]}
    trigger = (await scheduled(office)).json["id"]
    coming = await office.api("GET", f"/triggers/{trigger}/coming?count=2")
    assert coming.json == {"fires": ["2026-11-21T12:01:00Z", "2026-11-21T12:02:00Z"]}
    await office.api("POST", f"/triggers/{trigger}/disable")
    assert (await office.api("GET", f"/triggers/{trigger}/coming")).json == {"fires": []}
    assert (await office.api("GET", f"/triggers/{trigger}/coming?count=101")).status == 400


async def test_an_address_stays_an_address_and_a_schedule_a_schedule(office: Office) -> None:
    address = (await triggered(office, await published(office)))["id"]
    schedule = (await scheduled(office)).json["id"]
    both = {"name": "x", "workflow": "w", "webhook": {}, "schedule": EVERY_MINUTE}
    both["workflow"] = await published(office)
    assert (await office.api("POST", "/triggers", both)).status == 400
    for trigger, body, status in (
        (address, {"name": "x", "schedule": EVERY_MINUTE}, 409),
        (schedule, {"name": "x", "webhook": {}}, 409),
        (schedule, {"name": "x"}, 400),
        (schedule, {"name": "x", "webhook": {}, "schedule": EVERY_MINUTE}, 400),
    ):
        assert (await office.api("PUT", f"/triggers/{trigger}", body)).status == status
    assert (await office.api("POST", f"/triggers/{schedule}/rotate-token")).status == 409
    assert (await office.api("POST", f"/triggers/{schedule}/rotate-secret", {})).status == 409
    assert (await office.api("GET", f"/triggers/{address}/coming")).status == 409


async def test_another_org_sees_and_touches_none_of_it(office: Office) -> None:
    trigger = (await scheduled(office)).json["id"]
    key = await office.key_for("other")
    office.engine.looks.clear()
    for method, path, body in (
        ("GET", f"/triggers/{trigger}/coming", None),
        ("PUT", f"/triggers/{trigger}", {"name": "x", "schedule": EVERY_MINUTE}),
        ("POST", f"/triggers/{trigger}/disable", None),
        ("DELETE", f"/triggers/{trigger}", None),
    ):
        reply = await office.api(method, path, body, key=key)
        assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert office.engine.looks == []
