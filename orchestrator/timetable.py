"""A schedule's trigger, as the clock sees it: which planned times it had, from when to when. A pure fold of its history."""

from datetime import datetime
from typing import assert_never

from msgspec import Struct, structs

from contracts.commits import DomainCommit
from contracts.schedules import Schedule
from contracts.triggers import (
    OccasionChanged,
    OccasionCreated,
    PollChanged,
    PollCreated,
    ScheduleChanged,
    ScheduleCreated,
    TokenRotated,
    TriggerBound,
    TriggerChanged,
    TriggerCreated,
    TriggerDeleted,
    TriggerDisabled,
    TriggerEnabled,
    TriggerEvent,
)


class Stretch(Struct, frozen=True):
    """From a moment on, until the next stretch begins: these planned times, or none."""

    since: datetime
    schedule: Schedule | None


class Timetable(Struct, frozen=True, kw_only=True):
    """What a trigger says about its schedule."""

    schedule: Schedule | None = None
    """As it was written last; None for a trigger that is no schedule."""
    enabled: bool = False
    workflow: str = ""
    version: int = 0
    plan: str = ""
    """Empty: the workflow was never published, so there is nothing that could start."""
    intake: str = ""
    """The plan of the runs that look for something to start it with; empty for a schedule, which starts it itself."""
    stretches: tuple[Stretch, ...] = ()
    revision: int = 0
    """The version of the trigger's history."""

    @property
    def active(self) -> Schedule | None:
        """What fires now."""
        return self.schedule if self.enabled and self.plan else None


def add(timetable: Timetable, commit: DomainCommit[TriggerEvent]) -> Timetable:
    """The timetable after one more commit of the trigger."""
    for event in commit.events:
        timetable = _evolve(timetable, event)
    timetable = structs.replace(timetable, revision=commit.version)
    newest = timetable.stretches[-1] if timetable.stretches else None
    if timetable.active == (newest.schedule if newest is not None else None):
        return timetable
    # The gateways' clocks differ a little: no stretch begins before the one before it.
    since = commit.time if newest is None else max(commit.time, newest.since)
    return structs.replace(timetable, stretches=(*timetable.stretches, Stretch(since, timetable.active)))


def _evolve(timetable: Timetable, event: TriggerEvent) -> Timetable:
    match event:
        case ScheduleCreated():
            return structs.replace(timetable, schedule=event.schedule, workflow=event.workflow, enabled=True)
        case ScheduleChanged():
            return structs.replace(timetable, schedule=event.schedule)
        case PollCreated():
            return structs.replace(
                timetable,
                schedule=event.on.schedule,
                workflow=event.workflow,
                intake=event.plan,
                enabled=True,
            )
        case PollChanged():
            return structs.replace(timetable, schedule=event.on.schedule, intake=event.plan)
        case TriggerBound():
            return structs.replace(timetable, version=event.version, plan=event.plan)
        case TriggerEnabled():
            return structs.replace(timetable, enabled=True)
        case TriggerDisabled() | TriggerDeleted():
            return structs.replace(timetable, enabled=False)
        case TriggerCreated() | TriggerChanged() | OccasionCreated() | OccasionChanged() | TokenRotated():
            return timetable
    assert_never(event)
