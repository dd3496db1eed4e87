"""Finds in the read models who should have moved by now."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from chassis.postgres import Pool, connected
from projections.events import ASKED_FOR
from projections.sweeper import Key, Straggler

# What says in `projections.events` that a run is still stands here once more: ahead of its time only such a one is due.
_DUE: Final = """
select org, id, sequence, false as unwanted from read.runs
where ended is null and (org, id) > ($2, $3) and look_at < $7 and (
    look_at < $1 or steps_running > 0 or (waits = '[]' and steps_in_doubt = 0) or waits like any($8)
)
union
select p.org, p.id, p.sequence, false from read.steps s
join read.runs p on p.org = s.org and p.id = s.run
left join read.runs c on c.org = s.org and c.id = s.child
where s.awaits and s.scheduled < $5 and (s.org, s.run) > ($2, $3)
    and p.ended is null and (c.id is null or c.ended < $5)
union
select c.org, c.id, c.sequence, true from read.runs c
join read.runs p on p.org = c.org and p.id = c.parent_run
left join read.steps s on s.org = c.org and s.run = c.parent_run and s.path = c.parent_step
where c.parent_waits and c.ended is null and c.opening = 1 and (c.org, c.id) > ($2, $3)
    and (p.ended is not null or p.status = 'stopping' or (s.awaits and s.child = c.id) is not true)
union
select r.org, r.id, r.sequence, false from read.runs r
where r.handlers <> '' and r.ended >= $6 and r.ended < $5 and (r.org, r.id) > ($2, $3) and exists (
    select from unnest(string_to_array(r.handlers, ',')) as told(id) left join read.runs h on h.org = r.org and h.id = told.id where h.id is null
)
order by 1, 2, 4 limit $4
"""


_OVERDUE: Final = """
select t.org, t.id, coalesce(s.sequence, 0) from read.triggers t left join read.schedules s on s.org = t.org and s.id = t.id
where t.kind in ('schedule', 'poll') and (t.org, t.id) > ($2, $3) and (
    s.look_at < $1 or (t.head_version > coalesce(s.revision, 0) and t.updated < $1)
) order by t.org, t.id limit $4
"""
BEHIND: Final = timedelta(seconds=5)
_ASKED_FOR: Final = [f'%"kind":"{kind}"%' for kind in sorted(ASKED_FOR)]
WELL_BEHIND: Final = timedelta(hours=2)
"""Longer than anybody's clock or rows are behind."""
_EVER: Final = datetime.min.replace(tzinfo=UTC)


class OverdueSchedules:
    """Schedules whose planned time has passed, or whose trigger was changed, and whose owner has not looked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(
        self, at: datetime, after: Key | None, most: int, ahead: timedelta = timedelta()
    ) -> Sequence[Straggler]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_OVERDUE, at + ahead - BEHIND, *(after or ("", "")), most)
        return [Straggler(*row.values()) for row in rows]


class PostgresStragglers:
    """`runs.look_at` says who stands still: the fold worked it out. What is between two runs their rows tell together.

    A run waits for one that is over or was never there; or nobody waits any more for one that goes on; or one that
    failed was to be told to an error workflow, whose run is not there.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._failed_since = _EVER

    async def due(
        self, at: datetime, after: Key | None, most: int, ahead: timedelta = timedelta()
    ) -> Sequence[Straggler]:
        early = at + ahead
        async with connected(self._pool) as connection:
            key = after or ("", "")
            rows = await connection.fetch(
                _DUE, at, *key, most, early - BEHIND, self._failed_since, early, _ASKED_FOR
            )
        if len(rows) < most:
            # Once all are looked at that ever failed, those are left that fail from here on.
            self._failed_since = max(self._failed_since, early - WELL_BEHIND)
        return [Straggler(*row.values()) for row in rows]
