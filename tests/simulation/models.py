"""The tables of the read models in memory: rows and position change together or not at all."""

import copy
from collections.abc import Callable, Collection
from typing import Final

from chassis.testing.world import World
from projections.arrived import RunKey
from projections.models import Moved, Position, Step
from projections.rows import RunRow, StepRow
from projections.runs import Changes, StepKey
from tests.promises.tables import Tables

BEGINNING: Final = Position(epoch=1, sequence=0, generation="one")


class Disk:
    """What Postgres has written: most of it is on disk a little later than Postgres says.

    Everything that stands there is the sum of its changes, so what a power cut leaves is the sum of fewer of them.
    """

    def __init__(self, world: World, clear: Callable[[], None]) -> None:
        self._world = world
        self._clear = clear
        self._changes: list[Callable[[], None]] = []
        self._synced = 0

    def write(self, change: Callable[[], None]) -> None:
        change()
        self._changes.append(change)

    def flush(self) -> None:
        self._synced = len(self._changes)

    def power_cut(self) -> None:
        """Some of the newest changes are gone, and none before those."""
        left = self._world.random.randint(self._synced, len(self._changes))
        del self._changes[left:]
        self.flush()
        self._clear()
        for change in self._changes:
            change()


class MemoryModels:
    """The `RunModels` of the projection of RUNS."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.tables = Tables()
        self.at = BEGINNING
        self.purged: dict[RunKey, bytes] = {}
        """Runs whose history has left the log but for its last commit, with that one's hash."""
        self.forgotten: dict[RunKey, bytes] = {}
        """Runs of which the log knows nothing any more."""
        self.let_go: set[tuple[str, str, int]] = set()
        """Seams before which nothing has to be in the log any more."""
        self.disk = Disk(world, self._clear)

    def _clear(self) -> None:
        self.tables.clear()
        self.at = BEGINNING
        self.purged.clear()
        self.forgotten.clear()
        self.let_go.clear()

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
            self.disk.write(written)

        def written() -> None:
            self.tables.apply(changes)
            self.at = step.after()

        await self._world.operation(act)
