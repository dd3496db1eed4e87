"""When runs are started by the clock, and what becomes of the planned times, told as events.

A planned time is decided once: its run is asked for, or it is told that it was missed. How far a schedule has been decided
stands in each commit as a whole, so the newest commit is all that its owner has to read, and old ones may go.
"""

from datetime import date, datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.errors import Failure
from contracts.limits import (
    CRON_CHARS,
    EXCLUDED_DATES,
    INTERVAL_SECONDS,
    LATE_SECONDS,
    SCHEDULE_BODY_BYTES,
    ZONE_CHARS,
    Actor,
    Count,
    Id,
    OrgId,
    Positive,
    SchemaVersion,
    Sha256,
    Text,
)

# --- What somebody wants ----------------------------------------------------------------------


class Cron(Struct, frozen=True, kw_only=True, tag_field="by", tag="cron"):
    """Five fields, or six with seconds in front: `0 9 * * MON-FRI`, `*/10 * * * * *`."""

    expression: Annotated[str, Meta(min_length=1, max_length=CRON_CHARS)]


class Interval(Struct, frozen=True, kw_only=True, tag_field="by", tag="interval"):
    """Every so many seconds, counted from `start`. No clock change moves it."""

    seconds: Annotated[int, Meta(ge=1, le=INTERVAL_SECONDS)]
    start: Annotated[datetime, Meta(tz=True)] | None = None
    """The first planned time; where none is named, the moment in which the schedule was made."""


class Excluded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Days on which nothing fires, by the calendar of the schedule's time zone."""

    first: date
    last: date | None = None
    """The last of several days; where none is named it is one day."""
    yearly: bool = False
    """The same days of every year."""


Missed: TypeAlias = Literal["skip", "once", "all"]
"""What is done about planned times that passed while nobody could fire: nothing, one run for all of them, a run each."""


class Schedule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When runs start by themselves."""

    when: Cron | Interval
    zone: Annotated[str, Meta(min_length=1, max_length=ZONE_CHARS)] = "UTC"
    """An IANA time zone: `Europe/Berlin`."""
    excluded: Annotated[tuple[Excluded, ...], Meta(max_length=EXCLUDED_DATES)] = ()
    missed: Missed = "once"
    late_s: Annotated[int, Meta(ge=1, le=LATE_SECONDS)] = 60
    """A planned time is missed when it could not be fired within so many seconds."""
    body: Annotated[str, Meta(max_length=SCHEDULE_BODY_BYTES)] = ""
    """JSON text that each run gets as `trigger.body`; empty: null."""


# --- What became of it ------------------------------------------------------------------------


class _ScheduleFact(Struct, frozen=True, kw_only=True, tag_field="type"):
    schema_version: SchemaVersion = 1


class FirePlanned(_ScheduleFact, frozen=True, kw_only=True, tag="schedule.planned"):
    """What comes next, as this version of the trigger has it."""

    revision: Count
    """The version of the trigger's history."""
    next: datetime | None = None
    """Null: nothing will fire until the trigger is changed."""
    trouble: Text = ""
    """Why nothing can be planned, where that is nobody's wish."""


class ScheduleFired(_ScheduleFact, frozen=True, kw_only=True, tag="schedule.fired"):
    """The run of a planned time is to be started. Its id follows from the planned time, so it starts once."""

    planned: datetime
    run: Id
    receipt: Id
    workflow: Id
    version: Positive
    plan: Sha256
    late_ms: Count = 0
    made_up: bool = False
    """The time was missed, and this run makes up for it."""


class ScheduleMissed(_ScheduleFact, frozen=True, kw_only=True, tag="schedule.missed"):
    """Nobody could fire at these planned times, and now it is too late."""

    first: datetime
    last: datetime
    count: Positive
    exact: bool = True
    """False: there are more than were counted."""
    policy: Missed
    made_up: Count = 0
    """For how many of them a run is started all the same; the others are skipped."""


class FireStarted(_ScheduleFact, frozen=True, kw_only=True, tag="fire.started"):
    """The run is in the log, or on its way there on disk."""

    planned: datetime
    run: Id


class FireRefused(_ScheduleFact, frozen=True, kw_only=True, tag="fire.refused"):
    """The run could not be started. The next planned time is not touched by it."""

    planned: datetime
    run: Id
    error: Failure


ScheduleEvent: TypeAlias = FirePlanned | ScheduleFired | ScheduleMissed | FireStarted | FireRefused


class ScheduleState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a schedule has been decided."""

    revision: Count = 0
    """The version of the trigger's history that was read last."""
    decided: datetime | None = None
    """Every planned time up to this one has been decided."""
    next: datetime | None = None
    pending: tuple[ScheduleFired, ...] = ()
    """Fires of which nobody knows yet that their runs have started."""
    trouble: Text = ""


class ScheduleCommit(Struct, frozen=True, kw_only=True):
    """One message of SCHEDULES: what one look at a schedule decided."""

    id: Id
    org: OrgId
    schedule: Id
    """The trigger's id."""
    version: Positive
    events: Annotated[tuple[ScheduleEvent, ...], Meta(min_length=1, max_length=300)]
    state: ScheduleState
    """After these events."""
    time: Annotated[datetime, Meta(tz=True)]
    actor: Actor
    engine_version: Annotated[str, Meta(max_length=64)]
    prev_hash: Annotated[str, Meta(max_length=64)]
