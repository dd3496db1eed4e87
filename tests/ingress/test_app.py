"""The whole of ingress as it is spoken to: links under their path, and no trace, log line or header that shows one."""

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from chassis.admission import Admission
from chassis.settings import Settings
from chassis.telemetry import Metrics, tracer_for
from ingress.app import ingress_app
from tests.ingress.desks import Hall, link_of, proof
from tests.orchestrator.stories import control, drawn


class Exchange:
    """One request to the app, and what came back."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> "Exchange":
        given = [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in (headers | {"content-length": str(len(body))}).items()
        ]
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": plain,
            "query_string": query.encode(),
            "headers": given,
            "client": ("192.0.2.7", 4711),
            "state": {},
        }

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self.body += message.get("body", b"")

        await self._app(scope, receive, send)
        return self


@pytest.mark.parametrize("kind", ["wait.approval", "wait.webhook"])
def test_a_link_is_answered_under_its_path_and_shown_by_nothing(kind: str) -> None:
    exporter = InMemorySpanExporter()
    tracer = tracer_for("ingress", Settings(trace_ratio=1.0, otlp_endpoint="http://127.0.0.1:1"), exporter)

    nobody: Any = None  # Nobody knocks at the other doors.

    async def story(hall: Hall) -> None:
        app = ingress_app(
            door=nobody,
            forms=nobody,
            desk=hall.desk,
            admission=Admission(hall.dispatch, hall.clock, most=4, backlog=lambda: 0, most_backlog=10),
            ready=lambda: asyncio.sleep(0, []),
            metrics=Metrics("ingress"),
            tracer=tracer,
            clock=hall.clock,
            trusted_proxies=0,
        )
        path = link_of().removeprefix("https://hooks.example")
        body = b'{"decision":"approved","name":"Ada"}'
        page = await Exchange(app).ask("GET", path, accept="text/html")
        answer = await Exchange(app).ask("POST", path, body, content_type="application/json")
        wrong = await Exchange(app).ask("POST", f"{path[:-1]}{'A' if path[-1] != 'A' else 'B'}", body)
        assert (page.status, answer.status, wrong.status) == (
            200 if kind == "wait.approval" else 405,
            200,
            404,
        )
        if kind == "wait.approval":
            assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src")
            assert proof() not in page.body, "a page is shown to others, too"
        assert hall.state.attempts.keys() == {"go"}
        assert b"resume" not in wrong.body

    port = "approved" if kind == "wait.approval" else "main"
    config = {"question": "Well?"} if kind == "wait.approval" else {}
    with capture_logs() as lines:
        Hall(drawn(f"ask.{port}>go", control("ask", kind, config))).run(story)
    tracer.close()
    shown = repr([(span.name, dict(span.attributes or {})) for span in exporter.get_finished_spans()])
    assert "http.request" in shown
    for told in (shown, repr(lines)):
        assert proof().decode() not in told
        assert "/resume/" not in told
