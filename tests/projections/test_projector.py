"""The projector follows its stream, also when Postgres forgets what it wrote last."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from chassis.ports import Stored
from chassis.testing.world import SimulatedClock, World
from projections.figures import Progress
from projections.models import Moved, Position, Step
from projections.projector import LOOK_SECONDS, Projector


class Tables:
    """A projection whose rows are the sequences that it was given."""

    name = "tables"
    stream = "RUNS"

    def __init__(self) -> None:
        self.rows: list[int] = []

    async def position(self) -> Position:
        await asyncio.sleep(0)
        return Position(generation="live", epoch=1, sequence=self.rows[-1] if self.rows else 0)

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        if step.before != await self.position():
            raise Moved("elsewhere")
        self.rows += [stored.sequence for stored in batch]

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        raise error

    async def go_past(self, step: Step) -> None:
        raise AssertionError("nothing here is refused")

    def forget(self) -> None:
        """Nothing is remembered."""


class Stream:
    """Five messages, and then silence."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        self.asked.append(after)
        left = [Stored(subject="run.org.run-1", sequence=n, body=b"{}") for n in range(1, 6) if n > after]
        if left:
            yield left
        await asyncio.sleep(3_600)

    async def end(self) -> int:
        return 5


def test_what_a_crash_of_postgres_took_is_projected_again_although_nothing_new_comes() -> None:
    world, tables, stream = World(1), Tables(), Stream()

    async def story() -> None:
        async with asyncio.TaskGroup() as group:
            progress = Progress(name=tables.name, stream=tables.stream)
            projector = Projector(tables, stream, 1, SimulatedClock(world), progress)
            following = group.create_task(projector.run())
            await asyncio.sleep(1)
            assert tables.rows == [1, 2, 3, 4, 5]
            await asyncio.sleep(3 * LOOK_SECONDS)
            assert stream.asked == [0], "while nothing is lost nothing is read again"
            del tables.rows[3:]  # Committed, and not yet on the disk.
            await asyncio.sleep(2 * LOOK_SECONDS)
            assert tables.rows == [1, 2, 3, 4, 5]
            assert stream.asked == [0, 3]
            assert progress.failures == 1
            following.cancel()

    told = world.loop.spawn("story", story())
    try:
        world.loop.run_until(told.done, steps=10_000, seconds=600)
        told.result()
    finally:
        world.loop.close()
