"""Projections that die between any two steps lose no event that a trigger follows, and start no run twice; on real servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis.crash import POINTS
from chassis.postgres import as_org, pool
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.gateways import Stack, open_stack

SECONDS = 60.0
SET = {"nodes": [{"id": "a", "type": "set", "config": {"fields": {"n": 1}}}]}
FAILS = {"nodes": [{"id": "a", "type": "stop", "config": {"message": "no"}}]}


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        await stack.start("orchestrator", "executor", "gateway")
        yield stack


async def published(stack: Stack, definition: Any) -> str:
    workflow = (await stack.api("POST", "/workflows", {"name": "w", "definition": definition})).json["id"]
    assert (await stack.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    return str(workflow)


async def following(stack: Stack, on: Any) -> str:
    body = {"name": "after", "workflow": await published(stack, SET), "on": on}
    reply = await stack.api("POST", "/triggers", body)
    assert reply.status == 201, reply.body
    return str(reply.json["id"])


async def started_by(stack: Stack, trigger: str) -> Counter[str]:
    """How many runs each cause has started."""
    async with pool(stack.settings["gateway"]) as postgres, as_org(postgres, "org_default") as connection:
        rows = await connection.fetch("select cause_id from read.runs where trigger = $1", trigger)
    return Counter(row["cause_id"] for row in rows)


async def run(stack: Stack, workflow: str) -> str:
    reply = await stack.api("POST", "/runs", {"workflow": workflow, "input": None})
    assert reply.status == 202, reply.body
    return str(reply.json["run"])


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("follow.")])
async def test_projections_that_die_between_two_steps(stack: Stack, point: str) -> None:
    followed = await published(stack, SET)
    trigger = await following(stack, {"kind": "run_end", "workflows": [followed]})
    # The positions move also while nothing is wanted: die at a time that comes while something is.
    dying = await stack.start_process(
        "projections", AUTOMATEOS_CRASH=f"{point}:{8 if 'position' in point else 3}"
    )
    runs = []
    async with asyncio.timeout(SECONDS):
        while dying.returncode is None:
            runs.append(await run(stack, followed))
            await asyncio.sleep(0.2)
    assert dying.returncode == -9, "it died where it was told to"
    runs += [await run(stack, followed) for _ in range(3)]
    await stack.start_process("projections")
    async with asyncio.timeout(SECONDS):
        while (await started_by(stack, trigger)).keys() != set(runs):
            await asyncio.sleep(0.2)
    await asyncio.sleep(1)
    assert await started_by(stack, trigger) == Counter(runs)


async def test_an_event_a_filter_and_a_loop_as_their_owner_sees_them(stack: Stack) -> None:
    await stack.start("projections")
    failing = await published(stack, FAILS)
    on_step = await following(
        stack, {"kind": "event", "types": ["step.failed"], "filter": "trigger.body.event.node == 'a'"}
    )
    broken = await following(
        stack, {"kind": "run_end", "outcomes": ["failed"], "filter": "trigger.body.version"}
    )
    looping = await published(stack, SET)
    body = {"name": "loop", "workflow": looping, "on": {"kind": "run_end", "workflows": [looping]}}
    loop = (await stack.api("POST", "/triggers", body)).json["id"]
    failed = await run(stack, failing)
    await run(stack, looping)

    async def deliveries(trigger: str, result: str) -> list[Any]:
        return list((await stack.api("GET", f"/triggers/{trigger}/deliveries?result={result}")).json["items"])

    async with asyncio.timeout(SECONDS):
        while not (
            await deliveries(on_step, "accepted")
            and await deliveries(broken, "refused")
            and await deliveries(loop, "refused")
            and len(await deliveries(loop, "accepted")) >= 2
        ):
            await asyncio.sleep(0.2)
    [accepted] = await deliveries(on_step, "accepted")
    assert failed in accepted["preview"]
    [refused] = await deliveries(broken, "refused")
    assert "the filter: it is neither true nor false" in refused["reason"]
    assert refused["method"] == "RUN_END"
    assert len(await deliveries(loop, "accepted")) == 2
    [stopped] = await deliveries(loop, "refused")
    assert stopped["reason"].endswith(" → ".join([looping] * 4))
    view = (await stack.api("GET", f"/triggers/{loop}")).json
    assert (view["kind"], view["on"]["workflows"]) == ("run_end", [looping])
