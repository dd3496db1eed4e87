"""What the nodes of a run said, out of LOGS: kept for some days, and no part of the history."""

import re
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog
from msgspec import Struct

from chassis.edge.problems import Complaint, Problem
from chassis.jetstream.connection import Connection
from chassis.jetstream.reads import direct
from chassis.ports import Stored
from contracts.codec import Decoder, Malformed
from contracts.limits import MAX_INTEGER, MIB
from contracts.logs import LogLevel, LogRecord
from contracts.subjects import LOGS
from contracts.subjects import log as log_subject
from contracts.subjects import logs as logs_subject
from gateway.pages import Page

log = structlog.get_logger()

_ID: Final = re.compile(r"([0-9]{1,16})-([0-9]{1,4})")
_decode: Final = Decoder[LogRecord](LogRecord)


class LogLineView(Struct, frozen=True, kw_only=True):
    """One line."""

    id: str
    """Where to go on from, as the `cursor` of the next call."""
    time: datetime
    step: str
    node: str
    attempt: int
    level: LogLevel
    text: str
    fields: dict[str, Any]


class LogReader(Protocol):
    async def read(self, subject: str, start: int, most: int) -> list[Stored]:
        """The next messages from this sequence on. Raises `Away`."""
        ...


class StoredLogs:
    """LOGS itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, subject: str, start: int, most: int) -> list[Stored]:
        request = {"batch": most, "next_by_subj": subject, "seq": start, "max_bytes": 2 * MIB}
        messages, _ = await direct(self._connection, LOGS, request)
        return messages


class Logs:
    """Tells the lines of a run in the order in which they were stored."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    async def lines(
        self, org: str, run_id: str, step: str | None, cursor: str | None, limit: int
    ) -> Page[LogLineView]:
        """Go on after the line that the cursor names. `next` is there when more lines are."""
        start, told = _place(cursor)
        subject = logs_subject(org, run_id) if step is None else log_subject(org, run_id, step)
        found: list[LogLineView] = []
        for stored in await self._reader.read(subject, max(1, start), limit + 1):
            after = told if stored.sequence == start else -1
            found += [each for index, each in enumerate(_lines(stored)) if index > after]
        following = found[limit - 1].id if len(found) > limit else None
        return Page(items=found[:limit], next=following)


def _lines(stored: Stored) -> list[LogLineView]:
    try:
        record = _decode(stored.body)
    except Malformed as error:
        log.error("logs.unreadable", sequence=stored.sequence, reason=str(error))
        return []
    return [
        LogLineView(
            id=f"{stored.sequence}-{index}",
            time=datetime.fromtimestamp(line.time, UTC),
            step=record.step,
            node=record.node,
            attempt=record.attempt,
            level=line.level,
            text=line.text,
            fields=line.fields,
        )
        for index, line in enumerate(record.lines)
    ]


def _place(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, -1
    found = _ID.fullmatch(cursor)
    if found is None or int(found[1]) > MAX_INTEGER:
        raise Problem("malformed", errors=[Complaint(pointer="cursor", message="Not a cursor of ours.")])
    return int(found[1]), int(found[2])
