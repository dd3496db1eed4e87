"""What is promised of schedules, as a function over what is left: every planned time once, and none left behind.

Planned times are worked out here second by second, by other code than the engine's: only what the simulation draws is known,
`*/n` in one field of a cron expression in UTC, and intervals.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Final

from msgspec import Struct

from chassis.ports import Stored
from contracts.codec import decode_domain_commit, decode_schedule_commit
from contracts.commits import FIRST_HASH
from contracts.schedules import (
    Cron,
    FireRefused,
    FireStarted,
    Interval,
    Schedule,
    ScheduleCommit,
    ScheduleFired,
    ScheduleMissed,
    ScheduleState,
)
from orchestrator.firing import evolve, run_of
from orchestrator.timetable import Stretch, Timetable, add
from tests.promises.evidence import Evidence, History, Violation

PROMISE: Final = "P2"
SECOND: Final = timedelta(seconds=1)


class Told(Struct):
    """One schedule: what its trigger said, and what was decided."""

    org: str
    id: str
    timetables: list[Timetable]
    """After each commit of the trigger."""
    stored: Sequence[Stored]
    commits: list[ScheduleCommit]


def planned_times_are_kept(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    runs = {history.run: history for history in histories}
    schedules = _told(evidence)
    for told in schedules:
        yield from _well_written(told)
        yield from _decided_in_order(told)
        yield from _started(told, runs)
        if evidence.everything_over:
            yield from _nothing_left(told)
    fired = {fire.run for told in schedules for fire in _fires(told)}
    for run, history in runs.items():
        start = history.start
        if start is not None and start.cause.kind == "schedule" and run not in fired:
            yield Violation(PROMISE, "the clock started a run that no schedule has decided", run)


def _told(evidence: Evidence) -> list[Told]:
    triggers: dict[tuple[str, str], list[Timetable]] = defaultdict(lambda: [Timetable()])
    for stored in evidence.triggers:
        _, org, aggregate, id_ = stored.subject.split(".")
        if aggregate == "trigger":
            known = triggers[org, id_]
            known.append(add(known[-1], decode_domain_commit(stored.body, "trigger")))
    commits: dict[tuple[str, str], list[Stored]] = defaultdict(list)
    for stored in evidence.fires:
        _, org, id_ = stored.subject.split(".")
        commits[org, id_].append(stored)
    return [
        Told(org, id_, known, commits[org, id_], [decode_schedule_commit(s.body) for s in commits[org, id_]])
        for (org, id_), known in triggers.items()
        if known[-1].schedule is not None
    ]


def _fires(told: Told) -> list[ScheduleFired]:
    return [event for commit in told.commits for event in commit.events if isinstance(event, ScheduleFired)]


def _well_written(told: Told) -> Iterator[Violation]:
    """Versions, chain, and the state that stands in each commit."""
    before, state = FIRST_HASH, ScheduleState()
    for number, (stored, commit) in enumerate(zip(told.stored, told.commits, strict=True), 1):
        if commit.version != number:
            yield Violation("P4", f"{told.id}: version {commit.version} stands at place {number}")
        if commit.prev_hash != before:
            yield Violation("P4", f"{told.id}: version {number} does not follow from the one before")
        state = reduce(evolve, commit.events, state)
        if commit.state != state:
            yield Violation("P4", f"{told.id}: version {number} says another state than its events")
        before, state = hashlib.sha256(stored.body).hexdigest(), commit.state


def _decided_in_order(told: Told) -> Iterator[Violation]:
    """What each commit passes by it has fired, or has told to be missed; and nothing else."""
    decided: datetime | None = None
    for commit in told.commits:
        fires = [event for event in commit.events if isinstance(event, ScheduleFired)]
        missed = [event for event in commit.events if isinstance(event, ScheduleMissed)]
        after, decided = decided, commit.state.decided
        for fire in fires:
            if fire.planned > commit.time:
                yield Violation(PROMISE, f"{told.id}: {fire.planned} was fired before its time", fire.run)
            if fire.run != run_of(told.org, told.id, fire.planned):
                yield Violation(PROMISE, f"{told.id}: {fire.planned} has a run of another name", fire.run)
        if decided is None or (after is not None and decided <= after):
            if fires or missed:
                yield Violation(PROMISE, f"{told.id}: decided about {after} again")
            continue
        slots = _slots(told.timetables[commit.state.revision].stretches, after, decided)
        yield from _each_once(told, slots, fires, missed)


def _each_once(
    told: Told, slots: Sequence[datetime], fires: Sequence[ScheduleFired], missed: Sequence[ScheduleMissed]
) -> Iterator[Violation]:
    on_time = Counter(fire.planned for fire in fires if not fire.made_up)
    made_up = Counter(fire.planned for fire in fires if fire.made_up)
    over = [slot for slot in slots if any(span.first <= slot <= span.last for span in missed)]
    for slot in slots:
        if slot not in on_time and slot not in over:
            yield Violation(PROMISE, f"{told.id}: {slot} was passed by without a word")
    for planned, count in (on_time + made_up).items():
        if count > 1:
            yield Violation(PROMISE, f"{told.id}: {planned} was fired {count} times")
        if planned not in slots:
            yield Violation(PROMISE, f"{told.id}: {planned} was fired, and was not planned")
    if not set(made_up) <= set(over):
        yield Violation(PROMISE, f"{told.id}: made up for what was not missed")
    for span in missed:
        within = [slot for slot in over if span.first <= slot <= span.last]
        most = {"skip": 0, "once": 1, "all": len(within)}[span.policy]
        if span.made_up > most or span.made_up != sum(span.first <= each <= span.last for each in made_up):
            yield Violation(PROMISE, f"{told.id}: {span.made_up} made up for by the policy {span.policy}")
        if span.exact and span.count != len(within):
            yield Violation(PROMISE, f"{told.id}: {span.count} told to be missed, {len(within)} were")


def _started(told: Told, runs: Mapping[str, History]) -> Iterator[Violation]:
    """Every fire has its run, or the reason why it has none."""
    outcomes = Counter(
        event.run
        for commit in told.commits
        for event in commit.events
        if isinstance(event, FireStarted | FireRefused)
    )
    refused = {
        event.run for commit in told.commits for event in commit.events if isinstance(event, FireRefused)
    }
    pending = {fire.run for fire in told.commits[-1].state.pending} if told.commits else set[str]()
    for fire in _fires(told):
        if outcomes[fire.run] != (fire.run not in pending):
            yield Violation(PROMISE, f"{told.id}: {fire.planned} has {outcomes[fire.run]} outcomes", fire.run)
        history = runs.get(fire.run)
        start = history.start if history is not None else None
        if start is None:
            # INBOX may still have what was told to be on its way; `P3` looks whether something lies there at the end.
            if fire.run not in pending and fire.run not in refused:
                yield Violation(
                    "P1", f"{told.id}: {fire.planned} was started, and there is no such run", fire.run
                )
        elif (start.trigger, start.plan, start.cause.id) != (told.id, fire.plan, fire.planned.isoformat()):
            yield Violation(PROMISE, f"{told.id}: {fire.planned} started another run than its own", fire.run)


def _nothing_left(told: Told) -> Iterator[Violation]:
    newest = told.timetables[-1]
    if not told.commits:
        yield Violation("P3", f"{told.id}: nobody ever looked")
        return
    state = told.commits[-1].state
    if state.pending:
        yield Violation("P3", f"{told.id}: {len(state.pending)} fires without an outcome")
    if newest.active is None:
        left = _slots(
            newest.stretches, state.decided, newest.stretches[-1].since if newest.stretches else None
        )
        if left:
            yield Violation("P3", f"{told.id}: {len(left)} planned times left behind, the first at {left[0]}")
    if state.revision != newest.revision:
        yield Violation("P3", f"{told.id}: version {newest.revision} of the trigger was never seen")


def _slots(stretches: Sequence[Stretch], after: datetime | None, until: datetime | None) -> list[datetime]:
    """Every planned time of a span, second by second."""
    found: list[datetime] = []
    if until is None:
        return found
    ends = [*(stretch.since for stretch in stretches[1:]), until]
    for stretch, end in zip(stretches, ends, strict=False):
        moment = max(stretch.since, after or stretch.since).replace(microsecond=0)
        begin = max(stretch.since, after or stretch.since)
        while stretch.schedule is not None and (moment := moment + SECOND) <= min(end, until):
            if moment > begin and _fits(stretch.schedule, moment):
                found.append(moment)
    return found


def _fits(schedule: Schedule, moment: datetime) -> bool:
    match schedule.when:
        case Interval(seconds=seconds, start=start):
            return start is not None and moment >= start and (moment - start).total_seconds() % seconds == 0
        case Cron(expression=expression):
            shown = (
                moment.second,
                moment.minute,
                moment.hour,
                moment.day,
                moment.month,
                moment.isoweekday() % 7,
            )
            return all(map(_shows, expression.split(), shown))


def _shows(part: str, value: int) -> bool:
    if part == "*":
        return True
    return value % int(part[2:]) == 0 if part.startswith("*/") else value == int(part)
