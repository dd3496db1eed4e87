"""Makes the read models anew out of the archive and the log, beside the live ones, and swaps them in.

The live projector works on until the swap. Then its position is locked for the moment that the last commits, the
comparison and the renaming take; whoever reads is not held up. After it, the projector finds that its tables are
others, forgets what it remembered and goes on.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog
from msgspec import Struct, field

from chassis.clock import Clock
from chassis.ids import receipt
from chassis.lifecycle import CannotStart
from chassis.ports import Letters, Reader
from chassis.postgres import Pool, connected
from contracts.subjects import DLQ, DOMAIN, HOOKS, LOGS, RUNS, SCHEDULES
from projections import queries
from projections.archive_reader import ArchiveReader, Page
from projections.dead_letters import DeadLetterTable
from projections.deliveries import DeliveryTable
from projections.domain_tables import DomainTables
from projections.figures import Figures, Progress
from projections.guard import FOLLOWED, NEVER
from projections.log_records import LogRecords
from projections.models import PostgresRuns, writing
from projections.projector import BATCH, Projection, advance
from projections.run_tables import RunTables
from projections.schedules import ScheduleTables
from projections.shelf import REBUILD_LOCK
from projections.streams import StreamFacts
from projections.verification import Difference, compare

log = structlog.get_logger()

NEXT: Final = "read_next"
_INDEX: Final = re.compile(r"^create index .*?;$", re.MULTILINE | re.DOTALL)
_LAST_IN_ARCHIVE: Final = {
    RUNS: "select epoch, sequence from archive.commits order by epoch desc, sequence desc limit 1",
    DOMAIN: "select epoch, sequence from archive.domain_commits order by epoch desc, sequence desc limit 1",
}
_TAKE_POSITIONS: Final = """
update read_next.positions new set
    epoch = old.epoch, sequence = old.sequence, created = old.created, time = old.time
from read.positions old where old.projection = new.projection and old.stream = new.stream
"""
_CARRY_USAGE: Final = (
    """
    delete from read_next.usage_daily u using archive.dropped d where u.org = d.org and u.day <= d.through
    """,
    """
    insert into read_next.usage_daily select u.* from read.usage_daily u
    join archive.dropped d on u.org = d.org and u.day <= d.through
    """,
)
_SWAP: Final = """
update read.positions set generation = 'replaced';
alter schema read rename to read_old;
alter schema read_next rename to read;
"""


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What a rebuild did."""

    messages: int
    events: int
    seconds: float
    """For the messages; without the comparison and the swap."""
    differences: tuple[Difference, ...] = ()
    """Where the live tables were no fold of the log; looked for when asked to."""
    figures: Figures = field(default_factory=Figures)

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


class Sources(Struct, frozen=True, kw_only=True):
    """Where the rows come from besides the archive."""

    hooks: Reader
    dead_letters: Reader
    schedules: Reader
    logs: Reader
    facts: Mapping[str, StreamFacts]


class _Silent:
    """Whatever there was to complain about, the live projector told it."""

    async def store(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        return 0


class Rebuild:
    """`owner` connects as the owner of the schemas, `pool` as the projector; `ddl` is what makes the tables."""

    def __init__(
        self, owner: Mapping[str, Any], pool: Pool, sources: Sources, ddl: str, clock: Clock
    ) -> None:
        self._owner, self._pool, self._sources, self._clock = owner, pool, sources, clock
        self._indexes = _INDEX.findall(ddl)
        self._tables = _INDEX.sub("", ddl)
        self._figures = Figures()
        self._progress = Progress(name="rebuild", stream="")

    async def run(self, *, verify: bool = False) -> Rebuilt:
        """Rebuild and swap. With `verify` it says where the tables that are replaced differ from the new ones."""
        async with self._alone() as owner:
            await self._make_tables(owner)
            runs, domain = self._truths()
            began = self._clock.seconds()
            await self._replay(RUNS, runs)
            await self._replay(DOMAIN, domain)
            seconds = self._clock.seconds() - began
            for index in self._indexes:
                await owner.execute(f"set search_path to {NEXT}; {index}")
            await self._follow_the_bounded()
            differences = await self._swap(owner, runs, domain, verify=verify)
        return Rebuilt(
            messages=self._progress.messages,
            events=self._figures.events,
            seconds=seconds,
            differences=tuple(differences),
            figures=self._figures,
        )

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        owner = await asyncpg.connect(**{**self._owner, "command_timeout": None})
        try:
            if not await owner.fetchval("select pg_try_advisory_lock($1)", REBUILD_LOCK):
                raise CannotStart("Another rebuild or the archiver is at work; try again in a moment.")
            yield owner
        finally:
            owner.terminate()

    async def _make_tables(self, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
        for schema in (NEXT, "read_old"):
            await owner.execute(f"drop schema if exists {schema} cascade")
        async with owner.transaction():
            await owner.execute(f"create schema {NEXT}; set local search_path to {NEXT}; {self._tables}")
        begin, generation = queries.BEGIN.format(schema=NEXT), receipt()
        async with connected(self._pool) as connection:
            for each in FOLLOWED:
                facts = self._sources.facts[each.stream]
                # The archive may begin in an older epoch than the log has now.
                epoch = 0 if each.truth else facts.epoch
                await connection.execute(
                    begin, each.projection, each.stream, epoch, 0, facts.created, generation, NEVER
                )

    def _truths(self) -> tuple[RunTables, DomainTables]:
        letters: Letters = _Silent()
        runs = RunTables(PostgresRuns(self._pool, schema=NEXT, archive=False), letters, self._figures)
        domain = DomainTables(self._pool, letters, self._figures, schema=NEXT, archive=False)
        return runs, domain

    async def _follow_the_bounded(self) -> None:
        """What no archive keeps, as far back as the log has it."""
        pool, figures = self._pool, self._figures
        hooks = DeliveryTable(pool, _Silent(), figures, schema=NEXT)
        await self._follow(HOOKS, self._sources.hooks, hooks)
        await self._follow(DLQ, self._sources.dead_letters, DeadLetterTable(pool, NEXT))
        schedules = ScheduleTables(pool, _Silent(), figures, schema=NEXT)
        await self._follow(SCHEDULES, self._sources.schedules, schedules)
        logs = LogRecords(pool, figures, self._clock, schema=NEXT, longest_rest=0.0)
        await self._follow(LOGS, self._sources.logs, logs)

    async def _replay(self, stream: str, projection: Projection) -> None:
        """From where it is to the end of what the archive has now."""
        position = await projection.position()

        async def take(page: Page) -> None:
            nonlocal position
            position = await advance(projection, page.messages, position, page.epoch, self._progress)

        await ArchiveReader(self._pool, stream).feed(position.epoch, position.sequence, BATCH, take)

    async def _follow(self, stream: str, reader: Reader, projection: Projection) -> None:
        position = await projection.position()
        async for batch in reader.read(position.sequence, BATCH):
            if not batch:
                return
            epoch = self._sources.facts[stream].epoch
            position = await advance(projection, batch, position, epoch, self._progress)

    async def _swap(
        self,
        owner: "asyncpg.Connection[asyncpg.Record]",
        runs: RunTables,
        domain: DomainTables,
        *,
        verify: bool,
    ) -> Sequence[Difference]:
        differences: Sequence[Difference] = ()
        async with owner.transaction():
            # The projector's next transaction waits here; reads go on.
            await owner.execute("lock table read.positions in exclusive mode")
            await self._replay(RUNS, runs)
            await self._replay(DOMAIN, domain)
            await self._follow_the_bounded()
            await self._take_over()
            if verify:
                differences = await compare(self._pool, "read", NEXT)
            await owner.execute(_SWAP)
        await owner.execute("drop schema read_old cascade")
        return differences

    async def _take_over(self) -> None:
        """Positions of the live tables, and the usage of days whose runs have left the archive."""
        async with writing(self._pool) as connection:
            for each in FOLLOWED:
                if not each.truth:
                    continue
                last = await connection.fetchrow(_LAST_IN_ARCHIVE[each.stream])
                epoch, sequence = (self._sources.facts[each.stream].epoch, 0) if last is None else last
                await connection.execute(
                    "update read_next.positions set epoch = $3, sequence = $4 where projection = $1 and stream = $2",
                    each.projection, each.stream, epoch, sequence,
                )  # fmt: skip
            await connection.execute(_TAKE_POSITIONS)
            for statement in _CARRY_USAGE:
                await connection.execute(statement)
