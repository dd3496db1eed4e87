"""The outermost layer of an HTTP service: refuses what no request should be, and dresses every answer.

What lies inside may raise `Problem`; anything else that escapes is our defect, told as one and logged.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import structlog

from chassis.edge.addresses import client_address
from chassis.edge.bodies import Gone
from chassis.edge.problems import CONTENT_TYPE, Problem, problem_body
from chassis.http import App, Receive, Scope, Send
from chassis.ids import receipt
from chassis.telemetry import Histogram, Tracer, trace_id
from contracts.limits import HEADER_BYTES, HEADER_FIELDS

log = structlog.get_logger()

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

SECURITY_HEADERS: Final[Headers] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        b"font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        b"require-trusted-types-for 'script'",
    ),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b""),
    (b"cache-control", b"no-store"),
)
_CLOSE: Final = {"connection": "close"}


class Guard:
    """Wraps an ASGI app. Leaves in `scope["state"]`: `trace` (a traceparent) and `address` (the client's)."""

    def __init__(
        self,
        app: App,
        *,
        tracer: Tracer,
        trusted_proxies: int = 0,
        headers: Headers = SECURITY_HEADERS,
        durations: Histogram | None = None,
    ) -> None:
        self._app = app
        self._tracer = tracer
        self._trusted_proxies = trusted_proxies
        self._headers = tuple(headers)
        self.durations = durations or Histogram()
        """Seconds until an answer began."""
        self.answers: dict[str, int] = {}
        """Answers by the class of their status: `2xx`, `4xx` …"""
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(self, send)
        trace = self._tracer.accept(header(scope, b"traceparent"), receipt())
        self.under_way += 1
        try:
            with self._tracer.span("http.request", trace, method=scope["method"]) as inner:
                await self._answer(scope, receive, answer, inner)
        except Gone:
            return  # Nobody is there to be answered.
        finally:
            self.under_way -= 1

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer", trace: str) -> None:
        try:
            await self._run(scope, receive, answer, trace)
        except Problem as problem:
            if answer.began:
                raise
            await answer_problem(answer, problem, trace)
        except Gone:
            raise
        except Exception:
            log.exception("edge.defect", trace=trace_id(trace), method=scope["method"])
            if answer.began:
                raise
            await answer_problem(answer, Problem("internal"), trace)

    async def _run(self, scope: Scope, receive: Receive, send: Send, trace: str) -> None:
        check_framing(scope["headers"])
        peer = scope["client"][0] if scope.get("client") else ""
        forwarded = header(scope, b"x-forwarded-for") or ""
        state = scope.setdefault("state", {})
        state["trace"] = trace
        state["address"] = client_address(peer, forwarded, self._trusted_proxies)
        await self._app(scope, receive, send)

    def dress(self, message: Any, seconds: float) -> None:
        """Count an answer that begins, and give it our headers, but for those that the app has set itself."""
        kind = f"{message['status'] // 100}xx"
        self.answers[kind] = self.answers.get(kind, 0) + 1
        self.durations.observe(seconds)
        given = message.get("headers", ())
        names = {name for name, _ in given}
        message["headers"] = [*(pair for pair in self._headers if pair[0] not in names), *given]


class _Answer:
    """The way back to the client, and whether something has gone there."""

    __slots__ = ("_begin", "_guard", "_send", "began")

    def __init__(self, guard: Guard, send: Send) -> None:
        self._guard, self._send = guard, send
        self._begin = asyncio.get_running_loop().time()
        self.began = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.began = True
            self._guard.dress(message, asyncio.get_running_loop().time() - self._begin)
        await self._send(message)


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def check_framing(headers: Headers) -> None:
    """Bounds of the header section, and one meaning of where the body ends (request smuggling)."""
    if len(headers) > HEADER_FIELDS:
        raise Problem("headers_too_large", f"More than {HEADER_FIELDS} header fields.", headers=_CLOSE)
    if sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES:
        raise Problem("headers_too_large", f"More than {HEADER_BYTES} bytes of headers.", headers=_CLOSE)
    framing = [name for name, _ in headers if name in (b"content-length", b"transfer-encoding")]
    if len(framing) > 1:
        raise Problem(
            "malformed", "A request has one Content-Length or one Transfer-Encoding.", headers=_CLOSE
        )


async def answer_problem(send: Send, problem: Problem, trace: str) -> None:
    """Send a problem as the whole answer."""
    body = problem_body(problem, trace_id(trace))
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *(
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in problem.headers.items()
        ),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
