"""Where the rows are kept: one transaction holds the rows of a batch and the position after it."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import asyncpg
from msgspec import Struct, structs

from chassis.ports import Away
from chassis.postgres import Connection, Pool, connected
from projections import queries
from projections.arrived import RunKey
from projections.queries import Shape
from projections.rows import RunRow, StepRow
from projections.runs import Changes, StepKey

K = TypeVar("K", bound=tuple[Any, ...])
ROW = TypeVar("ROW", bound=Struct)


class Position(Struct, frozen=True, kw_only=True):
    """How far a projection has read a stream."""

    epoch: int
    sequence: int
    generation: str
    """Which making of the tables it stands in."""
    created: str = ""


class Moved(Exception):
    """The position is not where it was left: another projector works, or the tables were swapped. Forget and look."""


def require(stored: Position, expected: Position) -> None:
    """Before a message is blamed for what its rows say. Raises `Moved` when these may be gone with a crash of Postgres."""
    if (stored.epoch, stored.sequence) != (expected.epoch, expected.sequence):
        raise Moved(f"position {stored.sequence} is stored, {expected.sequence} was")


class Step(Struct, frozen=True, kw_only=True):
    """From one position to the next, and when the last message between them was stored."""

    before: Position
    epoch: int
    sequence: int
    time: float

    def after(self) -> Position:
        return structs.replace(self.before, epoch=self.epoch, sequence=self.sequence)


class RunModels(Protocol):
    """What the projection of RUNS needs of its tables."""

    async def position(self) -> Position: ...

    async def load_runs(self, keys: Collection[RunKey]) -> dict[RunKey, RunRow]:
        """The rows of these keys, as far as there are any."""
        ...

    async def load_steps(self, keys: Collection[StepKey]) -> dict[StepKey, StepRow]: ...

    async def store(self, changes: Changes, step: Step) -> None:
        """All of it or nothing. Raises `Moved`, and `Away` while nothing can be stored."""
        ...


_THE_MESSAGES: Final = ("21", "22", "23", "54")
"""Classes of errors that are about the rows we gave: data, constraints, sizes. Every other error is about us or Postgres."""


@asynccontextmanager
async def writing(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction. `Away` leaves it unless the rows themselves are refused: no message pays for our faults."""
    try:
        async with connected(pool) as connection, connection.transaction():
            yield connection
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith(_THE_MESSAGES):
            raise
        raise Away(f"Postgres: {error}") from error


class PostgresPositions:
    """The position of one projection in one stream."""

    def __init__(self, pool: Pool, projection: str, stream: str, schema: str = "read") -> None:
        self._pool, self._name = pool, (projection, stream)
        self._position = queries.POSITION.format(schema=schema)
        self._move = queries.MOVE.format(schema=schema)

    async def position(self) -> Position:
        async with connected(self._pool) as connection:
            row = await connection.fetchrow(self._position, *self._name)
        if row is None:
            raise Moved("the position is gone")
        return Position(**row)

    async def advance(self, step: Step) -> None:
        """Move it alone, in a transaction of its own."""
        async with writing(self._pool) as connection:
            await self.move(connection, step)

    async def move(self, connection: Connection, step: Step) -> None:
        """The first statement of every transaction: it also keeps a second projector out until the end of this one."""
        before = step.before
        time = datetime.fromtimestamp(step.time, UTC)
        moved = await connection.execute(
            self._move, *self._name, step.epoch, step.sequence, time,
            before.epoch, before.sequence, before.generation,
        )  # fmt: skip
        if moved != "UPDATE 1":
            raise Moved(f"{self._name[0]} is not at {before.epoch}-{before.sequence} any more")


class PostgresRuns:
    """`read.runs` and what hangs on it. `archive=False` while the rows are made from the archive itself."""

    def __init__(self, pool: Pool, *, schema: str = "read", archive: bool = True) -> None:
        self._pool, self._schema, self._archive = pool, schema, archive
        self._positions = PostgresPositions(pool, "runs", "RUNS", schema)
        # No COPY: Postgres refuses it where row-level security holds, and it holds for the projector too.
        self._insert_runs = queries.RUNS.insert(schema)
        self._insert_steps = queries.STEPS.insert(schema)
        self._update_runs = queries.RUNS.update(schema)
        self._update_steps = queries.STEPS.update(schema)
        self._deliveries = queries.DELIVERIES.insert(schema) + queries.ACCEPTED
        self._usage = queries.USAGE.insert(schema) + queries.ADDED_USAGE

    async def position(self) -> Position:
        return await self._positions.position()

    async def load_runs(self, keys: Collection[RunKey]) -> dict[RunKey, RunRow]:
        rows = await self._select(queries.RUNS, keys, RunRow)
        return {(row.org, row.id): row for row in rows}

    async def load_steps(self, keys: Collection[StepKey]) -> dict[StepKey, StepRow]:
        rows = await self._select(queries.STEPS, keys, StepRow)
        return {(row.org, row.run, row.path): row for row in rows}

    async def _select(self, shape: Shape, keys: Collection[tuple[str, ...]], kind: type[ROW]) -> list[ROW]:
        if not keys:
            return []
        async with connected(self._pool) as connection:
            rows = await connection.fetch(shape.select(self._schema), *zip(*keys, strict=True))
        return [kind(**dict(row)) for row in rows]

    async def store(self, changes: Changes, step: Step) -> None:
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
            await self._store_runs(connection, changes)
            await self._store_steps(connection, changes)
            await insert(connection, self._deliveries, in_order(changes.deliveries))
            await insert(connection, self._usage, in_order(changes.usage))
            if self._archive:
                await self._store_archive(connection, changes)

    async def _store_runs(self, connection: Connection, changes: Changes) -> None:
        new = [changes.runs[key] for key in changes.new_runs]
        known = [run for key, run in changes.runs.items() if key not in changes.new_runs]
        await insert(connection, self._insert_runs, new)
        if known:
            await connection.execute(self._update_runs, [*map(queries.RUNS.moved, known)])

    async def _store_steps(self, connection: Connection, changes: Changes) -> None:
        new = [changes.steps[key] for key in changes.new_steps]
        known = [step for key, step in changes.steps.items() if key not in changes.new_steps]
        await insert(connection, self._insert_steps, new)
        if known:
            await connection.execute(self._update_steps, [*map(queries.STEPS.moved, known)])

    async def _store_archive(self, connection: Connection, changes: Changes) -> None:
        for week in {commit.week for commit in changes.commits}:
            await connection.execute(queries.MAKE_WEEK, week)
        await insert(connection, _KEEP, changes.commits)
        await insert(connection, _SEAMS, changes.seams)
        await insert(connection, _ENDED, in_order(changes.ended))


_KEEP: Final = queries.COMMITS.insert("archive")
_SEAMS: Final = queries.SEAMS.insert("archive") + queries.KNOWN_SEAM
_ENDED: Final = queries.RUN_IDS.insert("archive") + queries.ENDED


def in_order(rows: Mapping[K, ROW]) -> list[ROW]:
    """By key: two transactions that lock the same rows do it in the same order."""
    return [rows[key] for key in sorted(rows)]


async def insert(connection: Connection, sql: str, rows: Iterable[Struct]) -> None:
    """`sql` is what `Shape.insert` made of the table of these rows."""
    if given := [*map(structs.astuple, rows)]:
        await connection.execute(sql, given)
