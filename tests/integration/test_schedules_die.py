"""An owner that dies between any two steps of a fire leaves nothing behind and doubles nothing, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chassis.crash import POINTS
from chassis.postgres import as_org, pool
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.gateways import Stack, open_stack

TICK: Any = {"when": {"by": "cron", "expression": "* * * * * *"}}
SET = {"nodes": [{"id": "a", "type": "set", "config": {"fields": {"planned": "{{ trigger.planned }}"}}}]}
SECONDS = 60.0


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        await stack.start("projections", "executor", "gateway")
        yield stack


async def planned(stack: Stack, trigger: str) -> list[datetime]:
    """The planned times of its runs, in their order."""
    async with pool(stack.settings["gateway"]) as postgres, as_org(postgres, "org_default") as connection:
        rows = await connection.fetch("select cause_id from read.runs where trigger = $1 order by 1", trigger)
    return [datetime.fromisoformat(row["cause_id"]) for row in rows]


async def ran(stack: Stack, trigger: str, count: int) -> list[datetime]:
    async with asyncio.timeout(SECONDS):
        while len(found := await planned(stack, trigger)) < count:
            await asyncio.sleep(0.1)
    return found


async def fires_of(stack: Stack, trigger: str) -> Any:
    return (await stack.api("GET", f"/triggers/{trigger}")).json["fires"]


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("schedule.")])
async def test_an_owner_that_dies_between_two_steps(stack: Stack, point: str) -> None:
    dying = await stack.start_process("orchestrator", AUTOMATEOS_CRASH=f"{point}:6")
    workflow = (await stack.api("POST", "/workflows", {"name": "w", "definition": SET})).json["id"]
    assert (await stack.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    body = {"name": "s", "workflow": workflow, "schedule": TICK}
    trigger = (await stack.api("POST", "/triggers", body)).json["id"]
    async with asyncio.timeout(SECONDS):
        assert await dying.wait() == -9, "it died where it was told to"
    before = len(await planned(stack, trigger))
    await stack.start_process("orchestrator")
    await ran(stack, trigger, before + 4)
    # Before it is disabled: what is due at that very moment and not decided yet is missed then, and told.
    assert (await fires_of(stack, trigger))["missed"] == 0
    assert (await stack.api("POST", f"/triggers/{trigger}/disable")).status == 204
    await asyncio.sleep(1.5)
    async with asyncio.timeout(SECONDS):
        while (fires := await fires_of(stack, trigger))["fired"] != len(
            found := await planned(stack, trigger)
        ):
            await asyncio.sleep(0.1)
    assert found == [found[0] + number * timedelta(seconds=1) for number in range(len(found))]
    assert fires["refused"] == 0
