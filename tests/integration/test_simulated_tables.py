"""The simulator's tables do what Postgres does: the same batches, the same questions, the same answers."""

import random
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec import Struct

from chassis.past import PostgresRunIds
from chassis.postgres import Pool, pool
from chassis.testing.past import MemoryRunIds
from chassis.testing.world import START, World
from deploy.servers import PostgresAddress
from projections.arrived import Arrived, RunKey, read
from projections.guard import FOLLOWED
from projections.models import Moved, Position, PostgresRuns, Step
from projections.queries import BEGIN, ROW_TYPES
from projections.runs import Known, StepKey, fold, touched
from projections.shelf import EndedRun, PostgresShelf
from projections.stragglers import PostgresStragglers
from projections.sweeper import AHEAD_AT_FIRST
from tests.migrated import migrated
from tests.simulation.archive import MemoryShelf, MemoryStragglers, past_runs
from tests.simulation.installation import ORG, Installation
from tests.simulation.models import MemoryModels
from tests.simulation.schedule import STORM, lived, quiet
from tests.simulation.workflows import story

T = TypeVar("T")
SEEDS = (3, 11, 25, 42, 894)
MUCH_LATER = START + timedelta(days=2)


class Sides(Struct):
    """The same tables twice: in Postgres, and in the simulation."""

    real: PostgresRuns
    shelf: PostgresShelf
    stragglers: Callable[[], PostgresStragglers]
    """As one finds them who has just begun: he has seen nobody fail, and from one question to the next it may get earlier."""
    ids: PostgresRunIds
    world: World
    models: MemoryModels

    def simulated(self, asked: Coroutine[Any, Any, T]) -> T:
        """The answer of a fake."""

        async def answered() -> T | Moved:
            try:
                return await asked
            except Moved as moved:
                return moved

        task = self.world.loop.spawn("asker", answered())
        self.world.loop.run_until(task.done, steps=10_000, seconds=60)
        answer: T | Moved = task.result()
        if isinstance(answer, Moved):
            raise answer
        return answer


@pytest.fixture
async def sides(database: PostgresAddress, tmp_path: Path) -> AsyncIterator[Sides]:
    roles = await migrated(database, tmp_path / "passwords")
    async with (
        pool(roles["projector"], begins_with=ROW_TYPES) as projector,
        pool(roles["orchestrator"]) as orchestrator,
    ):
        await begun(projector)
        world = World(1)
        yield Sides(
            real=PostgresRuns(projector),
            shelf=PostgresShelf(projector),
            stragglers=partial(PostgresStragglers, projector),
            ids=PostgresRunIds(orchestrator),
            world=world,
            models=MemoryModels(world),
        )
        world.loop.close()


async def begun(projector: Pool) -> None:
    for each in FOLLOWED:
        begin = BEGIN.format(schema="read")
        await projector.execute(begin, each.projection, each.stream, 1, 0, "", "one", START)


def messages_of(seed: int) -> list[Arrived]:
    """What a schedule with faults has left in RUNS."""
    with quiet():
        _, evidence = lived(Installation(seed, story(seed), STORM))
    return [read(stored, 1) for stored in evidence.messages]


async def loaded(sides: Sides, batch: list[Arrived]) -> Known:
    """What both sides know of the runs and steps of a batch."""
    paths = touched(batch)
    runs: list[RunKey] = list(paths)
    steps: list[StepKey] = [(*key, path) for key, of_run in paths.items() for path in of_run]
    known = Known(runs=await sides.real.load_runs(runs), steps=await sides.real.load_steps(steps))
    assert sides.simulated(sides.models.load_runs(runs)) == known.runs
    assert sides.simulated(sides.models.load_steps(steps)) == known.steps
    return known


def placed(position: Position) -> tuple[int, int]:
    return position.epoch, position.sequence


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_tables_of_the_simulation_answer_as_postgres_does(sides: Sides, seed: int) -> None:
    left, chance = messages_of(seed), random.Random(seed)
    while left:
        batch, left = left[: (size := chance.randint(1, 5))], left[size:]
        changes = fold(await loaded(sides, batch), batch)
        last = batch[-1].stored
        before, simulated_before = await sides.real.position(), sides.simulated(sides.models.position())
        assert placed(before) == placed(simulated_before)
        told = {"epoch": 1, "sequence": last.sequence, "time": last.time}
        await sides.real.store(changes, Step(before=before, **told))
        sides.simulated(sides.models.store(changes, Step(before=simulated_before, **told)))
        with pytest.raises(Moved):
            await sides.real.store(changes, Step(before=before, **told))
        with pytest.raises(Moved):
            sides.simulated(sides.models.store(changes, Step(before=simulated_before, **told)))
        await stragglers_agree(sides)
    await retention_agrees(sides, chance)


async def stragglers_agree(sides: Sides) -> None:
    fake = MemoryStragglers(sides.world, sides.models.tables, impatience=timedelta(0))
    for seconds in (0, 3, 10, 60, 7_200):
        at = START + timedelta(seconds=seconds)
        early = await sides.stragglers().due(at, None, 100, AHEAD_AT_FIRST)
        assert list(sides.simulated(fake.due(at, None, 100, AHEAD_AT_FIRST))) == early
        due = await sides.stragglers().due(at, None, 2)
        assert list(sides.simulated(fake.due(at, None, 2))) == due
        if due:
            behind = (due[-1].org, due[-1].run)
            rest = await sides.stragglers().due(at, behind, 100)
            assert list(sides.simulated(fake.due(at, behind, 100))) == rest


async def retention_agrees(sides: Sides, chance: random.Random) -> None:
    """Both shelves say what may leave, and what has left."""
    fake = MemoryShelf(sides.world, sides.models)
    ids = MemoryRunIds(sides.world, lambda org: past_runs(sides.models.tables, org))
    names = [run for _, run in sides.models.tables.runs] + ["nobody"]
    assert sides.simulated(ids.find(ORG, names)) == await sides.ids.find(ORG, names)

    async def ended(before: datetime, after: EndedRun | None = None, most: int = 100) -> list[EndedRun]:
        found = list(await sides.shelf.ended(before, after, most))
        assert list(sides.simulated(fake.ended(before, after, most))) == found
        return found

    async def tombstones(*, keyed: bool, beyond: int, before: datetime = MUCH_LATER) -> list[EndedRun]:
        found = list(await sides.shelf.tombstones(before, None, 100, keyed=keyed, beyond=beyond))
        asked = fake.tombstones(before, None, 100, keyed=keyed, beyond=beyond)
        assert list(sides.simulated(asked)) == found
        return found

    all_ended = await ended(MUCH_LATER)
    assert all_ended
    await ended(all_ended[-1].ended)
    await ended(MUCH_LATER, all_ended[0], 1)
    some = [run for run in all_ended if chance.random() < 0.7] or all_ended[:1]
    await sides.shelf.mark_purged(some, MUCH_LATER)
    sides.simulated(fake.mark_purged(some, MUCH_LATER))
    assert len(await ended(MUCH_LATER)) == len(all_ended) - len(some)
    for keyed in (True, False):
        for beyond in (0, 1, 2):
            standing = await tombstones(keyed=keyed, beyond=beyond)
            await tombstones(keyed=keyed, beyond=beyond, before=some[-1].ended)
        gone = standing[:1] or [run for run in some if run.keyed == keyed][:1]
        await sides.shelf.mark_forgotten(gone, MUCH_LATER)
        sides.simulated(fake.mark_forgotten(gone, MUCH_LATER))
        await tombstones(keyed=keyed, beyond=0)
        assert sides.simulated(fake.has_forgotten()) == await sides.shelf.has_forgotten()
