"""The archive's side of retention: what may leave the log, what may leave the archive."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final, Protocol

from msgspec import Struct

from chassis.postgres import Pool, connected
from contracts.limits import HOOKS_PER_TRIGGER
from projections.models import writing

REBUILD_LOCK: Final = 0x7265_6164
"""Held by a rebuild from its first row to its swap: rows that leave meanwhile would come back with it."""

# Whole means: every version from 1 to the last one, and the bytes still are what was hashed when they came.
_ENDED: Final = """
select r.org, r.run, r.hash, r.ended, r.keyed, coalesce((
    select count(*) = r.version and bool_and(c.hash = sha256(c.body))
    from archive.commits c
    where c.week = r.week and c.org = r.org and c.run = r.run and c.version <= r.version
), false) as whole
from archive.run_ids r
where r.purged is null and r.ended < $1 and (r.ended, r.org, r.run) > ($2, $3, $4)
order by r.ended, r.org, r.run limit $5
"""
_FLUSH: Final = "select pg_logical_emit_message(true, 'archiver', 'flush')"
# Each segment is counted by itself: from the seam before it, or from the beginning. What ingress looks up in the log to answer
# somebody stays there, and what is behind it.
_SEGMENTS: Final = """
select s.org, s.run, s.version, s.epoch, s.sequence, s.time, coalesce((
    select count(*) = s.version - earlier.version and bool_and(c.hash = sha256(c.body))
    from archive.commits c
    where c.week = s.week and c.org = s.org and c.run = s.run and c.version >= earlier.version and c.version < s.version
), false) as whole
from archive.seams s cross join lateral (
    select coalesce(max(p.version), 1) as version from archive.seams p
    where p.org = s.org and p.run = s.run and p.version < s.version
) earlier
where s.purged is null and s.time < $1 and (s.time, s.org, s.run, s.version) > ($2, $3, $4, $5)
and not exists (
    select from read.runs r, jsonb_array_elements(r.waits::jsonb) w
    where r.org = s.org and r.id = s.run and w ->> 'kind' in ('call', 'approval', 'escalation')
    and (w ->> 'since')::timestamptz <= s.time
)
order by s.time, s.org, s.run, s.version limit $6
"""
_MARK_SEGMENTS: Final = """
update archive.seams s set purged = $1
from unnest($2::text[], $3::text[], $4::bigint[]) as gone(org, run, version)
where s.org = gone.org and s.run = gone.run and s.version = gone.version
"""
_MARK_PURGED: Final = """
update archive.run_ids r set purged = $1
from unnest($2::text[], $3::text[], $4::bytea[]) as gone(org, run, hash)
where r.org = gone.org and r.run = gone.run and r.hash = gone.hash
"""
# What stands behind so many younger ones, the oldest first.
_TOMBSTONES: Final = """
with cut as (
    select ended, org, run from archive.run_ids
    where keyed = $1 and purged is not null and forgotten is null and ended is not null
    order by ended desc, org desc, run desc offset $2 limit 1
)
select r.org, r.run, r.hash, r.ended, r.keyed, true as whole from archive.run_ids r, cut
where r.keyed = $1 and r.purged is not null and r.forgotten is null and r.ended < $3
    and (r.ended, r.org, r.run) <= (cut.ended, cut.org, cut.run) and (r.ended, r.org, r.run) > ($4, $5, $6)
order by r.ended, r.org, r.run limit $7
"""
_MARK_FORGOTTEN: Final = """
update archive.run_ids r set forgotten = $1
from unnest($2::text[], $3::text[], $4::bytea[]) as gone(org, run, hash)
where r.org = gone.org and r.run = gone.run and r.hash = gone.hash
"""
ANY_FORGOTTEN: Final = "select exists (select from archive.run_ids where keyed and forgotten is not null)"
_OLD: Final = """
select org, run, week, ended from archive.run_ids
where dropped is null and purged is not null and ended < $1 order by ended limit $2
for update skip locked
"""
_DROP: Final = (
    """
delete from archive.commits c using unnest($1::text[], $2::text[], $3::date[]) as gone(org, run, week)
where c.week = gone.week and c.org = gone.org and c.run = gone.run
""",
    """
delete from archive.seams s using unnest($1::text[], $2::text[], $3::date[]) as gone(org, run, week)
where s.org = gone.org and s.run = gone.run
""",
    """
delete from read.steps s using unnest($1::text[], $2::text[], $3::date[]) as gone(org, run, week)
where s.org = gone.org and s.run = gone.run
""",
    """
delete from read.deliveries d using unnest($1::text[], $2::text[], $3::date[]) as gone(org, run, week)
where d.org = gone.org and d.run = gone.run and d.stream = 'RUNS'
""",
    """
delete from read.runs r using unnest($1::text[], $2::text[], $3::date[]) as gone(org, run, week)
where r.org = gone.org and r.id = gone.run
""",
)
# What the run named may just have been passed on: it counts for a day more.
_RELEASE: Final = """
update archive.blob_refs r set until = $1::timestamptz + interval '1 day'
from unnest($2::text[], $3::text[]) as gone(org, run)
where r.org = gone.org and r.holder = 'run.' || gone.run
"""
_MARK_DROPPED: Final = """
update archive.run_ids r set dropped = $1 from unnest($2::text[], $3::text[]) as gone(org, run)
where r.org = gone.org and r.run = gone.run
"""
_REMEMBER_DROPPED: Final = """
insert into archive.dropped as old (org, through) values ($1, $2)
on conflict (org) do update set through = greatest(old.through, excluded.through)
"""
_WEEKS: Final = """
select to_date(right(c.relname, 8), 'YYYYMMDD') as week
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'archive.commits'::regclass order by 1
"""
_EMPTY: Final = "select not exists (select from archive.commits where week >= $1 and week < $1 + 7)"
_DROP_GARBAGE: Final = "delete from archive.commits where version < 1 and week + 7 <= $1"
_PRUNE_OLD_HOOKS: Final = "delete from read.deliveries where stream in ('HOOKS', 'SCHEDULES') and time < $1"
_PRUNE_MANY_HOOKS: Final = """
delete from read.deliveries d using (
    select org, receipt, row_number() over (partition by org, trigger order by sequence desc) as number
    from read.deliveries where stream in ('HOOKS', 'SCHEDULES')
) counted
where d.org = counted.org and d.receipt = counted.receipt and counted.number > $1
"""


class EndedRun(Struct, frozen=True, kw_only=True):
    """A run that may leave the log when it is whole in the archive."""

    org: str
    run: str
    hash: bytes
    """Of its last commit."""
    ended: datetime
    whole: bool
    keyed: bool = True
    """A dedupe key names it: another start may ask for the same run."""


class ClosedSegment(Struct, frozen=True, kw_only=True):
    """A seam behind which the run goes on: what is before it may leave the log when the archive has it."""

    org: str
    run: str
    version: int
    epoch: int
    sequence: int
    time: datetime
    whole: bool
    """The archive has every commit from the seam before it up to this one."""


class Shelf(Protocol):
    """What the archiver asks of the archive."""

    async def ended(self, before: datetime, after: EndedRun | None, most: int) -> Sequence[EndedRun]:
        """Runs that ended before this moment and have not left the log, in order, beginning behind one of them."""
        ...

    async def segments(
        self, before: datetime, after: ClosedSegment | None, most: int
    ) -> Sequence[ClosedSegment]:
        """Seams from before this moment that nothing was let go for yet, in order, beginning behind one of them."""
        ...

    async def mark_segments(self, segments: Sequence[ClosedSegment], at: datetime) -> None:
        """What is before these seams may leave the log from now on."""
        ...

    async def flush(self) -> None:
        """Returning means: whatever was seen in the archive before the call is on disk."""
        ...

    async def mark_purged(self, runs: Sequence[EndedRun], at: datetime) -> None: ...

    async def tombstones(
        self, before: datetime, after: EndedRun | None, most: int, *, keyed: bool, beyond: int
    ) -> Sequence[EndedRun]:
        """Runs of which only the last commit is left in the log, behind so many that ended later; the oldest first."""
        ...

    async def mark_forgotten(self, runs: Sequence[EndedRun], at: datetime) -> None:
        """The last commit of these has left the log too."""
        ...

    async def has_forgotten(self) -> bool:
        """Whether the last commit of any run with a key has left the log."""
        ...

    async def drop(self, before: datetime, at: datetime, most: int) -> int:
        """Remove runs that ended before this moment and have left the log; how many."""
        ...

    async def drop_weeks(self, before: date) -> int:
        """Remove empty partitions of weeks before this day; how many."""
        ...

    async def prune_hooks(self, before: datetime) -> None:
        """Keep of the deliveries that started no run what HOOKS keeps."""
        ...


class PostgresShelf:
    """The archive in Postgres."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ended(self, before: datetime, after: EndedRun | None, most: int) -> Sequence[EndedRun]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_ENDED, before, *_behind(after), most)
        return [EndedRun(**dict(row)) for row in rows]

    async def tombstones(
        self, before: datetime, after: EndedRun | None, most: int, *, keyed: bool, beyond: int
    ) -> Sequence[EndedRun]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_TOMBSTONES, keyed, beyond, before, *_behind(after), most)
        return [EndedRun(**dict(row)) for row in rows]

    async def segments(
        self, before: datetime, after: ClosedSegment | None, most: int
    ) -> Sequence[ClosedSegment]:
        behind = (
            (_BEGINNING, "", "", 0) if after is None else (after.time, after.org, after.run, after.version)
        )
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_SEGMENTS, before, *behind, most)
        return [ClosedSegment(**dict(row)) for row in rows]

    async def mark_segments(self, segments: Sequence[ClosedSegment], at: datetime) -> None:
        keys = [(each.org, each.run, each.version) for each in segments]
        async with writing(self._pool) as connection:
            await connection.execute("set local synchronous_commit = on")
            await connection.execute(_MARK_SEGMENTS, at, *map(list, zip(*keys, strict=True)))

    async def flush(self) -> None:
        # The projector commits without waiting for the disk. Those commits stand before this one in the write-ahead
        # log, and this one waits.
        async with writing(self._pool) as connection:
            await connection.execute("set local synchronous_commit = on")
            await connection.execute(_FLUSH)

    async def mark_purged(self, runs: Sequence[EndedRun], at: datetime) -> None:
        async with writing(self._pool) as connection:
            await connection.execute(_MARK_PURGED, at, *_keys(runs))

    async def mark_forgotten(self, runs: Sequence[EndedRun], at: datetime) -> None:
        async with writing(self._pool) as connection:
            await connection.execute(_MARK_FORGOTTEN, at, *_keys(runs))

    async def has_forgotten(self) -> bool:
        async with connected(self._pool) as connection:
            return bool(await connection.fetchval(ANY_FORGOTTEN))

    async def drop(self, before: datetime, at: datetime, most: int) -> int:
        async with writing(self._pool) as connection:
            if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", REBUILD_LOCK):
                return 0
            rows = await connection.fetch(_OLD, before, most)
            orgs, runs = [row["org"] for row in rows], [row["run"] for row in rows]
            for statement in _DROP:
                await connection.execute(statement, orgs, runs, [row["week"] for row in rows])
            await connection.execute(_RELEASE, at, orgs, runs)
            await connection.execute(_MARK_DROPPED, at, orgs, runs)
            for org in set(orgs):
                through = max(row["ended"].date() for row in rows if row["org"] == org)
                await connection.execute(_REMEMBER_DROPPED, org, through)
        return len(rows)

    async def drop_weeks(self, before: date) -> int:
        gone = 0
        async with connected(self._pool) as connection:
            await connection.execute(_DROP_GARBAGE, before)
            for row in await connection.fetch(_WEEKS):
                week = row["week"]
                if (before - week).days >= 7 and await connection.fetchval(_EMPTY, week):
                    gone += bool(await connection.fetchval("select archive.drop_week($1)", week))
        return gone

    async def prune_hooks(self, before: datetime) -> None:
        async with writing(self._pool) as connection:
            await connection.execute(_PRUNE_OLD_HOOKS, before)
            await connection.execute(_PRUNE_MANY_HOOKS, HOOKS_PER_TRIGGER)


def _behind(run: EndedRun | None) -> tuple[datetime, str, str]:
    return (_BEGINNING, "", "") if run is None else (run.ended, run.org, run.run)


def _keys(runs: Sequence[EndedRun]) -> tuple[list[str], list[str], list[bytes]]:
    return [run.org for run in runs], [run.run for run in runs], [run.hash for run in runs]


_BEGINNING: Final = datetime.fromisoformat("0001-01-01T00:00:00+00:00")
