"""Searches what all runs of an org said, the newest first, in the copy that Postgres has of LOGS.

Each call looks at so many records at the most and says where to go on: no search holds the database up, whatever it looks for.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from chassis.edge.problems import Complaint, Problem
from chassis.postgres import Connection, Pool, as_org
from contracts.limits import LOG_SEARCH_RECORDS, MAX_INTEGER
from contracts.logs import LEVELS
from gateway.logs.lines import LAST, LineFilter, LogLineView, Place, needle, record_of, view

SPAN: Final = timedelta(minutes=1)
"""Between the first line of a record and its last: an executor stores each second."""
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)
# Which of the next records may hold a line that is looked for. What JSON puts around the lines may be taken for one.
_LOOK: Final = """
select r.time, r.epoch, r.sequence,
    r.level >= $6
    and ($7::text is null or strpos(lower(r.body collate "C"), $7) > 0)
    and ($8::text is null
        or exists (select from read.runs u where u.org = $1 and u.id = r.run and u.workflow = $8)) as hit
from read.log_records r
where r.org = $1 and (r.time, r.epoch, r.sequence) <= ($2, $3, $4) and r.time >= $5
order by r.time desc, r.epoch desc, r.sequence desc limit $9
"""
_BODIES: Final = """
select r.time, r.epoch, r.sequence, r.body from read.log_records r
join unnest($2::timestamptz[], $3::bigint[], $4::bigint[]) as wanted(time, epoch, sequence)
    using (time, epoch, sequence)
where r.org = $1 order by r.time desc, r.epoch desc, r.sequence desc
"""


class FoundLines(Struct, frozen=True, kw_only=True):
    """Some lines, and where to go on; `next` is null when all were looked at. A page may be short, or empty, and have a next."""

    items: list[LogLineView]
    next: str | None = None
    looked_back_to: datetime | None = None
    """The time of the oldest line that was looked at."""


class Sought(Struct, frozen=True, kw_only=True):
    """Which lines; what is None is not asked."""

    lines: LineFilter
    workflow: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def everything(self) -> bool:
        return self.workflow is None and self.lines == LineFilter()

    def within(self, line: LogLineView) -> bool:
        return (self.since is None or line.time >= self.since) and (
            self.until is None or line.time < self.until
        )


class _Key(Struct, array_like=True, frozen=True, order=True):
    """Where a search is: it goes on with the lines of this record before this one, then with older records."""

    time: Annotated[datetime, Meta(tz=True)]
    epoch: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
    sequence: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
    index: Annotated[int, Meta(ge=0, le=LAST)] = LAST


_decode: Final = msgspec.json.Decoder(_Key)


class LogSearch:
    """Asks Postgres as one org."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.looked_at = 0
        """Records."""

    async def find(self, org: str, sought: Sought, cursor: str | None, limit: int) -> FoundLines:
        start = _key_of(cursor) if cursor else _Key(sought.until or _END, MAX_INTEGER, MAX_INTEGER)
        most = limit + 1 if sought.everything else LOG_SEARCH_RECORDS
        async with as_org(self._pool, org) as connection:
            seen = await self._look(connection, org, sought, start, most)
            hits = [key for key, hit in seen if hit][: limit + 1]
            bodies = await _bodies(connection, org, hits)
        self.looked_at += len(seen)
        found: list[LogLineView] = []
        for key, body in bodies:
            for line, index in reversed(_lines(key, body, sought, start)):
                if len(found) == limit:
                    last = _Key(key.time, key.epoch, key.sequence, index + 1)
                    return FoundLines(items=found, next=_cursor(last), looked_back_to=key.time)
                found.append(line)
        if not seen:
            return FoundLines(items=found)
        # Behind the last hit whose lines were told, or behind everything that was looked at.
        end = hits[-1] if len(hits) > limit else seen[-1][0]
        more = len(hits) > limit or len(seen) == most
        behind = _cursor(_Key(end.time, end.epoch, end.sequence, 0)) if more else None
        return FoundLines(items=found, next=behind, looked_back_to=end.time)

    async def _look(
        self, connection: Connection, org: str, sought: Sought, start: _Key, most: int
    ) -> list[tuple[_Key, bool]]:
        lines = sought.lines
        level = 0 if lines.level is None else LEVELS.index(lines.level)
        text = None if lines.contains is None else needle(lines.contains).decode()
        oldest = _FIRST if sought.since is None else max(sought.since, _FIRST + SPAN) - SPAN
        rows = await connection.fetch(
            _LOOK, org, start.time, start.epoch, start.sequence, oldest, level, text, sought.workflow, most
        )
        return [(_Key(row["time"], row["epoch"], row["sequence"]), row["hit"]) for row in rows]


async def _bodies(connection: Connection, org: str, keys: list[_Key]) -> list[tuple[_Key, str]]:
    columns: list[list[Any]] = [
        [key.time for key in keys],
        [key.epoch for key in keys],
        [key.sequence for key in keys],
    ]
    rows = await connection.fetch(_BODIES, org, *columns)
    return [(_Key(row["time"], row["epoch"], row["sequence"]), row["body"]) for row in rows]


def _lines(key: _Key, body: str, sought: Sought, start: _Key) -> list[tuple[LogLineView, int]]:
    record = record_of(body.encode(), key.sequence)
    if record is None:
        return []
    same = (key.time, key.epoch, key.sequence) == (start.time, start.epoch, start.sequence)
    end = start.index if same else LAST
    views = [
        (view(record, line, Place(key.sequence, index)), index)
        for index, line in enumerate(record.lines[:end])
        if sought.lines.fits(record, line)
    ]
    return [each for each in views if sought.within(each[0])]


def _cursor(key: _Key) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def _key_of(text: str) -> _Key:
    try:
        key = _decode.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        return msgspec.structs.replace(key, time=key.time.astimezone(UTC))
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError, RecursionError, OverflowError):
        raise Problem(
            "malformed", errors=[Complaint(pointer="cursor", message="This is not a cursor of ours.")]
        ) from None
