"""L1 and promise 8: fifty secrets go in by every door that takes one, are used, and fail; none is found anywhere again."""

import asyncio
import base64
import io
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import redis.asyncio
from msgspec import structs
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import executor.__main__ as executor_main
import gateway.__main__ as gateway_main
from chassis.jetstream.log import JetStreamLog
from chassis.settings import Settings
from chassis.telemetry import Tracer, configure_logs, tracer_for
from contracts.streams import BUCKETS, STREAMS
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.integration.conftest import ports_of
from tests.integration.gateways import Stack, ask, open_stack
from tests.integration.test_gateway import published, started, until, until_there

HOST = "127.0.0.1"
KINDS: dict[str, tuple[dict[str, str], str]] = {
    "header": ({"name": "X-Own"}, "value"),
    "basic": ({"user": "u"}, "password"),
    "bearer": ({}, "token"),
    "api_key_query": ({"name": "k"}, "value"),
    "hmac": ({}, "key"),
    "smtp": ({"user": "u"}, "password"),
    "text": ({}, "text"),
}


class Sinks:
    """Every place at which something could be seen, as bytes."""

    def __init__(self, canaries: list[str]) -> None:
        self.canaries = canaries
        self.seen: dict[str, list[bytes]] = {}

    def add(self, sink: str, data: bytes | str) -> None:
        self.seen.setdefault(sink, []).append(data.encode() if isinstance(data, str) else data)

    def hits(self) -> list[tuple[str, str]]:
        found = []
        for sink, pieces in self.seen.items():
            whole = b"\n".join(pieces)
            found += [
                (sink, form) for canary in self.canaries for form in forms(canary) if form.encode() in whole
            ]
        return found


def forms(canary: str) -> list[str]:
    data = canary.encode()
    parts = [base64.b64encode(b"\0" * ahead + data).decode()[4:-4] for ahead in range(3)]
    return [canary, quote(canary, safe=""), json.dumps(canary)[1:-1], data.hex(), canary[::-1], *parts]


@asynccontextmanager
async def server() -> AsyncIterator[tuple[int, list[str]]]:
    """Answers by the path: 200, 500, nonsense, or nothing at all. Keeps what it was asked."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        heard.append(head)
        answers = {
            "/ok": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "/bad": b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
        }
        writer.write(answers.get(head.split(" ")[1].partition("?")[0], b"garbage\r\n\r\n"))
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, HOST, 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1], heard


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()

    def keeping(service: str, settings: Settings) -> Tracer:
        return tracer_for(service, settings, exporter)

    monkeypatch.setattr(executor_main, "tracer_for", keeping)
    monkeypatch.setattr(gateway_main, "tracer_for", keeping)
    yield exporter


async def test_no_secret_is_found_where_it_may_be_seen(
    database: PostgresAddress,
    streams: NatsServer,
    servers: Servers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sinks = Sinks([f"CANARY-/+{secrets.token_hex(16)}" for _ in range(50)])
    lines = io.BytesIO()
    with traced(monkeypatch) as spans:
        async with (
            open_stack(database, streams, servers.redis_url, tmp_path) as stack,
            server() as (port, heard),
        ):
            for name, each in stack.settings.items():
                stack.settings[name] = structs.replace(
                    each,
                    egress_allow=f"127.0.0.0/8:{port}",
                    otlp_endpoint="http://127.0.0.1:9",
                    trace_ratio=1.0,
                )
            configure_logs("tests", "debug", lines)
            await stack.start("orchestrator", "projections", "executor", "gateway")
            await stack.start_process("ingress")
            await used(stack, sinks, port, heard)
            await read_everything(stack, sinks, database, streams, servers)
        sinks.add("logs", lines.getvalue())
        for span in spans.get_finished_spans():
            sinks.add("traces", span.to_json())
    assert {"api", "postgres", "redis", "logs", "traces", "RUNS", "DOMAIN", "LOGS", "HOOKS"} <= set(
        sinks.seen
    )
    assert sinks.hits() == []
    for sink in list(sinks.seen):
        planted = Sinks(sinks.canaries[:1])
        planted.seen = {sink: [*sinks.seen[sink], f"x{sinks.canaries[0]}y".encode()]}
        assert planted.hits(), sink


async def used(stack: Stack, sinks: Sinks, port: int, heard: list[str]) -> None:
    """Put each in, then use it in a call that works, one that is refused, and one that breaks."""
    canaries = iter(sinks.canaries)
    ids: dict[str, list[str]] = {}
    for number, canary in enumerate(canaries):
        kind = list(KINDS)[number % len(KINDS)]
        ids.setdefault(kind, []).append(await stored(stack, sinks, kind, canary))
        if number == 44:
            break
    for kind in ("header", "basic", "bearer", "api_key_query", "hmac", "smtp", "text"):
        for path in ("ok", "bad", "breaks"):
            definition = calling(f"http://{HOST}:{port}/{path}", ids[kind][0])
            run = await started(stack, await published(stack, definition))
            await until(stack, run, "completed", "failed", "waiting", "parked")
            await shown(stack, sinks, run)
    assert any(sinks.canaries[0] in head for head in heard)
    await rotated(stack, sinks, ids["text"][0], next(canaries))
    await delivered(stack, sinks, [next(canaries) for _ in range(4)])


async def stored(stack: Stack, sinks: Sinks, kind: str, canary: str) -> str:
    rest, field = KINDS[kind]
    value = {"kind": kind, **rest, field: canary}
    made = await say(
        stack, sinks, "POST", "/secrets", {"name": canary[-8:], "value": value, "allowed_hosts": [HOST]}
    )
    assert made.status == 201, made.body
    # A mistake beside a secret must not quote it.
    await say(stack, sinks, "POST", "/secrets", {"name": 7, "value": value, "allowed_hosts": [{}]})
    await say(stack, sinks, "POST", "/secrets", {"name": "x", "value": {**value, "kind": "nonsense"}})
    await say(stack, sinks, "POST", f"/secrets/{made.json['id']}/test", {"url": f"http://{HOST}:1/"})
    return str(made.json["id"])


async def rotated(stack: Stack, sinks: Sinks, secret_id: str, canary: str) -> None:
    await say(
        stack, sinks, "POST", f"/secrets/{secret_id}/rotate", {"value": {"kind": "text", "text": canary}}
    )


def calling(url: str, secret_id: str) -> dict[str, Any]:
    config = {"method": "GET", "url": url, "auth": {"$secret": secret_id}, "headers": {"x-a": "b"}}
    return {"nodes": [{"id": "call", "type": "http.request", "config": config, "retry": {"attempts": 1}}]}


async def delivered(stack: Stack, sinks: Sinks, canaries: list[str]) -> None:
    """By a webhook: sealed fields, and a token in a header, right and wrong."""
    made = await stack.api(
        "POST", "/secrets", {"name": "hook", "value": {"kind": "text", "text": canaries[0]}}
    )
    webhook = {
        "authentication": {"scheme": "header_token", "header": "X-Token", "secret": made.json["id"]},
        "sensitive": ["/card", "/deep/*"],
    }
    definition = {
        "nodes": [
            {"id": "keep", "type": "echo", "config": {"value": "{{ trigger.body }}"}},
            {
                "id": "call",
                "type": "http.request",
                "config": {"url": "http://127.0.0.1:9/{{ trigger.body.card }}"},
            },
        ],
        "edges": [{"source": "keep", "target": "call"}],
    }
    workflow = await published(stack, definition)
    trigger = (
        await stack.api("POST", "/triggers", {"name": "h", "workflow": workflow, "webhook": webhook})
    ).json
    path = "/hooks/" + trigger["address"]["url"].rpartition("/")[2]
    body = {"card": canaries[1], "deep": [canaries[2]]}
    answers = []
    for token in (canaries[0], canaries[3]):
        async with asyncio.timeout(60):
            while True:
                reply = await ask(stack.port("ingress"), "POST", path, body, {"x-token": token})
                if reply.status != 404:
                    break
                await asyncio.sleep(0.1)  # Ingress does not know the trigger yet.
        sinks.add("api", reply.body)
        answers.append(reply)
    assert [answer.status for answer in answers] == [202, 401]
    run = answers[0].json["run"]
    await until_there(stack, run)
    await until(stack, run, "completed", "failed", "waiting")
    await shown(stack, sinks, run)
    for path in (f"/triggers/{trigger['id']}", f"/triggers/{trigger['id']}/deliveries"):
        await say(stack, sinks, "GET", path)


async def shown(stack: Stack, sinks: Sinks, run: str) -> None:
    for part in ("", "/steps", "/events", "/state", "/waiting", "/logs"):
        await say(stack, sinks, "GET", f"/runs/{run}{part}")


async def say(stack: Stack, sinks: Sinks, method: str, path: str, body: object = None) -> Any:
    reply = await stack.api(method, path, body)
    sinks.add("api", reply.body + json.dumps(reply.headers).encode())
    return reply


async def read_everything(
    stack: Stack, sinks: Sinks, database: PostgresAddress, streams: NatsServer, servers: Servers
) -> None:
    for path in ("/secrets", "/keys", "/workflows", "/triggers", "/runs", "/vars", "/node-types"):
        await say(stack, sinks, "GET", path)
    for name in ("gateway", "executor", "orchestrator", "projections", "ingress"):
        for path in ("/metrics", "/readyz"):
            headers = {"authorization": f"Bearer {stack.key}"}
            sinks.add("metrics", (await ask(stack.port(name), "GET", path, headers=headers)).body)
    await asyncio.sleep(1.5)  # Lines of attempts are stored beside the work.
    buckets = [("KV_" if each.kind == "values" else "OBJ_") + each.name for each in BUCKETS]
    async with ports_of(streams) as ports:
        for stream in [*(each.name for each in STREAMS), *buckets]:
            for message in await JetStreamLog(ports.connection, stream).history(">"):
                sinks.add(stream, message.body + repr(dict(message.headers)).encode())
    await dump(sinks, database)
    client = redis.asyncio.Redis.from_url(servers.redis_url)
    sinks.add("redis", "-")
    async for key in client.scan_iter():
        sinks.add("redis", key + repr(await client.dump(key)).encode())
    await client.aclose()


async def dump(sinks: Sinks, database: PostgresAddress) -> None:
    """Every row of every table, the vault's too: what lies there is sealed."""
    connection = await asyncpg.connect(**database.login())
    tables = await connection.fetch(
        "select schemaname, tablename from pg_tables where schemaname in ('read', 'archive', 'vault')"
    )
    for schema, table in tables:
        for row in await connection.fetch(f'select * from "{schema}"."{table}"'):  # Names of our own tables.
            sinks.add("postgres", b" ".join(_bytes(value) for value in row.values()))
    await connection.close()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_a_leak_is_found_in_every_form() -> None:
    canary = "CANARY-/+0123456789abcdef"
    leaks: Mapping[str, str] = {
        "plain": f"x{canary}",
        "json": json.dumps({"a": canary}),
        "url": f"?k={quote(canary, safe='')}",
        "basic": base64.b64encode(f"user:{canary}".encode()).decode(),
        "hex": canary.encode().hex(),
    }
    for name, leak in leaks.items():
        sinks = Sinks([canary])
        sinks.add("somewhere", leak)
        assert sinks.hits(), name
