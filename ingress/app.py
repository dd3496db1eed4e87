"""The hot route as a plain ASGI callable: `/hooks/{token}`; `/forms/{token}` and `/resume/{link}`; what operators look at.

A framework costs twenty times as much per request as this function; here that is the whole budget.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from chassis.admission import Admission
from chassis.clock import Clock
from chassis.edge.bodies import read_body, size_of
from chassis.edge.connections import TurnAway
from chassis.edge.guard import Guard, header
from chassis.edge.problems import Problem
from chassis.http import App, Ready, Receive, Scope, Send, health_answer, lifespan, send_whole
from chassis.links import PATH as RESUME
from chassis.telemetry import Metrics, Tracer
from contracts.limits import FORM_BODY_BYTES, WEBHOOK_BODY_BYTES
from ingress.accept import Door
from ingress.answering import Desk
from ingress.deliveries import Request
from ingress.forms import Forms
from ingress.replies import Reply

PREFIX: Final = "/hooks/"
FORMS: Final = "/forms/"
_TARGET: Final = PREFIX.encode()
ANSWER_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


def ingress_app(  # noqa: PLR0913  # The composition root names every part once.
    *,
    door: Door,
    desk: Desk,
    forms: Forms,
    admission: Admission,
    ready: Ready,
    metrics: Metrics,
    tracer: Tracer,
    clock: Clock,
    trusted_proxies: int,
    notes: Sequence[str] = (),
) -> Guard:
    """The whole of ingress as one ASGI app."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        path: str = scope["path"]
        if path.startswith(PREFIX):
            admission.check()
            await _send(send, await _hook(door, admission, clock, scope, receive))
            return
        if path.startswith(FORMS):
            if scope["method"] == "POST":
                admission.check()
            await _send(send, await _form(forms, admission, clock, scope, receive))
            return
        if path.startswith(RESUME):
            await _send(send, await _answer(desk, admission, clock, scope, receive))
            return
        inside = _inside(scope["state"]["address"])
        answer = await health_answer(path, ready, metrics, notes) if inside else None
        if answer is None:
            raise Problem("not_found", "Webhooks live under /hooks/, forms under /forms/.")
        await send_whole(send, *answer)

    inner: App = serve
    durations = metrics.histogram("http_seconds", "Seconds until an answer began.")
    return Guard(
        inner, tracer=tracer, trusted_proxies=trusted_proxies, headers=ANSWER_HEADERS, durations=durations
    )


def door_keeper(admission: Admission) -> TurnAway:
    """Refuses deliveries in an overload before anything is made of them."""

    def turn_away(target: bytes) -> bytes | None:
        return admission.refusal() if target.startswith(_TARGET) else None

    return turn_away


async def _hook(door: Door, admission: Admission, clock: Clock, scope: Scope, receive: Receive) -> Reply:
    address: str = scope["state"]["address"]
    admitted = door.admit(scope["path"][len(PREFIX) :], scope["method"], address)
    length, most = _length(scope), admitted.body_bytes
    with admission.holding(size_of(length, most)):
        return await door.take(admitted, await _request(scope, receive, clock, length, most))


async def _form(forms: Forms, admission: Admission, clock: Clock, scope: Scope, receive: Receive) -> Reply:
    opened = forms.open(scope["path"][len(FORMS) :], scope["method"])
    if scope["method"] == "GET":
        return forms.show(opened)
    length = _length(scope)
    with admission.holding(size_of(length, FORM_BODY_BYTES)):
        return await forms.take(opened, await _request(scope, receive, clock, length, FORM_BODY_BYTES))


async def _answer(desk: Desk, admission: Admission, clock: Clock, scope: Scope, receive: Receive) -> Reply:
    place = desk.admit(scope["path"][len(RESUME) :])
    length = _length(scope)
    with admission.holding(size_of(length, WEBHOOK_BODY_BYTES)):
        return await desk.take(place, await _request(scope, receive, clock, length, WEBHOOK_BODY_BYTES))


def _length(scope: Scope) -> bytes:
    return (header(scope, b"content-length") or "").encode("latin-1")


async def _request(scope: Scope, receive: Receive, clock: Clock, length: bytes, most: int) -> Request:
    return Request(
        method=scope["method"],
        headers=_headers(scope["headers"]),
        raw_headers=scope["headers"],
        query=scope["query_string"].decode("latin-1"),
        body=await read_body(receive, length or None, most),
        address=scope["state"]["address"],
        received_at=clock.now().isoformat(),
        trace=scope["state"]["trace"],
    )


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _inside(address: str) -> bool:
    """Health and figures are for whoever operates us, not for the internet that this port may face."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_private
    except ValueError:
        return False


async def _send(send: Send, reply: Reply) -> None:
    headers = tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()
    )
    await send_whole(send, reply.status, reply.content_type.encode("latin-1"), reply.body, headers)
