"""Server-sent events of what the nodes of a run say: what is stored already, then what is stored from now on.

There is no seam between the two: a stream asks LOGS again and again what lies beyond the last line that it told. So whoever
comes late, or comes back, misses nothing and sees nothing twice, and a reader that is slow costs no memory.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from contracts.codec import encode
from contracts.limits import KIB
from gateway.callers import Caller
from gateway.live.streams import HEARTBEAT, Live, LiveStream, reset
from gateway.live.tail import Watcher, frame
from gateway.logs.lines import LineFilter, LogLineView, Place, place_of
from gateway.logs.reading import Logs

POLL_SECONDS: Final = 0.5
_AT_ONCE: Final = 200
_PART_BYTES: Final = 64 * KIB
_OF_NO_RUN: Final = ""
"""Of the runs' own events such a stream tells none."""


class Expired(Struct, frozen=True):
    """What was said before then may be missing from what follows."""

    before: datetime


class LogStreams:
    """Opens them; they count among the live streams of their key."""

    def __init__(self, live: Live, logs: Logs, poll_seconds: float = POLL_SECONDS) -> None:
        self._live, self._logs, self._poll = live, logs, poll_seconds

    def of_run(self, caller: Caller, run: str, wanted: LineFilter, last_id: str | None) -> LiveStream:
        """Of a run that is there. Without `last_id` from its first line on."""
        place = place_of(last_id, "Last-Event-ID")
        self._live.admit(caller)
        return LiveStream(
            self._live, caller, lambda watcher: self._told(watcher, run, wanted, place), _OF_NO_RUN
        )

    async def _told(
        self, watcher: Watcher, run: str, wanted: LineFilter, place: Place
    ) -> AsyncIterator[bytes]:
        kept = await self._logs.kept()
        if place.sequence > kept.last:
            place = Place()  # LOGS lost its end, or is another one: its numbers begin anew.
            yield reset("unknown")
        expired = await self._logs.expired_before(watcher.org, run, place, kept)
        if expired is not None:
            yield frame("expired", encode(Expired(expired)))
        quiet = 0.0
        while not watcher.ended:
            scanned = await self._logs.scan(watcher.org, run, wanted, place, _AT_ONCE)
            place = scanned.place
            for part in _parts(scanned.lines):
                quiet = 0.0
                yield part
            if quiet >= self._live.heartbeat_seconds:
                quiet = 0.0
                yield HEARTBEAT
            if not scanned.more:
                await watcher.take(0, self._poll)
                quiet += self._poll


def _parts(lines: list[LogLineView]) -> list[bytes]:
    """Frames, some together."""
    parts: list[bytearray] = []
    for line in lines:
        if not parts or len(parts[-1]) > _PART_BYTES:
            parts.append(bytearray())
        # JSON on one line holds no line break, so nothing that is said can end its frame.
        parts[-1] += frame("line", encode(line), line.id)
    return list(map(bytes, parts))
