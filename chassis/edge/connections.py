"""Who may hold how many connections, and for how long without finishing a request.

No ASGI server defends against a slow or endless header section, or against one address that opens everything; the guard
sits in the protocol, because such a connection never reaches the app. Bodies have their deadline in `chassis.edge.bodies`.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chassis.edge.one_piece import OnePiece
from contracts.limits import (
    CONNECTIONS,
    CONNECTIONS_PER_ADDRESS,
    HEADER_BYTES,
    HEADER_SECONDS,
    IDLE_SECONDS,
)

ABORT: Final = "automateos.abort"
"""In a request's `extensions`: a function that drops its connection at once, with all that was not sent."""
TurnAway: TypeAlias = Callable[[bytes], bytes | None]
"""For a request's target the whole answer (head and body) that refuses it before the app sees it; None: let it in."""
_DROPPED_BYTES: Final = 16 * 1024
"""A request with a larger body than this is refused by the app, which closes its connection."""
_READ_AHEAD: Final = 64 * 1024
"""What may lie in the header section before the parser has seen its end; the app measures it exactly."""


class ConnectionCap:
    """Connections per address, and in all. One object per listening port.

    Loopback is exempt, unless told otherwise: who is on the machine needs no connections to harm it, and a proxy in
    front speaks for everybody. Behind proxies (`trusted_proxies`) nothing is counted here: they see the addresses.
    """

    def __init__(  # noqa: PLR0913  # All have defaults.
        self,
        most: int = CONNECTIONS_PER_ADDRESS,
        *,
        trusted_proxies: int = 0,
        exempt_loopback: bool = True,
        most_in_all: int = CONNECTIONS,
        turn_away: TurnAway | None = None,
        header_seconds: float = HEADER_SECONDS,
        stall_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.turn_away = turn_away
        self.header_seconds = header_seconds
        self.stall_seconds = stall_seconds
        self.open = 0
        self.refused = 0
        self._most = most
        self._most_in_all = most_in_all
        self._counts = trusted_proxies == 0
        self._exempt_loopback = exempt_loopback
        self._by_address: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether nobody more may come in, whoever it is."""
        return self.open >= self._most_in_all

    def enter(self, address: str) -> bool:
        """Count a connection in. False: this address has enough."""
        if self._counted(address) and self._by_address[address] >= self._most:
            self.refused += 1
            return False
        self._by_address[address] += 1
        self.open += 1
        return True

    def leave(self, address: str) -> None:
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _counted(self, address: str) -> bool:
        if not self._counts or not address:
            return False
        return not (self._exempt_loopback and ipaddress.ip_address(address.partition("%")[0]).is_loopback)


def guarded_protocol(cap: ConnectionCap) -> type[asyncio.Protocol]:
    """The protocol of uvicorn for HTTP/1.1, bound to one cap: counted connections, and deadlines for headers and for reading."""

    class Guarded(GuardedProtocol):
        guard = cap

    return Guarded


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection that sends its headers too slowly or without end, or does not read what it asked for."""

    guard: ConnectionCap

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counted_as: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._in_headers = True
        self._header_bytes = 0
        self._turned_away = False
        self._dropping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn has it.
        super().connection_made(transport)
        self.transport = OnePiece(transport, self.loop)
        address = self.client[0] if self.client else ""
        if self.guard.full:
            self.guard.refused += 1
            self._refuse(b"503 Service Unavailable\r\nretry-after: 1")
            return
        if not self.guard.enter(address):
            transport.abort()
            return
        self._counted_as = address
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted_as is not None:
            self.guard.leave(self._counted_as)
            self._counted_as = None
        self._headers_came()
        self._reads_again()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._counted_as is None:
            return  # Refused; what was still on its way is nobody's.
        super().data_received(data)
        if self._turned_away:
            self._turned_away = self._dropping
            if self._dropping and self._deadline is None:
                self._await_headers()  # The body that nobody reads must end, too.
            return
        # Bytes between two requests (bare newlines, say) stop uvicorn's own timer: they count as a beginning.
        idle = self.cycle is None or self.cycle.response_complete
        if not (self._in_headers or idle) or self.transport.is_closing():
            return
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES + _READ_AHEAD:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._deadline is None:
            self._await_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]  # One of our own.
        self._in_headers = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._headers_came()
        answer = self._refusal()
        if answer is None:
            super().on_headers_complete()
            return
        # An app, a task and a scope per refusal would cost what those who are let in need.
        self._turned_away = self._dropping = True
        self.transport.write(answer)

    def on_body(self, body: bytes) -> None:
        if not self._dropping:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._dropping:
            super().on_message_complete()
            return
        self._dropping = False
        self._headers_came()
        if self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1":
            self.on_response_complete()
        else:
            self.transport.close()

    def _refusal(self) -> bytes | None:
        """The answer to a small request that nobody shall see; none while an earlier one is being answered."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if self.guard.turn_away is None or busy or self.transport.is_closing():
            return None
        lengths = [value for name, value in self.headers if name == b"content-length"]
        if len(lengths) != 1 or not lengths[0].isdigit() or int(lengths[0][:9]) > _DROPPED_BYTES:
            return None
        return self.guard.turn_away(self.url)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.guard.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._reads_again()
        super().resume_writing()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(self.guard.header_seconds, self._refuse, b"408 Request Timeout")

    def _headers_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _reads_again(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self, status: bytes) -> None:
        self._headers_came()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
