"""Connections to checked addresses: opened, kept open for the next request, and bounded in number.

Theory: a request is spoken on a connection that stands already, so everything before `AsyncHTTP11Connection` is asked
to handle it has not touched the world, and `Stream.wrote` says whether anything after that has.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

import httpcore2
from msgspec import Struct

Origin: TypeAlias = tuple[str, str, int]

_HIGH_WATER: Final = 512 * 1024
_TOGETHER: Final = 64 * 1024


class Stream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """The bytes of one connection. Deadlines are the caller's: one for the whole exchange, not one per read."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._held = 0
        self._outgoing: list[bytes] = []
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False
        self._transport: asyncio.Transport | None = None
        self.ended = False
        self.wrote = False
        self.heard = False

    def begin(self) -> None:
        """A new exchange: nothing of it was written or heard yet."""
        self.wrote = self.heard = False

    @property
    def unborn(self) -> bool:
        """No connection was ever made of it."""
        return self._transport is None

    @property
    def usable(self) -> bool:
        """Open, and nobody spoke out of turn."""
        return (
            self._transport is not None
            and not (self.ended or self._chunks)
            and not self._transport.is_closing()
        )

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.Transport", transport
        )  # TCP and TLS have both ways; uvloop's are no subclass.

    def data_received(self, data: bytes) -> None:
        self.heard = True
        self._chunks.append(data)
        self._held += len(data)
        if self._held > _HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self.ended = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended, self._error = True, exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)

    # --- What httpcore2 calls

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._send()
        if not self._chunks and not self.ended:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if not self._chunks and self._error is not None:
            raise httpcore2.ReadError(str(self._error)) from self._error
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._held > _HIGH_WATER and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._held = 0
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._outgoing.append(buffer)
        if len(buffer) < _TOGETHER:
            return  # Head and body in one packet: whoever writes reads next.
        self._send()
        if self._full and not self.ended:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None

    def _send(self) -> None:
        if not self._outgoing:
            return
        if self._transport is not None and not self.ended and not self._transport.is_closing():
            self.wrote = True  # Before the call: from here on nobody can say that nothing left.
            self._transport.writelines(self._outgoing)
        self._outgoing.clear()

    async def aclose(self) -> None:
        self.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise httpcore2.ConnectError("a connection is encrypted from its beginning or never")

    def get_extra_info(self, info: str) -> Any:
        return not self.usable if info == "is_readable" else None


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Line(Struct, eq=False):
    """One open connection and who may use it."""

    origin: Origin
    stream: Stream
    connection: httpcore2.AsyncHTTP11Connection
    used: bool = False
    """It has carried a request before: the other side may close it at any moment."""
    expiry: asyncio.TimerHandle | None = None

    @property
    def clean(self) -> bool:
        """The last exchange ended as it should, and nothing came after it that would pass for the next answer."""
        if not self.connection.is_idle() or not self.stream.usable:
            return False
        unread, closed = self.connection._h11_state.trailing_data  # noqa: SLF001  # httpcore2 has no other way to ask; tested.
        return not unread and not closed


class _Host(Struct, eq=False):
    slots: asyncio.Semaphore
    idle: list[Line]
    users: int = 0


class Lines:
    """Keeps connections for the next request, the most recently used first."""

    def __init__(
        self, connect: Callable[[Origin], Awaitable[Stream]], *, per_host: int, total: int, keepalive_s: float
    ) -> None:
        self._connect, self._per_host, self._keepalive_s = connect, per_host, keepalive_s
        self._total = asyncio.Semaphore(total)
        self._hosts: dict[Origin, _Host] = {}
        self._idle = 0
        self._most_idle = total

    async def enter(self, origin: Origin) -> None:
        """Wait for a place among the calls to this host. `leave` must follow."""
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _Host(asyncio.Semaphore(self._per_host), [])
        host.users += 1
        try:
            await host.slots.acquire()
            try:
                await self._total.acquire()
            except BaseException:
                host.slots.release()
                raise
        except BaseException:
            self._forget(origin, host)
            raise

    def leave(self, origin: Origin) -> None:
        host = self._hosts[origin]
        self._total.release()
        host.slots.release()
        self._forget(origin, host)

    async def take(self, origin: Origin, *, fresh: bool = False) -> Line:
        """An open connection: one that waits for work, or a new one."""
        idle = self._hosts[origin].idle
        while idle and not fresh:
            line = idle.pop()
            self._rouse(line)
            if line.stream.usable:
                line.stream.begin()
                return line
            line.stream.abort()
        stream = await self._connect(origin)
        scheme, host, port = origin
        connection = httpcore2.AsyncHTTP11Connection(
            httpcore2.Origin(scheme.encode(), host.encode(), port), stream
        )
        return Line(origin, stream, connection)

    def put_back(self, line: Line, *, keep: bool) -> None:
        """Keep the connection when its last exchange ended cleanly; else close it.

        `keep` is false for one that was made for a single call: kept ones would pile up that nobody takes.
        """
        if not keep or not line.clean or self._idle >= self._most_idle:
            line.stream.abort()
            return
        line.used = True
        line.expiry = asyncio.get_running_loop().call_later(self._keepalive_s, self._expire, line)
        self._idle += 1
        self._hosts[line.origin].idle.append(line)

    def close(self) -> None:
        for host in self._hosts.values():
            for line in host.idle:
                self._rouse(line)
                line.stream.abort()
            host.idle.clear()

    def _rouse(self, line: Line) -> None:
        self._idle -= 1
        if line.expiry is not None:
            line.expiry.cancel()
            line.expiry = None

    def _expire(self, line: Line) -> None:
        self._rouse(line)
        line.stream.abort()
        host = self._hosts[line.origin]
        host.idle.remove(line)
        if not host.users and not host.idle:
            del self._hosts[line.origin]

    def _forget(self, origin: Origin, host: _Host) -> None:
        host.users -= 1
        if not host.users and not host.idle:
            del self._hosts[origin]
