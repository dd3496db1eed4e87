"""The histories of triggers in a simulated installation, as their owners write them."""

from collections import Counter
from datetime import timedelta
from typing import Final

from chassis.testing.stores import MemoryLog
from chassis.testing.world import START, World
from contracts.codec import encode
from contracts.commits import DomainCommit
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
        commit = DomainCommit[TriggerEvent](
            id=f"{trigger}-{self._versions[trigger]}",
            org=ORG,
            aggregate="trigger",
            aggregate_id=trigger,
            version=self._versions[trigger],
            events=events,
            time=START + timedelta(seconds=self._world.loop.time()),
            actor=self._actor,
            causation_id="",
            correlation_id="",
            engine_version="",
            key_id="",
            prev_hash="",
        )
        self._log.put(domain(ORG, "trigger", trigger), encode(commit))
