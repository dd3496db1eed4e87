"""Whoever waits for the answer of a run when ingress stops is told that the run goes on, before he is cut off."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.gateways import SECONDS, Stack, ask, open_stack

WAITS = {"nodes": [{"id": "told", "type": "wait.signal", "config": {"signal": "paid"}}]}
CHAT = {"kind": "chat", "respond_timeout_s": 60}


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        await stack.start("projections", "orchestrator", "gateway")
        yield stack


async def test_who_waits_for_a_run_is_told_that_it_goes_on_when_ingress_stops(stack: Stack) -> None:
    ingress = await stack.start_process("ingress")
    workflow = (await stack.api("POST", "/workflows", {"name": "w", "definition": WAITS})).json["id"]
    assert (await stack.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    made = await stack.api("POST", "/triggers", {"name": "t", "workflow": workflow, "on": CHAT})
    path = "/" + made.json["address"]["url"].split("/", 3)[3]
    said = {"session": "s", "message": "hello", "id": "m-1"}
    async with asyncio.timeout(SECONDS):
        while (await ask(stack.port("ingress"), "GET", path)).status == 404:
            await asyncio.sleep(0.1)
    waiting = asyncio.create_task(ask(stack.port("ingress"), "POST", path, said))
    async with asyncio.timeout(SECONDS):
        while not (runs := (await stack.api("GET", "/runs")).json["items"]):
            await asyncio.sleep(0.1)
    assert not waiting.done()
    ingress.send_signal(signal.SIGTERM)
    told = await waiting
    assert (told.status, told.headers["automateos-run"]) == (504, runs[0]["id"])
    async with asyncio.timeout(SECONDS):
        assert await ingress.wait() == 0, "nobody was cut off"
