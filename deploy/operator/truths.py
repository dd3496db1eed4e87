"""The two streams that have a history, and how the archive is asked about each."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import asyncpg
from msgspec import Struct

from chassis.jetstream.log import JetStreamLog
from chassis.ports import Stored
from chassis.postgres import connected
from contracts import subjects
from contracts.codec import Malformed, decode_envelope
from deploy.operator.agreement import Flaw, Names
from deploy.operator.anchored import Chain, Mark
from deploy.operator.reach import Stores

Days: TypeAlias = float | Literal["never"]


class Retention(Struct, frozen=True, kw_only=True):
    """After how many days what has ended leaves the log, and the archive."""

    log: Days
    archive: Days


class Truth(Struct, frozen=True, kw_only=True):
    """RUNS or DOMAIN."""

    stream: str
    names: int
    """How many names a history has."""
    subject: Callable[[Names], str]
    log: Callable[[Stores], JetStreamLog]
    mark: Callable[[Chain, int, int], Mark | None]
    rows: str
    """The commits of one history."""
    left: str
    """What is known of one that may have left the log; empty: nothing leaves it."""
    seam: str
    """The newest version up to which one that goes on was let go from the log."""
    everything: str
    """All commits, by history."""
    position: str
    """How far the archive has followed the log."""
    places: str
    """What the archive has of a stretch of the log; `gone`: the log does not have to have it any more."""
    of_day: str
    """The histories that moved between two moments, of one org or of all."""

    def named(self, subject: str) -> Names:
        return tuple(subject.split(".")[1:])


RUN: Final = Truth(
    stream=subjects.RUNS,
    names=2,
    subject=lambda names: subjects.run(*names),
    log=lambda stores: stores.log.log,
    mark=lambda whole, epoch, sequence: whole.of_run(epoch, sequence),
    rows="""
select version, epoch, sequence, hash, body from archive.commits
where org = $1 and run = $2 and version > 0 order by version
""",
    left="select ended, purged, dropped from archive.run_ids where org = $1 and run = $2",
    seam="select max(version) from archive.seams where org = $1 and run = $2 and purged is not null",
    everything="""
select org, run, version, hash, body from archive.commits where version > 0 order by week, org, run, version
""",
    position="select epoch, sequence from read.positions where projection = 'runs' and stream = 'RUNS'",
    places="""
select c.org, c.run, c.version, c.sequence, c.hash, (
    r.purged is not null or c.version < 1 or c.version < coalesce(s.version, 0)
) as gone from archive.commits c
left join archive.run_ids r on r.org = c.org and r.run = c.run
left join (
    select org, run, max(version) as version from archive.seams where purged is not null group by org, run
) s on s.org = c.org and s.run = c.run
where c.epoch = $1 and c.sequence > $2 and c.sequence <= $3
""",
    of_day="""
select distinct org, run from archive.commits
where version > 0 and time >= $1::date and time < $2::date and week <= $2::date and ($3 = '' or org = $3)
""",
)

DOMAIN: Final = Truth(
    stream=subjects.DOMAIN,
    names=3,
    subject=lambda names: subjects.domain(*names),
    log=lambda stores: stores.log.domain,
    mark=lambda whole, epoch, sequence: whole.of_domain(epoch, sequence),
    rows="""
select version, epoch, sequence, hash, body from archive.domain_commits
where org = $1 and aggregate = $2 and id = $3 order by version
""",
    left="",
    seam="",
    everything="""
select org, aggregate, id, version, hash, body from archive.domain_commits order by org, aggregate, id, version
""",
    position="select epoch, sequence from read.positions where projection = 'domain' and stream = 'DOMAIN'",
    places="""
select org, aggregate, id, version, sequence, hash, false as gone from archive.domain_commits
where epoch = $1 and sequence > $2 and sequence <= $3
""",
    of_day="""
select distinct org, aggregate, id from archive.domain_commits
where time >= $1::date and time < $2::date and ($3 = '' or org = $3)
""",
)

TRUTHS: Final = (RUN, DOMAIN)


class Evidence(Struct, frozen=True, kw_only=True):
    """What both stores say of one history. Asked for in this order: what moves on meanwhile then looks like no fault."""

    position: asyncpg.Record | None
    rows: Sequence[asyncpg.Record]
    logged: Sequence[Stored]
    left: asyncpg.Record | None
    """What the archive's list of ended runs says."""
    seam: int
    """Before this version nothing has to be in the log."""
    epoch: int
    """The log's."""

    @property
    def is_over(self) -> bool:
        """Whether its time in the archive is over: nothing but a last commit may be left of it."""
        return not self.rows and self.left is not None and self.left["dropped"] is not None


async def gather(stores: Stores, truth: Truth, names: Names) -> Evidence:
    log = truth.log(stores)
    async with connected(stores.archive) as connection:
        position = await connection.fetchrow(truth.position)
        rows = await connection.fetch(truth.rows, *names)
    logged = await log.history(truth.subject(names))
    async with connected(stores.archive) as connection:
        left = await connection.fetchrow(truth.left, *names) if truth.left else None
        seam = await connection.fetchval(truth.seam, *names) if truth.seam else None
    return Evidence(position=position, rows=rows, logged=logged, left=left, seam=seam or 0, epoch=log.epoch)


def places(evidence: Evidence) -> dict[int, tuple[int, int]]:
    """Epoch and sequence of each version: as the archive has them; of what it does not have, as the log has them now."""
    found = {
        version: (evidence.epoch, stored.sequence)
        for stored in evidence.logged
        if (version := _version(stored.body))
    }
    return found | {row["version"]: (row["epoch"], row["sequence"]) for row in evidence.rows}


def put_in(evidence: Evidence) -> list[Flaw]:
    """Commits in the log that the archive has gone past without seeing them."""
    position = evidence.position
    if position is None or position["epoch"] != evidence.epoch:
        return []
    known = max((row["version"] for row in evidence.rows), default=0)
    return [
        Flaw(version, f"log: version {version} lies where the archive, which went past it, saw nothing")
        for stored in evidence.logged
        if stored.sequence <= position["sequence"] and (version := _version(stored.body)) > known
    ]


def missing(evidence: Evidence, now: datetime, days: Retention) -> list[Flaw]:
    """Commits that the archive has and the log should still have."""
    rows = evidence.rows
    if not rows or _may_have_left(rows, evidence.left, now, days):
        return []
    versions = [version for stored in evidence.logged if (version := _version(stored.body))]
    first, last = min(versions, default=0), max(row["version"] for row in rows)
    if not versions:
        return [Flaw(1, f"log: versions 1 to {last} are not there")]
    if first > 1 and first > evidence.seam:
        return [Flaw(1, f"log: version {first} is the first one")]
    if max(versions) < last:
        return [
            Flaw(
                max(versions) + 1, f"log: version {max(versions)} is the last one, and the archive has {last}"
            )
        ]
    return []


def _may_have_left(rows: Sequence[asyncpg.Record], left: Any, now: datetime, days: Retention) -> bool:
    """Whether the history has left the log at some time, or is about to."""
    if any(b'"run.reopened"' in row["body"] for row in rows):
        return True
    if left is None:
        return False
    if left["purged"] is not None or left["dropped"] is not None:
        return True
    return (
        left["ended"] is not None and days.log != "never" and left["ended"] < now - timedelta(days=days.log)
    )


def _version(body: bytes) -> int:
    try:
        return decode_envelope(body).version
    except Malformed:
        return 0
