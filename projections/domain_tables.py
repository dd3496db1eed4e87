"""The projection of DOMAIN: workflows, triggers, secrets, keys, orgs and their commits' archive, in one transaction."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import structs

from chassis.ports import Letters, Stored
from chassis.postgres import Connection, Pool, connected
from contracts.subjects import DOMAIN
from projections import queries
from projections.arrived import Letter
from projections.dead_letters import report
from projections.domain import AggregateKey, AggregateRow, DomainChanges, fold, read
from projections.figures import Figures
from projections.models import Position, PostgresPositions, Step, insert, require, writing
from projections.queries import Shape

_HEADS: Final = """
select c.aggregate, c.org, c.id, c.hash from archive.domain_commits c
join unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as wanted(aggregate, org, id, version)
using (aggregate, org, id, version)
"""
_SHAPES: Final[dict[str, Shape]] = {
    "workflow": queries.WORKFLOWS,
    "trigger": queries.TRIGGERS,
    "secret": queries.SECRETS,
    "key": queries.API_KEYS,
    "org": queries.ORGS,
}


class DomainTables:
    """The tables that follow DOMAIN. They change rarely, so it reads what it needs each time."""

    name = "domain"
    stream = DOMAIN

    def __init__(
        self, pool: Pool, letters: Letters, figures: Figures, *, schema: str = "read", archive: bool = True
    ) -> None:
        self._pool, self._letters, self._figures = pool, letters, figures
        self._schema, self._archive = schema, archive
        self._positions = PostgresPositions(pool, self.name, self.stream, schema)

    async def position(self) -> Position:
        return await self._positions.position()

    def forget(self) -> None:
        """It remembers nothing."""

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        """All of the batch or nothing of it."""
        arrived = [read(stored, step.epoch) for stored in batch]
        known = await self._known({each.key for each in arrived})
        changes = fold(known, arrived, await self._heads(known))
        if changes.letters:
            require(await self.position(), step.before)
        for letter in changes.letters:
            await report(self._letters, letter, DOMAIN)
            self._figures.troubles[letter.trouble] += 1
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
            await self._store(connection, changes)
        self._figures.seen_again += changes.seen_again

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        arrived = read(stored, step.epoch)
        reason = f"{type(error).__name__}: {error}"
        letter = Letter(
            stored=stored,
            epoch=step.epoch,
            trouble="refused",
            reason=reason,
            org=arrived.org,
            run=arrived.id,
        )
        await report(self._letters, letter, DOMAIN)
        self._figures.troubles["refused"] += 1
        changes = fold(await self._known({arrived.key}), [structs.replace(arrived, commit=None)])
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
            await self._store(connection, changes)

    async def go_past(self, step: Step) -> None:
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)

    async def _known(self, keys: set[AggregateKey]) -> dict[AggregateKey, AggregateRow]:
        known: dict[AggregateKey, AggregateRow] = {}
        async with connected(self._pool) as connection:
            for aggregate, shape in _SHAPES.items():
                wanted = [(org, id_) for kind, org, id_ in keys if kind == aggregate]
                if not wanted:
                    continue
                for record in await connection.fetch(shape.select(self._schema), *zip(*wanted, strict=True)):
                    row: Any = shape.row(**dict(record))
                    known[aggregate, row.org, row.id] = row
        return known

    async def _heads(self, known: dict[AggregateKey, AggregateRow]) -> dict[AggregateKey, bytes]:
        """The hash of the commit that each row stands at."""
        if not known:
            return {}
        wanted = [(*key, row.head_version) for key, row in known.items()]
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_HEADS, *zip(*wanted, strict=True))
        return {(row["aggregate"], row["org"], row["id"]): row["hash"] for row in rows}

    async def _store(self, connection: Connection, changes: DomainChanges) -> None:
        for aggregate, org, id_ in sorted(changes.rows):
            await self._put(connection, _SHAPES[aggregate], changes.rows[aggregate, org, id_])
        for version in changes.versions.values():
            await self._put(connection, queries.VERSIONS, version)
        for key, (plan, at) in changes.published.items():
            await connection.execute(queries.PUBLISH.format(schema=self._schema), *key, plan, at)
        if self._archive:
            await insert(connection, queries.DOMAIN_COMMITS.insert("archive"), changes.commits)

    async def _put(self, connection: Connection, shape: Shape, row: Any) -> None:
        await connection.execute(shape.insert_one(self._schema), *structs.astuple(row))
