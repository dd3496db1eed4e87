"""nats-py with a short way for what is hot: messages go to a plain function, sends leave once per turn of the loop.

nats-py gives each message a queue, a task switch and a parsed header dictionary, and each send a future: about half of
the client's CPU at saturation. `hear` and `send` go round that; everything else (connecting, authenticating, pinging,
reconnecting, putting subscriptions back, its own `subscribe` and `request`) is nats-py's own code, unchanged.
Rule: nothing that a `heard` raises is lost. It reaches `failed`, which ends the service.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.protocol.parser import Parser

Heard: TypeAlias = Callable[[bytes, bytes, bytes, bytes], None]
"""`heard(subject, reply, headers, body)`, all as they came; headers are empty when there are none."""

_LINE_END = b"\r\n"


class QuickClient(Client):
    """`failed` hears of what ends the service; `lost` is called each time the connection is gone."""

    def __init__(self, failed: Callable[[Exception], None], lost: Callable[[], None]) -> None:
        super().__init__()
        self._ps = _QuickParser(self)
        self._failed = failed
        self._lost = lost
        self._heard: dict[int, Heard] = {}
        self._armed = False
        self.sent_bytes = 0
        """Of bodies, by `send`."""

    def hear(self, subject: str, heard: Heard, group: str = "") -> int:
        """Subscribe. While the connection is down nats-py remembers it and subscribes when it is up again."""
        self._sid += 1
        # Registered but never started: no task and no queue; reconnecting sends SUB for it as for any other.
        self._subs[self._sid] = Subscription(self, self._sid, subject, queue=group)
        self._heard[self._sid] = heard
        if self.is_connected:
            self._queue(f"SUB {subject} {group} {self._sid}\r\n".encode())
        return self._sid

    def deafen(self, sid: int) -> None:
        """From here on nothing is heard of it, whatever is still on its way."""
        self.unsubscribe(sid)
        self._heard.pop(sid, None)

    def unsubscribe(self, sid: int) -> None:
        """What is still on its way is heard, until `deafen`; `flush` says when all of it has come."""
        if self._subs.pop(sid, None) is not None and self.is_connected:
            self._queue(b"UNSUB %d\r\n" % sid)

    def send(self, subject: str, body: bytes, reply: str = "", headers: bytes = b"") -> None:
        """Publish; the headers are whole, with their version line. The caller has checked that we are connected."""
        self.sent_bytes += len(body)
        if headers:
            size = len(headers)
            command = f"HPUB {subject} {reply} {size} {size + len(body)}\r\n".encode()
            self._queue(b"".join((command, headers, body, _LINE_END)))
        else:
            self._queue(b"".join((f"PUB {subject} {reply} {len(body)}\r\n".encode(), body, _LINE_END)))

    def _queue(self, command: bytes) -> None:
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        """Write what this turn of the loop wants to send: one system call."""
        self._armed = False
        if self._pending and self.is_connected and not self._writer.is_closing():
            commands, self._pending, self._pending_data_size = self._pending, [], 0
            self._writer.writelines(commands)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        heard = self._heard.get(sid)
        if heard is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            heard(subject, reply, headers or b"", data)
        except Exception as error:  # nats-py would end its read loop and look alive.
            self._failed(error)

    # --- Not hot: the connection's life --------------------------------------------------------

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self._leave()  # nats-py writes its PING at once: the answer would come before what still waits to be sent.
        await super()._send_ping(future)

    async def drop(self) -> None:
        """Cut the connection and make another."""
        self._abort()
        await self.force_reconnect()

    @property
    def deaf(self) -> bool:
        """Connected, and nobody reads: nothing would ever notice."""
        return self.is_connected and (self._reading_task is None or self._reading_task.done())

    @property
    def gave_up(self) -> bool:
        """Nobody tries to reconnect any more."""
        return self.is_reconnecting and (self._reconnection_task is None or self._reconnection_task.done())

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # Whoever pinged had stopped waiting; nats-py would raise, and end its read loop.
            self._pongs.pop(0)
            self._pings_outstanding = 0
        else:
            await super()._process_pong()

    async def _attempt_reconnect(self) -> None:
        # What was not sent when the connection went is not sent: whoever asked was told that nobody knows.
        self._pending, self._pending_data_size = [], 0
        self._abort()
        self._lost()
        try:
            await super()._attempt_reconnect()
        except Exception as error:  # Else nobody would ever reconnect.
            self._failed(error)

    async def _connect_to_server(self, s: Any) -> None:
        self._abort()  # nats-py would leave open what greeted us too late.
        await super()._connect_to_server(s)

    def _abort(self) -> None:
        if self._transport:
            self._writer.transport.abort()  # Closing politely would wait for a peer that may be dead.

    @property
    def _writer(self) -> Any:
        """nats-py's transports have no public way to what they write to."""
        return self._transport._io_writer  # type: ignore[union-attr]  # noqa: SLF001  # We connect by TCP only.


class _QuickParser(Parser):
    """Takes whole messages out of what was read; all other lines are left to nats-py's parser."""

    async def parse(self, data: bytes = b"") -> None:
        self.buf.extend(data)
        if len(self.buf) < self.needed:
            return  # In the middle of a large message.
        data, self.buf, self.needed, position = bytes(self.buf), bytearray(), 0, 0
        while (end := data.find(_LINE_END, position)) >= 0:
            kind = data[position : position + 4]
            if kind in {b"MSG ", b"HMSG"}:
                words = data[position:end].split()
                first = end + 2
                last = first + int(words[-1])
                if len(data) < last + 2:
                    self.needed = last + 2 - position
                    break
                # MSG subject sid [reply] size; HMSG subject sid [reply] size-of-headers size
                split = first + int(words[-2]) if kind == b"HMSG" else first
                reply = words[3] if len(words) == (6 if kind == b"HMSG" else 5) else b""
                position = last + 2
                await self.nc._process_msg(  # noqa: SLF001  # As nats-py's parser does.
                    int(words[2]), words[1], reply, data[split:last], data[first:split]
                )
            else:
                self.buf = bytearray(data[position : end + 2])
                position = end + 2
                await super().parse()
        self.buf = bytearray(data[position:])
