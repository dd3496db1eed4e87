"""Triggers that follow events in a simulated installation: what a seed draws, and who changes them under the storm."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chassis.testing.stores import MemoryLog
from chassis.testing.world import World
from contracts.plans import Plan
from contracts.triggers import (
    EventChanged,
    EventCreated,
    Follows,
    Happening,
    OccasionChanged,
    RunEnd,
    RunEndChanged,
    RunEndCreated,
    TriggerBound,
    TriggerDisabled,
    TriggerEnabled,
)
from projections.models import Moved, Position, Step
from tests.orchestrator.stories import control
from tests.simulation.models import Disk
from tests.simulation.owners import ORG, Records

BEGINNING: Final = Position(epoch=1, sequence=0, generation="one")
_TYPES: Final = (
    "run.started",
    "run.failed",
    "step.failed",
    "step.succeeded",
    "attempt.failed",
    "run.reopened",
    "trigger.disabled",
    "trigger.run-end-changed",
)
_FILTERS: Final = (
    "",
    "",
    "trigger.body.version > 0",
    "trigger.body.version > 3",
    "trigger.body.version > 'x'",
    "trigger.body.version",
)
"""One is always false for a while, one fails, one says neither yes nor no."""


class Follower(Struct, frozen=True, kw_only=True):
    """One trigger that follows events."""

    trigger: str
    workflow: str
    on: Follows
    edits: float
    """How often, per look at it, somebody changes it."""


def drawn_followers(seed: int) -> Sequence[Follower]:
    chance = random.Random(f"{seed}/followers")
    return [
        Follower(
            trigger=f"follower{number}",
            workflow=f"after{number}",
            on=drawn_occasion(chance),
            edits=chance.choice((0, 0, 0.2, 0.5)),
        )
        for number in range(chance.choice((1, 1, 2)))
    ]


def drawn_occasion(chance: random.Random) -> Follows:
    wanted = chance.choice(_FILTERS)
    if chance.random() < 0.6:
        outcomes = chance.choice((("completed", "failed", "cancelled"), ("completed",), ("failed",)))
        workflows = chance.choice(((), (), ("flow0",), ("flow0", "after0")))
        return RunEnd(workflows=workflows, outcomes=outcomes, filter=wanted)
    return Happening(types=tuple(chance.sample(_TYPES, chance.choice((1, 2)))), filter=wanted)


def short_plan() -> Plan:
    """One step that nobody has to make: what it causes itself has an end soon."""
    return Plan(org=ORG, workflow="after0", version=1, nodes=(control("n0", "noop", {}),), edges=(), vars={})


class Editor:
    """Somebody who owns the triggers that follow events, and changes them at any moment."""

    def __init__(self, world: World, followers: Sequence[Follower], log: MemoryLog, plan: str) -> None:
        self._world, self._followers, self._log, self._plan = world, followers, log, plan
        self._records = Records(world, log, "key:editor")
        self._ends = False
        for each in followers:
            kind = RunEndCreated if isinstance(each.on, RunEnd) else EventCreated
            made = kind(name=each.trigger, workflow=each.workflow, on=each.on)  # type: ignore[arg-type]  # Of its kind.
            self._records.add(each.trigger, made, TriggerBound(version=1, plan=plan))

    async def run(self) -> None:
        while not self._ends:
            await asyncio.sleep(0.3 + self._world.random.random())
            for each in self._followers:
                if self._world.random.random() < each.edits and not self._ends:
                    self._change(each)

    def end(self) -> None:
        """From now on they stay as they are, and are on."""
        self._ends = True
        for each in self._followers:
            self._records.add(each.trigger, TriggerEnabled())

    def _change(self, each: Follower) -> None:
        chance = self._world.random
        match chance.choice(("off", "on", "edit", "bind")):
            case "off":
                self._records.add(each.trigger, TriggerDisabled())
            case "on":
                self._records.add(each.trigger, TriggerEnabled())
            case "edit":
                self._records.add(each.trigger, _edited(each.trigger, each.on, chance))
            case _:
                self._records.add(each.trigger, TriggerBound(version=2, plan=self._plan))


def _edited(name: str, on: Follows, chance: random.Random) -> OccasionChanged:
    wanted = chance.choice(_FILTERS)
    if isinstance(on, RunEnd):
        return RunEndChanged(name=name, on=RunEnd(workflows=on.workflows, filter=wanted))
    return EventChanged(name=name, on=Happening(types=on.types, filter=wanted))


class MemoryPlaces:
    """How far a stream was followed: most of it is on disk a little later than Postgres says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.at = BEGINNING
        self.disk = Disk(world, self._clear)

    def _clear(self) -> None:
        self.at = BEGINNING

    async def position(self) -> Position:
        return await self._world.operation(lambda: self.at)

    async def advance(self, step: Step) -> None:
        def act() -> None:
            if step.before != self.at:
                raise Moved("the position is not there any more")
            self.disk.write(written)

        def written() -> None:
            self.at = step.after()

        await self._world.operation(act)
