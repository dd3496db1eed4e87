"""What is sent and what comes back; and the request that a redirect makes of another."""

import re
from collections.abc import Callable, Mapping
from typing import Final

import httpcore2
from msgspec import Struct

from chassis.chains import HEADER as CAUSE
from chassis.egress.credentials import Credential, add_credential
from chassis.egress.errors import EgressError
from chassis.egress.urls import BadUrl, Target, parse_url
from chassis.secret import redact_url
from contracts.limits import RESPONSE_BYTES

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# The connection's own business, and what only we may say. A Host of the caller's choosing would take a credential to another tenant of one address.
_OURS: Final = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        CAUSE,
    }
)
# What still goes along when a redirect leads elsewhere; any other header may be a secret.
_HARMLESS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "user-agent", "idempotency-key"}
)
_DEFAULTS: Final = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "AutomateOS"}
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})
_TO_GET: Final = {301: frozenset({"POST"}), 302: frozenset({"POST"})}


class Request(Struct, frozen=True, kw_only=True):
    """One call to the outside world."""

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    timeout_s: float = 30.0
    """For everything together: name, connection, redirects, answer."""
    max_bytes: int = RESPONSE_BYTES
    follow_redirects: bool = True
    credential: Credential | None = None
    repeatable: bool | None = None
    """Whether sending it twice does what sending it once does; None: what HTTP says of the method.

    A call that must not be sent twice gets a connection of its own: on a kept one that the other side has just closed
    nobody could say whether it arrived. Any other is sent again when that happens.
    """
    cause: Callable[[], str] | None = None
    """What tells our own addresses which run asks; sent, and even asked for, only when the call goes to one of them."""

    def __repr__(self) -> str:
        return f"Request({self.method} {redact_url(self.url)})"


class Response(Struct, frozen=True, kw_only=True):
    """A complete answer, its compression undone."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order in which they came."""
    body: bytes
    url: str
    """Where it came from in the end, without the credential."""
    ours: bool = False
    """Whether that is one of our own addresses."""
    elapsed: float
    """Seconds from the call to the last byte."""

    def header(self, name: str) -> str | None:
        """The first header of this (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)

    def __repr__(self) -> str:
        return f"Response({self.status} {redact_url(self.url)} {len(self.body)} bytes)"


class Hop(Struct, frozen=True, kw_only=True):
    """A request to one place; a redirect makes the next one of it."""

    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes
    credential: Credential | None
    promise: bool | None = None
    """What the caller says about sending it twice."""
    cause: Callable[[], str] | None = None

    @property
    def repeatable(self) -> bool:
        return self.method in _SAFE if self.promise is None else self.promise


def first_hop(request: Request) -> Hop:
    """Raises `EgressError` when the request cannot be sent as it is."""
    method = request.method.upper()
    if not _TOKEN.fullmatch(method) or method in {"CONNECT", "TRACE"}:
        raise _refused("The method cannot be used.")
    try:
        target = parse_url(request.url)
    except BadUrl as error:
        raise _refused(str(error)) from error
    for name, value in request.headers.items():
        _check_header(name, value)
    names = {name.lower() for name in request.headers}
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in names}
    return Hop(
        method=method,
        target=target,
        headers={**request.headers, **defaults},
        body=request.body,
        credential=request.credential,
        promise=request.repeatable,
        cause=request.cause,
    )


def next_hop(hop: Hop, status: int, location: str) -> Hop:
    """Where a redirect leads. Beyond the origin no credential and no header of the caller's own making goes along."""
    try:
        target = parse_url(location, hop.target)
    except BadUrl as error:
        raise EgressError("bad_redirect", touched=True, detail=str(error)) from error
    same_origin = target.origin == hop.target.origin
    to_get = hop.method in _TO_GET.get(status, ()) or (status == 303 and hop.method != "HEAD")
    headers = {
        name: value
        for name, value in hop.headers.items()
        if (same_origin or name.lower() in _HARMLESS) and not (to_get and name.lower() == "content-type")
    }
    return Hop(
        method="GET" if to_get else hop.method,
        target=target,
        headers=headers,
        body=b"" if to_get else hop.body,
        # Dropped for good: another origin must not lead it back with a path of its choosing.
        credential=hop.credential if same_origin else None,
        # That it may be sent twice was said of another server.
        promise=hop.promise if same_origin or hop.promise is False else None,
        # Each hop is judged by where it goes.
        cause=hop.cause,
    )


def message(hop: Hop, *, ours: bool = False) -> httpcore2.Request:
    """The request as it goes on the line; `ours`: to an address of our own.

    Raises `EgressError` when its credential may not go there.
    """
    target, headers = hop.target, dict(hop.headers)
    if hop.credential is not None:
        target, headers = add_credential(hop.credential, target, headers)
        for name, value in headers.items():
            _check_header(name, value)
    lines = [(b"host", hop.target.authority.encode())]
    lines += [(name.encode(), _value(value)) for name, value in headers.items()]
    if ours and hop.cause is not None:
        lines.append((CAUSE.encode(), hop.cause().encode()))
    if hop.body or hop.method in _BODY_EXPECTED:
        lines.append((b"content-length", str(len(hop.body)).encode()))
    url = httpcore2.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path
    )
    return httpcore2.Request(hop.method.encode(), url, headers=lines, content=hop.body)


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise _refused("A header has a character that headers do not have.")
    if name.lower() in _OURS:
        raise _refused(f"The header {name.lower()} is set by us.")


def _value(text: str) -> bytes:
    try:
        return text.strip().encode("latin-1")
    except UnicodeEncodeError:
        return text.strip().encode("utf-8", "replace")


def _refused(detail: str) -> EgressError:
    return EgressError("bad_request", touched=False, detail=detail)
