"""The owner of a gate that dies between any two steps lets every run in that waits, each once and alone; on real servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chassis.crash import POINTS
from chassis.jetstream.log import JetStreamLog
from chassis.postgres import as_org, pool
from contracts import runs
from contracts.codec import decode_gate_commit
from contracts.gates import SlotGranted
from contracts.subjects import GATES, RUNS
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.conftest import ports_of
from tests.integration.gateways import Stack, open_stack
from tests.promises.evidence import Evidence
from tests.promises.gates import gates_are_kept
from tests.promises.tables import Tables

SECONDS = 120.0
MANY = 6
GATED: Any = {
    "nodes": [{"id": "pause", "type": "delay", "config": {"seconds": 0.2}}],
    "flow": {"limits": [{"name": "crm", "at_once": 1}]},
}
ENDED = "select count(*) from read.runs where workflow = $1 and status = 'completed'"


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        await stack.start("projections", "executor", "gateway")
        yield stack


async def completed(stack: Stack, workflow: str) -> int:
    async with pool(stack.settings["gateway"]) as postgres, as_org(postgres, "org_default") as connection:
        return int(await connection.fetchval(ENDED, workflow))


async def what_is_left(streams: NatsServer) -> Evidence:
    async with ports_of(streams) as ports:
        log = {name: await JetStreamLog(ports.connection, name).history(">") for name in (RUNS, GATES)}
    return Evidence(
        messages=log[RUNS],
        gates=log[GATES],
        ledger=(),
        effects=(),
        claims={},
        wishes=(),
        plans={},
        tables=Tables(),
        now=datetime.now(UTC),
    )


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("gate.")])
async def test_an_owner_of_a_gate_that_dies_between_two_steps(
    stack: Stack, streams: NatsServer, point: str, times: int
) -> None:
    dying = await stack.start_process("orchestrator", AUTOMATEOS_CRASH=f"{point}:{times}")
    workflow = (await stack.api("POST", "/workflows", {"name": "w", "definition": GATED})).json["id"]
    assert (await stack.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    replies = [await stack.api("POST", "/runs", {"workflow": workflow, "input": n}) for n in range(MANY)]
    waiting = {reply.json["run"] for reply in replies}
    assert len(waiting) == MANY
    async with asyncio.timeout(SECONDS):
        assert await dying.wait() == -9, "it died where it was told to"
    assert await completed(stack, workflow) < MANY, "somebody still waits"
    await stack.start_process("orchestrator")
    async with asyncio.timeout(SECONDS):
        while await completed(stack, workflow) < MANY:
            await asyncio.sleep(0.1)
    evidence = await what_is_left(streams)
    histories = evidence.histories()
    assert [str(each) for each in gates_are_kept(evidence, histories)] == []
    granted = Counter(
        event.run
        for stored in evidence.gates
        for event in decode_gate_commit(stored.body).events
        if isinstance(event, SlotGranted)
    )
    assert granted == Counter(waiting)
    for history in histories:
        kinds = Counter(type(event) for event in history.events)
        assert (kinds[runs.SlotTaken], kinds[runs.RunCompleted]) == (1, 1), history.run
