"""RUNS as it grows: read once per process, fanned out in memory to whoever watches.

A watcher that does not keep up is let go when 1 MiB waits for it; it comes back with the id of the last event it saw.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from msgspec import Struct

from chassis.ports import Log, Reader, Stored
from contracts.codec import Malformed, encode
from contracts.limits import MIB, SSE_BUFFER_BYTES
from gateway.runs.histories import Kept, events_in

log = structlog.get_logger()

REMEMBERED_BYTES: Final = 16 * MIB


class Seen(Struct, frozen=True):
    """A commit that went by."""

    org: str
    run: str
    kept: Kept


class Mark(Struct, frozen=True, order=True):
    """Where a watcher is: the id of the last event it has."""

    epoch: int
    sequence: int
    index: int


class Watcher:
    """What waits for one stream."""

    def __init__(self, org: str, run: str | None, most: int) -> None:
        self.org, self.run = org, run
        self._most = most
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self.ended = ""
        """Why it ended; empty while it goes on."""

    def put(self, sequence: int, frames: bytes) -> None:
        if self._size + len(frames) > self._most:
            self.end("slow")
        elif not self.ended:
            self._waiting.append((sequence, frames))
            self._size += len(frames)
            self._wake.set()

    def end(self, reason: str) -> None:
        self.ended = self.ended or reason
        self._waiting.clear()
        self._size = 0
        self._wake.set()

    async def take(self, after: int, timeout: float) -> list[tuple[int, bytes]]:
        """What came in beyond this sequence; nothing when nothing came in time, or when it ended."""
        if not self._waiting and not self.ended:
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                return []
        taken = [(sequence, frames) for sequence, frames in self._waiting if sequence > after]
        self._waiting.clear()
        self._size = 0
        self._wake.clear()
        return taken


class Tail:
    """One per process; `run` must be running."""

    def __init__(self, reader: Reader, runs: Log, *, remember: int = REMEMBERED_BYTES) -> None:
        self._reader, self._log, self._remember = reader, runs, remember
        self._watchers: dict[str, set[Watcher]] = {}
        self._recent: deque[Seen] = deque()
        self._recent_bytes = 0
        self.sequence = 0
        """The last one that went by."""
        self.following = asyncio.Event()
        self.closed = False
        self.let_go = 0
        """Watchers that did not keep up."""

    @property
    def watching(self) -> int:
        return sum(map(len, self._watchers.values()))

    @property
    def epoch(self) -> int:
        return self._log.epoch

    async def run(self) -> None:
        """From now on, for ever."""
        self.sequence = await self._reader.end()
        self.following.set()
        async for batch in self._reader.read(self.sequence):
            for stored in batch:
                self._take(stored)

    @contextmanager
    def watch(self, org: str, run: str | None, most: int = SSE_BUFFER_BYTES) -> Iterator[Watcher]:
        """See what goes by from now on."""
        watcher = Watcher(org, run, most)
        self._watchers.setdefault(org, set()).add(watcher)
        if self.closed:
            watcher.end("closing")
        try:
            yield watcher
        finally:
            watchers = self._watchers[org]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[org]

    def since(self, mark: Mark) -> list[Seen] | None:
        """What went by since then, of all orgs; None when this process does not remember that far back."""
        oldest = self._recent[0].kept.sequence if self._recent else self.sequence + 1
        if mark.sequence < oldest:
            return None
        return [seen for seen in self._recent if seen.kept.sequence >= mark.sequence]

    def close(self) -> None:
        """End every stream: the service stops."""
        self.closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end("closing")

    def _take(self, stored: Stored) -> None:
        _, org, run = stored.subject.split(".")
        seen = Seen(org, run, Kept(self._log.epoch, stored.sequence, stored.body))
        self._keep(seen)
        self.sequence = stored.sequence
        interested = [w for w in self._watchers.get(org, ()) if w.run in (None, run) and not w.ended]
        if not interested:
            return
        try:
            shown = frames(seen)
        except Malformed as error:
            log.error("live.unreadable", org=org, run=run, sequence=stored.sequence, reason=str(error))
            return
        for watcher in interested:
            watcher.put(stored.sequence, shown)
            self.let_go += watcher.ended == "slow"

    def _keep(self, seen: Seen) -> None:
        self._recent.append(seen)
        self._recent_bytes += len(seen.kept.body)
        while self._recent_bytes > self._remember:
            self._recent_bytes -= len(self._recent.popleft().kept.body)


class LiveEvent(Struct, frozen=True, kw_only=True):
    """The data of one server-sent event."""

    run: str
    version: int
    time: str
    actor: str
    event: object


def frames(seen: Seen, after: Mark | None = None) -> bytes:
    """The events of a commit as server-sent events; those beyond the mark, when one is given."""
    shown: list[bytes] = []
    for index, told in enumerate(events_in(seen.kept)):
        if after is not None and Mark(seen.kept.epoch, seen.kept.sequence, index) <= after:
            continue
        data = encode(
            LiveEvent(
                run=seen.run,
                version=told.version,
                time=told.time.isoformat(),
                actor=told.actor,
                event=told.event,
            )
        )
        # JSON on one line holds no line break, so nothing in an event can end its frame.
        shown.append(frame(told.type, data.replace(b"\n", b" ").replace(b"\r", b" "), told.id))
    return b"".join(shown)


def frame(kind: str, data: bytes, id_: str = "") -> bytes:
    name = kind if kind.isascii() and kind.isprintable() else "unknown"
    head = f"id: {id_}\n" if id_ else ""
    return f"{head}event: {name}\ndata: ".encode() + data + b"\n\n"
