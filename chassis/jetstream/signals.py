"""Core NATS: what is said to whoever listens now, and stored nowhere."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from chassis.jetstream.connection import Connection
from chassis.jetstream.wire import block, lines_of


class JetStreamSignals:
    """Implements `Signals`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._connection.publish(subject, body, block(lines_of(headers)) if headers else b"")

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        return await self._connection.request(subject, body, timeout)

    @asynccontextmanager
    async def listen(
        self, subject: str, heard: Callable[[str, bytes, Callable[[bytes], None]], None], group: str = ""
    ) -> AsyncIterator[None]:
        publish = self._connection.publish

        def arrived(at: bytes, reply: bytes, _headers: bytes, body: bytes) -> None:
            def answer(answered: bytes) -> None:
                if reply:
                    publish(reply.decode(errors="replace"), answered)

            # A subject is whatever its sender wrote: no byte in it may end the service.
            heard(at.decode(errors="replace"), body, answer)

        sid = self._connection.hear(subject, arrived, group)
        try:
            if self._connection.up:
                await self._connection.flush()  # From here on everything is heard.
            yield
        finally:
            self._connection.deafen(sid)
