"""Somebody who says what the gates that an org's workflows share let in, and that of all its runs, in a simulated installation."""

import asyncio
import random
from datetime import timedelta
from typing import Final

from chassis.testing.examples import domain_commit
from chassis.testing.stores import MemoryLog
from chassis.testing.world import START, World
from contracts.codec import encode
from contracts.gates import ALL_RUNS, OrgLimit, OrgLimits, Rate
from contracts.subjects import domain
from contracts.workflows import OrgLimitsSet
from tests.simulation.owners import ORG

BOUNDED: Final = 0.25
"""Of all who change their mind: those who have something to say of all runs."""


class Warden:
    """Changes his mind in the middle of everything; at the end what the workflows say counts again, and nothing of all runs."""

    def __init__(self, world: World, often: float, log: MemoryLog) -> None:
        self._world, self._often, self._log = world, often, log
        # A chance of its own: what others draw stays what it was.
        self._of_all = random.Random(f"{world.seed}/all-runs")
        self._bounds_all = self._of_all.random() < BOUNDED
        self._ends = asyncio.Event()
        self.changes = 0

    async def run(self) -> None:
        while not self._ends.is_set():
            await asyncio.sleep(0.3 + self._world.random.random())
            if self._world.random.random() < self._often and not self._ends.is_set():
                self._say({"shared": self._drawn(), **self._drawn_of_all()})
        self._say({})

    def end(self) -> None:
        self._ends.set()

    def _drawn(self) -> OrgLimit:
        chance = self._world.random
        return OrgLimit(
            at_once=chance.choice((None, 1, 2, 3)),
            rate=chance.choice((None, None, None, Rate(count=2, seconds=1))),
            queue=chance.choice((None, None, 1)),
        )

    def _drawn_of_all(self) -> OrgLimits:
        """Sometimes nothing: then whoever waits comes in."""
        if not self._bounds_all or self._of_all.random() < 0.3:
            return {}
        at_once, rate = self._of_all.choice((1, 1, 2)), Rate(count=2, seconds=1)
        return {ALL_RUNS: OrgLimit(at_once=at_once, rate=self._of_all.choice((None, None, rate)))}

    def _say(self, limits: OrgLimits) -> None:
        self.changes += 1
        commit = domain_commit(
            "org",
            ORG,
            OrgLimitsSet(limits=limits),
            org=ORG,
            version=self.changes,
            time=START + timedelta(seconds=self._world.loop.time()),
            actor="key:warden",
            id=f"limits-{self.changes}",
        )
        self._log.put(domain(ORG, "org", ORG), encode(commit))
