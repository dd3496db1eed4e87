"""Values too large for the log, in a JetStream object bucket, named by their hash.

The layout is the one that every NATS client reads (ADR-20); only the way of writing is ours: an object becomes visible
by one conditional message, after its chunks, so that two writers of the same bytes leave one whole object.
"""

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from typing import Final

import msgspec
import structlog
from msgspec import Struct, field

from chassis.clock import Clock
from chassis.jetstream.connection import Connection
from chassis.jetstream.log import JetStreamLog
from chassis.jetstream.questions import Question
from chassis.jetstream.reads import direct, leader_read, not_alone
from chassis.jetstream.wire import acknowledged, refused
from chassis.ports import Ambiguous, Away, Proposal, Stored
from contracts.limits import BLOB_BYTES, KIB
from contracts.payloads import Blob
from contracts.subjects import BLOBS_BUCKET

STREAM: Final = f"OBJ_{BLOBS_BUCKET}"
CHUNK_BYTES: Final = 256 * KIB
_AT_ONCE: Final = 16
_TRIES: Final = 3
_PAGE: Final = 500
_PAGES: Final = 8
_FRESH_SECONDS: Final = 3600.0
"""Younger than this an object needs no touch: the collector leaves alone what is younger than its own bound."""
_ROLLUP: Final = b"Nats-Rollup: sub\r\n"

log = structlog.get_logger()


class _Options(Struct, frozen=True):
    max_chunk_size: int = CHUNK_BYTES


class _Object(Struct, frozen=True, kw_only=True):
    """What a bucket knows about one object (ADR-20)."""

    name: str
    bucket: str = BLOBS_BUCKET
    nuid: str = ""
    size: int = 0
    mtime: str = ""
    chunks: int = 0
    digest: str = ""
    deleted: bool = False
    options: _Options = field(default_factory=_Options)


_object: Final = msgspec.json.Decoder(_Object)


class _Known(Struct, frozen=True):
    """An object's description, and where it lies."""

    described: _Object
    sequence: int
    time: float


class Collected(Struct, frozen=True):
    """How many objects went, and behind which place to go on; 0: there is none left to ask about."""

    gone: int
    after: int


class JetStreamBlobs:
    """Implements `Blobs`, and `collect`."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._log = JetStreamLog(connection, STREAM, more=_ROLLUP)

    async def put(self, data: bytes, content_type: str = "application/json") -> Blob:
        if len(data) > BLOB_BYTES:
            raise ValueError(f"{len(data)} bytes are more than one value may have")
        name = hashlib.sha256(data).hexdigest()
        blob = Blob(sha256=name, size=len(data), content_type=content_type)
        for _ in range(_TRIES):
            known = await self._known(name)
            if known is None or known.described.deleted:
                stored = await self._upload(name, data, known.sequence if known else 0)
            else:
                stored = await self._touched(known)
            if stored:
                return blob
        raise Ambiguous(f"object {name} changes under our hands")

    async def get(self, blob: Blob) -> bytes:
        known = await self._known(blob.sha256)
        if known is None or known.described.deleted:
            await not_alone(self._connection, STREAM)
            raise KeyError(blob.sha256)
        data = await self._parts(known.described)
        if not _is(data, blob):
            data = await self._parts_at_leader(
                known.described
            )  # The copy that answered may have lagged behind.
        if not _is(data, blob):
            await not_alone(self._connection, STREAM)
            log.error("blob.damaged", sha256=blob.sha256, size=len(data), expected=known.described.size)
            raise KeyError(blob.sha256)
        return data

    async def collect(self, keep: Callable[[set[str]], Awaitable[set[str]]], older_than: float) -> int:
        """Remove objects older than so many seconds that `keep` does not name; how many went.

        Whoever stores the same bytes meanwhile makes the object young again, and it stays.
        """
        gone, after = 0, -1
        while after:
            some = await self.collect_from(keep, older_than, max(0, after))
            gone, after = gone + some.gone, some.after
        return gone

    async def collect_from(
        self, keep: Callable[[set[str]], Awaitable[set[str]]], older_than: float, after: int
    ) -> Collected:
        """The same for some objects, behind a place. Whoever comes to the end also removes what writers left half done."""
        gone = pages = 0
        async for page in self._every(after):
            limit = self._clock.now().timestamp() - older_than
            old = {known.described.name: known for known in page if known.time < limit}
            for name in old.keys() - await keep(set(old)):
                gone += await self._remove(old[name])
            pages += 1
            if page and pages == _PAGES:
                return Collected(gone, page[-1].sequence)
        await self._remove_orphans(older_than)
        return Collected(gone, 0)

    # --- Writing ------------------------------------------------------------------------------

    async def _upload(self, name: str, data: bytes, expected: int) -> bool:
        """Chunks first, then the description. False when another was first: then its object is there."""
        nuid = secrets.token_hex(11)
        chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        described = _Object(
            name=name,
            nuid=nuid,
            size=len(data),
            mtime=self._now(),
            chunks=len(chunks),
            digest=f"SHA-256={base64.urlsafe_b64encode(bytes.fromhex(name)).decode()}",
        )
        # What is left of an attempt that failed the collector removes: writers need no right to remove anything.
        for start in range(0, len(chunks), _AT_ONCE):
            await self._send([(_chunks(nuid), chunk, b"") for chunk in chunks[start : start + _AT_ONCE]])
        return await self._describe(described, expected)

    async def _send(self, questions: list[Question]) -> None:
        """In order and once: a chunk that may be missing or doubled ends the attempt."""
        for reply in await self._connection.ask(questions):
            if reply is None:
                raise Away("a chunk was not acknowledged")
            acknowledgement = acknowledged(*reply)
            if acknowledgement.error is not None:
                raise refused(acknowledgement.error)

    async def _describe(self, described: _Object, expected: int) -> bool:
        proposal = Proposal(_subject(described.name), msgspec.json.encode(described), expected)
        return (await self._log.append([proposal]))[0] is not None

    async def _touched(self, known: _Known) -> bool:
        """Make a known object young again, so that it is not collected under who just stored it."""
        if self._clock.now().timestamp() - known.time < _FRESH_SECONDS:
            return True
        young = msgspec.structs.replace(known.described, mtime=self._now())
        return await self._describe(young, known.sequence)

    async def _remove(self, known: _Known) -> int:
        """First invisible, on condition that nobody touched it; then its bytes go."""
        if not known.described.deleted:
            dead = _Object(name=known.described.name, mtime=self._now(), deleted=True)
            if not await self._describe(dead, known.sequence):
                return 0
        await self._forget_chunks(known.described.nuid)
        newest = await self._known(known.described.name)
        if newest is not None and newest.described.deleted:
            # Only up to the mark itself: what is stored anew meanwhile lies behind it.
            request = {"filter": _subject(known.described.name), "seq": newest.sequence + 1}
            await self._connection.api(f"STREAM.PURGE.{STREAM}", request)
        return 1

    async def _remove_orphans(self, older_than: float) -> None:
        """Chunks whose description never came: their writer died."""
        described = {known.described.nuid async for page in self._every() for known in page}
        limit = self._clock.now().timestamp() - older_than
        offset, total = 0, 1
        while offset < total:
            request = {"subjects_filter": _chunks(">"), "offset": offset}
            answer = await self._connection.api(f"STREAM.INFO.{STREAM}", request)
            found = answer.get("state", {}).get("subjects") or {}
            total, offset = int(answer.get("total", 0)), offset + max(1, len(found))
            for nuid in {subject.rpartition(".")[2] for subject in found} - described:
                [last] = await leader_read(self._connection, STREAM, [{"last_by_subj": _chunks(nuid)}])
                if last is not None and last.time < limit:
                    await self._forget_chunks(nuid)

    async def _forget_chunks(self, nuid: str) -> None:
        if nuid:
            await self._connection.api(f"STREAM.PURGE.{STREAM}", {"filter": _chunks(nuid)})

    # --- Reading ------------------------------------------------------------------------------

    async def _parts(self, described: _Object) -> bytes:
        """From any copy."""
        subject, after = _chunks(described.nuid), 0
        parts: list[bytes] = []
        more = described.chunks > 0
        while more:
            request = {"batch": _PAGE, "next_by_subj": subject, "seq": after + 1}
            messages, more = await direct(self._connection, STREAM, request)
            parts += [message.body for message in messages]
            after = messages[-1].sequence if messages else after
        return b"".join(parts)

    async def _parts_at_leader(self, described: _Object) -> bytes:
        subject, after = _chunks(described.nuid), 0
        parts: list[bytes] = []
        while len(parts) < described.chunks:
            request = {"seq": after + 1, "next_by_subj": subject}
            [message] = await leader_read(self._connection, STREAM, [request])
            if message is None:
                break
            parts.append(message.body)
            after = message.sequence
        return b"".join(parts)

    async def _known(self, name: str) -> _Known | None:
        """From the leader: what was stored before is seen."""
        [message] = await leader_read(self._connection, STREAM, [{"last_by_subj": _subject(name)}])
        return None if message is None else _read(message)

    async def _every(self, after: int = 0) -> AsyncIterator[list[_Known]]:
        more = True
        while more:
            request = {"batch": _PAGE, "next_by_subj": f"$O.{BLOBS_BUCKET}.M.>", "seq": after + 1}
            messages, more = await direct(self._connection, STREAM, request)
            yield [_read(message) for message in messages]
            after = messages[-1].sequence if messages else after

    def _now(self) -> str:
        return self._clock.now().astimezone(UTC).isoformat()


def _is(data: bytes, blob: Blob) -> bool:
    return hashlib.sha256(data).hexdigest() == blob.sha256


def _read(message: Stored) -> _Known:
    return _Known(_object.decode(message.body), message.sequence, message.time)


def _chunks(nuid: str) -> str:
    return f"$O.{BLOBS_BUCKET}.C.{nuid}"


def _subject(name: str) -> str:
    return f"$O.{BLOBS_BUCKET}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"
