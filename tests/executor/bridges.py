"""A TCP port on 127.0.0.1 in front of a real server that listens on a socket file; it can encrypt, fall silent and hang up."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class Bridge:
    """What a test may do to the line between client and server."""

    def __init__(self, path: str, tls: ssl.SSLContext | None, *, asks_first: bool) -> None:
        self._path, self._tls, self._asks_first = path, tls, asks_first
        self.port = 0
        self.connections = 0
        self.heard = b""
        """Everything that clients said, as the server gets it."""
        self.loses: Callable[[bytes], bool] = lambda _: False
        """What is said so is carried to the server, and its answer to nobody."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._tls is not None:
            if self._asks_first:
                assert await reader.readexactly(8) == SSL_REQUEST
                writer.write(b"S")
                await writer.drain()
            await writer.start_tls(self._tls)
        behind, before = await asyncio.open_unix_connection(self._path)
        try:
            async with asyncio.TaskGroup() as ways:
                answers = ways.create_task(self._pass(behind, writer))
                ways.create_task(self._hear(reader, before, answers))
        finally:
            before.close()

    async def _hear(
        self, reader: asyncio.StreamReader, before: asyncio.StreamWriter, answers: asyncio.Task[None]
    ) -> None:
        while data := await reader.read(65_536):
            self.heard += data
            lost = self.loses(data)
            if lost:
                answers.cancel()
            before.write(data)
            await before.drain()
            if lost:
                await asyncio.sleep(0.2)  # The server does it.
                break
        raise ConnectionError("the client left, or the line was cut")

    async def _pass(self, behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await behind.read(65_536):
            writer.write(data)
            await writer.drain()
        raise ConnectionError("the server left")


@asynccontextmanager
async def bridged(
    path: str, tls: ssl.SSLContext | None = None, *, asks_first: bool = False
) -> AsyncIterator[Bridge]:
    """`asks_first`: encryption begins as Postgres wants it, with a question in the clear."""
    bridge = Bridge(path, tls, asks_first=asks_first)
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await bridge.talk(reader, writer)
        except* (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        talks.add(task)
        task.add_done_callback(talks.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    bridge.port = listener.sockets[0].getsockname()[1]
    try:
        yield bridge
    finally:
        listener.close()
        for task in list(talks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
