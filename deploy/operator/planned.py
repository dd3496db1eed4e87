"""Whether what the clock was to start was started: planned times that were missed lately."""

from datetime import datetime, timedelta
from typing import Final

from chassis.postgres import Pool, connected
from deploy.operator.findings import Finding, note, ok

LATELY: Final = timedelta(days=1)
_MISSED: Final = (
    "select s.org, s.id, t.name, s.last_missed, count(*) over () as schedules from read.schedules s "
    "left join read.triggers t on (t.org, t.id) = (s.org, s.id) "
    "where s.last_missed > $1 order by s.last_missed desc, s.org, s.id limit 1"
)


async def missed(archive: Pool, now: datetime) -> Finding:
    """The schedule that missed a planned time last, and what to do about it."""
    async with connected(archive) as connection:
        row = await connection.fetchrow(_MISSED, now - LATELY)
    if row is None:
        return ok("no schedule has missed a planned time within a day")
    count = row["schedules"]
    who = "1 schedule has" if count == 1 else f"{count} schedules have"
    return note(
        f"{who} missed planned times within a day, last {row['name'] or 'one without a name'!r} "
        f"(trigger {row['id']} of {row['org']}, planned for {row['last_missed'].isoformat()}): nobody could fire then. "
        "Its deliveries say which and what was made up for (GET /api/v1/triggers/{id}/deliveries?result=missed), "
        "the orchestrator's log why (schedule.missed, schedule.waits); when everything ran, raise its late_s; "
        "a trigger that follows schedule.missed tells people"
    )
