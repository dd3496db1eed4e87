"""The archive's list of ids in memory: runs that ended, whatever became of their histories."""

from collections.abc import Callable, Mapping, Sequence

from chassis.past import PastRun
from chassis.ports import Away
from chassis.testing.world import World


class MemoryRunIds:
    """`known` tells what the archive has of an org now; `away` is Postgres being away."""

    def __init__(self, world: World, known: Callable[[str], Mapping[str, PastRun]]) -> None:
        self._world, self._known = world, known
        self.away = False
        self.asked: list[tuple[str, ...]] = []

    async def find(self, org: str, runs: Sequence[str]) -> Mapping[str, PastRun]:
        return await self._world.operation(lambda: self._find(org, runs))

    def _find(self, org: str, runs: Sequence[str]) -> Mapping[str, PastRun]:
        self.asked.append(tuple(runs))
        if self.away:
            raise Away("Postgres is away")
        known = self._known(org)
        return {run: known[run] for run in runs if run in known}
