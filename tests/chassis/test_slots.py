"""What a schedule promises about its planned times."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chassis.slots import Slots, UnusableSchedule
from contracts.schedules import Cron, Excluded, Interval, Schedule

ZONES = (
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Africa/Cairo",
    "Asia/Beirut",
    "Pacific/Chatham",
    "Antarctica/Troll",
    "America/Nuuk",
)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def cron(expression: str, zone: str = "UTC", *excluded: Excluded) -> Slots:
    return Slots(Schedule(when=Cron(expression=expression), zone=zone, excluded=excluded))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(slots: Slots, zone: str, after: str, most: int) -> list[str]:
    """The next planned times as the wall shows them."""
    found = slots.between(at(after), at("2099-01-01"), most)
    return [slot.astimezone(ZoneInfo(zone)).isoformat() for slot in found]


def told(slots: Slots, after: str, most: int) -> list[str]:
    return [slot.strftime("%Y-%m-%d %H:%M:%S") for slot in slots.between(at(after), at("2099-01-01"), most)]


# --- Clock changes -----------------------------------------------------------------------------


def changes(zone: str, year: int) -> list[datetime]:
    """Every change of the wall's clock in a year, found minute by minute."""
    there, found = ZoneInfo(zone), []
    moment = datetime(year, 1, 1, tzinfo=UTC)
    while moment.year == year:
        if moment.astimezone(there).utcoffset() != (moment + HOUR).astimezone(there).utcoffset():
            minutes = (moment + number * MINUTE for number in range(1, 61))
            before = moment.astimezone(there).utcoffset()
            found.append(next(each for each in minutes if each.astimezone(there).utcoffset() != before))
        moment += HOUR
    return found


def by_the_rule(
    zone: str, hours: set[int], minutes: set[int], start: datetime, end: datetime
) -> list[datetime]:
    """Named times, worked out minute by minute: the first time the wall shows them, else the change that leaves them out."""
    there = ZoneInfo(zone)
    moments = [start + number * MINUTE for number in range(int((end - start) / MINUTE) + 1)]
    walls = [moment.astimezone(there).replace(tzinfo=None, fold=0) for moment in moments]
    found: set[datetime] = set()
    seen: set[datetime] = set()
    for number, (moment, wall) in enumerate(zip(moments, walls, strict=True)):
        if wall.hour in hours and wall.minute in minutes and wall not in seen:
            found.add(moment)
        seen.add(wall)
        left_out = walls[number - 1] + MINUTE if number else wall
        while left_out < wall:
            if left_out.hour in hours and left_out.minute in minutes:
                found.add(moment)
            left_out += MINUTE
    return sorted(found)


@pytest.mark.parametrize("year", [2026, 2027, 2031])
@pytest.mark.parametrize("zone", ZONES)
def test_named_times_fire_once_a_day_through_every_clock_change(zone: str, year: int) -> None:
    found = changes(zone, year)
    assert len(found) >= 2, "a zone that changes its clock"
    for change in found:
        start, end = change - 2 * DAY, change + 2 * DAY
        for hours, minutes in (({2}, {30}), ({0}, {0, 30}), ({1, 2, 3, 23}, {5, 59}), ({3}, {0})):
            expression = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *"
            expected = [each for each in by_the_rule(zone, hours, minutes, start - DAY, end) if each > start]
            for written in (expression, f"0 {expression}"):
                assert cron(written, zone).between(start, end, 1_000) == expected


@pytest.mark.parametrize("year", [2026, 2027])
@pytest.mark.parametrize("zone", ZONES)
def test_a_rhythm_goes_on_in_real_time_through_every_clock_change(zone: str, year: int) -> None:
    there = ZoneInfo(zone)
    for change in changes(zone, year):
        start, end = change - DAY, change + DAY
        moments = [start + number * MINUTE for number in range(1, 2 * 24 * 60 + 1)]
        for expression, fits in (
            ("*/15 * * * *", lambda wall: wall.minute % 15 == 0),
            ("7 * * * *", lambda wall: wall.minute == 7),
            ("*/20 1-3 * * *", lambda wall: wall.minute % 20 == 0 and wall.hour in (1, 2, 3)),
        ):
            expected = [moment for moment in moments if fits(moment.astimezone(there))]
            assert cron(expression, zone).between(start, end, 1_000) == expected


@pytest.mark.parametrize("zone", ZONES)
def test_every_second_is_every_second_through_every_clock_change(zone: str) -> None:
    for change in changes(zone, 2026):
        start = change - timedelta(seconds=30)
        found = cron("* * * * * *", zone).between(start, change + timedelta(seconds=30), 1_000)
        assert found == [start + timedelta(seconds=number) for number in range(1, 61)]


def test_a_time_that_is_left_out_is_fired_at_the_change_and_one_that_comes_twice_the_first_time() -> None:
    zone = "Europe/Berlin"
    for expression in ("30 2 * * *", "0 30 2 * * *"):
        assert local(cron(expression, zone), zone, "2026-03-28 00:00", 3) == [
            "2026-03-28T02:30:00+01:00",
            "2026-03-29T03:00:00+02:00",
            "2026-03-30T02:30:00+02:00",
        ]
        assert local(cron(expression, zone), zone, "2026-10-24 00:00", 3) == [
            "2026-10-24T02:30:00+02:00",
            "2026-10-25T02:30:00+02:00",
            "2026-10-26T02:30:00+01:00",
        ]


def test_where_midnight_is_left_out_the_day_begins_at_the_change() -> None:
    zone = "Africa/Cairo"  # On 2026-04-24 the clock goes from 00:00 to 01:00.
    assert local(cron("0 0 * * *", zone), zone, "2026-04-23 00:00", 3) == [
        "2026-04-24T01:00:00+03:00",
        "2026-04-25T00:00:00+03:00",
        "2026-04-26T00:00:00+03:00",
    ]


def test_a_whole_day_that_a_zone_left_out_is_made_up_for_at_the_change() -> None:
    zone = "Pacific/Apia"  # There was no 2011-12-30.
    assert local(cron("0 10 * * *", zone), zone, "2011-12-29 00:00", 4) == [
        "2011-12-29T10:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2011-12-31T10:00:00+14:00",
        "2012-01-01T10:00:00+14:00",
    ]


def test_an_interval_notices_no_clock_change() -> None:
    when = Interval(seconds=7200, start=at("2026-03-28 00:00"))
    slots = Slots(Schedule(when=when, zone="Europe/Berlin"))
    found = slots.between(at("2026-03-28 00:00"), at("2026-03-30 00:00"), 100)
    assert {later - earlier for earlier, later in pairwise(found)} == {2 * HOUR}


# --- Calendars ---------------------------------------------------------------------------------


def test_a_leap_day_comes_when_there_is_one() -> None:
    assert told(cron("0 12 29 2 *"), "2026-01-01", 3) == [
        "2028-02-29 12:00:00",
        "2032-02-29 12:00:00",
        "2036-02-29 12:00:00",
    ]
    assert (
        told(cron("0 0 29 2 *"), "2096-03-01", 1) == []
    )  # 2100 is no leap year, and 2104 lies behind the end here.
    assert cron("0 0 29 2 *").after(at("2096-03-01")) == at("2104-02-29")


def test_month_ends() -> None:
    assert told(cron("0 0 31 * *"), "2026-01-31", 3) == [
        "2026-03-31 00:00:00",
        "2026-05-31 00:00:00",
        "2026-07-31 00:00:00",
    ]
    assert told(cron("0 0 L * *"), "2028-01-31", 2) == ["2028-02-29 00:00:00", "2028-03-31 00:00:00"]
    assert told(cron("0 0 LW * *"), "2026-01-01", 2) == ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]
    assert told(cron("0 0 * * FRI#1"), "2026-05-02", 1) == ["2026-06-05 00:00:00"]


def test_day_of_month_or_day_of_week_as_cron_has_it() -> None:
    assert told(cron("0 0 13 * FRI"), "2026-02-12", 3) == [
        "2026-02-13 00:00:00",
        "2026-02-20 00:00:00",
        "2026-02-27 00:00:00",
    ]


def test_seconds_stand_in_front() -> None:
    assert told(cron("*/20 0 12 * * *"), "2026-01-01 00:00", 4) == [
        "2026-01-01 12:00:00",
        "2026-01-01 12:00:20",
        "2026-01-01 12:00:40",
        "2026-01-02 12:00:00",
    ]
    assert told(cron("0 12 * * *"), "2026-01-01 11:59:59", 1) == ["2026-01-01 12:00:00"]


def test_names_stand_for_what_everybody_writes() -> None:
    assert told(cron("@daily"), "2026-01-01 00:00", 1) == ["2026-01-02 00:00:00"]
    assert told(cron("@Hourly"), "2026-01-01 00:00", 1) == ["2026-01-01 01:00:00"]
    assert told(cron("@yearly"), "2026-01-01 00:00", 1) == ["2027-01-01 00:00:00"]


def test_nothing_fires_on_an_excluded_day_of_the_schedules_own_calendar() -> None:
    christmas = Excluded(first=date(2026, 12, 24), last=date(2026, 12, 26))
    zone = "Pacific/Auckland"
    assert local(cron("0 9 * * *", zone, christmas), zone, "2026-12-22 12:00", 3) == [
        "2026-12-23T09:00:00+13:00",
        "2026-12-27T09:00:00+13:00",
        "2026-12-28T09:00:00+13:00",
    ]


def test_days_may_be_excluded_every_year_also_over_new_year_and_on_29_february() -> None:
    turn = Excluded(first=date(2020, 12, 30), last=date(2021, 1, 2), yearly=True)
    assert told(cron("0 9 * * *", "UTC", turn), "2027-12-29 08:00", 3) == [
        "2027-12-29 09:00:00",
        "2028-01-03 09:00:00",
        "2028-01-04 09:00:00",
    ]
    leap = Excluded(first=date(2024, 2, 29), yearly=True)
    assert told(cron("0 9 28,29 2 *", "UTC", leap), "2027-01-01", 3) == [
        "2027-02-28 09:00:00",
        "2028-02-28 09:00:00",
        "2029-02-28 09:00:00",
    ]


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(UnusableSchedule) as refused:
        cron("0 9 * * *", "UTC", Excluded(first=date(2026, 12, 30), last=date(2026, 12, 2)))
    assert refused.value.pointer == "/excluded/0/last"


def test_a_second_in_which_nothing_fires_for_months_is_passed_by_in_one_step() -> None:
    off = Excluded(first=date(2026, 1, 2), last=date(2026, 12, 30))
    assert told(cron("* * * * * *", "UTC", off), "2026-01-01 23:59:59", 1) == ["2026-12-31 00:00:00"]
    when = Interval(seconds=1, start=at("2026-01-01"))
    assert told(Slots(Schedule(when=when, excluded=(off,))), "2026-01-01 23:59:59", 1) == [
        "2026-12-31 00:00:00"
    ]


def test_what_never_comes_is_nothing_and_not_an_endless_search() -> None:
    whole_year = Excluded(first=date(2026, 1, 1), last=date(2026, 12, 31), yearly=True)
    assert cron("* * * * * *", "UTC", whole_year).after(at("2026-01-01")) is None


# --- What passed ---------------------------------------------------------------------------------


def test_what_was_missed_is_counted_and_the_newest_are_named() -> None:
    missing = cron("0 * * * *").missing(at("2026-01-01 00:30"), at("2026-01-01 10:30"), 3)
    assert missing is not None
    assert (missing.count, missing.exact, missing.first) == (10, True, at("2026-01-01 01:00"))
    assert missing.newest == (at("2026-01-01 08:00"), at("2026-01-01 09:00"), at("2026-01-01 10:00"))
    assert cron("0 * * * *").missing(at("2026-01-01 00:30"), at("2026-01-01 00:59"), 3) is None


def test_a_week_of_seconds_is_not_counted_one_by_one() -> None:
    missing = cron("* * * * * *", "Europe/Berlin").missing(
        at("2026-03-22 00:00"), at("2026-03-29 02:00"), 100
    )
    assert missing is not None
    assert not missing.exact
    assert missing.newest[-1] == at("2026-03-29 02:00")
    assert len(missing.newest) == 100


# --- Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "*",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "0 0 31 2 *",
        "5-1 * * * *",
        "@never",
        "a b c d e",
    ],
)
def test_what_is_no_cron_expression_is_refused_with_its_place(expression: str) -> None:
    with pytest.raises(UnusableSchedule) as refused:
        cron(expression)
    assert refused.value.pointer == "/when/expression"


@pytest.mark.parametrize("zone", ["Europe/Bielefeld", "../../etc/passwd", "/etc/localtime", "local", ""])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(UnusableSchedule) as refused:
        Slots(Schedule(when=Cron(expression="* * * * *"), zone=zone))
    assert refused.value.pointer == "/zone"


def test_what_lies_too_far_off_is_refused_or_never_comes() -> None:
    for far in (date(1, 1, 1), date(9999, 12, 31)):
        with pytest.raises(UnusableSchedule):
            cron("* * * * *", "UTC", Excluded(first=far))
        moment = datetime(far.year, far.month, far.day, tzinfo=ZoneInfo("Pacific/Auckland"))
        with pytest.raises(UnusableSchedule):
            Slots(Schedule(when=Interval(seconds=1, start=moment)))
        assert cron("* * * * *").after(moment) is None


# --- For any schedule --------------------------------------------------------------------------------

numbers = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day": (1, 31),
    "month": (1, 12),
    "dow": (0, 6),
}


def field(name: str) -> st.SearchStrategy[str]:
    low, high = numbers[name]
    one = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        one.map(str),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.tuples(one, one).map(lambda ends: f"{min(ends)}-{max(ends)}"),
        st.lists(one, min_size=1, max_size=3).map(lambda some: ",".join(map(str, some))),
    )


expressions = st.tuples(*map(field, numbers)).map(" ".join)
moments = st.datetimes(datetime(2025, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(deadline=None, max_examples=300)
@given(expressions, st.sampled_from(ZONES), moments)
@example("0 30 2 * * *", "Europe/Berlin", at("2026-03-29 01:00"))
@example("0 30 2 * * *", "Australia/Lord_Howe", at("2026-04-04 15:00"))
def test_planned_times_only_go_forward_and_do_not_depend_on_where_one_looks_from(
    expression: str, zone: str, moment: datetime
) -> None:
    try:
        slots = cron(expression, zone)
    except UnusableSchedule:
        assume(False)  # Hypothesis' own way.
    first = slots.after(moment)
    if first is None:
        return
    assert first > moment
    second = slots.after(first)
    assert second is None or second > first
    between = moment + (first - moment) / 2
    assert slots.after(between) == first
    if second is not None:
        assert slots.after(first - timedelta(microseconds=1)) == first
        assert slots.after(second - timedelta(seconds=1)) in (first, second) or second - first == timedelta(
            seconds=1
        )


@settings(deadline=None, max_examples=100)
@given(expressions, st.sampled_from(ZONES), moments)
def test_nothing_fires_that_the_wall_does_not_show_unless_the_clock_changes_there(
    expression: str, zone: str, moment: datetime
) -> None:
    try:
        slots = cron(expression, zone)
    except UnusableSchedule:
        assume(False)  # Hypothesis' own way.
    there = ZoneInfo(zone)
    for slot in takewhile(lambda each: each is not None, walk(slots, moment, 5)):
        wall = slot.astimezone(there)
        shown = [wall.second, wall.minute, wall.hour, wall.day, wall.month]
        fits = all(
            value in allowed(part, *numbers[name])
            for part, value, name in zip(expression.split(), shown, numbers, strict=False)
            if name in ("second", "minute", "hour", "month")
        )
        changed = (slot - timedelta(seconds=1)).astimezone(there).utcoffset() != wall.utcoffset()
        assert fits or changed


def walk(slots: Slots, moment: datetime, most: int) -> Iterator[datetime]:
    for _ in range(most):
        found = slots.after(moment)
        if found is None:
            return
        yield found
        moment = found


def allowed(part: str, low: int, high: int) -> set[int]:
    """What one field names, read by other code than cronsim's."""
    if part == "*":
        return set(range(low, high + 1))
    if part.startswith("*/"):
        return set(range(low, high + 1, int(part[2:])))
    if "-" in part:
        first, last = map(int, part.split("-"))
        return set(range(first, last + 1))
    return set(map(int, part.split(",")))


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="0123456789*/,-#LWSUNMOFRI@² \t", max_size=40))
def test_whatever_is_written_is_a_schedule_or_is_refused(text: str) -> None:
    try:
        slots = cron(text)
    except UnusableSchedule:
        return
    slots.after(at("2026-01-01"))
