"""Where it is written down what names an object: histories, records, letters, and stored values themselves."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from chassis.postgres import Connection, Pool, connected
from contracts.subjects import DOMAIN, NOBODY, RUNS
from projections.models import writing
from projections.references import Reference, names

_REACHED: Final = """
select count(*) from read.positions p
join unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted(stream, epoch, sequence) using (stream)
where (p.epoch, p.sequence) >= (wanted.epoch, wanted.sequence) and p.projection in ('runs', 'domain')
"""
# A body that names nothing stays where it is; its place alone is told.
_COMMITS: Final = {
    RUNS: """
select org, 'run.' || run as holder, epoch, sequence,
    case when position('"sha256"'::bytea in body) > 0 then body else ''::bytea end as body
from archive.commits where (epoch, sequence) > ($1, $2) order by epoch, sequence limit $3
""",
    DOMAIN: """
select org, 'domain.' || aggregate || '.' || id as holder, epoch, sequence, body
from archive.domain_commits where (epoch, sequence) > ($1, $2) order by epoch, sequence limit $3
""",
}
_PLACE: Final = "select epoch, sequence from archive.collected where org = $1 and stream = $2"
_MOVE: Final = """
insert into archive.collected (org, stream, epoch, sequence) values ($1, $2, $3, $4)
on conflict (org, stream) do update set epoch = excluded.epoch, sequence = excluded.sequence
"""
_REFER: Final = """
insert into archive.blob_refs (org, sha256, holder, until)
select distinct on (1, 2, 3) * from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) as t(a, b, c, d)
order by 1, 2, 3, 4 desc nulls first
on conflict (org, sha256, holder) do update set until = excluded.until
"""
_OPEN: Final = """
insert into archive.blobs_unread (org, sha256)
select distinct a, b from unnest($1::text[], $2::text[]) as t(a, b)
where not exists (select from archive.blob_links l where l.parent = t.b and l.child = '')
on conflict do nothing
"""
_UNREAD: Final = "select org, sha256 from archive.blobs_unread order by org, sha256 limit $1"
_LINK: Final = """
insert into archive.blob_links (org, parent, child)
select $1, $2, child from unnest($3::text[]) as t(child) on conflict do nothing
"""
_READ: Final = "delete from archive.blobs_unread where sha256 = $1"
# Upwards from each name to all that hold it, however deep.
_HELD: Final = """
with recursive up(name, holder) as (
    select n, n from unnest($1::text[]) as t(n)
    union select up.name, l.parent from up join archive.blob_links l on l.child = up.holder
)
select distinct name from up where exists (
    select from archive.blob_refs r where r.sha256 = up.holder and (r.until is null or r.until > $2)
)
"""
_PLANS: Final = "select distinct plan from read.runs where plan = any($1::text[])"
_FORGET: Final = (
    "delete from archive.blob_links where parent = any($1::text[])",
    "delete from archive.blobs_unread where sha256 = any($1::text[])",
)
_EXPIRE: Final = "delete from archive.blob_refs where until < $1"


class Place(Struct, frozen=True, order=True):
    """How far a stream was read."""

    epoch: int
    sequence: int


class Noted(Struct, frozen=True, kw_only=True):
    """One page of the archive: where it ends, and what it names."""

    end: Place
    references: Sequence[Reference]


class ReferenceTables:
    """The collector's tables in Postgres."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def reached(self, ends: Mapping[str, Place]) -> bool:
        """Whether the archive has everything up to these places."""
        streams = list(ends)
        epochs, sequences = [ends[s].epoch for s in streams], [ends[s].sequence for s in streams]
        async with connected(self._pool) as connection:
            return bool(await connection.fetchval(_REACHED, streams, epochs, sequences) >= len(streams))

    async def place(self, stream: str) -> Place:
        async with connected(self._pool) as connection:
            row = await connection.fetchrow(_PLACE, NOBODY, stream)
        return Place(0, 0) if row is None else Place(*row.values())

    async def page(self, stream: str, after: Place, most: int) -> Noted | None:
        """What the archive has behind a place; None: nothing."""
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_COMMITS[stream], after.epoch, after.sequence, most)
        if not rows:
            return None
        references = [
            Reference(org=row["org"], sha256=name, holder=row["holder"], opens=opens)
            for row in rows
            for name, opens in names(row["body"]).items()
        ]
        return Noted(end=Place(rows[-1]["epoch"], rows[-1]["sequence"]), references=references)

    async def note(self, references: Sequence[Reference], stream: str = "", end: Place | None = None) -> None:
        """Write down who names what, and up to where a stream was read for it: all of it or nothing."""
        async with writing(self._pool) as connection:
            await _refer(connection, references)
            if end is not None:
                await connection.execute(_MOVE, NOBODY, stream, end.epoch, end.sequence)

    async def unread(self, most: int) -> Sequence[tuple[str, str]]:
        """Org and name of stored values that may name others and were not looked into."""
        async with connected(self._pool) as connection:
            return [tuple(row.values()) for row in await connection.fetch(_UNREAD, most)]

    async def looked_into(self, org: str, parent: str, children: Mapping[str, bool]) -> None:
        async with writing(self._pool) as connection:
            await connection.execute(_LINK, org, parent, ["", *children])
            await _open(connection, [(org, name) for name, opens in children.items() if opens])
            await connection.execute(_READ, parent)

    async def is_none(self, name: str) -> None:
        """There is no such object: gone, or never one. Whoever stores it and names it has it looked into then."""
        async with writing(self._pool) as connection:
            await connection.execute(_READ, name)

    async def held(self, wanted: Collection[str], now: datetime) -> set[str]:
        """Those of these objects that somebody names."""
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_HELD, list(wanted), now)
            found = {row["name"] for row in rows}
            plans = await connection.fetch(_PLANS, list(set(wanted) - found))
        return found | {row["plan"] for row in plans}

    async def forget(self, gone: Collection[str]) -> None:
        """What these objects named does not matter any more."""
        async with writing(self._pool) as connection:
            for statement in _FORGET:
                await connection.execute(statement, list(gone))

    async def expire(self, now: datetime) -> None:
        async with writing(self._pool) as connection:
            await connection.execute(_EXPIRE, now)


async def _refer(connection: Connection, references: Sequence[Reference]) -> None:
    if not references:
        return
    await connection.execute(
        _REFER,
        [each.org for each in references],
        [each.sha256 for each in references],
        [each.holder for each in references],
        [each.until for each in references],
    )
    await _open(connection, [(each.org, each.sha256) for each in references if each.opens])


async def _open(connection: Connection, found: Sequence[tuple[str, str]]) -> None:
    if found:
        await connection.execute(_OPEN, [org for org, _ in found], [name for _, name in found])
