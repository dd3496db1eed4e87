"""After an upgrade: runs that waited for a release that can read their events are folded anew out of the archive."""

from collections.abc import Sequence
from typing import Final

import structlog
from msgspec import structs

from chassis.ports import Stored
from chassis.postgres import Pool, connected
from contracts.subjects import run as run_subject
from projections.arrived import Arrived, RunKey, read
from projections.models import PostgresRuns, Step
from projections.rows import UsageRow
from projections.runs import Changes, Known, fold

log = structlog.get_logger()

_WAITING: Final = "select org, id, folded_version from read.runs where folded_version < head_version"
_HISTORY: Final = """
select epoch, sequence, extract(epoch from time)::float8 as time, body from archive.commits
where org = $1 and run = $2 order by epoch, sequence
"""


async def take_up(pool: Pool, models: PostgresRuns) -> int:
    """Give every run the rows that this release reads out of its history; how many went on."""
    async with connected(pool) as connection:
        waiting = await connection.fetch(_WAITING)
    taken = 0
    for org, run, folded in (tuple(row.values()) for row in waiting):
        history = await _history(pool, org, run)
        changes = fold(Known(), history)
        if changes.runs[org, run].folded_version == folded:
            continue
        before = fold(Known(), [each for each in history if each.version <= folded])
        await _store(models, (org, run), changes, before)
        log.info("run.taken-up", org=org, run=run)
        taken += 1
    return taken


async def _history(pool: Pool, org: str, run: str) -> Sequence[Arrived]:
    async with connected(pool) as connection:
        rows = await connection.fetch(_HISTORY, org, run)
    subject = run_subject(org, run)
    return [
        read(
            Stored(subject=subject, sequence=row["sequence"], body=row["body"], time=row["time"]),
            row["epoch"],
        )
        for row in rows
    ]


async def _store(models: PostgresRuns, key: RunKey, changes: Changes, before: Changes) -> None:
    """The archive has the bytes already, and the usage counts only what is new."""
    known = await models.load_steps(list(changes.steps))
    changes.new_runs.clear()
    changes.new_steps.difference_update(known)
    changes.commits.clear()
    for day, counted in before.usage.items():
        changes.usage[day] = _less(changes.usage[day], counted)
    position = await models.position()
    step = Step(before=position, epoch=position.epoch, sequence=position.sequence, time=_last(changes, key))
    await models.store(changes, step)


def _less(usage: UsageRow, counted: UsageRow) -> UsageRow:
    counts = {name: getattr(usage, name) - getattr(counted, name) for name in UsageRow.__struct_fields__[2:]}
    return structs.replace(usage, **counts)


def _last(changes: Changes, key: RunKey) -> float:
    return changes.runs[key].last_time.timestamp()
