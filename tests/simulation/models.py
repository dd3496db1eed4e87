"""The tables of the read models in memory: rows and position change together or not at all."""

import copy
from collections.abc import Collection

from chassis.testing.world import World
from projections.arrived import RunKey
from projections.models import Moved, Position, Step
from projections.rows import RunRow, StepRow
from projections.runs import Changes, StepKey
from tests.promises.tables import Tables


class MemoryModels:
    """The `RunModels` of the projection of RUNS."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.tables = Tables()
        self.at = Position(epoch=1, sequence=0, generation="one")

    async def position(self) -> Position:
        return await self._world.operation(lambda: self.at)

    async def load_runs(self, keys: Collection[RunKey]) -> dict[RunKey, RunRow]:
        rows = self.tables.runs
        return await self._world.operation(lambda: {k: copy.copy(rows[k]) for k in keys if k in rows})

    async def load_steps(self, keys: Collection[StepKey]) -> dict[StepKey, StepRow]:
        rows = self.tables.steps
        return await self._world.operation(lambda: {k: copy.copy(rows[k]) for k in keys if k in rows})

    async def store(self, changes: Changes, step: Step) -> None:
        def act() -> None:
            if step.before != self.at:
                raise Moved("the position is not there any more")
            self.tables.apply(changes)
            self.at = step.after()

        await self._world.operation(act)
