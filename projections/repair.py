"""Gives the log back what it lost and the archive still has: after a damaged disk, or a log that was made anew.

Every history whose newest archived commit is not in the log gets what is missing appended, in the order in which it once
came; of a history that had moved to the archive, its tombstone. Then the log begins a new epoch. A history that went on
in another way meanwhile is left alone and told: no program can say which of its two ends is true.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import structlog
from msgspec import Struct

from chassis.ids import digest
from chassis.ports import Ambiguous, Log, Proposal, Stored
from chassis.postgres import Pool, connected
from contracts.cloudevents import headers_of
from contracts.codec import Malformed, Unknown, decode_commit, decode_domain_commit, decode_envelope
from contracts.limits import BATCH_COMMITS
from contracts.subjects import DOMAIN, HORIZON, RUNS
from projections.archive_reader import ArchiveReader, Page
from projections.projector import BATCH
from projections.shelf import ANY_FORGOTTEN
from projections.streams import Streams

log = structlog.get_logger()

HEADS: Final = 500

_RUN_HEADS: Final = """
select distinct on (c.org, c.run) 'run.' || c.org || '.' || c.run as subject, c.version, encode(c.hash, 'hex') as hash,
    r.purged is not null and r.ended is not null as moved
from archive.commits c left join archive.run_ids r on r.org = c.org and r.run = c.run
where c.version > 0 and r.forgotten is null order by c.org, c.run, c.version desc
"""
_DOMAIN_HEADS: Final = """
select distinct on (org, aggregate, id) 'evt.' || org || '.' || aggregate || '.' || id as subject,
    version, encode(hash, 'hex') as hash, false as moved
from archive.domain_commits order by org, aggregate, id, version desc
"""
_HEADS: Final = {RUNS: _RUN_HEADS, DOMAIN: _DOMAIN_HEADS}


class Repaired(Struct, frozen=True, kw_only=True):
    """What a repair found and did."""

    stream: str
    histories: int
    given_back: int
    """Commits that the log has again."""
    forked: tuple[str, ...]
    """Subjects whose history in the log does not go with the archive's."""
    epoch: int


class ArchivedHead(Struct, frozen=True):
    """The newest commit that the archive has of one history."""

    subject: str
    version: int
    hash: str
    moved: bool
    """Only the tombstone is expected in the log."""


class Missing(Struct):
    """Where a history in the log has to be taken up."""

    version: int
    expected: int


class Repair:
    """Works on one stream. Stop the services that write to it first."""

    def __init__(self, pool: Pool, stream: str, truth: Log, streams: Streams, marks: Log) -> None:
        """`marks`: where it is written that tombstones have left the log; the log may have lost that too."""
        self._pool, self._stream, self._log, self._streams = pool, stream, truth, streams
        self._marks = marks
        self._missing: dict[str, Missing] = {}
        self._forked: list[str] = []
        self._given_back = 0

    async def run(self) -> Repaired:
        """Safe to repeat: what is there already is not given back twice."""
        await self._mark_horizon()
        histories = 0
        async for heads in self._heads():
            histories += len(heads)
            await self._compare(heads)
        await ArchiveReader(self._pool, self._stream).feed(0, 0, BATCH, self._give_back)
        epoch = (await self._streams.facts(self._stream)).epoch + 1
        await self._streams.begin_epoch(self._stream, epoch)
        return Repaired(
            stream=self._stream,
            histories=histories,
            given_back=self._given_back,
            forked=tuple(self._forked),
            epoch=epoch,
        )

    async def _mark_horizon(self) -> None:
        """Before anybody starts a run again: some runs are known by the archive's list of ids alone."""
        async with connected(self._pool) as connection:
            forgotten = await connection.fetchval(ANY_FORGOTTEN)
        if forgotten and HORIZON not in await self._marks.last([HORIZON]):
            await self._marks.append([Proposal(HORIZON, b"passed", 0)])

    async def _heads(self) -> AsyncIterator[Sequence[ArchivedHead]]:
        async with connected(self._pool) as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(_HEADS[self._stream])
            while rows := await cursor.fetch(HEADS):
                yield [ArchivedHead(*row.values()) for row in rows]

    async def _compare(self, heads: Sequence[ArchivedHead]) -> None:
        last = await self._log.last([head.subject for head in heads])
        for head in heads:
            stored = last.get(head.subject)
            if stored is None:
                version = head.version if head.moved else 1
                self._missing[head.subject] = Missing(version=version, expected=0)
            elif digest(stored.body) != head.hash:
                await self._compare_whole(head)

    async def _compare_whole(self, head: ArchivedHead) -> None:
        """The log's end is not the archive's: it lacks something, is ahead, or went another way."""
        history = [stored for stored in await self._log.history(head.subject) if _version(stored)]
        if any(digest(stored.body) == head.hash for stored in history):
            return  # Ahead: the projector has not seen it yet.
        if history and _version(history[-1]) < head.version and await self._is_archived(history[-1]):
            missing = Missing(version=_version(history[-1]) + 1, expected=history[-1].sequence)
            self._missing[head.subject] = missing
        else:
            self._forked.append(head.subject)

    async def _is_archived(self, stored: Stored) -> bool:
        table = "commits" if self._stream == RUNS else "domain_commits"
        async with connected(self._pool) as connection:
            return bool(
                await connection.fetchval(
                    f"select exists (select from archive.{table} where hash = sha256($1) and version = $2 and org = $3)",  # noqa: S608  # One of two names of ours.
                    stored.body,
                    _version(stored),
                    stored.subject.split(".")[1],
                )
            )

    async def _give_back(self, page: Page) -> None:
        """Append what the page has of what is missing; a subject stands once in a batch."""
        batch: dict[str, Proposal] = {}
        for stored in page.messages:
            missing, version = self._missing.get(stored.subject), _version(stored)
            if missing is None or version < 1 or version != missing.version:
                continue
            if stored.subject in batch or len(batch) == BATCH_COMMITS:
                await self._append(batch)
                batch = {}
                missing = self._missing[stored.subject]
            batch[stored.subject] = Proposal(
                subject=stored.subject,
                body=stored.body,
                expected=missing.expected,
                headers=_headers(stored, self._stream),
            )
            missing.version += 1
        await self._append(batch)

    async def _append(self, batch: dict[str, Proposal]) -> None:
        if not batch:
            return
        sequences = await self._log.append(list(batch.values()))
        for subject, sequence in zip(batch, sequences, strict=True):
            if sequence is None:
                raise Ambiguous(f"somebody writes to {subject} meanwhile; stop the services")
            self._missing[subject].expected = sequence
            self._given_back += 1


def _version(stored: Stored) -> int:
    try:
        return decode_envelope(stored.body).version
    except Malformed:
        return 0


def _headers(stored: Stored, stream: str) -> dict[str, str]:
    """As they were but for the trace, which the archive does not keep."""
    try:
        if stream == RUNS:
            return headers_of(decode_commit(stored.body))
        return headers_of(decode_domain_commit(stored.body, stored.subject.split(".")[2]))
    except (Malformed, Unknown):
        return {}
