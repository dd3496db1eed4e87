"""A form and a chat on real servers: a page is filled in over HTTP, and a message is answered by its run."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from chassis.postgres import as_org, pool
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.gateways import Reply, Stack, ask, open_stack

SECONDS = 60.0
ANSWERS = {
    "nodes": [
        {
            "id": "say",
            "type": "respond",
            "config": {"body": {"said": "{{ trigger.body.message }}", "to": "{{ trigger.body.session }}"}},
        }
    ]
}
KEEPS = {"nodes": [{"id": "a", "type": "set", "config": {"fields": {"seats": "{{ trigger.body.seats }}"}}}]}
FORM = {
    "kind": "form",
    "title": "Sign up",
    "questions": {"properties": {"seats": {"type": "integer", "maximum": 9}}, "required": ["seats"]},
    "seconds": 1,
}
PAGE = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        await stack.start("projections", "orchestrator", "executor", "gateway")
        await stack.start_process("ingress")
        yield stack


async def made(stack: Stack, definition: Any, on: Any) -> tuple[str, str]:
    """A trigger of this kind, and the path of its address."""
    workflow = (await stack.api("POST", "/workflows", {"name": "w", "definition": definition})).json["id"]
    assert (await stack.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    reply = await stack.api("POST", "/triggers", {"name": "t", "workflow": workflow, "on": on})
    assert reply.status == 201, reply.body
    return reply.json["id"], "/" + reply.json["address"]["url"].split("/", 3)[3]


async def send(stack: Stack, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ask(stack.port("ingress"), method, path, body, given)


async def until_there(stack: Stack, path: str) -> Reply:
    """Ingress reads of a new trigger a moment later."""
    async with asyncio.timeout(SECONDS):
        while (reply := await send(stack, "GET", path)).status == 404:
            await asyncio.sleep(0.1)
    return reply


async def test_a_page_is_shown_refused_and_taken_once(stack: Stack) -> None:
    trigger, path = await made(stack, KEEPS, FORM)
    assert path.startswith("/forms/")
    shown = await until_there(stack, path)
    assert shown.status == 200
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    stamp = re.search(rb'name="_page" value="([^"]+)"', shown.body)
    assert stamp is not None
    await asyncio.sleep(1.2)

    async def sent(seats: str) -> Reply:
        fields = {"_page": stamp[1].decode(), "_website": "", "seats": seats}
        return await send(stack, "POST", path, urlencode(fields).encode(), **PAGE)

    wrong = await sent("12")
    assert (wrong.status, b"This must be 9 or less." in wrong.body) == (422, True)
    replies = await asyncio.gather(*(sent("3") for _ in range(3)))
    assert {reply.status for reply in replies} == {200}
    program = await send(stack, "POST", path, b'{"seats":4}', content_type="application/json")
    assert program.status == 202
    async with asyncio.timeout(SECONDS):
        while len(found := await _runs(stack, trigger)) < 2:
            await asyncio.sleep(0.2)
    assert sorted(json.loads(each)["body"]["seats"] for each in found) == [3, 4]
    refused = await send(stack, "POST", path, b'{"seats":"x"}', content_type="application/json")
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (400, "/seats")
    assert (await send(stack, "DELETE", path)).status == 405
    assert (await send(stack, "GET", "/forms/nothing")).status == 404
    assert (await stack.api("POST", f"/triggers/{trigger}/disable")).status == 204
    async with asyncio.timeout(SECONDS):
        while (await send(stack, "GET", path)).status != 404:
            await asyncio.sleep(0.1)


async def _runs(stack: Stack, trigger: str) -> list[str]:
    async with pool(stack.settings["gateway"]) as postgres, as_org(postgres, "org_default") as connection:
        rows = await connection.fetch("select input_preview from read.runs where trigger = $1", trigger)
    return [row["input_preview"] for row in rows]


async def test_a_message_is_answered_by_its_run_and_again_by_the_same(stack: Stack) -> None:
    trigger, path = await made(stack, ANSWERS, {"kind": "chat"})
    message = b'{"session":"s-1","message":"hello","id":"m-1"}'
    async with asyncio.timeout(SECONDS):
        while (
            reply := await send(stack, "POST", path, message, content_type="application/json")
        ).status == 404:
            await asyncio.sleep(0.1)
    assert (reply.status, reply.json) == (200, {"said": "hello", "to": "s-1"})
    again = await send(stack, "POST", path, message, content_type="application/json")
    assert (again.json, again.headers["automateos-deduplicated"]) == (reply.json, "true")
    assert again.headers["automateos-run"] == reply.headers["automateos-run"]
    bad = await send(stack, "POST", path, b'{"message":"hello"}', content_type="application/json")
    assert bad.status == 400
    async with asyncio.timeout(SECONDS):
        while not (await stack.api("GET", f"/triggers/{trigger}/deliveries?result=accepted")).json["items"]:
            await asyncio.sleep(0.2)
