"""What a schedule promises about its planned times: each is decided once, in its order, whatever happened meanwhile."""

from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.testing.examples import domain_commit
from contracts.errors import Failure
from contracts.limits import FIRES_AT_ONCE, MISSED_COUNTED
from contracts.schedules import (
    Cron,
    FirePlanned,
    FireRefused,
    FireStarted,
    Interval,
    Missed,
    Schedule,
    ScheduleEvent,
    ScheduleFired,
    ScheduleMissed,
    ScheduleState,
)
from contracts.triggers import (
    ScheduleChanged,
    ScheduleCreated,
    TriggerBound,
    TriggerDeleted,
    TriggerDisabled,
    TriggerEnabled,
)
from orchestrator.firing import decide, evolve, run_of
from orchestrator.timetable import Timetable, add

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PLAN = "ab" * 32
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def cron(expression: str, **more: Any) -> Schedule:
    return Schedule(when=Cron(expression=expression), **more)


HOURLY = cron("0 * * * *")


class Story:
    """One schedule, its trigger's history, and what was decided about it."""

    def __init__(self, schedule: Schedule = HOURLY, *, published: bool = True) -> None:
        self.now = NOON
        self.timetable = Timetable()
        self.state = ScheduleState()
        self.told: list[ScheduleEvent] = []
        self.trigger(ScheduleCreated(name="s", workflow="w", schedule=schedule))
        if published:
            self.trigger(TriggerBound(version=1, plan=PLAN))

    def trigger(self, *events: Any) -> None:
        commit = domain_commit(
            "trigger",
            "s",
            *events,
            org="o",
            version=self.timetable.revision + 1,
            time=self.now,
            actor="key:1",
        )
        self.timetable = add(self.timetable, commit)

    def at(self, later: timedelta) -> "Story":
        self.now = NOON + later
        return self

    def decide(self) -> list[ScheduleEvent]:
        events = decide("o", "s", self.state, self.timetable, self.now)
        self.state = reduce(evolve, events, self.state)
        self.told += events
        return events

    def start_all(self) -> None:
        for fire in self.state.pending:
            self.state = evolve(self.state, FireStarted(planned=fire.planned, run=fire.run))

    def look(self) -> list[ScheduleEvent]:
        """Decide and start as long as the schedule says that its next moment has come; everything that was decided."""
        before = len(self.told)
        self.decide()
        while self.state.pending or (self.state.next is not None and self.state.next <= self.now):
            self.start_all()
            self.decide()
        return self.told[before:]


def fired(events: list[ScheduleEvent]) -> list[datetime]:
    return [event.planned for event in events if isinstance(event, ScheduleFired)]


def missed(events: list[ScheduleEvent]) -> list[ScheduleMissed]:
    return [event for event in events if isinstance(event, ScheduleMissed)]


# --- On time ---------------------------------------------------------------------------------------


def test_a_new_schedule_says_when_it_fires_first() -> None:
    assert Story().look() == [FirePlanned(revision=2, next=NOON + HOUR)]


def test_a_planned_time_fires_once_and_the_next_is_named_with_it() -> None:
    story = Story()
    story.look()
    [fire, planned] = story.at(HOUR + SECOND).decide()
    assert isinstance(fire, ScheduleFired)
    assert (fire.planned, fire.late_ms, fire.made_up) == (NOON + HOUR, 1000, False)
    assert (fire.run, fire.plan, fire.version) == (run_of("o", "s", NOON + HOUR), PLAN, 1)
    assert planned == FirePlanned(revision=2, next=NOON + 2 * HOUR)
    story.start_all()
    assert story.decide() == []


def test_a_look_too_early_changes_nothing() -> None:
    story = Story()
    story.look()
    assert story.at(HOUR - timedelta(microseconds=1)).look() == []


def test_nothing_is_decided_while_a_run_has_not_started() -> None:
    story = Story()
    story.at(HOUR).decide()
    assert story.at(3 * HOUR).decide() == []


def test_a_refused_start_ends_that_fire_and_no_other() -> None:
    story = Story()
    story.at(HOUR).decide()
    [fire] = story.state.pending
    error = Failure(code="poison", message="no")
    story.state = evolve(story.state, FireRefused(planned=fire.planned, run=fire.run, error=error))
    assert fired(story.at(2 * HOUR).look()) == [NOON + 2 * HOUR]


def test_two_owners_decide_the_same_and_name_the_same_run() -> None:
    one, other = Story(), Story()
    assert one.at(HOUR).decide() == other.at(HOUR).decide()
    assert run_of("o", "s", NOON) != run_of("o", "s", NOON + SECOND)
    assert run_of("o", "s", NOON) != run_of("p", "s", NOON)


# --- What was missed ---------------------------------------------------------------------------------


def asleep(policy: Missed, **more: Any) -> list[ScheduleEvent]:
    """Nobody looked from noon until 15:20."""
    story = Story(cron("0 * * * *", missed=policy, **more))
    story.look()
    return story.at(3 * HOUR + 20 * MINUTE).look()


def test_skip_starts_nothing_for_what_was_missed_and_says_so() -> None:
    events = asleep("skip")
    assert fired(events) == []
    [told] = missed(events)
    assert (told.first, told.last, told.count, told.made_up) == (NOON + HOUR, NOON + 3 * HOUR, 3, 0)
    assert events[-1] == FirePlanned(revision=2, next=NOON + 4 * HOUR)


def test_once_starts_one_run_for_all_that_was_missed() -> None:
    events = asleep("once")
    assert fired(events) == [NOON + 3 * HOUR]
    assert [(told.count, told.made_up) for told in missed(events)] == [(3, 1)]
    assert all(event.made_up for event in events if isinstance(event, ScheduleFired))


def test_all_starts_a_run_for_each() -> None:
    events = asleep("all")
    assert fired(events) == [NOON + HOUR, NOON + 2 * HOUR, NOON + 3 * HOUR]
    assert [(told.count, told.made_up) for told in missed(events)] == [(3, 3)]


def test_what_is_only_late_was_not_missed_whatever_the_policy() -> None:
    events = asleep("skip", late_s=3600)
    assert fired(events) == [NOON + 3 * HOUR]
    assert [told.count for told in missed(events)] == [2]


def test_a_schedule_of_every_second_that_slept_for_a_week_is_bounded() -> None:
    for policy, made_up in (("skip", 0), ("once", 1), ("all", FIRES_AT_ONCE)):
        story = Story(cron("* * * * * *", missed=policy))
        story.look()
        events = story.at(timedelta(days=7)).look()
        [told] = missed(events)
        assert (told.count, told.exact, told.made_up) == (MISSED_COUNTED, False, made_up)
        assert told.first == NOON + SECOND
        assert told.last == NOON + timedelta(days=7) - MINUTE
        late = [event for event in events if isinstance(event, ScheduleFired) and not event.made_up]
        assert [fire.planned for fire in late] == [told.last + number * SECOND for number in range(1, 61)]


def test_one_decision_starts_no_more_than_a_bound() -> None:
    story = Story(cron("* * * * * *", late_s=600))
    events = story.at(500 * SECOND).decide()
    assert len(fired(events)) == FIRES_AT_ONCE
    story.start_all()
    story.look()
    assert fired(story.told) == [NOON + number * SECOND for number in range(1, 501)]


# --- What somebody changes -----------------------------------------------------------------------------


def test_nothing_is_planned_before_the_workflow_is_published() -> None:
    story = Story(published=False)
    assert story.at(5 * HOUR).look() == [FirePlanned(revision=1)]
    story.trigger(TriggerBound(version=1, plan=PLAN))
    assert story.look() == [FirePlanned(revision=2, next=NOON + 6 * HOUR)]


def test_a_disabled_schedule_fires_no_more_and_misses_nothing() -> None:
    story = Story()
    story.at(10 * MINUTE).trigger(TriggerDisabled())
    assert story.look() == [FirePlanned(revision=3)]
    assert story.at(5 * HOUR).look() == []
    story.trigger(TriggerEnabled())
    assert story.look() == [FirePlanned(revision=4, next=NOON + 6 * HOUR)]


def test_what_a_schedule_missed_before_it_was_disabled_is_told_and_not_made_up_for() -> None:
    story = Story(cron("0 * * * *", missed="all"))
    story.look()
    story.at(150 * MINUTE).trigger(TriggerDisabled())
    events = story.at(5 * HOUR).look()
    assert fired(events) == []
    assert [(told.count, told.policy, told.made_up) for told in missed(events)] == [(2, "skip", 0)]


def test_a_deleted_schedule_fires_no_more_but_starts_what_it_had_decided() -> None:
    story = Story()
    story.at(HOUR).decide()
    story.trigger(TriggerDeleted())
    assert len(story.state.pending) == 1
    story.start_all()
    assert story.at(9 * HOUR).look() == [FirePlanned(revision=3)]


def test_what_two_edits_left_undecided_is_all_decided_also_when_the_schedule_is_deleted() -> None:
    story = Story()
    story.look()
    story.at(90 * MINUTE).trigger(ScheduleChanged(name="s", schedule=cron("30 * * * *")))
    story.at(160 * MINUTE).trigger(TriggerDeleted())
    first = story.at(161 * MINUTE).decide()
    assert [told.first for told in missed(first)] == [NOON + HOUR]
    assert story.state.next == NOON + 150 * MINUTE, "it is due already: so somebody looks again"
    assert [told.first for told in missed(story.look())] == [NOON + 150 * MINUTE]
    assert story.state.next is None


def test_an_edit_counts_from_its_moment_and_what_was_due_before_it_stays_due() -> None:
    story = Story(cron("0 * * * *", missed="all"))
    story.look()
    story.at(150 * MINUTE).trigger(ScheduleChanged(name="s", schedule=cron("30 * * * *", missed="all")))
    story.at(200 * MINUTE).trigger(ScheduleChanged(name="s", schedule=cron("15 * * * *", missed="all")))
    events = story.at(260 * MINUTE).look()
    assert fired(events) == [NOON + minutes * MINUTE for minutes in (60, 120, 255)]


def test_every_stretch_between_two_edits_has_its_own_times() -> None:
    story = Story(cron("0 * * * *", missed="all"))
    story.at(90 * MINUTE).trigger(ScheduleChanged(name="s", schedule=cron("*/20 * * * *", missed="all")))
    story.at(130 * MINUTE).trigger(ScheduleChanged(name="s", schedule=cron("0 0 * * *", missed="all")))
    assert fired(story.at(200 * MINUTE).look()) == [NOON + minutes * MINUTE for minutes in (60, 100, 120)]


def test_a_new_name_or_a_new_version_moves_no_planned_time() -> None:
    story = Story(Schedule(when=Interval(seconds=700, start=NOON)))
    story.look()
    story.at(600 * SECOND).trigger(
        ScheduleChanged(name="t", schedule=Schedule(when=Interval(seconds=700, start=NOON)))
    )
    story.trigger(TriggerBound(version=2, plan="cd" * 32))
    [fire] = [event for event in story.at(700 * SECOND).look() if isinstance(event, ScheduleFired)]
    assert (fire.planned, fire.version) == (NOON + 700 * SECOND, 2)


def test_a_schedule_that_can_no_longer_be_kept_says_why_and_goes_on_when_it_is_mended() -> None:
    story = Story(cron("0 * * * *", zone="Europe/Atlantis"))
    assert story.at(2 * HOUR).look() == [
        FirePlanned(revision=2, trouble="There is no time zone 'Europe/Atlantis'.")
    ]
    story.trigger(ScheduleChanged(name="s", schedule=HOURLY))
    assert story.look() == [FirePlanned(revision=3, next=NOON + 3 * HOUR)]
    assert fired(story.at(3 * HOUR).look()) == [NOON + 3 * HOUR]


# --- Clocks ------------------------------------------------------------------------------------------------


def test_a_clock_that_was_ahead_fires_nothing_twice_when_it_is_set_back() -> None:
    story = Story()
    story.look()
    ahead = fired(story.at(HOUR + SECOND).look())
    assert story.at(timedelta()).look() == []
    assert story.at(HOUR + SECOND).look() == []
    assert ahead + fired(story.at(2 * HOUR).look()) == [NOON + HOUR, NOON + 2 * HOUR]


# --- For any story -------------------------------------------------------------------------------------------

deeds = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.integers(-90, 400)),
        st.tuples(
            st.just("edit"), st.sampled_from(["* * * * *", "*/7 * * * *", "30 * * * * *", "0 13 * * *"])
        ),
        st.tuples(st.just("switch"), st.booleans()),
        st.tuples(st.just("crash"), st.integers(0, 3)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=300)
@given(deeds, st.sampled_from(["skip", "once", "all"]), st.sampled_from([1, 60, 600]))
def test_every_planned_time_is_decided_once_and_none_is_left_behind(
    deeds: list[tuple[str, Any]], policy: Missed, late_s: int
) -> None:
    story = Story(cron("*/5 * * * *", missed=policy, late_s=late_s))
    highest = NOON
    decided = {0: NOON}
    """Up to when everything was decided as each stretch began: a clock that is set back brings no time back."""
    for deed, how in deeds:
        match deed:
            case "look":
                story.now = max(NOON, story.now + how * SECOND)
                story.look()
            case "edit":
                schedule = cron(how, missed=policy, late_s=late_s)
                story.trigger(ScheduleChanged(name="s", schedule=schedule))
            case "switch":
                story.trigger(TriggerEnabled() if how else TriggerDisabled())
            case _:
                story.decide()  # And nobody starts the runs: the next one to look does.
                story.start_all()
        highest = max(highest, story.now)
        decided.setdefault(len(story.timetable.stretches) - 1, story.state.decided or NOON)
    story.now = highest
    story.look()
    times = fired(story.told)
    assert times == sorted(set(times)), "each once, in their order"
    for told in missed(story.told):
        within = [time for time in times if told.first <= time <= told.last]
        assert len(within) == told.made_up
    ends = [stretch.since for stretch in story.timetable.stretches[1:]] + [highest]
    for number, (stretch, end) in enumerate(zip(story.timetable.stretches, ends, strict=True)):
        if stretch.schedule is None:
            continue
        for planned in minutes_of(stretch.schedule, stretch.since, min(end, highest)):
            covered = any(told.first <= planned <= told.last for told in missed(story.told))
            covered = covered or planned <= decided[number]
            assert covered or planned in times, f"{planned} was lost"


def minutes_of(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    """The planned times of the four expressions above, written out by hand."""
    assert isinstance(schedule.when, Cron)
    found = []
    moment = after.replace(microsecond=0)
    while (moment := moment + SECOND) <= until:
        match schedule.when.expression:
            case "* * * * *":
                fits = moment.second == 0
            case "*/7 * * * *":
                fits = moment.second == 0 and moment.minute % 7 == 0
            case "*/5 * * * *":
                fits = moment.second == 0 and moment.minute % 5 == 0
            case "30 * * * * *":
                fits = moment.second == 30
            case _:
                fits = (moment.hour, moment.minute, moment.second) == (13, 0, 0)
        if fits:
            found.append(moment)
    return found
