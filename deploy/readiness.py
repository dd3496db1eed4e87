"""How the supervisor asks a server over a socket whether it does its work."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

_LOOK_SECONDS: Final = 0.03
_ANSWER_SECONDS: Final = 5.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104  # Named, not bound.


async def first_line(host: str, port: int) -> bytes:
    """What a server says to everybody who connects; waits until it listens."""
    return await _repeated(lambda: _exchange(asyncio.open_connection(host, port), b""))


async def answers(path: str, question: bytes, answer: bytes) -> None:
    """Wait until the server on this unix socket gives this answer."""

    async def ask() -> bytes:
        line = await _exchange(asyncio.open_unix_connection(path), question)
        return line if line.startswith(answer) else b""

    await _repeated(ask)


def near(host: str) -> str:
    """How this machine itself reaches a server that listens there, as it stands in a URL."""
    return _EVERYWHERE.get(host, f"[{host}]" if ":" in host else host)


async def serves(host: str, port: int, path: str = "/readyz", *, tls: bool = False) -> None:
    """Wait until a GET of this path is answered with 200."""
    name = near(host)
    address = name.strip("[]")
    question = f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode()
    context = _any_certificate() if tls else None

    async def ask() -> bytes:
        line = await _exchange(asyncio.open_connection(address, port, ssl=context), question)
        return line if line.split()[1:2] == [b"200"] else b""

    await _repeated(ask)


def _any_certificate() -> "ssl.SSLContext":
    """We ask our own child on our own machine; its certificate names the public address."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _repeated(ask: Callable[[], Awaitable[bytes]]) -> bytes:
    """Whoever waits sets the bound."""
    while True:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            line = await ask()
            if line:
                return line
        await asyncio.sleep(_LOOK_SECONDS)


async def _exchange(
    opening: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]], question: bytes
) -> bytes:
    async with asyncio.timeout(_ANSWER_SECONDS):
        reader, writer = await opening
        try:
            writer.write(question)
            return await reader.readline()
        finally:
            writer.close()
