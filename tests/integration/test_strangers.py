"""I1 and I4: of what another org has, nothing is told, not even that it is there, by no route and by no amount of work."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg.pool import PoolConnectionProxy

from chassis.jetstream.connection import Connection
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from gateway.permissions import API, PERMISSIONS
from tests.gateway.test_access import BODIES, filled, filled_body
from tests.integration.gateways import Reply, Stack, open_stack
from tests.integration.test_gateway import published, started, until

ABSENT = "0" * 36
NAMING = sorted(
    (method, path)
    for method, path in PERMISSIONS
    if path.startswith(API) and "{" in path and not {"{node_type}", "{pool}"} & set(path.split("/"))
)
"""Node types and pools are no org's; those of workers outside are, and are asked for in `test_workers_api.py`."""


class Work:
    """What the gateway asked its stores for: statements and subjects, without the ids in them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    @contextmanager
    def counted(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            self._count(patch, asyncpg.Connection, name)
            self._count(patch, PoolConnectionProxy, name)
        for name in ("ask_last", "collect"):
            self._count(patch, Connection, name)
        yield
        patch.undo()

    def _count(self, patch: pytest.MonkeyPatch, kind: Any, name: str) -> None:
        original = getattr(kind, name)
        work = self

        def counting(connection: Any, asked: Any, *more: Any, **named: Any) -> Any:
            work.done.append(_shape(asked))
            return original(connection, asked, *more, **named)

        patch.setattr(kind, name, counting)


def _shape(asked: Any) -> str:
    if isinstance(asked, str):
        return asked
    return ", ".join(question[0].partition("_INBOX")[0] for batch in asked for question in batch)


async def asked(stack: Stack, route: tuple[str, str], ids: dict[str, str]) -> Reply:
    method, path = route
    body = BODIES.get((method, path.removeprefix(API)))
    if body is not None:
        body = json.loads(filled_body(json.dumps(body), ids))
    return await stack.api(method, filled(path, ids).removeprefix(API), body)


async def everything_of(stack: Stack, key: str) -> dict[str, str]:
    workflow = await published(stack, key=key)
    run = await started(stack, workflow, key=key)
    await until(stack, run, "completed", key=key)
    trigger = await stack.api("POST", "/triggers", {"name": "x", "workflow": workflow}, key=key)
    secret = await stack.api(
        "POST", "/secrets", {"name": "s", "value": {"kind": "text", "text": "t"}}, key=key
    )
    issued = await stack.api("POST", "/keys", {"name": "k", "scopes": ["runs:read"]}, key=key)
    return {
        "workflow_id": workflow,
        "version": "1",
        "run_id": run,
        "trigger_id": trigger.json["id"],
        "receipt": (await stack.api("GET", f"/runs/{run}", key=key)).json["receipt"],
        "secret_id": secret.json["id"],
        "key_id": issued.json["id"],
    }


async def test_a_foreign_id_is_answered_as_one_that_never_was_with_the_same_work(
    database: PostgresAddress,
    streams: NatsServer,
    servers: Servers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        await stack.start("orchestrator", "projections", "executor", "gateway")
        theirs = await stack.key_for("other")
        foreign = await everything_of(stack, theirs)
        absent = {name: ABSENT if name != "version" else "1" for name in foreign}
        async with asyncio.timeout(60):  # From here on the read models stand still.
            while (await stack.api("GET", f"/triggers/{foreign['trigger_id']}", key=theirs)).status != 200:
                await asyncio.sleep(0.05)
        await stack.stop("executor", "projections", "orchestrator")
        before = await _told(stack, theirs, foreign)
        work = Work()
        with work.counted(monkeypatch):
            noise = await _idle(work)
            for route in NAMING:
                works = [await _work_of_both(stack, work, noise, route, (foreign, absent))]
                # What was learnt may have grown old in between; what depends on the id is there every time.
                while len(works[-1][0]) != len(works[-1][1]):
                    assert len(works) < 5, (route, works[-1])
                    works.append(await _work_of_both(stack, work, noise, route, (foreign, absent)))
                assert works[-1][0], route
        assert await _told(stack, theirs, foreign) == before


async def _work_of_both(
    stack: Stack, work: Work, noise: set[str], route: tuple[str, str], both: tuple[dict[str, str], ...]
) -> list[list[str]]:
    """What is asked of the stores for an id of others and for one that never was; both are answered alike."""
    answers, works = [], []
    for ids in both:
        await asked(stack, route, ids)  # What is learnt by the first question is not asked again.
        work.done.clear()
        answers.append(await asked(stack, route, ids))
        works.append([each for each in work.done if each not in noise])
    assert [answer.status for answer in answers] == [404, 404], route
    first, second = ({**answer.json, "trace_id": ""} for answer in answers)
    assert first == second, route
    return works


async def _idle(work: Work) -> set[str]:
    """What is asked for while nobody calls."""
    await asyncio.sleep(3)
    return set(work.done)


async def _told(stack: Stack, key: str, ids: dict[str, str]) -> list[Any]:
    """What the owner reads of its own things."""
    paths = (
        f"/workflows/{ids['workflow_id']}",
        f"/triggers/{ids['trigger_id']}",
        f"/runs/{ids['run_id']}",
        "/secrets",
        "/keys",
    )
    read = [(await stack.api("GET", path, key=key)).json for path in paths]
    for listed in read[-1]["items"]:
        listed.pop("last_used", None)
    return read
