"""Reads the archive as if it were the log: everything in the order in which it came, a page at a time."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import asyncpg
from msgspec import Struct

from chassis.jetstream.alongside import alongside
from chassis.ports import Stored
from chassis.postgres import Pool, connected
from contracts import subjects

_COMMITS: Final = """
select org, run, epoch, sequence, extract(epoch from time)::float8 as time, body from archive.commits
where (epoch, sequence) > ($1, $2) order by epoch, sequence limit $3
"""
_DOMAIN: Final = """
select org, aggregate, id, epoch, sequence, extract(epoch from time)::float8 as time, body
from archive.domain_commits where (epoch, sequence) > ($1, $2) order by epoch, sequence limit $3
"""


class Page(Struct, frozen=True):
    """Messages of one epoch."""

    epoch: int
    messages: Sequence[Stored]


Take: TypeAlias = Callable[[Page], Awaitable[None]]


def _run_subject(row: asyncpg.Record) -> str:
    return subjects.run(row["org"], row["run"])


def _domain_subject(row: asyncpg.Record) -> str:
    return subjects.domain(row["org"], row["aggregate"], row["id"])


class ArchiveReader:
    """One stream's part of the archive."""

    def __init__(self, pool: Pool, stream: str) -> None:
        self._pool = pool
        self._sql, self._subject = _SOURCES[stream]

    async def feed(self, epoch: int, sequence: int, most: int, take: Take) -> None:
        """Hand over everything beyond a place that is there now. A page is fetched while the one before is worked on."""
        rows = await self._fetch(epoch, sequence, most)
        while rows:
            last = rows[-1]
            async with alongside() as beside:
                coming = beside.create_task(self._fetch(last["epoch"], last["sequence"], most))
                for page in self._cut(rows):
                    await take(page)
            rows = coming.result()

    async def _fetch(self, epoch: int, sequence: int, most: int) -> Sequence[asyncpg.Record]:
        async with connected(self._pool) as connection:
            return await connection.fetch(self._sql, epoch, sequence, most)

    def _cut(self, rows: Sequence[asyncpg.Record]) -> list[Page]:
        """A page for each epoch: sequences of two are not comparable."""
        pages: dict[int, list[Stored]] = {}
        for row in rows:
            pages.setdefault(row["epoch"], []).append(
                Stored(
                    subject=self._subject(row), sequence=row["sequence"], body=row["body"], time=row["time"]
                )
            )
        return [Page(epoch, messages) for epoch, messages in pages.items()]


_SOURCES: Final[dict[str, tuple[str, Callable[[asyncpg.Record], str]]]] = {
    subjects.RUNS: (_COMMITS, _run_subject),
    subjects.DOMAIN: (_DOMAIN, _domain_subject),
}
