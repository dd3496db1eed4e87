"""Pools over HTTP: who is there, what waits, holding a pool, asking an executor to leave."""

import asyncio
from typing import Any

import pytest

from contracts.codec import encode
from contracts.pools import DrainExecutor, ExecutorHere
from contracts.streams import pool_consumer, worker_consumer
from contracts.subjects import drain, here
from gateway.permissions import SCOPES
from gateway.pools import store
from tests.gateway.fakes import Office
from tests.gateway.test_workers_api import POOL, outside


def said(office: Office, executor: str = "e-1", pool: str = "default", **more: Any) -> None:
    """An executor tells that it is there."""
    told = ExecutorHere(executor=executor, pool=pool, **{"capacity": 8, "under_way": 3, **more})
    office.signals.publish(here(pool), encode(told))


async def test_a_pool_tells_who_is_there_what_waits_and_what_is_under_way(office: Office) -> None:
    office.durables.add(pool_consumer("default"), num_pending=7, num_ack_pending=3)
    office.durables.add(pool_consumer("gpu"), num_pending=2)
    said(office, labels={"zone": "a"})
    said(office, "e-2", draining=True)
    default, gpu = (await office.api("GET", "/pools")).json["items"]
    assert (default["name"], default["waiting"], default["under_way"], default["capacity"]) == (
        "default", 7, 3, 8,
    )  # fmt: skip
    assert [
        (each["id"], each["labels"], each["draining"], each["lost"]) for each in default["executors"]
    ] == [
        ("e-1", {"zone": "a"}, False, False),
        ("e-2", {}, True, False),
    ]
    assert (gpu["waiting"], gpu["executors"], gpu["paused"]) == (2, [], False)
    assert (await office.api("GET", "/pools/gpu")).json == gpu
    assert (await office.api("GET", "/pools/nowhere")).status == 404


async def test_who_falls_silent_is_lost_and_forgotten_after_an_hour(office: Office) -> None:
    said(office)
    office.clock.moved += 4
    [executor] = (await office.api("GET", "/pools/default")).json["executors"]
    assert executor["lost"]
    assert (await office.api("GET", "/pools/default")).json["capacity"] == 0
    assert (await office.api("POST", "/pools/default/executors/e-1/drain")).status == 404
    office.clock.moved += 3_600
    assert (await office.api("GET", "/pools/default")).status == 404


async def test_a_pool_is_held_and_let_go_on(office: Office) -> None:
    office.durables.add(pool_consumer("default"), num_pending=7)
    for _ in range(2):
        held = (await office.api("POST", "/pools/default/pause")).json
        assert (held["paused"], held["waiting"]) == (True, 7)
    assert (await office.api("GET", "/pools/default")).json["paused"]
    assert not (await office.api("POST", "/pools/default/resume")).json["paused"]
    assert (await office.api("POST", "/pools/nowhere/pause")).status == 404


async def test_an_executor_is_asked_to_leave(office: Office) -> None:
    said(office)

    async def answers() -> None:
        while not any(subject == drain("e-1") for subject, _ in office.signals.said):
            await asyncio.sleep(0.005)
        said(office, draining=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(answers())
        told = await office.api("POST", "/pools/default/executors/e-1/drain")
    assert (told.status, told.json["draining"], told.json["under_way"]) == (200, True, 3)
    assert (drain("e-1"), encode(DrainExecutor(executor="e-1"))) in office.signals.said
    assert (await office.api("POST", "/pools/default/executors/e-9/drain")).status == 404
    assert (await office.api("POST", "/pools/gpu/executors/e-1/drain")).status == 404


async def test_all_with_some_labels_are_asked_to_leave(office: Office) -> None:
    said(office, "e-1", labels={"zone": "a", "gpu": "l4"})
    said(office, "e-2", labels={"zone": "a"})
    said(office, "e-3", labels={"zone": "b"})
    said(office, "e-4", pool="gpu", labels={"zone": "a"})

    async def answers() -> None:
        while len([subject for subject, _ in office.signals.said if subject.startswith(drain("")[:-1])]) < 2:
            await asyncio.sleep(0.005)
        said(office, "e-1", draining=True)
        said(office, "e-2", draining=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(answers())
        told = await office.api("POST", "/pools/default/drain", {"labels": {"zone": "a"}})
    assert [(each["id"], each["draining"]) for each in told.json["items"]] == [("e-1", True), ("e-2", True)]
    asked = [body for subject, body in office.signals.said if b"capacity" not in body]
    assert asked == [encode(DrainExecutor(executor=one)) for one in ("e-1", "e-2")]


@pytest.mark.parametrize(
    ("labels", "status"),
    [({"zone": "c"}, 404), ({"zone": "a", "gpu": "l4"}, 404), ({}, 400), ({"Zone": "a"}, 400)],
)
async def test_labels_that_nobody_has_or_that_are_none_send_nobody_home(
    office: Office, labels: dict[str, str], status: int
) -> None:
    said(office, labels={"zone": "a"})
    assert (await office.api("POST", "/pools/default/drain", {"labels": labels})).status == status
    assert not [body for _, body in office.signals.said if b"capacity" not in body]


async def test_who_does_not_say_that_he_drains_is_named(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "DRAIN_SECONDS", 0.05)
    said(office, "e-1", labels={"zone": "a"}, draining=True)
    said(office, "e-2", labels={"zone": "a"})
    told = await office.api("POST", "/pools/default/drain", {"labels": {"zone": "a"}})
    assert (told.status, told.json["detail"].endswith("Silent: e-2")) == (503, True)


async def test_an_org_sees_the_pools_of_its_own_workers_only(office: Office) -> None:
    office.durables.add(worker_consumer("org_default", "ext-ours"), num_pending=1)
    office.durables.add(worker_consumer("other", "ext-theirs"), num_pending=1)
    office.durables.add(worker_consumer("other", "ext-ours"), num_pending=9)
    assert [
        (each["name"], each["waiting"]) for each in (await office.api("GET", "/pools")).json["items"]
    ] == [("ext-ours", 1)]
    assert (await office.api("GET", "/pools/ext-theirs")).status == 404
    assert (await office.api("POST", "/pools/ext-theirs/pause")).status == 404
    assert not office.durables.durables[worker_consumer("other", "ext-theirs").name].get("paused")


async def test_a_pool_of_workers_tells_when_one_asked_last(office: Office) -> None:
    office.durables.add(worker_consumer("org_default", POOL))
    assert (await office.api("GET", f"/pools/{POOL}")).json["last_asked"] is None
    await (await outside(office)).poll(wait_s=0)
    assert (await office.api("GET", f"/pools/{POOL}")).json["last_asked"] == "2026-11-21T12:00:00Z"


async def test_looking_needs_one_scope_and_holding_another(office: Office) -> None:
    office.durables.add(pool_consumer("default"))
    reader = await office.key_for("org_default", ["pools:read"])
    assert (await office.api("GET", "/pools", key=reader)).status == 200
    assert (await office.api("POST", "/pools/default/pause", key=reader)).status == 403
    blind = await office.key_for("org_default", sorted(SCOPES - {"pools:read"}))
    assert (await office.api("GET", "/pools", key=blind)).status == 403


async def test_what_cannot_be_read_is_left_out(office: Office) -> None:
    office.signals.publish(here("default"), b"{}")
    office.signals.publish(here("default"), b"\xff")
    assert (await office.api("GET", "/pools")).json["items"] == []
