"""What a watcher of the whole org missed, out of the archive: histories leave the log a while after their end."""

from collections.abc import AsyncIterator
from datetime import date
from typing import Final, Protocol

from chassis.postgres import Pool, as_org
from gateway.live.tail import Mark, Seen
from gateway.runs.histories import Kept

_PAGE: Final = 100
_DROPPED: Final = "select through from archive.dropped where org = $1"
_SEEN: Final = """
select (time at time zone 'utc')::date from archive.commits
where org = $1 and epoch = $2 and sequence = $3 and version > 0
"""
_COMMITS: Final = """
select run, sequence, body from archive.commits
where org = $1 and epoch = $2 and sequence > $3 and version > 0 order by sequence limit $4
"""


class Archive(Protocol):
    """Every commit that was, but for the newest ones, and those that retention took."""

    async def whole_since(self, org: str, mark: Mark) -> bool:
        """Whether retention took nothing that came after this event. Raises `Away`."""
        ...

    def commits(self, org: str, epoch: int, after: int) -> AsyncIterator[Seen]:
        """What it has of the org beyond this sequence, in order. Raises `Away`."""
        ...


class PostgresArchive:
    """By the index on epoch and sequence."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def whole_since(self, org: str, mark: Mark) -> bool:
        async with as_org(self._pool, org) as connection:
            dropped: date | None = await connection.fetchval(_DROPPED, org)
            if dropped is None:
                return True
            seen: date | None = await connection.fetchval(_SEEN, org, mark.epoch, mark.sequence)
        # What was dropped had ended by that day, so nothing of a later day is gone. An event that is itself gone tells no day.
        return seen is not None and seen > dropped

    async def commits(self, org: str, epoch: int, after: int) -> AsyncIterator[Seen]:
        while True:
            async with as_org(self._pool, org) as connection:
                rows = await connection.fetch(_COMMITS, org, epoch, after, _PAGE)
            for run, sequence, body in rows:
                after = sequence
                yield Seen(org, run, Kept(epoch, sequence, body))
            if len(rows) < _PAGE:
                return
