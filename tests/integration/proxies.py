"""A TCP proxy between a client and nats-server that can be told to misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """`swallowing`: the server's messages vanish, its PONGs come through. `silent`: nothing comes through at all."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self.swallowing = False
        self.silent = False
        self.connections = 0
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, their_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, their_writer, answers=False))
                tasks.create_task(self._pump(their_reader, writer, answers=True))
        except* (OSError, EOFError):
            pass  # One side went, so the other goes.
        finally:
            self._writers -= {writer, their_writer}
            writer.transport.abort()
            their_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while True:
            data = await reader.read(65536)
            if not data:
                raise EOFError
            if self.silent:
                continue
            if answers and self.swallowing:
                data = b"PONG\r\n" * data.count(b"PONG\r\n")
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(urlsplit(url).port or 0)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
