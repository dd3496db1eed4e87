"""With a collector configured one trace shows a delivery from the webhook to its last step, across real services."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import structs
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from ingress.__main__ import main as ingress
from tests.integration import gateways
from tests.integration.gateways import Stack, ask, open_stack
from tests.integration.test_gateway import published, until, until_there

SERVICES = ("orchestrator", "projections", "executor", "gateway", "ingress")


class Collector(InMemorySpanExporter):
    """One for all services; a service that stops does not close it for the others."""

    def shutdown(self) -> None:
        return


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    collector = Collector()
    exporter = "opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter"
    monkeypatch.setattr(exporter, lambda endpoint: collector)
    monkeypatch.setitem(gateways.MAINS, "ingress", ingress)  # type: ignore[arg-type]  # A plain dictionary.
    return collector


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as opened:
        opened.settings = {
            name: structs.replace(each, otlp_endpoint="http://127.0.0.1:9", trace_ratio=1.0)
            for name, each in opened.settings.items()
        }
        yield opened


async def test_one_trace_leads_from_the_webhook_to_the_last_step(collector: Collector, stack: Stack) -> None:
    await stack.start(*SERVICES)
    workflow = await published(stack)
    webhook = {"authentication": {"scheme": "none"}}
    made = await stack.api("POST", "/triggers", {"name": "p", "workflow": workflow, "webhook": webhook})
    assert made.status == 201, made.body
    path = "/hooks/" + made.json["address"]["url"].rpartition("/")[2]
    async with asyncio.timeout(60):
        while (sent := await ask(stack.port("ingress"), "POST", path, {"n": 1})).status == 404:
            await asyncio.sleep(0.02)
    assert sent.status == 202, sent.body
    await until_there(stack, sent.json["run"])
    await until(stack, sent.json["run"], "completed")
    await stack.stop(*reversed(SERVICES))  # What is held back in batches is sent.
    spans = collector.get_finished_spans()
    commits = [
        span for span in spans if span.name == "commit" and (span.attributes or {})["run"] == sent.json["run"]
    ]
    assert [(span.attributes or {})["version"] for span in sorted(commits, key=_began)] == [1, 2, 3]
    [trace] = {span.context.trace_id for span in commits if span.context}
    ours = sorted((span for span in spans if span.context and span.context.trace_id == trace), key=_began)
    assert [(_service(span), span.name) for span in ours] == [
        ("ingress", "http.request"),
        ("orchestrator", "commit"),
        ("executor", "attempt"),
        ("orchestrator", "commit"),
        ("executor", "attempt"),
        ("orchestrator", "commit"),
    ]
    assert ours[0].parent is None, "the root is nobody's child"
    for before, span in pairwise(ours):
        assert span.parent is not None
        assert before.context is not None
        assert span.parent.span_id == before.context.span_id, f"{span.name} is caused by {before.name}"


def _began(span: ReadableSpan) -> int:
    return span.start_time or 0


def _service(span: ReadableSpan) -> str:
    return str(span.resource.attributes["service.name"]).removeprefix("automateos-")
