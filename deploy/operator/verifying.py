"""Goes through what was stored and tells every commit that was changed, removed, put in or moved.

Both stores are read in full, page by page; whatever looks wrong there is looked at again, one history at a time, because
an installation at work moves on meanwhile. Then the signed anchors say whether both stores were rewritten alike.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg
from msgspec import Struct

from chassis.ids import digest
from chassis.postgres import connected
from deploy.operator import truths
from deploy.operator.agreement import Flaw, Names, Verdict, verdict
from deploy.operator.anchored import Chain, Finding, Mark, chain, compared, late, stored_anchors, with_lists
from deploy.operator.reach import Stores
from deploy.operator.truths import Truth

_PAGE: Final = 2_000


class Judged(Struct, frozen=True, kw_only=True):
    """One history, and where its commits lie."""

    truth: Truth
    names: Names
    verdict: Verdict
    places: dict[int, tuple[int, int]]
    """Epoch and sequence of each version."""


class Count(Struct, kw_only=True):
    """What was looked at."""

    histories: int = 0
    commits: int = 0
    anchors: int = 0


class Verifying:
    """One verification."""

    def __init__(
        self, stores: Stores, public: Sequence[bytes], now: datetime, days: truths.Retention
    ) -> None:
        self._stores, self._public, self._now, self._days = stores, public, now, days
        self._chain = Chain(marks=(), findings=())
        self.count = Count()

    async def read_anchors(self) -> list[Finding]:
        """What is wrong with the anchors by themselves. Comes first."""
        for truth in truths.TRUTHS:
            await truth.log(self._stores).end()  # Its epoch is what it is now.
        self._chain = chain(await stored_anchors(self._stores), self._public)
        self.count.anchors = len(self._chain.marks)
        return list(self._chain.findings)

    # --- One history --------------------------------------------------------------------------

    async def of_run(self, org: str, run: str) -> AsyncIterator[Finding]:
        """One run: both copies, and the anchors of every interval in which it moved."""
        judged = await self.judged(truths.RUN, (org, run))
        for finding in self._found(judged):
            yield finding
        # What lies nowhere any more may still stand in some anchor's list.
        marks = self._marks(judged) if judged.places else self._chain.marks
        name = f"{org}/{run}"
        async for finding in self._anchored(marks):
            if finding.history in ("", name):
                yield finding

    async def judged(self, truth: Truth, names: Names) -> Judged:
        """Compare what the log and the archive have of a history now. A log that goes on meanwhile is no fault."""
        evidence = await truths.gather(self._stores, truth, names)
        if evidence.is_over:
            told = Verdict(commits=0, in_log=0, in_archive=0)
            return Judged(truth=truth, names=names, verdict=told, places={})
        rows, logged = evidence.rows, [stored.body for stored in evidence.logged]
        flaws = [
            *_filed_wrongly(rows),
            *truths.missing(evidence, self._now, self._days),
            *truths.put_in(evidence),
        ]
        told = verdict(logged, [row["body"] for row in rows], names, flaws)
        self.count.histories += 1
        self.count.commits += told.commits
        places = truths.places(evidence)
        return Judged(truth=truth, names=names, verdict=told, places=places)

    def _found(self, judged: Judged) -> list[Finding]:
        name = "/".join(judged.names)
        return [
            Finding(what=what, history=name, version=version, interval=self._interval(judged, version))
            for what, version in zip(judged.verdict.problems, judged.verdict.versions, strict=True)
        ]

    def _interval(self, judged: Judged, version: int | None) -> str:
        """Where the commit lies, or where its successor does, when it is gone."""
        later = [place for v, place in judged.places.items() if version is not None and v >= version]
        if not later:
            return ""
        epoch, sequence = min(later)
        mark = judged.truth.mark(self._chain, epoch, sequence)
        return mark.interval if mark is not None else "after the newest anchor"

    def _marks(self, judged: Judged) -> list[Mark]:
        found = {
            mark.body.number: mark
            for place in judged.places.values()
            if (mark := judged.truth.mark(self._chain, *place)) is not None
        }
        return [found[number] for number in sorted(found)]

    async def _anchored(self, marks: Sequence[Mark]) -> AsyncIterator[Finding]:
        """What the anchors of these intervals say against the archive."""
        kept_from = None if self._days.archive == "never" else self._now - timedelta(days=self._days.archive)
        async for mark, heads in with_lists(self._stores, self._chain, marks):
            for finding in await compared(self._stores.archive, mark, heads, kept_from):
                yield finding

    # --- A day --------------------------------------------------------------------------------

    async def of_day(self, day: date, org: str) -> AsyncIterator[Finding]:
        """Every history that moved on a day (UTC), and the anchors of that day's intervals."""
        marks: dict[int, Mark] = {}
        for truth in truths.TRUTHS:
            async with connected(self._stores.archive) as connection:
                rows = await connection.fetch(truth.of_day, day, day + timedelta(days=1), org)
            for row in rows:
                judged = await self.judged(truth, tuple(row))
                for finding in self._found(judged):
                    yield finding
                marks |= {mark.body.number: mark for mark in self._marks(judged)}
        async for finding in self._anchored([marks[number] for number in sorted(marks)]):
            yield finding

    # --- Everything ---------------------------------------------------------------------------

    async def of_all(self) -> AsyncIterator[Finding]:
        """Every commit of both stores, and every anchor."""
        for truth in truths.TRUTHS:
            suspects = await self._suspects_of_archive(truth)
            suspects |= await self._suspects_of_log(truth)
            for names in sorted(suspects):
                for finding in self._found(await self.judged(truth, names)):
                    yield finding
            self.count.histories -= len(suspects)  # Counted already, when the archive was read.
        async for finding in self._anchored(self._chain.marks):
            yield finding
        last = self._chain.marks[-1].body if self._chain.marks else None
        words = await late(self._stores.archive, last, self._now)
        if words is not None:
            yield Finding(what=words)

    async def _suspects_of_archive(self, truth: Truth) -> set[Names]:
        """Histories that are not whole by what the archive alone says."""
        suspects: set[Names] = set()
        names: Names = ()
        rows: list[asyncpg.Record] = []
        async with connected(self._stores.archive) as connection, connection.transaction(readonly=True):
            async for row in connection.cursor(truth.everything, prefetch=_PAGE):
                ours = tuple(row)[: truth.names]
                if ours != names:
                    suspects |= self._suspect(names, rows)
                    names, rows = ours, []
                rows.append(row)
        return suspects | self._suspect(names, rows)

    def _suspect(self, names: Names, rows: Sequence[asyncpg.Record]) -> set[Names]:
        if not rows:
            return set()
        self.count.histories += 1
        self.count.commits += len(rows)
        told = verdict((), [row["body"] for row in rows], names, _filed_wrongly(rows))
        return {names} if told.problems else set()

    async def _suspects_of_log(self, truth: Truth) -> set[Names]:
        """Histories of which the log has something else than the archive, or not what it should have."""
        suspects: set[Names] = set()
        log, after = truth.log(self._stores), 0
        async for batch in self._stores.log.reader(truth.stream).read(0, _PAGE):
            if not batch:
                break
            through = batch[-1].sequence
            async with connected(self._stores.archive) as connection:
                rows = await connection.fetch(truth.places, log.epoch, after, through)
            filed = {row["sequence"]: row for row in rows}
            for stored in batch:
                names = truth.named(stored.subject)
                if not _is_filed(truth, names, filed.pop(stored.sequence, None), stored.body):
                    suspects.add(names)
            suspects |= {tuple(row)[: truth.names] for row in filed.values() if not row["gone"]}
            after = through
        async with connected(self._stores.archive) as connection:
            rows = await connection.fetch(truth.places, log.epoch, after, 2**62)
        return suspects | {tuple(row)[: truth.names] for row in rows if not row["gone"]}


def _is_filed(truth: Truth, names: Names, row: asyncpg.Record | None, body: bytes) -> bool:
    """Whether the archive has these bytes at this place of the log, as a commit of this history."""
    return (
        row is not None
        and row["version"] > 0
        and tuple(row)[: truth.names] == names
        and row["hash"].hex() == digest(body)
    )


def _filed_wrongly(rows: Sequence[asyncpg.Record]) -> list[Flaw]:
    """Rows whose bytes are not those that were noted when they came."""
    return [
        Flaw(row["version"], f"archive: the bytes of version {row['version']} are not those that came there")
        for row in rows
        if row["hash"].hex() != digest(row["body"])
    ]
