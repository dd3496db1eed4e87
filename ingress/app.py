"""The hot route as a plain ASGI callable: `/hooks/{token}`, and what operators look at.

A framework costs twenty times as much per request as this function; here that is the whole budget.
"""

import asyncio
from typing import Final

from chassis.edge.addresses import client_address

from chassis.clock import Clock
from chassis.http import App, Ready, Receive, Scope, Send, health_answer, lifespan, send_whole
from chassis.telemetry import Metrics, Tracer
from contracts.limits import BODY_SECONDS, HEADER_BYTES, HEADER_FIELDS
from ingress.accept import Admitted, Door
from ingress.deliveries import Request
from ingress.replies import Reply, refused

PREFIX: Final = "/hooks/"


class Unreadable(Exception):
    """The request cannot be read as one; the answer says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class Ingress:
    """Routes requests to the door."""

    def __init__(
        self,
        *,
        door: Door,
        ready: Ready,
        metrics: Metrics,
        tracer: Tracer,
        clock: Clock,
        trusted_proxies: int,
    ) -> None:
        self._door = door
        self._ready = ready
        self._metrics = metrics
        self._tracer = tracer
        self._clock = clock
        self._trusted_proxies = trusted_proxies

    def app(self) -> App:
        return self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        path: str = scope["path"]
        if path.startswith(PREFIX):
            try:
                reply = await self._hook(path[len(PREFIX) :], scope, receive)
            except Unreadable as unreadable:
                reply = unreadable.reply
        else:
            answer = await health_answer(path, self._ready, self._metrics)
            if answer is not None:
                await send_whole(send, *answer)
                return
            reply = refused("not_found", "Webhooks live under /hooks/.")
        await _send(send, reply)

    async def _hook(self, token: str, scope: Scope, receive: Receive) -> Reply:
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        headers = _headers(raw)
        peer = scope["client"][0] if scope["client"] else ""
        address = client_address(peer, headers.get("x-forwarded-for", ""), self._trusted_proxies)
        admitted = self._door.admit(token, scope["method"], address)
        if isinstance(admitted, Reply):
            return admitted
        body = await _body(receive, headers, admitted)
        request = Request(
            method=scope["method"],
            headers=headers,
            raw_headers=raw,
            query=scope["query_string"].decode("latin-1"),
            body=body,
            address=address,
            received_at=self._clock.now().isoformat(),
            trace=self._tracer.accept(headers.get("traceparent"), admitted.receipt),
        )
        return await self._door.take(admitted, request)


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case names; bounded in number and size; a length and a coding together are refused (request smuggling)."""
    if len(raw) > HEADER_FIELDS:
        raise Unreadable(refused("headers_too_large", f"More than {HEADER_FIELDS} header fields."))
    found: dict[str, str] = {}
    size = 0
    for name_bytes, value_bytes in raw:
        size += len(name_bytes) + len(value_bytes)
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    if size > HEADER_BYTES:
        raise Unreadable(refused("headers_too_large", f"More than {HEADER_BYTES} bytes of headers."))
    if "transfer-encoding" in found and "content-length" in found:
        raise Unreadable(refused("malformed", "Content-Length and Transfer-Encoding exclude each other."))
    return found


async def _body(receive: Receive, headers: dict[str, str], admitted: Admitted) -> bytes:
    """The whole body, within the trigger's bound and the deadline."""
    too_large = refused("too_large", f"This webhook takes {admitted.body_bytes} bytes.", connection="close")
    length = headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > admitted.body_bytes:
        raise Unreadable(too_large)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Unreadable(refused("malformed", "The connection ended before the body."))
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > admitted.body_bytes:
                    raise Unreadable(too_large)
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise Unreadable(
            refused("slow_request", "The body did not arrive in time.", connection="close")
        ) from None


async def _send(send: Send, reply: Reply) -> None:
    headers = tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()
    )
    await send_whole(send, reply.status, reply.content_type.encode("latin-1"), reply.body, headers)
