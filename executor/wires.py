"""Lines to servers that speak something other than HTTP, over connections that the egress guard made.

Rule that holds here: a name is looked up once, every address of it is judged, and what is connected to is a judged one. A
client library that wants an address of its own gets a door: a socket file of ours with such a line behind it.
"""

import asyncio
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Container
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct

from chassis.egress import Credential, EgressError
from contracts.limits import KIB
from executor.errors import BadConfig
from executor.node import Outside

T = TypeVar("T")
Tls: TypeAlias = Literal["verify-full", "require", "disable"]

CONNECT_SECONDS: Final = 15.0
_CHUNK: Final = 64 * KIB


class Place(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a database server stands."""

    host: Annotated[str, Meta(title="Host", min_length=1, max_length=253)]
    tls: Annotated[
        Tls,
        Meta(
            title="Encryption",
            description="`verify-full` checks the server's certificate for its name; `require` encrypts to whoever answers; "
            "`disable` sends everything in the clear, for servers in a network of one's own.",
        ),
    ] = "verify-full"
    ca: Annotated[
        str,
        Meta(
            title="Certificate authority",
            description="In PEM, when the server's certificate is signed by one of its own.",
            max_length=100_000,
            extra_json_schema={"x-expression": "none"},
        ),
    ] = ""


class Wire(Struct, frozen=True):
    """An open line, encrypted where that was asked for."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def wired(
    egress: Outside,
    place: Place,
    port: int,
    *,
    usual: Container[int],
    credential: Credential | None,
    greeting: tuple[bytes, bytes] | None = None,
) -> Wire:
    """Open a line. `greeting`: what is said and heard in the clear before it is encrypted.

    Raises `EgressError`, never `touched`: nothing was asked of the server yet.
    """
    tls = None if place.tls == "disable" else _context(place.tls, place.ca)
    opened = await egress.open_tcp(
        place.host, port, timeout_s=CONNECT_SECONDS, usual=usual, credential=credential
    )
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if tls is None:
                reader, writer = await asyncio.open_connection(sock=opened.socket)
            else:
                if greeting is not None:
                    await _greet(opened.socket, *greeting)
                reader, writer = await asyncio.open_connection(
                    sock=opened.socket, ssl=tls, server_hostname=opened.host
                )
    except BaseException as error:
        opened.socket.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise EgressError("certificate", touched=False, detail=error.verify_message) from error
        if isinstance(error, OSError):  # SSLError and TimeoutError are.
            raise EgressError("tls", touched=False, detail=f"{place.host}: {error}") from error
        raise
    return Wire(reader, writer)


async def _greet(opened: socket.socket, said: bytes, wanted: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(opened, said)
    # As much as was wanted and not a byte more: what an eavesdropper adds must not pass for something encrypted.
    heard = await loop.sock_recv(opened, len(wanted))
    if heard != wanted:
        raise ConnectionError("the server offers no encryption")


@lru_cache(maxsize=64)  # Reading the system's authorities takes 30 ms.
def _context(tls: Tls, authority: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=authority or None)
    except (ssl.SSLError, ValueError):
        raise BadConfig("This is not a certificate in PEM.", field="/ca") from None
    if tls == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Door:
    """A socket file that only this user can open; whoever enters is led on to a line of the guard's."""

    def __init__(
        self,
        folder: Path,
        first: Wire,
        another: Callable[[], Awaitable[Wire]],
        most: int,
        hear: Callable[[bytes], None],
    ) -> None:
        self.folder = folder
        self.overflowed = False
        self._first: Wire | None = first
        self._another = another
        self._room = most
        self._hear = hear

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wire, self._first = self._first, None
            wire = wire or await self._another()
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._outwards(reader, wire.writer))
                    ways.create_task(self._inwards(wire.reader, writer))
            finally:
                wire.writer.transport.abort()
        except* (OSError, EgressError):
            pass  # The one who entered sees the line end, and that is all there is to tell.
        finally:
            writer.transport.abort()

    async def _outwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        raise ConnectionError("whoever entered has left")

    async def _inwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            self._room -= len(data)
            if self._room < 0:
                self.overflowed = True
                break
            self._hear(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionError("the line has ended")

    def close(self) -> None:
        if self._first is not None:
            self._first.writer.transport.abort()


async def through_a_door(
    another: Callable[[], Awaitable[Wire]],
    use: Callable[[Door], Awaitable[T]],
    *,
    name: str,
    most: int,
    hear: Callable[[bytes], None],
) -> T:
    """Let `use` connect to the socket file `name` in the door's folder.

    `most`: bytes that may come in. `hear`: is told them before they are handed on, and may end the line with an OSError.
    """
    first = await another()
    brought: T | Exception
    with tempfile.TemporaryDirectory(prefix="automateos-door-") as folder:
        door = Door(Path(folder), first, another, most, hear)
        try:
            async with asyncio.TaskGroup() as talks:
                led: list[asyncio.Task[None]] = []

                def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    led.append(talks.create_task(door.lead(reader, writer)))

                server = await asyncio.start_unix_server(enter, Path(folder) / name)
                try:
                    brought = await use(door)
                except Exception as error:
                    brought = error  # Raised outside of the group, as it is.
                finally:
                    server.close()
                    for talk in led:
                        talk.cancel()
        finally:
            door.close()
    if isinstance(brought, Exception):
        raise brought
    return brought
