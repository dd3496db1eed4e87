"""A run's whole history, wherever it lies: the archive's bytes, and from the log what is newer than they are.

A long one is read a page at a time, from the seam before what is asked for: its seams lie in a table of their own.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import Struct

from chassis.ports import Away, Log, Stored
from chassis.postgres import Pool, as_org
from contracts.cloudevents import seam_in
from contracts.codec import Malformed, Unknown, begins_segment, decode_commit, decode_envelope
from contracts.limits import MAX_INTEGER
from contracts.runs import RunContinued
from contracts.subjects import run as run_subject

PAGE: Final = 256
"""Commits that are read at once, at most. The first page is a small one: often it is all that is asked for."""
_FIRST_PAGE: Final = 16
SHORT: Final = 500
"""A history of so many commits in its first segment is read at once; without the archive, while it is in the log."""
LAST_SEGMENT: Final = MAX_INTEGER
"""As `after`: begin with the newest segment."""

_WEEK: Final = "select week from read.runs where org = $1 and id = $2"
_COMMITS: Final = """
select version, epoch, sequence, body from archive.commits where org = $1 and run = $2 and version > 0 order by version
"""
# One partition instead of all: a run lies in the week in which it began.
_COMMITS_OF_WEEK: Final = """
select version, epoch, sequence, body from archive.commits
where org = $1 and run = $2 and week = $3 and version > 0 order by version
"""
_PAGE: Final = """
select version, epoch, sequence, body from archive.commits
where org = $1 and run = $2 and ($3::date is null or week = $3) and version >= $4 order by version limit $5
"""
_SEAM: Final = """
select version, events from archive.seams where org = $1 and run = $2 and events <= $3 order by events desc limit 1
"""
_SEAM_AT: Final = """
select version, events from archive.seams
where org = $1 and run = $2 and (epoch, sequence) <= ($3, $4) order by version desc limit 1
"""


class HistoryDropped(Exception):
    """The run is known by its last commit only: its history was older than the archive keeps."""


class ArchivedCommit(Struct, frozen=True):
    """One commit of the archive."""

    version: int
    epoch: int
    sequence: int
    body: bytes


class Lying(Struct, frozen=True):
    """One commit of a history, where it lies in RUNS (or lay, before it left), and how many events are before it."""

    version: int
    epoch: int
    sequence: int
    body: bytes
    before: int


class Since(Struct, frozen=True, kw_only=True):
    """From where a history is read: behind so many events, or from a place in the log; never later than asked."""

    events: int = 0
    place: tuple[int, int] | None = None
    """Epoch and sequence."""


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


async def pages_of(pool: Pool, log: Log, org: str, run: str, since: Since) -> AsyncIterator[Sequence[Lying]]:
    """A run's commits, in order, a page at a time. None at all: there is no such run. Raises `Away`.

    It begins with the commit that is asked for or with one before it: at a seam, or at the history's beginning.
    """
    subject = run_subject(org, run)
    last = (await log.last([subject])).get(subject)
    if last is not None and _version(last) <= SHORT and not _is_cut(last, log.epoch):
        live = await log.history(subject)
        if live and _version(live[0]) == 1:
            yield numbered(_of_the_log(live, log.epoch), 0)  # Nothing of it has moved to the archive.
            return
    known, before = 0, 0
    after = (0, 0)
    async for page in _archived_pages(pool, org, run, since):
        yield page
        known, before = page[-1].version, page[-1].before + _events(page[-1].body)
        after = (page[-1].epoch, page[-1].sequence)
    live = await log.history(subject, after[1] if after[0] == log.epoch else 0)
    newer = [commit for commit in _of_the_log(live, log.epoch) if commit.version > known]
    for start in range(0, len(newer), PAGE):
        page = numbered(newer[start : start + PAGE], before)
        yield page
        before = page[-1].before + _events(page[-1].body)


async def _archived_pages(pool: Pool, org: str, run: str, since: Since) -> AsyncIterator[Sequence[Lying]]:
    async with as_org(pool, org) as connection:
        week = await connection.fetchval(_WEEK, org, run)
        if since.place is None:
            seam = await connection.fetchrow(_SEAM, org, run, since.events)
        else:
            seam = await connection.fetchrow(_SEAM_AT, org, run, *since.place)
    version, before = (1, 0) if seam is None else tuple(seam)
    size = _FIRST_PAGE
    while True:
        async with as_org(pool, org) as connection:
            rows = await connection.fetch(_PAGE, org, run, week, version, size)
        if not rows:
            return
        page = numbered([ArchivedCommit(*row.values()) for row in rows], before)
        yield page
        version, before = page[-1].version + 1, page[-1].before + _events(page[-1].body)
        size = min(2 * size, PAGE)


def numbered(commits: Sequence[ArchivedCommit], before: int) -> list[Lying]:
    """With how many events are before each. One that begins a segment says so itself, also where nothing is before it."""
    lying: list[Lying] = []
    for commit in commits:
        if not before and commit.version > 1:
            before = _said_before(commit.body)
        lying.append(Lying(commit.version, commit.epoch, commit.sequence, commit.body, before))
        before += _events(commit.body)
    return lying


def _is_cut(last: Stored, epoch: int) -> bool:
    """Whether a history goes on in a later segment than its first, as far as its last commit says."""
    return bool(seam_in(last.headers, epoch)) or begins_segment(last.body)


def _said_before(body: bytes) -> int:
    if not begins_segment(body):
        return 0
    try:
        first = decode_commit(body).events[0]
    except (Malformed, Unknown):
        return 0
    return first.events if isinstance(first, RunContinued) else 0


def _of_the_log(live: Sequence[Stored], epoch: int) -> list[ArchivedCommit]:
    found = ((_version(stored), stored) for stored in live)
    return [ArchivedCommit(version, epoch, each.sequence, each.body) for version, each in found if version]


def _from_the_log_alone(history: Sequence[Stored], away: Away) -> list[bytes]:
    if not history or _version(history[0]) > 1:
        raise away  # Moved to the archive, or never there: only the archive knows.
    return [stored.body for stored in history if _version(stored)]


def _version(stored: Stored) -> int:
    try:
        return decode_envelope(stored.body).version
    except Malformed:
        return 0  # Not a commit: it is among the dead letters, and no part of the history.


def _events(body: bytes) -> int:
    try:
        return len(decode_envelope(body).events)
    except Malformed:
        return 0
