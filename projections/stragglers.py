"""Finds in the read models who should have moved by now."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from chassis.postgres import Pool, connected
from projections.sweeper import Key, Straggler

_DUE: Final = """
select org, id, sequence from read.runs
where ended is null and look_at < $1 and (org, id) > ($2, $3) order by org, id limit $4
"""


_OVERDUE: Final = """
select t.org, t.id, coalesce(s.sequence, 0) from read.triggers t left join read.schedules s on s.org = t.org and s.id = t.id
where t.kind = 'schedule' and (t.org, t.id) > ($2, $3) and (
    s.look_at < $1 or (t.head_version > coalesce(s.revision, 0) and t.updated < $1 and (t.deleted is null or s.id is not null))
) order by t.org, t.id limit $4
"""
BEHIND: Final = timedelta(seconds=5)


class OverdueSchedules:
    """Schedules whose planned time has passed, or whose trigger was changed, and whose owner has not looked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, at: datetime, after: Key | None, most: int) -> Sequence[Straggler]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_OVERDUE, at - BEHIND, *(after or ("", "")), most)
        return [Straggler(*row.values()) for row in rows]


class PostgresStragglers:
    """`runs.look_at` says it all: the fold worked it out."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, at: datetime, after: Key | None, most: int) -> Sequence[Straggler]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_DUE, at, *(after or ("", "")), most)
        return [Straggler(*row.values()) for row in rows]
