"""Server-sent events of one run or of the whole org, from any place in the past up to now and on."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Literal

from chassis.archive import Since
from chassis.edge.connections import ABORT
from chassis.edge.problems import Problem, unavailable
from chassis.http import Receive, Scope, Send
from chassis.lifecycle import companions
from chassis.ports import Away, Reader
from contracts.limits import MAX_INTEGER, SSE_STREAMS_PER_KEY
from contracts.subjects import run as run_subject
from gateway.callers import Caller
from gateway.live.missed import Archive
from gateway.live.tail import Mark, Seen, Tail, Watcher, frame, frames
from gateway.rejected import absent
from gateway.runs.histories import BEGINNING, Histories, Kept, first_of

HEARTBEAT_SECONDS: Final = 5.0
STALLED_SECONDS: Final = 60.0
"""So long nothing gets through to a reader before its connection is cut."""
RETRY: Final = b"retry: 1000\n\n"
HEARTBEAT: Final = b": still here\n\n"

Reset = Literal["restored", "unknown", "retention"]
"""Why a stream cannot say all that came after an event: the log began anew (it was restored), the log never had the event,
or the past was kept no longer."""

_ID: Final = re.compile(r"([0-9]{1,15})-([0-9]{1,16})-([0-9]{1,6})")

Readers = Callable[[str], Reader]
"""A reader of RUNS through one subject filter."""


class Live:
    """Opens streams; counts them per key."""

    def __init__(
        self,
        tail: Tail,
        histories: Histories,
        readers: Readers,
        archive: Archive,
        still_valid: Callable[[Caller], Awaitable[bool]],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._tail, self._histories, self._readers = tail, histories, readers
        self._archive = archive
        self._still_valid, self.heartbeat_seconds = still_valid, heartbeat_seconds
        self.open: Counter[str] = Counter()

    async def of_run(self, caller: Caller, run_id: str, last_id: str | None) -> "LiveStream":
        """Without `last_id` from the run's beginning."""
        mark = self._mark(last_id)
        self.admit(caller)
        if await first_of(self._histories, caller.org, run_id) is None:
            raise absent("run")
        return LiveStream(self, caller, lambda watcher: self._run(watcher, run_id, mark), run_id)

    async def of_org(self, caller: Caller, last_id: str | None) -> "LiveStream":
        """Without `last_id` from now on."""
        mark = self._mark(last_id)
        self.admit(caller)
        return LiveStream(self, caller, lambda watcher: self._org(watcher, mark), None)

    def _mark(self, last_id: str | None) -> Mark | None:
        if not last_id:
            return None
        found = _ID.fullmatch(last_id)
        if found is None or int(found[2]) > MAX_INTEGER:
            raise Problem("malformed", "Last-Event-ID is not an id of ours.")
        return Mark(*map(int, found.groups()))

    def admit(self, caller: Caller) -> None:
        """Raises `Problem` when no further stream can be opened now."""
        if not self._tail.following.is_set():
            raise unavailable("The gateway is starting.")
        if self._tail.closed:
            raise unavailable("The gateway is stopping.")
        if self.open[caller.key] >= SSE_STREAMS_PER_KEY:
            raise Problem(
                "rate_limited",
                f"A key may have {SSE_STREAMS_PER_KEY} streams open.",
                headers={"retry-after": "5"},
            )

    async def _run(self, watcher: Watcher, run_id: str, mark: Mark | None) -> AsyncIterator[bytes]:
        """The history first, then what the tail saw since the history was read."""
        if mark is not None and mark.epoch != self._tail.epoch:
            mark = None  # The log was restored: its numbers begin anew, so the whole run is told again.
            yield reset("restored")
        first, last = True, 0
        since = BEGINNING if mark is None else Since(place=(mark.epoch, mark.sequence))
        async for page in self._histories.pages(watcher.org, run_id, since):
            begins = Mark(page[0].epoch, page[0].sequence, 0)
            if first and page[0].version > 1 and (mark is None or mark < begins):
                yield reset("retention")
            first = False
            for lying in page:
                kept = Kept(lying.epoch, lying.sequence, lying.body)
                shown = frames(Seen(watcher.org, run_id, kept), mark)
                if kept.epoch == self._tail.epoch:
                    last = kept.sequence
                if shown:
                    yield shown
        async for shown in self._go_on(watcher, last):
            yield shown

    async def _org(self, watcher: Watcher, mark: Mark | None) -> AsyncIterator[bytes]:
        now = self._tail.sequence
        if mark is not None and mark.epoch != self._tail.epoch:
            yield reset("restored")
        elif mark is not None and mark.sequence > now:
            yield reset("unknown")
        elif mark is not None:
            async for shown in self._missed(watcher.org, mark, now):
                yield shown
        async for shown in self._go_on(watcher, now):
            yield shown

    async def _missed(self, org: str, mark: Mark, now: int) -> AsyncIterator[bytes]:
        """Out of memory when it was a moment ago, else out of the archive and then the log."""
        remembered = self._tail.since(mark)
        if remembered is None and not await self._archive.whole_since(org, mark):
            yield reset("retention")
        for seen in remembered or ():
            if seen.org == org and seen.kept.sequence <= now and (shown := frames(seen, mark)):
                yield shown
        if remembered is None:
            async for seen in self._past(org, mark, now):
                if shown := frames(seen, mark):
                    yield shown

    async def _past(self, org: str, mark: Mark, now: int) -> AsyncIterator[Seen]:
        after = mark.sequence - 1
        async for seen in self._archive.commits(org, mark.epoch, after):
            if seen.kept.sequence > now:
                return
            after = seen.kept.sequence
            yield seen
        async for batch in self._readers(run_subject(org, "*")).read(after):
            for stored in batch:
                if stored.sequence > now:
                    return
                kept = Kept(self._tail.epoch, stored.sequence, stored.body)
                yield Seen(org, stored.subject.split(".")[2], kept)
            if not batch:
                return

    async def _go_on(self, watcher: Watcher, after: int) -> AsyncIterator[bytes]:
        while not watcher.ended:
            taken = await watcher.take(after, self.heartbeat_seconds)
            if taken or not watcher.ended:
                yield taken or HEARTBEAT

    async def serve(
        self,
        caller: Caller,
        run_id: str | None,
        told: Callable[[Watcher], AsyncIterator[bytes]],
        send: Callable[[bytes], Awaitable[None]],
        gone: Callable[[], Awaitable[None]],
        cut: Callable[[], None],
    ) -> None:
        """Carry one stream until either side ends it, its key is no longer valid, or it does not keep up."""
        self.open[caller.key] += 1
        try:
            with self._tail.watch(caller.org, run_id, cut) as watcher:

                async def leave() -> None:
                    await gone()
                    watcher.end("gone")

                async with companions() as beside:
                    beside.create_task(leave())
                    beside.create_task(self._check(caller, watcher))
                    await send(RETRY)
                    await self._carry(told(watcher), watcher, send)
                    await send(frame("end", b'{"reason":"%s"}' % watcher.ended.encode()))
        finally:
            self.open[caller.key] -= 1
            if not self.open[caller.key]:
                del self.open[caller.key]

    async def _carry(
        self, shown: AsyncIterator[bytes], watcher: Watcher, send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        try:
            async for part in shown:
                async with asyncio.timeout(STALLED_SECONDS):
                    await send(part)
        except Away:
            watcher.end("unavailable")
        except TimeoutError:
            watcher.drop()

    async def _check(self, caller: Caller, watcher: Watcher) -> None:
        """A key that is revoked or expired sees nothing more."""
        while True:
            await asyncio.sleep(self.heartbeat_seconds)
            if not await self._still_valid(caller):
                watcher.end("unauthenticated")


class LiveStream:
    """One answer that does not end by itself: an ASGI app that Litestar hands the connection to."""

    def __init__(
        self,
        live: Live,
        caller: Caller,
        told: Callable[[Watcher], AsyncIterator[bytes]],
        run_id: str | None,
    ) -> None:
        self._live, self._caller, self._told, self._run_id = live, caller, told, run_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def say(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        cut: Callable[[], None] = scope["extensions"][ABORT]
        await self._live.serve(self._caller, self._run_id, self._told, say, gone, cut)
        await send({"type": "http.response.body", "body": b""})


def reset(reason: Reset) -> bytes:
    """Something is missing before what follows: read the state anew, then go on."""
    return frame("reset", b'{"reason":"%s"}' % reason.encode())
