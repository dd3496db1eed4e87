"""Pools on a real stack: executors are seen, sent home one after the other under load, and a held pool holds."""

import asyncio
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.gateways import Stack, open_stack
from tests.integration.test_gateway import published, started
from tests.integration.test_workers import LONG, ended, eventually

RUNS = 24


class Slow:
    """A server that takes its time, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Slow"]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked[head.split()[1]] += 1
            await asyncio.sleep(1.5)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as opened:
        opened.settings["executor"] = structs.replace(
            opened.settings["executor"], egress_allow="127.0.0.1/32:*", executor_port=0, pool_capacity=4
        )
        await opened.start("orchestrator", "projections", "gateway")
        yield opened


async def there(stack: Stack, pool: str = "default") -> dict[str, Any]:
    """The executors of a pool that are there and take tasks, by id."""
    told = (await stack.api("GET", f"/pools/{pool}")).json
    found = [each for each in told.get("executors", []) if not each["lost"] and not each["draining"]]
    return {each["id"]: each for each in found}


async def one_more(stack: Stack, label: str) -> tuple[Process, str]:
    """A further executor and its id. Its node types are known: it says that it is there before it has announced them."""
    before = await there(stack)
    process = await stack.start_silently("executor", AUTOMATEOS_POOL_LABELS=f"name={label}")
    new: set[str] = set()

    async def seen() -> bool:
        new.update((await there(stack)).keys() - before.keys())
        return bool(new) and (await stack.api("GET", "/node-types/http.request")).status == 200

    await eventually(seen)
    [name] = new
    assert (await there(stack))[name]["labels"] == {"name": label}
    return process, name


async def test_executors_are_sent_home_one_after_the_other_under_load_and_no_attempt_is_lost(
    stack: Stack,
) -> None:
    definition = {
        "nodes": [
            {
                "id": "call",
                "type": "http.request",
                "config": {"method": "POST", "url": "{{ trigger.body }}"},
            }
        ]
    }
    async with Slow().listening() as slow:
        first, first_name = await one_more(stack, "first")
        second, second_name = await one_more(stack, "second")
        workflow = await published(stack, definition)
        runs = [await started(stack, workflow, f"{slow.url}/{number}") for number in range(RUNS)]

        async def busy() -> bool:
            return all(each["under_way"] for each in (await there(stack)).values())

        await eventually(busy)
        told = await stack.api("POST", f"/pools/default/executors/{first_name}/drain")
        assert (told.status, told.json["draining"]) == (200, True)
        third, _ = await one_more(stack, "third")
        assert await asyncio.wait_for(first.wait(), LONG) == 0
        assert (await stack.api("POST", f"/pools/default/executors/{second_name}/drain")).status == 200
        assert await asyncio.wait_for(second.wait(), LONG) == 0
        assert [(await ended(stack, run))["status"] for run in runs] == ["completed"] * RUNS
        assert slow.asked == {f"/{number}": 1 for number in range(RUNS)}
        assert third.returncode is None


async def test_a_pool_that_is_held_gives_nothing_and_goes_on_where_it_was(stack: Stack) -> None:
    await one_more(stack, "only")
    workflow = await published(stack)
    assert (await stack.api("POST", "/pools/default/pause")).json["paused"]
    run = await started(stack, workflow, 1)

    async def waits() -> bool:
        return bool((await stack.api("GET", "/pools/default")).json["waiting"] == 1)

    await eventually(waits)
    await one_more(stack, "another")  # Held also for who comes later.
    await asyncio.sleep(1)
    assert (await stack.api("GET", "/pools/default")).json["waiting"] == 1
    assert not (await stack.api("POST", "/pools/default/resume")).json["paused"]
    assert (await ended(stack, run))["status"] == "completed"


async def test_an_executor_that_was_killed_is_lost_and_what_it_had_is_in_doubt(stack: Stack) -> None:
    definition = {
        "nodes": [{"id": "call", "type": "http.request", "config": {"method": "POST", "url": "{{ trigger.body }}"}}]
    }  # fmt: skip
    async with Slow().listening() as slow:
        process, name = await one_more(stack, "doomed")
        run = await started(stack, await published(stack, definition), f"{slow.url}/once")

        async def asked() -> bool:
            return bool(slow.asked)

        await eventually(asked)
        process.kill()
        await process.wait()

        async def lost() -> bool:
            told = (await stack.api("GET", "/pools/default")).json["executors"]
            return any(each["id"] == name and each["lost"] for each in told)

        await eventually(lost)
        await one_more(stack, "heir")

        async def doubted() -> bool:
            return (await stack.api("GET", f"/runs/{run}/steps")).json["items"][0]["status"] == "in_doubt"  # type: ignore[no-any-return]  # JSON.

        await eventually(doubted)
        assert slow.asked == {"/once": 1}
