"""All services in one process on real servers, each to be started and stopped by a test, and a client over real HTTP."""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, structs

from chassis.clock import SystemClock
from chassis.lifecycle import Stopping
from chassis.postgres import pool
from chassis.sealing import MasterKey, SigningKey
from chassis.settings import Settings, environment_of
from chassis.testing.ports import free_port
from chassis.vault import Vault
from deploy.servers import PostgresAddress
from deploy.testing.embedded import NatsServer
from executor.__main__ import main as executor
from gateway.__main__ import main as gateway
from gateway.permissions import SCOPES
from orchestrator.__main__ import main as orchestrator
from projections.__main__ import main as projections
from tests.migrated import migrated

MAINS: Final[Mapping[str, Callable[[Settings, Stopping], Awaitable[None]]]] = {
    "orchestrator": orchestrator,
    "projections": projections,
    "executor": executor,
    "gateway": gateway,
}
SERVICES: Final = (*MAINS, "ingress")
ROLE: Final = {"projections": "projector"}
SECONDS: Final = 60.0


class Reply(Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stack:
    """One installation whose services are tasks."""

    def __init__(self, settings: dict[str, Settings], group: asyncio.TaskGroup) -> None:
        self.settings = settings
        self._group = group
        self._running: dict[str, tuple[Stopping, asyncio.Task[None]]] = {}
        self._processes: list[asyncio.subprocess.Process] = []
        self.key = ""

    async def start(self, *names: str) -> None:
        """Returns when they are ready."""
        await self.start_without_looking(*names)
        for name in names:
            await self._ready(name)

    async def start_without_looking(self, *names: str) -> None:
        """Also those that speak TLS, of which nobody here asks whether they are ready."""
        for name in names:
            stopping = Stopping()
            main = MAINS[name](self.settings[name], stopping)
            self._running[name] = stopping, self._group.create_task(_run(main))

    async def start_process(self, name: str, **environ: str) -> asyncio.subprocess.Process:
        """A service in a process of its own, ready; or dead, where `environ` says so."""
        process = await self.start_silently(name, **environ)
        await self._ready(name)
        return process

    async def start_silently(self, name: str, **environ: str) -> asyncio.subprocess.Process:
        """The same, of whose readiness nobody hears: it may have a port of its own choice."""
        told = {"PATH": "", **environment_of(self.settings[name]), **environ}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", name, env=told, stdout=asyncio.subprocess.DEVNULL
        )
        self._processes.append(process)
        return process

    async def stop(self, *names: str) -> None:
        """Returns when they have drained."""
        running = [self._running.pop(name) for name in names]
        for stopping, _ in running:
            stopping.request()
        for _, task in running:
            await task

    async def stop_all(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()
        await self.stop(*reversed(self._running))

    def port(self, name: str) -> int:
        return int(getattr(self.settings[name], f"{name}_port"))

    async def key_for(self, org: str) -> str:
        """A key that may do everything in this org."""
        settings = self.settings["gateway"]
        async with pool(settings) as postgres:
            vault = Vault(postgres, MasterKey.from_file(Path(settings.master_key_file)), SystemClock())
            issued = await vault.issue_key(org, secrets.token_hex(8), name="t", scopes=sorted(SCOPES))
        return issued.text.reveal_text()

    async def api(
        self, method: str, path: str, body: object = None, *, key: str | None = None, **headers: str
    ) -> Reply:
        given = {"authorization": f"Bearer {self.key if key is None else key}"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask(self.port("gateway"), method, f"/api/v1{path}", body, given)

    async def _ready(self, name: str) -> None:
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    if (await ask(self.port(name), "GET", "/readyz")).status == 200:
                        return
                except OSError:
                    pass  # It does not listen yet.
                await asyncio.sleep(0.02)


async def _run(main: Awaitable[None]) -> None:
    await main


async def ask(
    port: int, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """One request on a connection of its own."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    reader, writer = await send(port, method, path, data, headers)
    try:
        async with asyncio.timeout(SECONDS):
            status, given = await head(reader)
            length = given.get("content-length")
            content = await reader.read() if length is None else await reader.readexactly(int(length))
    finally:
        writer.close()
    return Reply(status, given, content)


async def send(
    port: int, method: str, path: str, data: bytes, headers: Mapping[str, str] | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    given = {"host": "localhost", "connection": "close", **(headers or {})}
    if data:
        given |= {"content-length": str(len(data))}
        given.setdefault("content-type", "application/json")
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
    return reader, writer


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    return int(lines[0].split()[1]), {
        name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)
    }


class Events:
    """Server-sent events over a real connection."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        """The next event's type and data; `last_id` is its id."""
        kind = data = ""
        async with asyncio.timeout(SECONDS):
            while True:
                line = (await self._reader.readline()).decode()
                if not line:
                    raise EOFError("the stream ended")
                name, _, value = line.rstrip("\r\n").partition(": ")
                match name:
                    case "id":
                        self.last_id = value
                    case "event":
                        kind = value
                    case "data":
                        data = value
                    case "" if kind:
                        return kind, json.loads(data)

    async def until(self, wanted: str) -> list[str]:
        """The types of all events up to the first of this type."""
        seen: list[str] = []
        while not seen or seen[-1] != wanted:
            seen.append((await self.next())[0])
        return seen


@asynccontextmanager
async def watching(stack: Stack, path: str, last_id: str = "") -> AsyncIterator[Events]:
    headers = {"authorization": f"Bearer {stack.key}"} | ({"last-event-id": last_id} if last_id else {})
    reader, writer = await send(stack.port("gateway"), "GET", f"/api/v1{path}", b"", headers)
    status, _ = await head(reader)
    assert status == 200
    try:
        yield Events(_Unchunked(reader))  # type: ignore[arg-type]  # The one method that is used.
    finally:
        writer.close()


class _Unchunked:
    """Lines out of a chunked body."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._kept = b""

    async def readline(self) -> bytes:
        while b"\n" not in self._kept:
            size = int((await self._reader.readline()).strip() or b"0", 16)
            if size == 0:
                return b""
            self._kept += await self._reader.readexactly(size)
            await self._reader.readline()
        line, _, self._kept = self._kept.partition(b"\n")
        return line + b"\n"


@asynccontextmanager
async def open_stack(
    database: PostgresAddress, nats: NatsServer, redis_url: str, folder: Path
) -> AsyncIterator[Stack]:
    """Every service's settings; nothing runs yet."""
    roles = await migrated(database, folder / "passwords")
    MasterKey.generate(folder / "master.key")
    SigningKey.generate(folder / "signing.key")
    ports = {f"{name}_port": free_port() for name in SERVICES}
    common = {
        "nats_url": nats.url,
        "nats_monitor_url": nats.monitor_url,
        "redis_url": redis_url,
        "master_key_file": str(folder / "master.key"),
        "signing_key_file": str(folder / "signing.key"),
        "public_url": f"http://127.0.0.1:{ports['ingress_port']}",
        "drain_seconds": 5.0,
        **ports,
    }
    settings = {name: structs.replace(roles[ROLE.get(name, name)], **common) for name in SERVICES}
    async with asyncio.TaskGroup() as group:
        stack = Stack(settings, group)
        stack.key = await stack.key_for("org_default")
        try:
            yield stack
        finally:
            await stack.stop_all()
