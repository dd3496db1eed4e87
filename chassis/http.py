"""The HTTP server inside a service: uvicorn as an ordinary task, and the small app of services without a public port.

The server never touches signals: `chassis.lifecycle` asks, the service stops it when its own order of draining says so.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import uvicorn

from chassis.edge.connections import ConnectionCap, guarded_protocol
from chassis.lifecycle import CannotStart
from chassis.settings import Settings
from chassis.telemetry import Metrics
from contracts.codec import encode
from contracts.limits import IDLE_SECONDS

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG: Final = 2048


class HttpServer(uvicorn.Server):
    """uvicorn that leaves signals alone and knows the port it got."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener
        self._accepting = asyncio.Event()
        self.port: int = listener.getsockname()[1]

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Serve as a task of the group; returns when connections are accepted."""
        group.create_task(self._run())
        await self._accepting.wait()

    async def _run(self) -> None:
        try:
            await self.serve(sockets=[self._listener])
        finally:
            self._listener.close()  # A cancelled server leaves it open.

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._accepting.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    app: App,
    host: str,
    port: int,
    *,
    tls: tuple[str, str] | None = None,
    drain_seconds: float = 10.0,
    cap: ConnectionCap | None = None,
) -> AsyncIterator[HttpServer]:
    """Serve while the block runs; `port` 0 takes a free one. After the block requests under way are answered first.

    `tls`: files of the certificate (with its chain) and of the key. Streams without an end must be ended by whoever
    opened them before the block ends, or they hold the drain until `drain_seconds` are over.
    """
    server = _prepared(app, host, port, tls, drain_seconds, cap)
    async with asyncio.TaskGroup() as group:
        await server.start(group)
        try:
            yield server
        finally:
            server.should_exit = True


async def serve(  # noqa: PLR0913  # All but the first four have defaults.
    app: App,
    host: str,
    port: int,
    group: asyncio.TaskGroup,
    *,
    tls: tuple[str, str] | None = None,
    drain_seconds: float = 10.0,
    cap: ConnectionCap | None = None,
) -> HttpServer:
    """Start serving as a task of the group and return when connections are accepted. Stop: `should_exit = True`."""
    server = _prepared(app, host, port, tls, drain_seconds, cap)
    await server.start(group)
    return server


def _prepared(  # The two above, without their defaults.
    app: App,
    host: str,
    port: int,
    tls: tuple[str, str] | None,
    drain_seconds: float,
    cap: ConnectionCap | None,
) -> HttpServer:
    certificate, key = tls or (None, None)
    config = uvicorn.Config(
        app,
        http=guarded_protocol(cap or ConnectionCap()),
        log_config=None,
        log_level="error",
        access_log=False,
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        server_header=False,
        proxy_headers=False,  # The client's address is worked out in chassis.edge, once.
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:
        raise CannotStart(f"the TLS files cannot be used: {error}") from error
    return HttpServer(config, _listen(host, port))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def tls_of(settings: Settings) -> tuple[str, str] | None:
    """The files of the certificate and of its key, where there is one."""
    if not settings.tls_certificate_file:
        return None
    return settings.tls_certificate_file, settings.tls_key_file


Ready: TypeAlias = Callable[[], Awaitable[list[str]]]
"""Why the service cannot work now, one sentence each; none: it is ready."""


def health_app(ready: Ready, metrics: Metrics, notes: Sequence[str] = ()) -> App:
    """`/healthz` (alive), `/readyz` (ready, or 503 with the reasons), `/metrics`: for services without a public port.

    `notes`: what whoever asks for readiness shall know besides (that the log syncs lazily, say).
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        answer = await health_answer(scope["path"], ready, metrics, notes)
        if answer is None or scope["method"] not in ("GET", "HEAD"):
            answer = (404, b"application/json", b'{"status":404}')
        await send_whole(send, *answer)

    return app


async def health_answer(
    path: str, ready: Ready, metrics: Metrics, notes: Sequence[str] = ()
) -> tuple[int, bytes, bytes] | None:
    """Status, content type and body when `path` is one of the three; None otherwise."""
    match path:
        case "/healthz":
            return 200, b"application/json", b'{"status":"alive"}'
        case "/readyz":
            reasons = await ready()
            told: dict[str, object] = {"status": "waiting" if reasons else "ready", "reasons": reasons}
            if notes:
                told["notes"] = notes
            return 503 if reasons else 200, b"application/json", encode(told)
        case "/metrics":
            return 200, b"text/plain; version=0.0.4; charset=utf-8", metrics.render()
        case _:
            return None


async def lifespan(receive: Receive, send: Send) -> None:
    """Say yes to the server's start and stop; what a service opens, its composition root opens."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def send_whole(
    send: Send,
    status: int,
    content_type: bytes,
    body: bytes,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """One answer in one piece."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
