"""Schedules in a simulated installation: what a seed draws, who changes them under the storm, and who finds what is overdue."""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from chassis.dispatch import Dispatch
from chassis.ports import Away, Stored
from chassis.testing.stores import MemoryLog
from chassis.testing.world import START, World
from contracts.codec import decode_domain_commit, decode_schedule_commit
from contracts.messages import ScheduleLook
from contracts.schedules import Cron, Interval, Missed, Schedule, ScheduleCommit
from contracts.subjects import schedule as schedule_subject
from contracts.triggers import (
    PollChanged,
    PollCreated,
    ScheduleChanged,
    ScheduleCreated,
    TriggerBound,
    TriggerDeleted,
    TriggerDisabled,
    TriggerEnabled,
    TriggerEvent,
)
from orchestrator.timetable import Timetable, add
from projections.schedules import SETTLED
from projections.stragglers import BEHIND
from projections.sweeper import Key, Straggler
from tests.simulation.owners import ORG, Records
from tests.simulation.polling import poll

LAST_SECONDS: Final = 4.0
"""In the calm at the end they fire for so long; then they are deleted, so that there is an end."""


class Timed(Struct, frozen=True, kw_only=True):
    """One schedule of a story."""

    trigger: str
    schedule: Schedule
    edits: float
    """How often, per look at it, somebody changes it."""
    polls: bool = False
    """It starts runs that look for something; what they find starts others."""


class Plans(Struct, frozen=True, kw_only=True):
    """What the clock starts, by the hashes of the plans."""

    scheduled: str = ""
    looking: str = ""
    found: str = ""


def clocks(seed: int) -> Sequence[Timed]:
    """Most stories have none; the others one or two."""
    chance = random.Random(f"{seed}/clocks")
    if chance.random() > 0.06:
        return ()
    return [
        Timed(
            trigger=f"clock{number}",
            schedule=drawn_schedule(chance),
            edits=chance.choice((0, 0.1, 0.4)),
            polls=chance.random() < 0.3,
        )
        for number in range(chance.choice((1, 1, 2)))
    ]


def drawn_schedule(chance: random.Random) -> Schedule:
    """Nothing so dense that an hour by which a clock is wrong would start hundreds of runs."""
    policy: Missed = chance.choice(("skip", "once", "all"))
    late_s = chance.choice((1, 3, 10))
    if policy == "all":
        return Schedule(when=Cron(expression="0 */5 * * * *"), missed=policy, late_s=late_s)
    seconds = chance.choice((2, 3, 5))
    if chance.random() < 0.3:
        start = START + timedelta(seconds=chance.randint(-5, 5))
        return Schedule(when=Interval(seconds=seconds, start=start), missed=policy, late_s=late_s)
    return Schedule(when=Cron(expression=f"*/{seconds} * * * * *"), missed=policy, late_s=late_s)


class Keeper:
    """Somebody who owns the schedules: changes them at any moment, and tells their owner, or dies before it does."""

    def __init__(
        self, world: World, timed: Sequence[Timed], log: MemoryLog, dispatch: Dispatch, plans: Plans
    ) -> None:
        self._world, self._timed, self._log, self._dispatch = world, timed, log, dispatch
        self._records = Records(world, log, "key:keeper")
        self._plans = plans
        self._ends = asyncio.Event()
        for each in timed:
            self._records.add(each.trigger, self._made(each), self._bound(each, 1))

    def _made(self, each: Timed) -> TriggerEvent:
        if each.polls:
            on, plan = poll(each.schedule), self._plans.looking
            return PollCreated(name=each.trigger, workflow="flow", on=on, plan=plan)
        return ScheduleCreated(name=each.trigger, workflow="flow", schedule=each.schedule)

    def _bound(self, each: Timed, version: int) -> TriggerEvent:
        return TriggerBound(version=version, plan=self._plans.found if each.polls else self._plans.scheduled)

    def _edited(self, each: Timed, name: str, schedule: Schedule) -> TriggerEvent:
        if each.polls:
            return PollChanged(name=name, on=poll(schedule), plan=self._plans.looking)
        return ScheduleChanged(name=name, schedule=schedule)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(self._dispatch.run())
            for each in self._timed:
                await self._tell(each.trigger)
            while not self._ends.is_set():
                await asyncio.sleep(0.3 + self._world.random.random())
                for each in self._timed:
                    if self._world.random.random() < each.edits:
                        self._change(each)
                        await self._tell(each.trigger)
            await asyncio.sleep(LAST_SECONDS)
            for each in self._timed:
                self._records.add(each.trigger, TriggerDeleted())
                await self._tell(each.trigger)
            carrying.cancel()

    def end(self) -> None:
        self._ends.set()

    def _change(self, each: Timed) -> None:
        chance = self._world.random
        match chance.choice(("off", "on", "edit", "name", "bind")):
            case "off":
                self._records.add(each.trigger, TriggerDisabled())
            case "on":
                self._records.add(each.trigger, TriggerEnabled())
            case "edit":
                self._records.add(each.trigger, self._edited(each, each.trigger, drawn_schedule(chance)))
            case "name":
                self._records.add(each.trigger, self._edited(each, "another", each.schedule))
            case _:
                self._records.add(each.trigger, self._bound(each, 2))

    async def _tell(self, trigger: str) -> None:
        """Once, if at all: the sweeper is who makes sure."""
        if self._world.random.random() < 0.3:
            return
        try:
            await self._dispatch.send(ScheduleLook(org=ORG, run=trigger))
        except Away:
            return


class MemoryOverdue:
    """The schedules that should have been looked at by now, as rows of the read models would tell it."""

    def __init__(self, world: World, triggers: MemoryLog, fires: MemoryLog) -> None:
        self._world, self._triggers, self._fires = world, triggers, fires

    async def due(
        self, at: datetime, after: Key | None, most: int, ahead: timedelta = timedelta()
    ) -> Sequence[Straggler]:
        return await self._world.operation(lambda: self._due(at + ahead - BEHIND, after)[:most])

    def _due(self, at: datetime, after: Key | None) -> list[Straggler]:
        found = []
        for trigger, timetable, updated, _ in timetables(self._triggers):
            stored = last_of(self._fires, trigger)
            commit = decode_schedule_commit(stored.body) if stored is not None else None
            unseen = timetable.revision > (commit.state.revision if commit is not None else 0)
            overdue = commit is not None and (look_at := _look_at(commit)) is not None and look_at < at
            if (overdue or (unseen and updated < at)) and (after is None or (ORG, trigger) > after):
                found.append(Straggler(ORG, trigger, stored.sequence if stored is not None else 0))
        return sorted(found, key=lambda each: each.run)


def _look_at(commit: ScheduleCommit) -> datetime | None:
    return commit.time + SETTLED if commit.state.pending else commit.state.next


def timetables(triggers: MemoryLog) -> list[tuple[str, Timetable, datetime, bool]]:
    """Every schedule: its timetable, when its trigger was changed last, and whether it is deleted."""
    found = []
    for subject, stored in triggers.subjects().items():
        _, _, aggregate, id_ = subject.split(".")
        if aggregate != "trigger":
            continue
        commits = [decode_domain_commit(each.body, "trigger") for each in stored]
        timetable = Timetable()
        for commit in commits:
            timetable = add(timetable, commit)
        if timetable.schedule is not None:
            gone = isinstance(commits[-1].events[-1], TriggerDeleted)
            found.append((id_, timetable, commits[-1].time, gone))
    return found


def last_of(fires: MemoryLog, trigger: str) -> Stored | None:
    stored = fires.subjects().get(schedule_subject(ORG, trigger), ())
    return stored[-1] if stored else None


def left_undecided(triggers: MemoryLog, fires: MemoryLog) -> list[str]:
    """Schedules that are not over: not deleted, or their owner has not seen it, or something has not started."""
    left = []
    for trigger, timetable, _, deleted in timetables(triggers):
        stored = last_of(fires, trigger)
        state = decode_schedule_commit(stored.body).state if stored is not None else None
        seen = (
            state is not None
            and state.revision == timetable.revision
            and not state.pending
            and not state.next
        )
        if not deleted or not seen:
            left.append(trigger)
    return left
