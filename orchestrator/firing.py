"""Which planned times of a schedule are due, and what follows from that. Pure: told the time, and asking for nothing.

Rules that hold here:
  * what planned times there were, the trigger says as it was then; what is done about them, it says as it is now;
  * every planned time is decided once, in their order: `decided` only goes forward;
  * a planned time that is over by more than `late_s` was missed, which is told, whatever the policy makes of it;
  * a decision starts no more than `FIRES_AT_ONCE` runs, and none before the runs of the decision before have started.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Final, assert_never

from msgspec import structs

from chassis.ids import derived, run_id
from chassis.slots import Missing, Slots, UnusableSchedule, slots_of
from contracts.limits import FIRES_AT_ONCE
from contracts.schedules import (
    FirePlanned,
    FireRefused,
    FireStarted,
    Missed,
    Schedule,
    ScheduleEvent,
    ScheduleFired,
    ScheduleMissed,
    ScheduleState,
)
from orchestrator.timetable import Timetable

DISABLED: Final[Missed] = "skip"
"""Nobody wants to be made up for what a schedule missed that fires no more."""


def evolve(state: ScheduleState, event: ScheduleEvent) -> ScheduleState:
    """Fold one recorded fact into the state. Total."""
    match event:
        case FirePlanned():
            return structs.replace(state, revision=event.revision, next=event.next, trouble=event.trouble)
        case ScheduleFired():
            return structs.replace(
                state, decided=_later(state, event.planned), pending=(*state.pending, event)
            )
        case ScheduleMissed():
            return structs.replace(state, decided=_later(state, event.last))
        case FireStarted() | FireRefused():
            pending = tuple(fire for fire in state.pending if fire.planned != event.planned)
            return structs.replace(state, pending=pending)
    assert_never(event)


def _later(state: ScheduleState, planned: datetime) -> datetime:
    return planned if state.decided is None else max(state.decided, planned)


def decide(
    org: str, schedule: str, state: ScheduleState, timetable: Timetable, now: datetime
) -> list[ScheduleEvent]:
    """What is due now, and what comes next. Nothing while runs of the decision before have not started."""
    if state.pending:
        return []
    due = _due(org, schedule, state, timetable, now)
    decided = reduce(evolve, due, state)
    following, trouble = None, ""
    try:
        following = _left(_due(org, schedule, decided, timetable, now)) or _next(decided, timetable)
    except UnusableSchedule as unusable:
        trouble = str(unusable)  # It could be kept when it was written: a time zone is gone, say.
    planned = FirePlanned(revision=timetable.revision, next=following, trouble=trouble)
    told = FirePlanned(revision=state.revision, next=state.next, trouble=state.trouble)
    return [*due] if planned == told else [*due, planned]


def _left(due: Sequence[ScheduleEvent]) -> datetime | None:
    """The planned time that comes first in the next decision: it is due already, so there will be one at once."""
    match due:
        case [ScheduleMissed() as missed, *_]:
            return missed.first
        case [ScheduleFired() as fired, *_]:
            return fired.planned
        case _:
            return None


def _next(state: ScheduleState, timetable: Timetable) -> datetime | None:
    if timetable.active is None or not timetable.stretches:
        return None
    since = timetable.stretches[-1].since
    return slots_of(timetable.active).after(max(since, state.decided or since))


def _due(
    org: str, schedule: str, state: ScheduleState, timetable: Timetable, now: datetime
) -> list[ScheduleEvent]:
    """The oldest that is due: what was missed of one stretch, or what can be fired in it."""
    wanted = timetable.active
    late = timedelta(seconds=wanted.late_s if wanted is not None else 0)
    for slots, after, until in _open(state, timetable, now):
        missing = slots.missing(after, min(until, now - late), FIRES_AT_ONCE)
        if missing is not None:
            return _missed(org, schedule, timetable, missing, now)
        if wanted is None:
            continue
        found = slots.between(max(after, now - late), until, FIRES_AT_ONCE)
        if found:
            return [_fired(org, schedule, timetable, planned, now, made_up=False) for planned in found]
    return []


def _open(
    state: ScheduleState, timetable: Timetable, now: datetime
) -> Iterator[tuple[Slots, datetime, datetime]]:
    """The stretches in which something may be undecided, oldest first."""
    ends = [*(stretch.since for stretch in timetable.stretches[1:]), now]
    for stretch, end in zip(timetable.stretches, ends, strict=False):
        after = max(stretch.since, state.decided or stretch.since)
        until = min(end, now)
        if stretch.schedule is None or after >= until:
            continue
        try:
            yield slots_of(stretch.schedule), after, until
        except UnusableSchedule:
            continue  # What it would have fired nobody can say; `_next` tells it while it is the newest.


def _missed(
    org: str, schedule: str, timetable: Timetable, missing: Missing, now: datetime
) -> list[ScheduleEvent]:
    policy = timetable.active.missed if timetable.active is not None else DISABLED
    made_up = _made_up(policy, missing.newest)
    told = ScheduleMissed(
        first=missing.first,
        last=missing.newest[-1],
        count=missing.count,
        exact=missing.exact,
        policy=policy,
        made_up=len(made_up),
    )
    return [told, *(_fired(org, schedule, timetable, planned, now, made_up=True) for planned in made_up)]


def _made_up(policy: Missed, newest: Sequence[datetime]) -> Sequence[datetime]:
    match policy:
        case "skip":
            return ()
        case "once":
            return newest[-1:]
        case "all":
            return newest
    assert_never(policy)


def _fired(
    org: str, schedule: str, timetable: Timetable, planned: datetime, now: datetime, *, made_up: bool
) -> ScheduleFired:
    return ScheduleFired(
        planned=planned,
        run=run_of(org, schedule, planned),
        receipt=derived("fire", org, schedule, planned.isoformat()),
        # A run that looks is nobody's but the trigger's own.
        workflow=schedule if timetable.intake else timetable.workflow,
        version=timetable.version,
        plan=timetable.intake or timetable.plan,
        late_ms=max(0, round((now - planned) / timedelta(milliseconds=1))),
        made_up=made_up,
    )


def run_of(org: str, schedule: str, planned: datetime) -> str:
    """The one run that a planned time may start, for ever."""
    return run_id(org, schedule, key_of(planned))


def key_of(planned: datetime) -> str:
    return f"schedule:{planned.isoformat()}"


def wanted_body(schedule: Schedule | None) -> str:
    """What each run gets as its body, as JSON text."""
    return (schedule.body if schedule is not None else "") or "null"
