"""The first layers behind the guard: who asks, how often, and only then what they send.

Rule that holds here: default deny. Without a valid key nothing of a request is read or routed, but for the few public paths.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from msgspec import structs

from chassis.chains import HEADER as CAUSE
from chassis.edge.bodies import read_body
from chassis.edge.guard import header
from chassis.edge.problems import Problem, unavailable
from chassis.http import App, Receive, Scope, Send
from chassis.rate_limit import RateLimit
from chassis.vault import ApiKey, VaultAway, api_key_hash
from contracts.limits import API_BODY_BYTES, API_CALLS_PER_MINUTE, WORKER_CALLS_PER_MINUTE
from gateway.callers import Caller
from gateway.permissions import PUBLIC, SCOPES, pool_in, scope_of
from gateway.places import HEADER

_BEARER: Final = "bearer "
_PUBLIC_PATHS: Final = ("/healthz", "/readyz", "/docs")
_POSITION: Final = HEADER.lower().encode()
_CAUSE: Final = CAUSE.encode()
_METRICS: Final = "/metrics"
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS"})

FindKey = Callable[[bytes], Awaitable[ApiKey | None]]


class Limits(Protocol):
    """How often a key may ask."""

    async def allow(self, key: str, per_minute: int) -> bool: ...

    def seconds_left(self) -> int: ...


class Callers:
    """Finds out who asks, whatever they ask by, and how often they do."""

    def __init__(self, find_key: FindKey, limit: Limits | RateLimit | None = None) -> None:
        self._find_key, self._limit = find_key, limit
        self.refused = 0

    async def admit(self, authorization: str | None, trace: str = "") -> Caller:
        """Raises `Problem` for whatever is not a valid key, and for one that asks too often."""
        caller = await self.caller_of(authorization, trace)
        await self._count(caller)
        return caller

    async def caller_of(self, authorization: str | None, trace: str = "") -> Caller:
        """Raises `Problem` for whatever is not a valid key, always the same one."""
        text = authorization or ""
        digest = api_key_hash(text[len(_BEARER) :]) if text[: len(_BEARER)].lower() == _BEARER else None
        try:
            key = await self._find_key(digest) if digest is not None else None
        except VaultAway:
            raise unavailable("The vault does not answer, so no key can be checked.") from None
        if key is None or digest is None:
            self.refused += 1
            raise Problem("unauthenticated", headers={"www-authenticate": "Bearer"})
        # A scope that this release does not know opens nothing.
        scopes = SCOPES.intersection(key.scopes)
        pool = pool_in(key.scopes)
        return Caller(org=key.org, key=key.id, scopes=scopes, digest=digest, trace=trace, pool=pool)

    async def _count(self, caller: Caller) -> None:
        most = WORKER_CALLS_PER_MINUTE if caller.pool else API_CALLS_PER_MINUTE
        if self._limit is not None and not await self._limit.allow(caller.key, most):
            raise Problem(
                "rate_limited",
                f"A key may make {most} calls a minute.",
                headers={"retry-after": str(self._limit.seconds_left())},
            )


class Authentication:
    """Leaves the `Caller` in `scope["state"]`."""

    def __init__(self, app: App, callers: Callers) -> None:
        self._app, self._callers = app, callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if not (_is_public(path) or (path == _METRICS and _from_this_machine(scope))):
            caller = await self._callers.admit(header(scope, b"authorization"), scope["state"]["trace"])
            scope["state"]["caller"] = structs.replace(
                caller, position=header(scope, _POSITION), said=header(scope, _CAUSE)
            )
        await self._app(scope, receive, send)


def still_valid(find_key: FindKey) -> Callable[[Caller], Awaitable[bool]]:
    """Asks whether a caller may go on. What was open stays open while the vault is away: nobody gains by that."""

    async def ask(caller: Caller) -> bool:
        try:
            return await find_key(caller.digest) is not None
        except VaultAway:
            return True

    return ask


def _is_public(path: str) -> bool:
    return any(path == public or path.startswith(f"{public}/") for public in _PUBLIC_PATHS)


def _from_this_machine(scope: Scope) -> bool:
    """Asked for directly by a process on this machine, not by a proxy on behalf of somebody."""
    client = scope.get("client")
    if not client or header(scope, b"x-forwarded-for") is not None or header(scope, b"forwarded") is not None:
        return False
    return ipaddress.ip_address(client[0]).is_loopback


class WholeBody:
    """Reads the body before the framework sees the request: bounded, in time, and of a type that we read."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        length = header(scope, b"content-length")
        body = await read_body(receive, None if length is None else length.encode("latin-1"), API_BODY_BYTES)
        if body and not _is_json(header(scope, b"content-type") or ""):
            raise Problem("unsupported_media_type", "Send application/json.")
        scope["state"]["body"] = body
        given = False

        async def again() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


def _is_json(content_type: str) -> bool:
    kind, _, parameters = content_type.lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    return kind.strip() == "application/json" and charset in ("", "charset=utf-8")


_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NODE_TYPE: Final = re.compile(r"[a-z0-9_.]{1,128}(@[0-9]{1,10})?")


def _fits(name: str, value: object) -> bool:
    """No text of an address that could be a wildcard or a second token of a subject comes any further."""
    if not isinstance(value, str):
        return True
    return (_NODE_TYPE if name == "node_type" else _ID).fullmatch(value) is not None


def permitted(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """The guard of every handler: its route's row in the permission table decides."""
    scope = connection.scope
    if not all(_fits(name, value) for name, value in connection.path_params.items()):
        raise Problem("not_found")
    wanted = scope_of(str(scope.get("method", "")), scope["path_template"])
    if wanted is None:
        raise Problem("not_found")
    caller: Caller | None = scope["state"].get("caller")
    if wanted == PUBLIC or (scope["path_template"] == _METRICS and caller is None):
        return
    if caller is None:
        raise Problem("unauthenticated")
    if not caller.may(wanted):
        raise Problem("forbidden", f"This asks for the scope {wanted}.")
