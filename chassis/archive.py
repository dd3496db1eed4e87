"""A run's whole history, wherever it lies: the archive's bytes, and from the log what is newer than they are."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chassis.ports import Away, Log, Stored
from chassis.postgres import Pool, as_org
from contracts.codec import Malformed, decode_envelope
from contracts.subjects import run as run_subject

_WEEK: Final = "select week from read.runs where org = $1 and id = $2"
_COMMITS: Final = """
select version, epoch, sequence, body from archive.commits where org = $1 and run = $2 and version > 0 order by version
"""
# One partition instead of all: a run lies in the week in which it began.
_COMMITS_OF_WEEK: Final = """
select version, epoch, sequence, body from archive.commits
where org = $1 and run = $2 and week = $3 and version > 0 order by version
"""


class HistoryDropped(Exception):
    """The run is known by its last commit only: its history was older than the archive keeps."""


class ArchivedCommit(Struct, frozen=True):
    """One commit of the archive."""

    version: int
    epoch: int
    sequence: int
    body: bytes


async def commits_of(pool: Pool, log: Log, org: str, run: str) -> list[bytes]:
    """The bodies of a run's commits from the first one on, as they were stored. None at all: there is no such run.

    With Postgres away the log alone will do, unless the history has moved to the archive: then it is `Away`.
    """
    try:
        archived: Sequence[ArchivedCommit] = await archived_commits(pool, org, run)
    except Away as away:
        return _from_the_log_alone(await log.history(run_subject(org, run)), away)
    last = archived[-1] if archived else None
    after = last.sequence if last is not None and last.epoch == log.epoch else 0
    newer = await log.history(run_subject(org, run), after)
    known = last.version if last is not None else 0
    bodies = [commit.body for commit in archived]
    bodies += [stored.body for stored in newer if _version(stored) > known]
    if newer and not archived and _version(newer[0]) > 1:
        raise HistoryDropped(run)
    return bodies


async def archived_commits(pool: Pool, org: str, run: str) -> list[ArchivedCommit]:
    """What the archive has of a run."""
    async with as_org(pool, org) as connection:
        week = await connection.fetchval(_WEEK, org, run)
        if week is None:
            rows = await connection.fetch(_COMMITS, org, run)
        else:
            rows = await connection.fetch(_COMMITS_OF_WEEK, org, run, week)
    return [ArchivedCommit(*row.values()) for row in rows]


def _from_the_log_alone(history: Sequence[Stored], away: Away) -> list[bytes]:
    if not history or _version(history[0]) > 1:
        raise away  # Moved to the archive, or never there: only the archive knows.
    return [stored.body for stored in history if _version(stored)]


def _version(stored: Stored) -> int:
    try:
        return decode_envelope(stored.body).version
    except Malformed:
        return 0  # Not a commit: it is among the dead letters, and no part of the history.
