"""RUNS as it grows: read once per process, fanned out in memory to whoever watches.

A watcher that does not keep up is let go when 1 MiB waits for it, and its connection is cut: what waits for a reader that
does not read would wait for ever. It comes back with the id of the last event it saw.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from msgspec import Struct

from chassis.ports import Log, Reader, Stored
from contracts.codec import Malformed, encode
from contracts.limits import KIB, MIB, SSE_BUFFER_BYTES
from gateway.runs.histories import Kept, events_in

log = structlog.get_logger()

REMEMBERED_BYTES: Final = 16 * MIB
_PART_BYTES: Final = 64 * KIB
"""Handed to the connection at once."""
_BREATH_BYTES: Final = 256 * KIB
"""Read before the watchers get their turn: who keeps up shall not be let go because much came at once."""


def _nothing() -> None:
    """For a watcher without a connection that could be cut."""


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
    """What waits for one stream, what it is being sent included."""

    def __init__(self, org: str, run: str | None, most: int, cut: Callable[[], None] = _nothing) -> None:
        self.org, self.run = org, run
        self._most, self._cut = most, cut
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._unread = self._handed = 0
        self._wake = asyncio.Event()
        self.ended = ""
        """Why it ended; empty while it goes on."""

    def put(self, sequence: int, frames: bytes) -> None:
        if self.ended:
            return
        if self._unread + len(frames) > self._most:
            self.drop()
            return
        self._waiting.append((sequence, frames))
        self._unread += len(frames)
        self._wake.set()

    def drop(self) -> None:
        """It does not keep up: its connection is cut."""
        self.end("slow")
        self._cut()

    def end(self, reason: str) -> None:
        self.ended = self.ended or reason
        self._waiting.clear()
        self._unread = self._handed = 0
        self._wake.set()

    async def take(self, after: int, timeout: float) -> bytes:
        """Some of what came in beyond this sequence; nothing when nothing came in time, or when it ended.

        What was taken counts as unread until the next call: only then is it known to be sent.
        """
        self._unread -= self._handed
        self._handed = 0
        try:
            async with asyncio.timeout(timeout):
                while not self.ended:
                    if taken := self._taken(after):
                        return taken
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass  # Nothing came: whoever asked says so to the other side.
        return b""

    def _taken(self, after: int) -> bytes:
        taken: list[bytes] = []
        while self._waiting and self._handed < _PART_BYTES:
            sequence, frames = self._waiting.popleft()
            if sequence > after:
                taken.append(frames)
                self._handed += len(frames)
            else:
                self._unread -= len(frames)
        return b"".join(taken)


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
        taken = 0
        async for batch in self._reader.read(self.sequence):
            for stored in batch:
                self._take(stored)
                taken += len(stored.body)
                if taken > _BREATH_BYTES:
                    taken = 0
                    await asyncio.sleep(0)

    @contextmanager
    def watch(
        self,
        org: str,
        run: str | None,
        cut: Callable[[], None] = _nothing,
        most: int = SSE_BUFFER_BYTES,
    ) -> Iterator[Watcher]:
        """See what goes by from now on. `cut`: ends the connection of one that does not keep up."""
        watcher = Watcher(org, run, most, cut)
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
