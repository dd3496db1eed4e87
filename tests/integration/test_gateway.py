"""The gateway on real servers, with the real orchestrator, executor, projections and ingress behind it."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import select

from chassis.postgres import pool
from chassis.tables import DELIVERIES, RUNS, STEPS, TRIGGERS, WORKFLOW_VERSIONS, WORKFLOWS
from chassis.testing.ports import free_port
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from gateway import authentication
from gateway.pages import fetch
from tests.integration.gateways import Reply, Stack, ask, open_stack, watching

ECHO: dict[str, Any] = {
    "nodes": [
        {"id": "first", "type": "echo", "config": {"value": "{{ trigger.body }}"}},
        {"id": "second", "type": "echo", "config": {"value": "{{ steps.first.output }}"}},
    ],
    "edges": [{"source": "first", "target": "second"}],
}
WAITING: dict[str, Any] = {"nodes": [{"id": "pause", "type": "delay", "config": {"seconds": 3600}}]}
FAILING: dict[str, Any] = {
    "nodes": [{"id": "boom", "type": "set", "config": {"fields": {"x": "{{ trigger.body.missing.deeper }}"}}}]
}


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as opened:
        await opened.start("orchestrator", "projections", "executor", "gateway")
        yield opened


async def published(stack: Stack, definition: Any = ECHO, **more: Any) -> str:
    made = await stack.api("POST", "/workflows", {"name": "orders", "definition": definition}, **more)
    assert made.status == 201, made.body
    workflow = str(made.json["id"])
    reply = await stack.api("POST", f"/workflows/{workflow}/versions/1/publish", **more)
    assert reply.status == 200, reply.body
    return workflow


async def started(stack: Stack, workflow: str, value: Any = None, **more: Any) -> str:
    reply = await stack.api("POST", "/runs", {"workflow": workflow, "input": value}, **more)
    assert reply.status == 202, reply.body
    return str(reply.json["run"])


async def accepted(stack: Stack, workflow: str, value: Any = None) -> Reply:
    """A start that its owner has answered. Of one that a busy machine only queued nobody knows yet where it lies."""
    async with asyncio.timeout(60):
        while True:
            reply = await stack.api("POST", "/runs", {"workflow": workflow, "input": value})
            assert reply.status == 202, reply.body
            if reply.json["status"] == "accepted":
                return reply
            await until_there(stack, reply.json["run"])


async def until(stack: Stack, run: str, *statuses: str, **more: Any) -> Any:
    """The run, once it has one of these statuses."""
    async with asyncio.timeout(60):
        while True:
            reply = await stack.api("GET", f"/runs/{run}", **more)
            if reply.status == 200 and reply.json["status"] in statuses:  # One that is queued is nowhere yet.
                return reply.json
            await asyncio.sleep(0.02)


async def test_what_a_node_said_is_told_to_its_org(stack: Stack) -> None:
    definition = {
        "nodes": [
            {"id": "call", "type": "http.request", "config": {"url": "http://127.0.0.1:9/?key=hidden"}},
            {"id": "quiet", "type": "echo", "config": {"value": 1}},
        ],
        "edges": [{"source": "call", "target": "quiet"}],
    }
    made = await stack.api("POST", "/workflows", {"name": "calls", "definition": definition})
    assert made.status == 201, made.body
    await stack.api("POST", f"/workflows/{made.json['id']}/versions/1/publish")
    run = await started(stack, made.json["id"])
    await until(stack, run, "failed")
    async with asyncio.timeout(60):
        while len(told := (await stack.api("GET", f"/runs/{run}/logs")).json["items"]) < 3:
            await asyncio.sleep(0.05)
    assert [(line["step"], line["attempt"], line["level"]) for line in told] == [
        ("call", 1, "info"),
        ("call", 1, "warning"),
        ("call", 1, "error"),
    ]
    assert (told[1]["text"], told[1]["fields"]["code"]) == ("GET to 127.0.0.1: no answer", "unreachable")
    assert told[2]["fields"]["code"] == "unreachable"  # No oracle of what is there.
    assert "hidden" not in json.dumps(told)
    nothing = {"items": [], "next": None, "expired_before": None}
    assert (await stack.api("GET", f"/runs/{run}/logs?step=quiet")).json == nothing
    other = await stack.key_for("stranger")
    assert (await stack.api("GET", f"/runs/{run}/logs", key=other)).status == 404


async def test_what_was_written_is_read_at_once(stack: Stack) -> None:
    workflow = await published(stack)
    listed = (await _caught_up(stack, "/workflows")).json["items"]
    assert [(each["id"], each["published_version"]) for each in listed] == [(workflow, 1)]
    for number in range(20):
        run = (await accepted(stack, workflow, number)).json["run"]
        view = await _caught_up(stack, f"/runs/{run}")
        assert view.status == 200
        newest = (await _caught_up(stack, "/runs?limit=1")).json["items"][0]
        assert newest["id"] == run
    versions = (await _caught_up(stack, f"/workflows/{workflow}/versions")).json["items"]
    assert [(each["version"], each["published"] is not None) for each in versions] == [(1, True)]


async def test_a_run_is_told_in_every_way_from_its_start_to_its_end(stack: Stack) -> None:
    workflow = await published(stack)
    run = await started(stack, workflow, {"n": 7})
    async with watching(stack, f"/runs/{run}/live") as events:
        kinds = await events.until("run.completed")
    view = await until(stack, run, "completed")
    assert (view["steps_total"], view["steps_done"], view["events"]) == (2, 2, len(kinds))
    assert json.loads(view["output"]["preview"]) == {"n": 7}
    steps = (await stack.api("GET", f"/runs/{run}/steps")).json["items"]
    assert [(each["path"], each["status"], each["attempt"]) for each in steps] == [
        ("first", "succeeded", 1),
        ("second", "succeeded", 1),
    ]
    told = (await stack.api("GET", f"/runs/{run}/events")).json["items"]
    assert [each["type"] for each in told] == kinds
    assert [each["number"] for each in told] == list(range(1, len(kinds) + 1))
    assert told[-1]["id"] == events.last_id
    early = (await stack.api("GET", f"/runs/{run}/state?at=1")).json
    late = (await stack.api("GET", f"/runs/{run}/state")).json
    assert (early["at"], early["state"]["phase"], late["state"]["phase"]) == (1, "running", "completed")
    assert (await stack.api("GET", f"/runs/{run}/waiting")).json["waiting_for"] == []


async def test_a_run_that_waits_says_for_what_and_can_be_stopped(stack: Stack) -> None:
    run = await started(stack, await published(stack, WAITING))
    await until(stack, run, "waiting")
    (wait,) = (await stack.api("GET", f"/runs/{run}/waiting")).json["waiting_for"]
    assert (wait["kind"], wait["step"]) == ("delay", "pause")
    refused = await stack.api("POST", f"/runs/{run}/retry", {})
    assert (refused.status, refused.json["code"]) == (409, "run.not_reopenable")
    assert (await stack.api("POST", f"/runs/{run}/cancel", {"reason": "no longer"})).status == 202
    view = await until(stack, run, "cancelled")
    again = await stack.api("POST", f"/runs/{run}/cancel", {})
    assert (again.status, again.json["code"]) == (409, "run.ended")
    assert view["ended"] is not None


async def test_a_failed_run_says_why_and_is_tried_again(stack: Stack) -> None:
    run = await started(stack, await published(stack, FAILING), {})
    view = await until(stack, run, "failed")
    assert (view["error"]["code"], view["error"]["step"]) == ("expression", "boom")
    doubt = await stack.api("POST", f"/runs/{run}/resolve", {"step": "boom", "resolution": "retry"})
    assert doubt.status == 409
    assert (await stack.api("POST", f"/runs/{run}/retry", {"steps": ["boom"]})).status == 202
    async with asyncio.timeout(60):
        while (view := (await stack.api("GET", f"/runs/{run}")).json)["opening"] < 2:
            await asyncio.sleep(0.02)
    assert view["opening"] == 2


async def test_every_fault_of_a_workflow_is_told_at_once(stack: Stack) -> None:
    definition = {
        "nodes": [
            {"id": "a", "type": "nothing.known"},
            {"id": "b", "type": "echo", "config": {"value": "{{ steps.nowhere.output }}"}},
        ],
        "edges": [{"source": "b", "target": "c"}],
    }
    made = await stack.api("POST", "/workflows", {"name": "broken", "definition": definition})
    reply = await stack.api("POST", f"/workflows/{made.json['id']}/versions/1/publish")
    assert (reply.status, reply.json["code"]) == (422, "invalid_workflow")
    codes = {fault["code"] for fault in reply.json["faults"]}
    assert codes >= {"workflow.unknown_node_type", "workflow.dangling_edge", "workflow.bad_expression"}
    shape = await stack.api("POST", "/workflows/validate", {"definition": {"nodes": 5}})
    assert (shape.status, shape.json["valid"]) == (200, False)
    assert shape.json["faults"][0]["pointer"] == "/nodes"


async def test_a_list_of_runs_is_filtered_and_no_page_skips_or_doubles(stack: Stack) -> None:
    quick, slow = await published(stack), await published(stack, WAITING)
    ours = []
    for number in range(5):
        ours.append(await started(stack, quick, number))
        await until(stack, ours[-1], "completed")  # Runs that are accepted together may begin in any order.
    middle = (await stack.api("GET", f"/runs/{ours[2]}")).json["started"]
    waiting = await started(stack, slow)
    await until(stack, waiting, "waiting")

    async def ids(query: str) -> list[str]:
        return [each["id"] for each in (await stack.api("GET", f"/runs?{query}")).json["items"]]

    assert await ids("") == [waiting, *reversed(ours)]
    assert await ids("status=waiting&status=failed") == [waiting]
    assert await ids(f"workflow={quick}&limit=2") == [ours[4], ours[3]]
    assert await ids(f"workflow={quick}&to={middle}") == [ours[1], ours[0]]
    assert await ids(f"workflow={quick}&from={middle}") == [ours[4], ours[3], ours[2]]
    assert await ids("trigger=none") == []
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await stack.api("GET", f"/runs?workflow={quick}&limit=2{cursor}")).json
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        await started(stack, quick)  # What is newer than the first page changes nothing behind it.
        cursor = f"&cursor={page['next']}"
    assert seen == list(reversed(ours))


async def test_an_orgs_rows_are_nobody_elses(stack: Stack) -> None:
    """I1 on the routes that read from Postgres, and I6: row-level security alone, without any filter of ours."""
    theirs, other = await stack.key_for("other"), {"key": await stack.key_for("other")}
    workflow = await published(stack, **other)
    run = await started(stack, workflow, **other)
    made = await stack.api("POST", "/triggers", {"name": "x", "workflow": workflow}, **other)
    await until(stack, run, "completed", **other)
    for method, path in (
        ("GET", f"/workflows/{workflow}"),
        ("GET", f"/workflows/{workflow}/versions"),
        ("GET", f"/triggers/{made.json['id']}"),
        ("GET", f"/triggers/{made.json['id']}/deliveries"),
        ("POST", f"/triggers/{made.json['id']}/deliveries/x/redeliver"),
        ("GET", f"/runs/{run}"),
        ("GET", f"/runs/{run}/steps"),
        ("GET", f"/runs/{run}/children"),
        ("GET", f"/runs/{run}/events"),
        ("GET", f"/runs/{run}/state"),
        ("GET", f"/runs/{run}/waiting"),
        ("GET", f"/runs/{run}/logs"),
        ("GET", f"/runs/{run}/logs/live"),
        ("GET", f"/runs/{run}/live"),
        ("POST", f"/runs/{run}/cancel"),
    ):
        foreign = await stack.api(method, path, {} if path.endswith("cancel") else None)
        absent = await stack.api(
            method,
            path.replace(run, "0" * 36).replace(workflow, "0" * 36).replace(made.json["id"], "0" * 36),
            {} if path.endswith("cancel") else None,
        )
        assert (foreign.status, absent.status) == (404, 404), path
        assert {**foreign.json, "trace_id": ""} == {**absent.json, "trace_id": ""}
    for path in ("/runs", "/workflows", "/triggers"):
        assert (await stack.api("GET", path)).json["items"] == []
        assert len((await stack.api("GET", path, key=theirs)).json["items"]) == 1
    async with pool(stack.settings["gateway"]) as postgres:
        for table in (RUNS, STEPS, WORKFLOWS, WORKFLOW_VERSIONS, TRIGGERS, DELIVERIES):
            assert await fetch(postgres, "org_default", select(table)) == []
        assert len(await fetch(postgres, "other", select(RUNS))) == 1


async def test_while_no_orchestrator_is_there_drafts_are_saved_starts_wait_and_the_rest_says_so(
    stack: Stack,
) -> None:
    workflow = await published(stack)
    await stack.stop("orchestrator")
    saved = await stack.api("POST", f"/workflows/{workflow}/versions", {"definition": ECHO})
    assert (saved.status, saved.json["version"]) == (201, 2)
    refused = await stack.api("POST", f"/workflows/{workflow}/versions/2/publish")
    assert (refused.status, refused.json["code"]) == (503, "unavailable")
    queued = await stack.api("POST", "/runs", {"workflow": workflow, "input": 1}, idempotency_key="k")
    assert (queued.status, queued.json["status"]) == (202, "queued")
    await stack.start("orchestrator")
    await until_there(stack, queued.json["run"])
    view = await until(stack, queued.json["run"], "completed")
    assert view["receipt"] == queued.json["receipt"]
    again = await stack.api("POST", "/runs", {"workflow": workflow, "input": 1}, idempotency_key="k")
    assert (again.status, again.json["receipt"]) == (200, queued.json["receipt"])


async def until_there(stack: Stack, run: str) -> Reply:
    async with asyncio.timeout(60):
        while (reply := await stack.api("GET", f"/runs/{run}")).status != 200:
            await asyncio.sleep(0.05)
    return reply


async def test_a_stream_goes_on_where_it_ended_when_the_gateway_comes_back(stack: Stack) -> None:
    workflow = await published(stack)
    async with watching(stack, "/live") as events:
        first = await started(stack, workflow)
        await events.until("run.completed")
        last_id = events.last_id
        stopping = asyncio.create_task(stack.stop("gateway"))  # Watched while it drains.
        kind, data = await events.next()
        assert (kind, data) == ("end", {"reason": "closing"})
        await stopping
    await stack.start("gateway")
    second = await started(stack, workflow)
    await until(stack, second, "completed")
    async with watching(stack, "/live", last_id) as events:
        runs = set()
        while True:
            kind, data = await events.next()
            runs.add(data["run"])
            if kind == "run.completed":
                break
    assert runs == {second}
    assert first != second


async def test_a_webhook_is_delivered_and_delivered_again(stack: Stack) -> None:
    await stack.start_process("ingress")
    workflow = await published(stack)
    webhook = {
        "authentication": {"scheme": "github", "secret": "generate"},
        "dedupe": {"by": "preset", "preset": "github"},
        "sensitive": ["/token"],
    }
    made = (
        await stack.api("POST", "/triggers", {"name": "p", "workflow": workflow, "webhook": webhook})
    ).json
    path = "/hooks/" + made["address"]["url"].rpartition("/")[2]
    body = {"ref": "main", "token": "CANARY"}
    signed = hmac.new(made["secret"]["text"].encode(), json.dumps(body).encode(), hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={signed}", "x-github-delivery": "d-1"}
    async with asyncio.timeout(60):
        while (sent := await ask(stack.port("ingress"), "POST", path, body, headers)).status == 404:
            await asyncio.sleep(0.02)
    assert sent.status == 202, sent.body
    twice = await ask(stack.port("ingress"), "POST", path, body, headers)
    bad = await ask(
        stack.port("ingress"), "POST", path, body, {**headers, "x-hub-signature-256": "sha256=00"}
    )
    assert (twice.status, twice.json["run"], bad.status) == (200, sent.json["run"], 401)
    await until_there(stack, sent.json["run"])
    await until(stack, sent.json["run"], "completed")

    async with asyncio.timeout(60):
        while len(found := (await deliveries(stack, made["id"])).json["items"]) < 3:
            await asyncio.sleep(0.05)
    by_result = {each["result"]: each for each in found}
    assert set(by_result) == {"accepted", "duplicate", "refused"}
    assert by_result["duplicate"]["run"] == by_result["accepted"]["run"] == sent.json["run"]
    assert b"CANARY" not in json.dumps(found).encode()

    receipt = by_result["accepted"]["receipt"]
    again = await stack.api("POST", f"/triggers/{made['id']}/deliveries/{receipt}/redeliver")
    assert again.status == 202, again.body
    view = await until(stack, again.json["run"], "completed")
    assert (view["cause"], view["cause_id"], view["trigger"]) == ("redelivery", receipt, made["id"])
    first = (await stack.api("GET", f"/runs/{sent.json['run']}/events")).json["items"][0]["event"]
    second = (await stack.api("GET", f"/runs/{again.json['run']}/events")).json["items"][0]["event"]
    assert second["input"]["value"]["body"]["ref"] == "main"
    sealed = [each["input"]["value"]["body"]["token"] for each in (first, second)]
    assert sealed[0] != sealed[1]
    assert "CANARY" not in json.dumps(sealed)
    refused = by_result["refused"]["receipt"]
    no = await stack.api("POST", f"/triggers/{made['id']}/deliveries/{refused}/redeliver")
    assert (no.status, no.json["code"]) == (409, "conflict")
    filtered = await deliveries(stack, made["id"], "?result=duplicate&limit=1")
    assert [each["result"] for each in filtered.json["items"]] == ["duplicate"]


async def deliveries(stack: Stack, trigger: str, query: str = "") -> Reply:
    return await stack.api("GET", f"/triggers/{trigger}/deliveries{query}")


async def test_two_gateways_answer_as_one(stack: Stack) -> None:
    """What one wrote the other reads, when the caller says what it knows of."""
    workflow = await published(stack)
    second = Stack(
        {**stack.settings, "gateway": _elsewhere(stack.settings["gateway"])},
        stack._group,
    )
    second.key = stack.key
    await second.start("gateway")
    try:
        for _ in range(10):
            reply = await accepted(stack, workflow)
            position = reply.headers["automateos-position"]
            listed = await _caught_up(second, "/runs?limit=1", position)
            assert listed.json["items"][0]["id"] == reply.json["run"]
    finally:
        await second.stop_all()


async def _caught_up(stack: Stack, path: str, position: str = "") -> Reply:
    """The answer of a gateway that waited for this place, or for what it wrote itself. One that says that it gave up is asked again: a machine may be
    busy for longer than a reader has patience."""
    async with asyncio.timeout(60):
        while True:
            before = await _reads_behind(stack)
            reply = await stack.api("GET", path, **({"automateos_position": position} if position else {}))
            if await _reads_behind(stack) == before:
                return reply


async def _reads_behind(stack: Stack) -> float:
    """How many reads this gateway answered without having waited to the end."""
    told = (await ask(stack.port("gateway"), "GET", "/metrics")).body.decode()
    [line] = [line for line in told.splitlines() if line.startswith("gateway_reads_behind_total{")]
    return float(line.rpartition(" ")[2])


def _elsewhere(settings: Any) -> Any:
    return structs.replace(settings, gateway_port=free_port())


async def test_more_calls_a_minute_than_a_key_may_make_are_refused(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5: also when they all come at once. With a tenth of the calls, which a busy machine answers within a minute too."""
    monkeypatch.setattr(authentication, "API_CALLS_PER_MINUTE", 60)
    key = await stack.key_for("busy")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(stack.api("GET", "/vars", key=key)) for _ in range(40)]
    assert {each.result().status for each in asked} == {200}
    statuses: list[int] = []
    while 429 not in statuses:
        statuses.append((await stack.api("GET", "/vars", key=key)).status)
        assert len(statuses) < 150, "a new minute may have begun meanwhile, not two"
    assert statuses[:20] == [200] * 20
    assert (await stack.api("GET", "/vars")).status == 200
