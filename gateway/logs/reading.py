"""The lines of one run, out of LOGS itself: kept for some days, and no part of the history.

Whoever asks reads on from a place. So a page, the next one and a live stream see the same lines in the same order, each once,
and need no Postgres.
"""

from datetime import UTC, datetime
from typing import Final, Protocol

from msgspec import Struct

from chassis.clock import Clock
from chassis.jetstream.connection import Connection
from chassis.jetstream.reads import direct, led
from chassis.jetstream.wire import unix_seconds
from chassis.ports import Away, Stored
from contracts.codec import Malformed, decode_envelope
from contracts.limits import LOG_SCAN_BYTES, MIB
from contracts.subjects import LOGS, RUNS
from contracts.subjects import log as log_subject
from contracts.subjects import logs as logs_subject
from contracts.subjects import run as run_subject
from gateway.logs.lines import LAST, LineFilter, LogLineView, Place, place_of, record_of, view

_AT_ONCE: Final = 200


class LogPage(Struct, frozen=True, kw_only=True):
    """Some lines, and where to go on; `next` is null on the last page. A page may be short, or empty, and have a next."""

    items: list[LogLineView]
    next: str | None = None
    expired_before: datetime | None = None
    """What was said before then is kept no longer, and this run is, or may be, older than that."""


class Kept(Struct, frozen=True):
    """What LOGS has."""

    since: float
    """When the oldest line that it has was stored. Whatever it had before is gone."""
    first: int
    last: int


class LogReader(Protocol):
    async def read(self, subject: str, start: int, most: int) -> tuple[list[Stored], bool]:
        """The next messages from this sequence on, and whether there are more. Raises `Away`."""
        ...

    async def kept(self) -> Kept:
        """Raises `Away`."""
        ...

    async def began(self, org: str, run: str) -> float | None:
        """When the run's first commit was stored; None when that has left the log. Raises `Away`."""
        ...


class StoredLogs:
    """LOGS itself."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection, self._clock = connection, clock

    async def read(self, subject: str, start: int, most: int) -> tuple[list[Stored], bool]:
        request = {"batch": most, "next_by_subj": subject, "seq": start, "max_bytes": 2 * MIB}
        return await direct(self._connection, LOGS, request)

    async def kept(self) -> Kept:
        information = await self._connection.api(f"STREAM.INFO.{LOGS}")
        if "error" in information:
            raise Away(f"There is no stream {LOGS} yet.")
        led(LOGS, information)
        state = information["state"]
        first = int(state["first_seq"])
        if first <= 1:
            since = unix_seconds(information["created"])
        elif state["messages"]:
            since = unix_seconds(state["first_ts"])
        else:
            since = self._clock.now().timestamp()
        return Kept(since, first, int(state["last_seq"]))

    async def began(self, org: str, run: str) -> float | None:
        request = {"batch": 1, "next_by_subj": run_subject(org, run), "seq": 1}
        messages, _ = await direct(self._connection, RUNS, request)
        try:
            return messages[0].time if messages and decode_envelope(messages[0].body).version == 1 else None
        except Malformed:
            return None


class Scanned(Struct, frozen=True):
    """Some lines, how far was looked for them, and whether there is more to look at."""

    lines: list[LogLineView]
    place: Place
    more: bool


class Logs:
    """Tells the lines of a run in the order in which they were stored."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self.looked_at = 0
        """Bytes."""

    async def page(self, org: str, run: str, wanted: LineFilter, cursor: str | None, limit: int) -> LogPage:
        """Go on after the line that the cursor names."""
        place = place_of(cursor, "cursor")
        expired = await self.expired_before(org, run, place, await self._reader.kept())
        scanned = await self.scan(org, run, wanted, place, limit)
        following = scanned.place.id if scanned.more else None
        return LogPage(items=scanned.lines, next=following, expired_before=expired)

    async def kept(self) -> Kept:
        return await self._reader.kept()

    async def expired_before(self, org: str, run: str, place: Place, kept: Kept) -> datetime | None:
        """Before when lines of this run beyond this place may be gone; None: all that were stored are there."""
        if place.sequence and place.sequence + 1 >= kept.first:
            return None
        began = await self._reader.began(org, run)
        if began is not None and began >= kept.since:
            return None
        return datetime.fromtimestamp(kept.since, UTC)

    async def scan(self, org: str, run: str, wanted: LineFilter, after: Place, most: int) -> Scanned:
        """So many lines beyond this place, or what is found in so many bytes."""
        subject = logs_subject(org, run) if wanted.step is None else log_subject(org, run, wanted.step)
        found: list[LogLineView] = []
        place, looked, more = after, 0, True
        while more and looked < LOG_SCAN_BYTES:
            messages, more = await self._reader.read(subject, place.following, _AT_ONCE)
            for stored in messages:
                looked += len(stored.body)
                self.looked_at += len(stored.body)
                for line, at in _lines(stored, wanted, place):
                    if len(found) == most:
                        return Scanned(found, place, more=True)
                    found.append(line)
                    place = at
                place = max(place, Place(stored.sequence, LAST))
        return Scanned(found, place, more=more)


def _lines(stored: Stored, wanted: LineFilter, after: Place) -> list[tuple[LogLineView, Place]]:
    record = record_of(stored.body, stored.sequence)
    if record is None or [record.org, record.run] != stored.subject.split(".")[1:3]:
        return []  # Whoever wrote it may not have written it for this run.
    places = [Place(stored.sequence, index) for index in range(len(record.lines))]
    return [
        (view(record, line, place), place)
        for place, line in zip(places, record.lines, strict=True)
        if place > after and wanted.fits(record, line)
    ]
