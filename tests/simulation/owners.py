"""The histories of triggers in a simulated installation, as their owners write them."""

from collections import Counter
from datetime import timedelta
from typing import Final

from chassis.testing.examples import domain_commit
from chassis.testing.stores import MemoryLog
from chassis.testing.world import START, World
from contracts.codec import encode
from contracts.subjects import domain
from contracts.triggers import TriggerEvent

ORG: Final = "org"


class Records:
    """What one owner records of triggers, each in a history of its own."""

    def __init__(self, world: World, log: MemoryLog, actor: str) -> None:
        self._world, self._log, self._actor = world, log, actor
        self._versions = Counter[str]()

    def add(self, trigger: str, *events: TriggerEvent) -> None:
        self._versions[trigger] += 1
        commit = domain_commit(
            "trigger",
            trigger,
            *events,
            org=ORG,
            version=self._versions[trigger],
            time=START + timedelta(seconds=self._world.loop.time()),
            actor=self._actor,
            id=f"{trigger}-{self._versions[trigger]}",
        )
        self._log.put(domain(ORG, "trigger", trigger), encode(commit))
