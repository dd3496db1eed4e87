"""A poll on real servers: what is found starts one run each, whoever dies between the starts and the cursor."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec import structs

from chassis.postgres import as_org, pool
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.gateways import Stack, open_stack

SECONDS = 60.0
SET = {"nodes": [{"id": "a", "type": "set", "config": {"fields": {"n": "{{ trigger.body.number }}"}}}]}


class Orders:
    """A server that lists what was ordered behind a number, three at a time."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.broken = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                after = query.get("after", [""])[0]
                outer.asked.append(after)
                # One that was there before comes again: a list that is cut by time does so.
                found = [each for each in outer.orders if each["number"] >= int(after or 0)][:3]
                body = json.dumps({"orders": found}).encode()
                self.send_response(500 if outer.broken else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing is logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/orders"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def come(self, count: int) -> None:
        for _ in range(count):
            self.orders.append({"number": len(self.orders) + 1})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
async def orders() -> AsyncIterator[Orders]:
    opened = Orders()
    yield opened
    opened.close()


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        stack.settings["executor"] = structs.replace(
            stack.settings["executor"], egress_allow="127.0.0.1/32:*"
        )
        await stack.start("orchestrator", "executor", "gateway")
        yield stack


async def polling(stack: Stack, orders: Orders, seconds: int = 1) -> str:
    workflow = (await stack.api("POST", "/workflows", {"name": "w", "definition": SET})).json["id"]
    assert (await stack.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    output = "steps.fetch.output.body.orders"
    on = {
        "kind": "poll",
        "schedule": {"when": {"by": "interval", "seconds": seconds}},
        "request": {"url": orders.url, "query": {"after": "{{ trigger.cursor }}"}},
        "items": output,
        "key": "entry.number",
        "cursor": f"size({output}) > 0 ? {output}[size({output}) - 1].number : trigger.cursor",
    }
    reply = await stack.api("POST", "/triggers", {"name": "orders", "workflow": workflow, "on": on})
    assert reply.status == 201, reply.body
    return str(reply.json["id"])


async def ordered(stack: Stack, trigger: str) -> Counter[int]:
    """How many runs each order has started."""
    async with pool(stack.settings["gateway"]) as postgres, as_org(postgres, "org_default") as connection:
        rows = await connection.fetch(
            "select input_preview from read.runs where trigger = $1 and workflow <> $1", trigger
        )
    return Counter(json.loads(row["input_preview"])["body"]["number"] for row in rows)


async def until_ordered(stack: Stack, trigger: str, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len(await ordered(stack, trigger)) < count:
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("point", ["follow.before_start", "follow.after_start"])
async def test_each_order_starts_one_run_whoever_dies(stack: Stack, orders: Orders, point: str) -> None:
    orders.come(7)
    trigger = await polling(stack, orders)
    dying = await stack.start_silently("projections", AUTOMATEOS_CRASH=f"{point}:2")
    async with asyncio.timeout(SECONDS):
        assert await dying.wait() == -9, "it died where it was told to"
    await stack.start_process("projections")
    await until_ordered(stack, trigger, 7)
    orders.come(2)
    await until_ordered(stack, trigger, 9)
    assert await ordered(stack, trigger) == Counter(range(1, 10))
    assert int(orders.asked[-1]) >= 7, "the cursor goes on"


async def test_a_poll_that_fails_is_told_and_the_next_one_goes_on(stack: Stack, orders: Orders) -> None:
    await stack.start("projections")
    orders.broken = True
    orders.come(1)
    trigger = await polling(stack, orders)

    async def refused() -> list[Any]:
        reply = await stack.api("GET", f"/triggers/{trigger}/deliveries?result=refused")
        assert reply.status == 200, reply.body
        return list(reply.json["items"])

    async with asyncio.timeout(SECONDS):
        while not await refused():
            await asyncio.sleep(0.2)
    assert "the poll failed" in (await refused())[-1]["reason"]
    orders.broken = False
    await until_ordered(stack, trigger, 1)
    async with asyncio.timeout(SECONDS):  # It fires each second: the newest fire may only just be decided.
        while (view := (await stack.api("GET", f"/triggers/{trigger}")).json)["fires"][
            "last_result"
        ] != "started":
            await asyncio.sleep(0.05)
    assert view["kind"] == "poll"
    assert (await stack.api("POST", f"/triggers/{trigger}/disable")).status == 204
    await asyncio.sleep(5)  # A poll that was decided before may still ask.
    asked = len(orders.asked)
    await asyncio.sleep(2)
    assert len(orders.asked) == asked, "disabled is disabled"


async def test_a_poll_that_is_tried_out_asks_for_real_and_nothing_of_it_counts(
    stack: Stack, orders: Orders
) -> None:
    await stack.start("projections")
    orders.come(2)
    trigger = await polling(stack, orders, seconds=86_400)
    for _ in range(2):
        asked = (await stack.api("POST", f"/triggers/{trigger}/test", {})).json["asked"]
        assert (asked["status"], asked["found"], asked["cursor"]) == ("completed", 2, 2)
        assert asked["items"] == [{"key": str(n), "item": {"number": n}} for n in (1, 2)]
    assert orders.asked == ["", ""], "the cursor stays"
    started = (await stack.api("POST", f"/triggers/{trigger}/test", {"start": True})).json
    async with asyncio.timeout(SECONDS):
        while (run := (await stack.api("GET", f"/runs/{started['run']}")).json)["status"] != "completed":
            await asyncio.sleep(0.2)
    assert (run["mode"], json.loads(run["output"]["preview"])) == ("test", {"n": 1})
    assert await ordered(stack, trigger) == Counter()
    assert (await stack.api("GET", f"/triggers/{trigger}/deliveries")).json["items"] == []
    change = {"name": "orders", "on": (await stack.api("GET", f"/triggers/{trigger}")).json["on"]}
    change["on"]["schedule"]["when"] = {"by": "interval", "seconds": 1}
    assert (await stack.api("PUT", f"/triggers/{trigger}", change)).status == 200
    await until_ordered(stack, trigger, 2)
    assert await ordered(stack, trigger) == Counter((1, 2)), "what was only looked at is found"
