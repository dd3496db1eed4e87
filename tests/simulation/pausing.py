"""Somebody who pauses what runs in a simulated installation, and takes it up again."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from chassis.pauses import AGGREGATE, NONE, Pauses, evolve
from chassis.testing.examples import domain_commit
from chassis.testing.stores import MemoryLog
from chassis.testing.world import START, World
from contracts.codec import encode
from contracts.pauses import PauseBegan, Paused, PauseEnded, PauseEvent
from contracts.subjects import domain

ORG = "org"


class Pauser:
    """Owns nothing that lasts: at the end everything goes on."""

    def __init__(self, world: World, often: float, log: MemoryLog, workflows: Sequence[str]) -> None:
        self._world, self._often, self._log = world, often, log
        self._may: list[tuple[Paused, str]] = [("org", ORG), ("pool", "default")]
        self._may += [("workflow", workflow) for workflow in workflows]
        self._pauses: Pauses = NONE
        self._version = 0
        self._ends = asyncio.Event()
        self.began = 0

    async def run(self) -> None:
        while not self._ends.is_set():
            await asyncio.sleep(0.3 + self._world.random.random())
            if self._world.random.random() < self._often:
                self._change(self._world.random.choice(self._may))
        for key in list(self._pauses):
            self._change(key)

    def end(self) -> None:
        self._ends.set()

    def _change(self, key: tuple[Paused, str]) -> None:
        what, name = key
        at = START + timedelta(seconds=self._world.loop.time())
        event: PauseEvent
        if key in self._pauses:
            event = PauseEnded(what=what, name=name, by="key:pauser")
        else:
            event = PauseBegan(what=what, name=name, by="key:pauser", since=at)
            self.began += 1
        self._pauses = evolve(self._pauses, event)
        self._version += 1
        commit = domain_commit(
            AGGREGATE,
            ORG,
            event,
            org=ORG,
            version=self._version,
            time=at,
            actor="key:pauser",
            id=f"pauses-{self._version}",
        )
        self._log.put(domain(ORG, AGGREGATE, ORG), encode(commit))
