"""A proxy on every way between a service and what it stands on, told over standard input how to misbehave.

`python -m tests.chaos.proxy FOLDER WORLD_PORT` prints the ways that it opened; a line `{"link": …, "slice": 1}` sets the
manners of one of them, and `{"link": …}` alone makes it well-behaved again. `rst` and `cut` happen once.
"""

import asyncio
import json
import os
import random
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import uvloop
from msgspec import Struct

SERVICES: Final = ("ingress", "orchestrator", "executor", "projections", "gateway")
WITHOUT_REDIS: Final = frozenset({"orchestrator", "executor", "projections"})
_HELD_SECONDS: Final = 0.02
_STARTS: Final = (b"MSG ", b"HMSG", b"+OK", b"PING", b"PONG", b"INFO")


class Manners(Struct, kw_only=True, forbid_unknown_fields=True):
    """How a way misbehaves. A bit flips in what comes down only, and only in the first bytes of a protocol line of NATS:
    behind a checksum nothing else can be wrong, and without one nobody could notice it."""

    link: str
    latency: float = 0.0
    jitter: float = 0.0
    slice: int = 0
    rate: float = 0.0
    half: str = ""
    """`up` or `down`: what goes that way is kept, nothing is closed."""
    hold: bool = False
    refuse: bool = False
    flip: float = 0.0
    rst: bool = False
    cut: int = 0
    """Close everything after so many more bytes, in the middle of whatever it is."""


class Link:
    """One way: where it listens, where it goes, how it behaves."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.manners = Manners(link=name)
        self.quiet = True
        self.random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._left = 0

    async def upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise NotImplementedError

    def told(self, manners: Manners) -> None:
        self.manners, self._left = manners, manners.cut
        self.quiet = manners == Manners(link=self.name)
        if manners.rst or manners.refuse:
            self.reset()

    def reset(self) -> None:
        """RST on every connection."""
        for writer in list(self._writers):
            raw: socket.socket | None = writer.get_extra_info("socket")
            if raw is not None and raw.family == socket.AF_INET and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.manners.refuse:
            writer.transport.abort()
            return
        try:
            their_reader, their_writer = await self.upstream()
        except (OSError, ValueError):
            writer.transport.abort()
            return
        both = {writer, their_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, their_writer, "up"))
                tasks.create_task(self._pump(their_reader, writer, "down"))
        except* (OSError, EOFError):
            pass  # One side went, so the other goes.
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        while True:
            data = await reader.read(65536)
            if not data or writer.is_closing():  # A reset closed it meanwhile.
                raise EOFError
            if self.quiet:
                writer.write(data)
            else:
                await self._misbehave(data, writer, way)
            await writer.drain()

    async def _misbehave(self, data: bytes, writer: asyncio.StreamWriter, way: str) -> None:
        manners = self.manners
        while self.manners.hold or self.manners.half == way:
            await asyncio.sleep(_HELD_SECONDS)
        if manners.latency or manners.jitter:
            await asyncio.sleep(manners.latency + self.random.random() * manners.jitter)
        if (
            manners.flip
            and way == "down"
            and data.startswith(_STARTS)
            and self.random.random() < manners.flip
        ):
            data = bytes([data[0] ^ 1 << self.random.randrange(8)]) + data[1:]
        if manners.cut:
            self._left -= len(data)
            if self._left < 0:
                writer.write(data[: max(1, len(data) // 2)])
                self.told(Manners(link=self.name, rst=True))
                raise EOFError
        size = manners.slice or len(data)
        for place in range(0, len(data), size):
            if writer.is_closing():
                raise EOFError
            writer.write(data[place : place + size])
            if manners.slice and place % 64 == 0:
                await writer.drain()
                await asyncio.sleep(0)
        if manners.rate:
            await asyncio.sleep(len(data) / manners.rate)


class FixedLink(Link):
    def __init__(self, name: str, seed: int, port: int) -> None:
        super().__init__(name, seed)
        self._port = port

    async def upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


class RealLink(Link):
    """Goes where the service would have gone: its launcher writes that down (launch.py)."""

    def __init__(self, folder: Path, service: str, kind: str, seed: int) -> None:
        super().__init__(f"{service}-{kind}", seed)
        self._real = folder / f"real-{service}.json"
        self._kind = kind

    async def upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        real: dict[str, str] = json.loads(self._real.read_bytes())
        if self._kind == "nats":
            address = urlsplit(real["AUTOMATEOS_NATS_URL"])
            return await asyncio.open_connection(address.hostname, address.port)
        if self._kind == "redis":
            return await asyncio.open_unix_connection(urlsplit(real["AUTOMATEOS_REDIS_URL"]).path)
        folder, port = real["AUTOMATEOS_POSTGRES_HOST"], real["AUTOMATEOS_POSTGRES_PORT"]
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")


async def open_all(
    folder: Path, world: int, servers: list[asyncio.Server]
) -> tuple[dict[str, Link], dict[str, dict[str, str]], int]:
    """The ways by name, what each service is told, and the world's port."""
    links: dict[str, Link] = {}
    told: dict[str, dict[str, str]] = {}
    for number, service in enumerate(SERVICES):
        nats = RealLink(folder, service, "nats", number)
        servers.append(await asyncio.start_server(nats.serve, "127.0.0.1", 0))
        told[service] = {"AUTOMATEOS_NATS_URL": f"nats://127.0.0.1:{_port(servers[-1])}"}
        postgres = RealLink(folder, service, "postgres", number)
        place = folder / f"pg-{service}"
        place.mkdir(exist_ok=True)
        servers.append(await asyncio.start_unix_server(postgres.serve, place / ".s.PGSQL.5432"))
        told[service]["AUTOMATEOS_POSTGRES_HOST"] = str(place)
        links |= {nats.name: nats, postgres.name: postgres}
        if service not in WITHOUT_REDIS:
            redis = RealLink(folder, service, "redis", number)
            servers.append(await asyncio.start_unix_server(redis.serve, folder / f"redis-{service}.sock"))
            told[service]["AUTOMATEOS_REDIS_URL"] = f"unix://{folder}/redis-{service}.sock"
            links[redis.name] = redis
    outside = FixedLink("executor-world", 99, world)
    servers.append(await asyncio.start_server(outside.serve, "127.0.0.1", 0))
    links[outside.name] = outside
    return links, told, _port(servers[-1])


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def main() -> None:
    folder = Path(sys.argv[1])
    servers: list[asyncio.Server] = []  # Held: a server that nobody holds is closed.
    links, told, world = await open_all(folder, int(sys.argv[2]), servers)
    (folder / "links.json").write_text(json.dumps(told))
    said: dict[str, Any] = {"world": world, "links": sorted(links)}
    os.write(1, json.dumps(said).encode() + b"\n")
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while line := await commands.readline():
        manners = msgspec.json.decode(line, type=Manners)
        links[manners.link].told(manners)


if __name__ == "__main__":
    uvloop.run(main())
