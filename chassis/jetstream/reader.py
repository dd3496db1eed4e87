"""Reads a stream in order from a checkpoint, through restarts of the server, and never skips.

The place is the caller's (kept where its rows are), so the consumer behind it is a throw-away: in memory, without
acknowledgements, made anew whenever one delivery is missing.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import structlog

from chassis.jetstream.connection import Connection
from chassis.jetstream.log import STREAM_GONE
from chassis.jetstream.reads import led, not_alone
from chassis.jetstream.wire import Headers, status
from chassis.ports import Away, Stored
from contracts.limits import MIB

_BATCH: Final = 1_000
_BATCH_BYTES: Final = 8 * MIB
_EXPIRES_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 7.0
_PAUSE_SECONDS: Final = 0.2
_FORGOTTEN_SECONDS: Final = 60
_NANO: Final = 1_000_000_000

log = structlog.get_logger()


class WentBackwards(Exception):
    """The stream ends before what was read of it: it was damaged or restored. Repair it, then read on."""


class JetStreamReader:
    """One filter at the most: several collapse JetStream's replay to a thousand messages a second."""

    def __init__(self, connection: Connection, stream: str, filter: str = "") -> None:  # noqa: A002  # JetStream's word.
        self._connection = connection
        self._stream = stream
        self._filter = filter

    async def end(self) -> int:
        information = await self._connection.api(f"STREAM.INFO.{self._stream}")
        if "error" in information:
            raise Away(STREAM_GONE.format(self._stream))
        led(self._stream, information)
        return int(information["state"]["last_seq"])

    async def read(self, after: int, most: int = 2_000) -> AsyncGenerator[Sequence[Stored], None]:
        while True:
            feed = None
            try:
                feed = await self._feed(after)
                async for batch in feed.batches(most):
                    if batch:
                        after = batch[-1].sequence
                    yield batch
            except Away as away:
                log.warning("reader.waits", stream=self._stream, reason=str(away))
                await self._connection.until_up(_EXPIRES_SECONDS)
            finally:
                if feed is not None:
                    feed.close()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _feed(self, after: int) -> "_Feed":
        """A consumer that begins behind `after`."""
        end = await self.end()
        if end < after:
            await not_alone(self._connection, self._stream)
            raise WentBackwards(f"{self._stream} ends at {end}, and {after} was read")
        name = f"reader-{self._connection.name}-{secrets.token_hex(8)}"
        create = f"CONSUMER.CREATE.{self._stream}.{name}" + (f".{self._filter}" if self._filter else "")
        config = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _FORGOTTEN_SECONDS * _NANO,
        } | ({"filter_subject": self._filter} if self._filter else {})
        made = await self._connection.api(create, {"stream_name": self._stream, "config": config})
        if "error" in made:
            raise Away(f"no consumer on {self._stream}: {made['error'].get('description')}")
        return _Feed(self._connection, self._stream, name, after, pending=int(made.get("num_pending", 0)))


class _Feed:
    """One throw-away consumer: pulls ahead, checks that nothing is missing, ends when something is."""

    def __init__(self, connection: Connection, stream: str, name: str, after: int, *, pending: int) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self._stream = stream
        self._after = after
        self._delivered = 0
        self._pending = pending
        self._wanted = 0
        self._waiting: deque[Stored] = deque()
        self._came = asyncio.Event()
        self._broken: Exception | None = None
        self._looked = False
        self._bytes = 0
        self._inbox = f"{connection.prefix}.r.{name}"
        self._sid = connection.hear(self._inbox, self._heard)
        connection.lost.append(self._lost)
        self._pull()

    async def batches(self, most: int) -> AsyncGenerator[Sequence[Stored], None]:
        """Batches, an empty one each time everything was read. Ends when a new consumer is needed."""
        if not self._pending:
            yield []
        while True:
            try:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    await self._came.wait()
            except TimeoutError:
                return  # Not even a status: this consumer is gone.
            self._came.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
                self._bytes -= sum(len(message.body) for message in batch)
                self._pull_on()
                yield batch
            if self._broken is not None:
                if not isinstance(self._broken, Away):
                    raise self._broken
                return
            if self._pending == 0 and not self._waiting:
                yield []

    def close(self) -> None:
        self._connection.deafen(self._sid)
        self._connection.lost.remove(self._lost)

    def _pull(self) -> None:
        self._wanted = _BATCH
        request = b'{"batch":%d,"max_bytes":%d,"expires":%d}' % (
            _BATCH,
            _BATCH_BYTES,
            int(_EXPIRES_SECONDS * _NANO),
        )
        if not self._connection.publish(self._subject, request, reply=self._inbox):
            self._lost()

    def _pull_on(self) -> None:
        """Ask for more, unless the reader is slower than the stream: then what was read ahead comes first."""
        if not self._wanted and self._bytes < _BATCH_BYTES and self._broken is None:
            self._pull()

    def _lost(self) -> None:
        self._break(Away("the connection was lost"))

    def _break(self, reason: Exception) -> None:
        self._broken = self._broken or reason
        self._came.set()

    def _heard(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        if self._broken is not None:
            return
        self._came.set()
        code = status(headers)
        if not code:
            self._keep(subject, reply, headers, body)
        elif code in {"404", "408"}:
            self._pending = self._wanted = 0  # All that there was has come.
            self._pull_on()
        elif code == "409" and b"MaxBytes" in headers:
            self._wanted = 0
            self._pull_on()
        elif code == "409" and b"Batch Completed" in headers:
            return  # Said behind the last message of a pull; the next pull is under way already.
        elif code != "100":
            self._break(Away(f"the consumer is gone (status {code})"))

    def _keep(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<its number here>.<nanoseconds>.<pending>, or with
        # domain and account in front and a token behind.
        words = reply.split(b".")
        first = 2 if len(words) == 9 else 4
        sequence, number = int(words[first + 3]), int(words[first + 4])
        self._delivered += 1
        if number != self._delivered:
            self._break(Away("a delivery is missing"))
            return
        if sequence <= self._after:
            self._break(WentBackwards(f"{self._stream} gave {sequence} after {self._after}"))
            return
        self._after = sequence
        self._pending = int(words[first + 6])
        self._waiting.append(
            Stored(
                subject=subject.decode(errors="replace"),
                sequence=sequence,
                body=body,
                headers=Headers(headers),
                time=int(words[first + 5]) / _NANO,
            )
        )
        self._bytes += len(body)
        self._wanted -= 1
        self._pull_on()
