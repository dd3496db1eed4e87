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
        began = False
        begin = asyncio.get_running_loop().time()
        trace = self._tracer.accept(header(scope, b"traceparent"), receipt())

        async def dressed(message: Any) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                self._count(message["status"])
                self.durations.observe(asyncio.get_running_loop().time() - begin)
                message["headers"] = [*self._dress(message.get("headers", ())), *message.get("headers", ())]
            await send(message)

        self.under_way += 1
        try:
            await self._run(scope, receive, dressed, trace)
        except Gone:
            return  # Nobody is there to be answered.
        except Problem as problem:
            if began:
                raise
            await answer_problem(dressed, problem, trace)
        except Exception:
            log.exception("edge.defect", trace=trace_id(trace), method=scope["method"])
            if began:
                raise
            await answer_problem(dressed, Problem("internal"), trace)
        finally:
            self.under_way -= 1

    async def _run(self, scope: Scope, receive: Receive, send: Send, trace: str) -> None:
        check_framing(scope["headers"])
        peer = scope["client"][0] if scope.get("client") else ""
        forwarded = header(scope, b"x-forwarded-for") or ""
        state = scope.setdefault("state", {})
        state["trace"] = trace
        state["address"] = client_address(peer, forwarded, self._trusted_proxies)
        await self._app(scope, receive, send)

    def _dress(self, given: Headers) -> list[tuple[bytes, bytes]]:
        """Ours, but for those that the app has set itself."""
        names = {name for name, _ in given}
        return [pair for pair in self._headers if pair[0] not in names]

    def _count(self, status: int) -> None:
        kind = f"{status // 100}xx"
        self.answers[kind] = self.answers.get(kind, 0) + 1


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
