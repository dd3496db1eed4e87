"""The one way out: everything that leaves is checked, bounded, and told apart by whether it may have touched the world."""

import asyncio
import ssl
from collections.abc import Container, Sequence
from types import TracebackType
from typing import Final, Literal, Self

import httpcore2
from msgspec import Struct

from chassis.egress.addresses import HTTP_PORTS, MAIL_PORTS, AllowedTarget
from chassis.egress.credentials import Credential
from chassis.egress.errors import EgressError, Reason
from chassis.egress.gate import Gate, Opened
from chassis.egress.inflating import Damaged, Inflater, Swollen, Zlib, inflater
from chassis.egress.lines import Line, Lines, Origin, Stream
from chassis.egress.own import OwnAddresses
from chassis.egress.requests import Hop, Request, Response, first_hop, message, next_hop
from chassis.egress.resolving import Resolve, SystemResolver
from chassis.egress.urls import BadUrl, normal_host
from contracts.limits import DECOMPRESSION_RATIO, REDIRECTS, RESPONSE_BYTES

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LATE: Final[dict[str, Reason]] = {"waiting": "busy", "connecting": "unreachable", "talking": "timeout"}
_UNDONE: Final = frozenset({"content-encoding", "content-length"})


class EgressLimits(Struct, frozen=True, kw_only=True):
    """The bounds of everything that leaves."""

    resolve_s: float = 2.0
    connect_s: float = 5.0
    keepalive_s: float = 4.0
    """Shorter than the idle limit of common servers (5 s), so that we seldom speak into a closing connection."""
    per_host: int = 128
    connections: int = 512
    redirects: int = REDIRECTS
    ratio: int = DECOMPRESSION_RATIO


class _Journey(Struct):
    """How far a call has come, for whoever must tell what a failure means."""

    max_bytes: int
    stage: Literal["waiting", "connecting", "talking"] = "waiting"
    touched: bool = False


class _Answer(Struct, frozen=True):
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _Stale(Exception):
    """A kept connection was closed before it gave a byte of an answer."""


class Egress:
    """Guarded HTTP and TCP. One per process; close it at the end."""

    def __init__(
        self,
        allow: Sequence[AllowedTarget] = (),
        resolve: Resolve | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        limits: EgressLimits | None = None,
        own: OwnAddresses | None = None,
    ) -> None:
        """`own`: where it is said which run asks."""
        self._own = own or OwnAddresses()
        self._limits = limits or EgressLimits()
        self._system = SystemResolver()
        self._gate = Gate(
            resolve or self._system, allow, resolve_s=self._limits.resolve_s, connect_s=self._limits.connect_s
        )
        self._tls = tls
        self._lines = Lines(
            self._connect,
            per_host=self._limits.per_host,
            total=self._limits.connections,
            keepalive_s=self._limits.keepalive_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._system.close()

    async def request(self, request: Request) -> Response:
        """Make a call and return its complete answer, whatever its status. Raises `EgressError`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        hop = first_hop(request)
        journey = _Journey(min(request.max_bytes, RESPONSE_BYTES))
        redirects = self._limits.redirects if request.follow_redirects else None
        try:
            async with asyncio.timeout(request.timeout_s):
                hop, answer = await self._follow(hop, journey, redirects)
        except TimeoutError as error:
            raise EgressError(_LATE[journey.stage], touched=journey.touched, detail="too late") from error
        return Response(
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            url=hop.target.url,
            ours=self._own.has(hop.target),
            elapsed=loop.time() - started,
        )

    async def open_tcp(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float = 10.0,
        usual: Container[int] = MAIL_PORTS,
        credential: Credential | None = None,
    ) -> Opened:
        """Connect to a checked address, for protocols other than HTTP. Nothing is written, so nothing is touched."""
        try:
            name = normal_host(host.removeprefix("[").removesuffix("]"))
        except BadUrl as error:
            raise EgressError("bad_request", touched=False, detail=str(error)) from error
        if credential is not None:
            credential.check(name)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._gate.open(name, port, usual)
        except TimeoutError as error:
            raise EgressError("unreachable", touched=False, detail=f"{name} port {port}: too late") from error

    async def _connect(self, origin: Origin) -> Stream:
        scheme, host, port = origin
        opened = await self._gate.open(host, port, HTTP_PORTS)
        if scheme == "https" and self._tls is None:
            self._tls = (
                httpcore2.default_ssl_context()
            )  # Not before it is needed: it takes 30 ms to read the system's.
        return await self._gate.stream(opened, self._tls if scheme == "https" else None)

    async def _follow(self, hop: Hop, journey: _Journey, redirects: int | None) -> tuple[Hop, _Answer]:
        followed = 0
        while True:
            answer = await self._exchange(hop, journey)
            location = _location(answer)
            if redirects is None or location is None:
                return hop, answer
            if followed == redirects:
                raise EgressError("too_many_redirects", touched=True, detail=hop.target.host)
            followed += 1
            hop = next_hop(hop, answer.status, location)

    async def _exchange(self, hop: Hop, journey: _Journey) -> _Answer:
        journey.stage = "waiting"
        origin = hop.target.origin
        outgoing = message(hop, ours=hop.cause is not None and self._own.has(hop.target))
        await self._lines.enter(origin)
        try:
            try:
                return await self._on_a_line(hop, outgoing, journey, fresh=not hop.repeatable)
            except _Stale:
                # Only what may be repeated comes here, and only once: a new line is never stale.
                return await self._on_a_line(hop, outgoing, journey, fresh=True)
        finally:
            self._lines.leave(origin)

    async def _on_a_line(
        self, hop: Hop, outgoing: httpcore2.Request, journey: _Journey, *, fresh: bool
    ) -> _Answer:
        journey.stage = "connecting"
        try:
            line = await self._lines.take(hop.target.origin, fresh=fresh)
        except EgressError as error:
            error.touched = journey.touched  # An earlier hop may have been.
            raise
        journey.stage = "talking"
        try:
            return await self._talk(line, outgoing, journey.max_bytes)
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            journey.touched = journey.touched or line.stream.wrote
            raise _broken(line, hop, error, journey) from error
        except Swollen as error:
            raise EgressError("too_large", touched=True, detail=hop.target.host) from error
        except Damaged as error:
            raise EgressError("bad_encoding", touched=True, detail=hop.target.host) from error
        finally:
            journey.touched = journey.touched or line.stream.wrote
            self._lines.put_back(line, keep=hop.repeatable)

    async def _talk(self, line: Line, outgoing: httpcore2.Request, most: int) -> _Answer:
        response = await line.connection.handle_async_request(outgoing)
        try:
            headers = tuple(
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers
            )
            named = dict(headers)
            if outgoing.method != b"HEAD" and int(named.get("content-length", "0")) > most:
                raise Swollen
            undoing = inflater(named.get("content-encoding", ""), most, self._limits.ratio)
            body = await _body(response, undoing, most)
        finally:
            await response.aclose()
        if body and isinstance(undoing, Zlib):
            headers = tuple(pair for pair in headers if pair[0] not in _UNDONE)
        return _Answer(response.status, headers, body)


async def _body(response: httpcore2.Response, undoing: Inflater, most: int) -> bytes:
    pieces: list[bytes] = []
    came = held = 0
    async for chunk in response.aiter_stream():
        piece = undoing.feed(chunk)
        came, held = came + len(chunk), held + len(piece)
        if max(came, held) > most:
            raise Swollen
        pieces.append(piece)
    undoing.finish()
    return b"".join(pieces)


def _location(answer: _Answer) -> str | None:
    if answer.status not in _REDIRECTS:
        return None
    text = next((value for name, value in answer.headers if name == "location"), None)
    try:
        return text and text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text


def _broken(line: Line, hop: Hop, error: Exception, journey: _Journey) -> Exception:
    if line.used and not line.stream.heard:
        return _Stale()
    if isinstance(error, httpcore2.LocalProtocolError):
        return EgressError("bad_request", touched=journey.touched, detail="The request is not HTTP.")
    reason: Reason = "closed" if line.stream.ended else "bad_answer"
    return EgressError(reason, touched=journey.touched, detail=f"{hop.target.host}: {error}")
