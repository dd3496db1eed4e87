"""Compares two makings of the read models, row by row."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chassis.postgres import Connection, Pool, connected

SAMPLES: Final = 5

# Each table, its key, and which rows are compared. Where the source is bounded, rows that only the live tables still have
# are no difference.
_TABLES: Final = {
    "runs": ("org, id", "true"),
    "steps": ("org, run, path", "true"),
    "deliveries": ("org, receipt", "stream = 'RUNS'"),
    "usage_daily": ("org, day", "true"),
    "workflows": ("org, id", "true"),
    "workflow_versions": ("org, workflow, version", "true"),
    "triggers": ("org, id", "true"),
    "secrets": ("org, id", "true"),
    "api_keys": ("org, id", "true"),
    "orgs": ("org, id", "true"),
}
_READ_SO_FAR: Final = "sequence <= (select sequence from read.positions where projection = '{}')"
_BOUNDED: Final = {
    "deliveries": ("org, receipt", "stream = 'HOOKS' and " + _READ_SO_FAR.format("deliveries")),
    "dead_letters": ("org, id", _READ_SO_FAR.format("dead_letters")),
}


class Difference(Struct, frozen=True, kw_only=True):
    """Rows that one side has and the other has not, or has with other values."""

    table: str
    only_in: str
    rows: int
    samples: tuple[str, ...]
    """The keys of a few of them."""


async def compare(pool: Pool, live: str, rebuilt: str) -> Sequence[Difference]:
    """Every difference between two schemas; none: they are equal."""
    found: list[Difference | None] = []
    async with connected(pool) as connection, connection.transaction(isolation="repeatable_read"):
        for table, (key, which) in _TABLES.items():
            found.append(await _missing(connection, table, key, which, (live, rebuilt)))
            found.append(await _missing(connection, table, key, which, (rebuilt, live)))
        for table, (key, which) in _BOUNDED.items():
            found.append(await _missing(connection, table, key, which, (rebuilt, live)))
    return [difference for difference in found if difference is not None]


async def _missing(
    connection: Connection, table: str, key: str, which: str, schemas: tuple[str, str]
) -> Difference | None:
    """Rows of the first schema that the second has not."""
    one, other = schemas
    rows = await connection.fetch(
        f"select {key}, count(*) over () as rows from (select * from {one}.{table} where {which} "  # noqa: S608  # Names of ours.
        f"except all select * from {other}.{table} where {which}) missing order by {key} limit {SAMPLES}"
    )
    if not rows:
        return None
    samples = tuple("/".join(str(value) for value in list(row.values())[:-1]) for row in rows)
    return Difference(table=table, only_in=one, rows=rows[0]["rows"], samples=samples)
