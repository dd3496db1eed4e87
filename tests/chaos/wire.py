"""HTTP over plain sockets for whoever needs the truth: one request, its answer or none, and nothing sent twice."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"null")


class Wire:
    """Keep-alive connections to one address, opened when needed."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = "".join(
            f"{name}: {value}\r\n" for name, value in {"Host": parts.netloc, **(headers or {})}.items()
        )
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = 30,
    ) -> Answer | None:
        """The answer; None when none came: the request may have been heard or not."""
        try:
            async with asyncio.timeout(seconds):
                return await self._ask(method, path, body, headers or {})
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            return None

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        reader, writer = await self._connection()
        try:
            more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"{method} {path} HTTP/1.1\r\n{self._head}{more}Content-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode("latin-1") + body)
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            answer = Answer(
                status=int(first.split(" ")[1]),
                headers=fields,
                body=await reader.readexactly(int(fields.get("content-length", "0"))),
            )
        except BaseException:
            writer.transport.abort()
            raise
        if fields.get("connection", "") == "close" or len(self._idle) > 100:
            writer.transport.abort()
        else:
            self._idle.append((reader, writer))
        return answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.transport.abort()
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.transport.abort()
        self._idle.clear()
