"""Z1: whatever is asked of the running gateway, it never answers 500, and what it answers stands in its document."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from gateway.contract import text
from gateway.permissions import API
from tests.integration.gateways import Stack, ask, open_stack
from tests.integration.schemas import encoded, fitting
from tests.integration.test_gateway import published, started

EXAMPLES: Final = 12
_PROBLEM: Final = "application/problem+json"
_KEYS: Final = 12
"""Each may make 600 calls a minute."""


class Asked:
    """One call that was made up."""

    def __init__(self, path: str, query: dict[str, Any], headers: dict[str, Any], body: bytes | None) -> None:
        self.path, self.query, self.headers, self.body = path, query, headers, body


def calls(path: str, operation: Any, ids: dict[str, str], components: Any) -> st.SearchStrategy[Asked]:
    """Calls of one operation: its ids are there, absent or nonsense, the rest is nearly what the document says."""
    places: dict[str, dict[str, st.SearchStrategy[Any]]] = {"path": {}, "query": {}, "header": {}}
    for parameter in operation["parameters"]:
        name = parameter["name"]
        known = [ids[name]] * 3 if name in ids else []
        values = fitting(parameter.get("schema", {}), components)
        places[parameter["in"]][name] = st.sampled_from([*known, "absent"]) | values if known else values
    body = operation.get("requestBody")
    bodies: st.SearchStrategy[bytes | None] = st.none()
    if body is not None:
        schema = body["content"]["application/json"]["schema"]
        bodies = fitting(schema, components).map(encoded) | st.binary(max_size=50)

    def asked(parts: Any) -> Asked:
        address = path
        for name, value in parts[0].items():
            address = address.replace(f"{{{name}}}", quote(_said(value), safe="") or "-")
        return Asked(address, parts[1], parts[2], parts[3])

    return st.tuples(
        st.fixed_dictionaries(places["path"]),
        st.fixed_dictionaries({}, optional=places["query"]),
        st.fixed_dictionaries({}, optional=places["header"]),
        bodies,
    ).map(asked)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def drawn(strategy: st.SearchStrategy[Asked]) -> list[Asked]:
    """Examples, the same ones each time."""
    found: list[Asked] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(asked: Asked) -> None:
        found.append(asked)

    draw()
    return found


async def test_no_call_is_answered_by_a_defect_and_every_answer_is_as_documented(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> None:
    document = yaml.safe_load(text())
    async with open_stack(database, streams, servers.redis_url, tmp_path) as stack:
        await stack.start("orchestrator", "projections", "executor", "gateway")
        ids = await _one_of_everything(stack)
        keys = [await stack.key_for("org_default") for _ in range(_KEYS)]
        operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if path.startswith(API) and not path.endswith("/live")
        ]
        seen: set[int] = set()
        count = 0
        for method, path, operation in operations:
            for asked in drawn(calls(path, operation, ids, document["components"]["schemas"])):
                count += 1
                seen.add(await _judged(stack, keys[count % _KEYS], method, asked, operation, document))
    assert {200, 201, 204, 400, 404, 409} <= seen
    assert 500 not in seen


async def _one_of_everything(stack: Stack) -> dict[str, str]:
    workflow = await published(stack)
    made = await stack.api("POST", "/triggers", {"name": "x", "workflow": workflow})
    secret = await stack.api("POST", "/secrets", {"name": "s", "value": {"kind": "text", "text": "t"}})
    return {
        "workflow_id": workflow,
        "version": "1",
        "trigger_id": made.json["id"],
        "run_id": await started(stack, workflow),
        "secret_id": secret.json["id"],
        "node_type": "echo",
        "receipt": "0" * 36,
    }


async def _judged(stack: Stack, key: str, method: str, asked: Asked, operation: Any, document: Any) -> int:
    """The status of an answer that keeps what the document promises."""
    query = "&".join(f"{name}={quote(_said(value), safe='')}" for name, value in asked.query.items())
    headers = {"authorization": f"Bearer {key}"} | {
        name: quote(_said(value), safe=" -/") for name, value in asked.headers.items()
    }
    async with asyncio.timeout(60):
        reply = await ask(
            stack.port("gateway"),
            method,
            asked.path + (f"?{query}" if query else ""),
            None if asked.body is None else asked.body,
            headers,
        )
    shown = f"{method} {asked.path}?{query} {asked.body!r} -> {reply.status} {reply.body[:500]!r}"
    told = operation["responses"].get(str(reply.status), operation["responses"]["default"])
    assert reply.status < 500 or reply.status == 503, shown
    if reply.status >= 400:
        assert reply.headers["content-type"] == _PROBLEM, shown
        problem = reply.json
        assert problem["status"] == reply.status, shown
        assert problem["type"].startswith("urn:automateos:"), shown
    else:
        assert str(reply.status) in operation["responses"], shown
    content = told.get("content", {})
    if not content:
        assert reply.body == b"", shown
        return reply.status
    schema = {**content[reply.headers["content-type"]]["schema"], "components": document["components"]}
    assert not list(Draft202012Validator(schema).iter_errors(reply.json)), shown
    return reply.status
