"""What expressions make of dates: calendars, patterns, and time zones that are the same on every machine."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from chassis.expressions import Context, Language, zones
from chassis.expressions.faults import Failed
from chassis.expressions.moments import add, diff, start_of
from chassis.expressions.patterns import LONGEST, format_date, parse_date
from chassis.expressions.program import Program
from chassis.expressions.zones import Unusable, zone

LANGUAGE = Language()
PACKAGE = zones._FOLDER.parent
NAMES = (PACKAGE / "zones").read_text().split()
UNITS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")

moments = some.integers(-2_145_916_800, 4_102_444_800).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)
places = some.sampled_from(NAMES)


def value(source: str, **roots: Any) -> object:
    program = LANGUAGE.program(source)
    assert isinstance(program, Program), program
    return program.evaluate(Context.from_roots(**roots))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def same(told: datetime, text: str) -> bool:
    return told == at(text)


# --- Calendars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "count", "unit", "place", "becomes"),
    [
        ("2027-01-31T12:00:00Z", 1, "month", "UTC", "2027-02-28T12:00:00Z"),
        ("2028-02-29T12:00:00Z", 1, "year", "UTC", "2029-02-28T12:00:00Z"),
        ("2027-01-31T12:00:00Z", -2, "months", "UTC", "2026-11-30T12:00:00Z"),
        ("2026-11-20T12:00:00Z", 1, "quarter", "UTC", "2027-02-20T12:00:00Z"),
        ("2026-11-20T12:00:00Z", -1, "weeks", "UTC", "2026-11-13T12:00:00Z"),
        # The day on which clocks go forward has 23 hours.
        ("2026-03-28T12:00:00+01:00", 1, "day", "Europe/Berlin", "2026-03-29T12:00:00+02:00"),
        ("2026-03-28T12:00:00+01:00", 24, "hours", "Europe/Berlin", "2026-03-29T13:00:00+02:00"),
        # 02:30 does not exist on that day, 03:30 does.
        ("2026-03-28T02:30:00+01:00", 1, "day", "Europe/Berlin", "2026-03-29T03:30:00+02:00"),
        # 02:30 comes twice on the day on which they go back.
        ("2026-10-24T02:30:00+02:00", 1, "day", "Europe/Berlin", "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T02:30:00+01:00", 0, "day", "Europe/Berlin", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:30:00+01:00", 1, "minute", "Europe/Berlin", "2026-10-25T02:31:00+01:00"),
        # Samoa had no 30 December 2011.
        ("2011-12-29T12:00:00-10:00", 1, "day", "Pacific/Apia", "2011-12-31T12:00:00+14:00"),
    ],
)
def test_a_calendar_is_that_of_the_wall(moment: str, count: int, unit: str, place: str, becomes: str) -> None:
    assert same(add(at(moment), count, unit, zone(place)), becomes)


@pytest.mark.parametrize(
    ("moment", "unit", "place", "begins"),
    [
        ("2026-11-20T12:34:56.789Z", "second", "UTC", "2026-11-20T12:34:56Z"),
        ("2026-11-20T12:34:56Z", "minute", "UTC", "2026-11-20T12:34:00Z"),
        ("2026-11-20T12:34:56Z", "hour", "Asia/Kolkata", "2026-11-20T12:30:00Z"),
        ("2026-11-20T23:30:00Z", "day", "Europe/Berlin", "2026-11-21T00:00:00+01:00"),
        ("2026-11-22T12:00:00Z", "week", "UTC", "2026-11-16T00:00:00Z"),
        ("2026-11-20T12:00:00Z", "month", "UTC", "2026-11-01T00:00:00Z"),
        ("2026-11-20T12:00:00Z", "quarter", "UTC", "2026-10-01T00:00:00Z"),
        ("2026-07-20T12:00:00Z", "year", "Europe/Berlin", "2026-01-01T00:00:00+01:00"),
        ("2026-10-25T02:30:00+01:00", "hour", "Europe/Berlin", "2026-10-25T02:00:00+01:00"),
        # Clocks in Beirut go forward at midnight: the day begins at one.
        ("2026-03-29T12:00:00+03:00", "day", "Asia/Beirut", "2026-03-29T01:00:00+03:00"),
        # In Havana they go back at one: midnight comes twice, the day begins with the first.
        ("2026-11-01T12:00:00-05:00", "day", "America/Havana", "2026-11-01T00:00:00-04:00"),
    ],
)
def test_a_unit_begins_where_the_wall_says(moment: str, unit: str, place: str, begins: str) -> None:
    assert same(start_of(at(moment), unit, zone(place)), begins)


@pytest.mark.parametrize(
    ("later", "earlier", "unit", "place", "count"),
    [
        ("2026-12-24T00:00:00Z", "2026-11-20T12:00:00Z", "days", "UTC", 33),
        ("2026-11-20T12:00:00Z", "2026-12-24T00:00:00Z", "days", "UTC", -33),
        ("2026-03-29T12:00:00+02:00", "2026-03-28T12:00:00+01:00", "day", "Europe/Berlin", 1),
        ("2026-03-29T12:00:00+02:00", "2026-03-28T12:00:00+01:00", "hours", "Europe/Berlin", 23),
        ("2026-02-28T00:00:00Z", "2026-01-31T00:00:00Z", "month", "UTC", 1),
        ("2026-02-27T23:59:59Z", "2026-01-31T00:00:00Z", "month", "UTC", 0),
        ("2026-01-01T00:00:00Z", "2027-06-01T00:00:00Z", "year", "UTC", -1),
        ("2027-06-01T00:00:00Z", "2026-01-01T00:00:00Z", "quarters", "UTC", 5),
    ],
)
def test_whole_units_lie_between(later: str, earlier: str, unit: str, place: str, count: int) -> None:
    assert diff(at(later), at(earlier), unit, zone(place)) == count


@given(moments, some.integers(-5_000, 5_000), some.sampled_from(UNITS[3:]), places)
def test_what_is_added_lies_between(moment: datetime, count: int, unit: str, place: str) -> None:
    later = add(moment, count, unit, zone(place))
    # A wall that was moved by a gap or a second hour is off by less than two days.
    assert abs(diff(later, moment, unit, zone(place)) - count) <= (1 if unit in ("week", "day") else 0)


@given(moments, some.sampled_from(UNITS), places)
def test_a_beginning_is_its_own_beginning_and_not_later(moment: datetime, unit: str, place: str) -> None:
    begun = start_of(moment, unit, zone(place))
    assert start_of(begun, unit, zone(place)) == begun
    assert begun <= moment


@pytest.mark.parametrize("unit", UNITS)
def test_beyond_the_calendar_is_an_error(unit: str) -> None:
    for moment in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:01Z"):
        for count in (10**18, -(10**18)):
            with pytest.raises(Unusable, match="years 1 to 9999"):
                add(at(moment), count, unit, UTC)
    for source in ("timestamp('0001-01-01T00:00:00Z').startOf('year', '+14:00')", "'0001'.parseDate('yyyy')"):
        with pytest.raises(Failed):
            value(source)


def test_an_unknown_unit_is_told_with_the_known_ones() -> None:
    with pytest.raises(Failed, match="`fortnight` is no unit of time; there are year, quarter"):
        value("timestamp('2026-11-20T12:00:00Z').add(1, 'fortnight')")


# --- Patterns -------------------------------------------------------------------------------------

MOMENT = at("2026-01-05T07:08:09.012345Z")


@pytest.mark.parametrize(
    ("pattern", "place", "text"),
    [
        ("yyyy-MM-dd'T'HH:mm:ss.SSSZZ", "UTC", "2026-01-05T07:08:09.012+00:00"),
        ("d.M.yy H:m:s", "UTC", "5.1.26 7:8:9"),
        ("EEEE, EEE, E", "UTC", "Monday, Mon, 1"),
        ("MMMM MMM", "UTC", "January Jan"),
        ("hh:mm a, h a", "Asia/Tokyo", "04:08 PM, 4 PM"),
        ("ZZ ZZZ z", "America/New_York", "-05:00 -0500 America/New_York"),
        ("kkkk-'W'WW ooo q", "UTC", "2026-W02 005 1"),
        ("X", "Asia/Tokyo", "1767596889"),
        ("'it''s' '' ü!", "UTC", "it's ' ü!"),
        ("", "UTC", ""),
    ],
)
def test_a_moment_is_written_by_a_pattern(pattern: str, place: str, text: str) -> None:
    assert format_date(MOMENT, pattern, place) == text


@pytest.mark.parametrize(
    ("text", "pattern", "place", "moment"),
    [
        ("20.11.2026", "dd.MM.yyyy", "UTC", "2026-11-20T00:00:00Z"),
        ("20.11.2026 15:05", "dd.MM.yyyy HH:mm", "Europe/Berlin", "2026-11-20T14:05:00Z"),
        ("2026-11-20T15:05:06.789-03:30", "yyyy-MM-dd'T'HH:mm:ss.SSSZZ", "Asia/Tokyo", "2026-11-20T18:35:06.789Z"),
        ("2026-11-20 Z", "yyyy-MM-dd ZZZ", "Asia/Tokyo", "2026-11-20T00:00:00Z"),
        ("fri 20 NOVEMBER 26", "EEE d MMMM yy", "UTC", "2026-11-20T00:00:00Z"),
        ("12:01 am 1/2/1999", "h:mm a M/d/yyyy", "UTC", "1999-01-02T00:01:00Z"),
        ("12 PM 99", "hh a yy", "UTC", "1999-01-01T12:00:00Z"),
        ("-1", "X", "UTC", "1969-12-31T23:59:59Z"),
        # A wall time that is skipped, and one that comes twice.
        ("2026-03-29 02:30", "yyyy-MM-dd HH:mm", "Europe/Berlin", "2026-03-29T01:30:00Z"),
        ("2026-10-25 02:30", "yyyy-MM-dd HH:mm", "Europe/Berlin", "2026-10-25T00:30:00Z"),
    ],
)  # fmt: skip
def test_a_text_is_read_by_a_pattern(text: str, pattern: str, place: str, moment: str) -> None:
    assert same(parse_date(text, pattern, place), moment)


@pytest.mark.parametrize(
    ("text", "pattern", "says"),
    [
        ("31.02.2026", "dd.MM.yyyy", "no moment"),
        ("2026-1-1", "yyyy-MM-dd", "is not written as"),
        ("2026-11-20x", "yyyy-MM-dd", "goes on behind"),
        ("٢٠٢٦", "yyyy", "is not written as"),
        ("20.11.", "dd.MM.", "it has no year"),
        ("Mon 20 11 2026", "EEE dd MM yyyy", "it is a Friday"),
        ("3 2026", "h yyyy", "needs `a`"),
        ("13 am 2026", "h a yyyy", "needs `a`"),
        ("0000", "yyyy", "no moment"),
        ("2026 +99:00", "yyyy ZZ", "time zone"),
        ("2026", "yyyy'", "even number"),
        ("2026", "T", "means nothing"),
        ("2026", "WW", "cannot be read"),
        ("2026", "z", "cannot be read"),
        ("2026", "y" * (LONGEST + 1), "at most"),
        ("2026", "yyyy\0", "is not written as"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, pattern: str, says: str) -> None:
    with pytest.raises(Failed, match=says):
        value("trigger.text.parseDate(trigger.pattern)", trigger={"text": text, "pattern": pattern})


@given(moments, places)
def test_what_is_written_can_be_read(moment: datetime, place: str) -> None:
    whole = moment.replace(microsecond=0)
    assert parse_date(format_date(whole, "X", place), "X", place) == whole
    # Offsets were not always whole minutes.
    if (whole.astimezone(zone(place)).utcoffset() or timedelta()) % timedelta(minutes=1) == timedelta():
        pattern = "EEEE d MMMM yyyy, hh:mm:ss a ZZ"
        assert parse_date(format_date(whole, pattern, place), pattern, "UTC") == whole


@given(some.text(max_size=40), some.text(alphabet="yMdHhmsaEZzkWqXo'.- T", max_size=20))
def test_no_text_and_no_pattern_crashes_it(text: str, pattern: str) -> None:
    for asked in (lambda: format_date(MOMENT, pattern, "UTC"), lambda: parse_date(text, pattern, "UTC")):
        try:
            told: object = asked()
        except Unusable as unusable:
            told = str(unusable)
        assert told is not None


# --- Zones ----------------------------------------------------------------------------------------


@given(moments, places)
def test_the_engine_has_the_same_zones_as_we(moment: datetime, place: str) -> None:
    at_text = moment.isoformat()
    engine = value("timestamp(trigger.at).getHours(trigger.zone)", trigger={"at": at_text, "zone": place})
    assert engine == int(format_date(moment, "H", place))


def test_zones_come_from_the_package_and_not_from_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoneinfo" / "Made").mkdir(parents=True)
    shutil.copy(PACKAGE / "zoneinfo" / "Asia" / "Tokyo", tmp_path / "zoneinfo" / "Made" / "Up")
    (tmp_path / "zones").write_text("Made/Up\n")
    monkeypatch.setattr(zones, "_FOLDER", tmp_path / "zoneinfo")
    zones._names.cache_clear()
    try:
        zones.bind_engine()
        assert value("timestamp('2026-11-20T12:00:00Z').getHours('Made/Up')") == 21
        assert value("timestamp('2026-11-20T12:00:00Z').formatDate('HH', 'Made/Up')") == "21"
    finally:
        monkeypatch.undo()
        zones._names.cache_clear()
        zones.bind_engine()


def test_our_zones_are_those_of_the_standard_library() -> None:
    summer = at("2026-07-01T00:00:00Z")
    for name in NAMES:
        assert summer.astimezone(zone(name)).utcoffset() == summer.astimezone(ZoneInfo(name)).utcoffset()


@pytest.mark.parametrize(
    "name",
    ["/proc/self/fd/0", "/dev/stdin", "/etc/localtime", "localtime", "file:x", "../zoneinfo/Asia/Tokyo", "Asia/Tokyo\0", ""],
)  # fmt: skip
def test_no_name_becomes_a_path(name: str) -> None:
    """The engine opens what it is named: a pipe would make it wait for ever."""
    reader, writer = os.pipe()
    for source in (
        "getHours(trigger.zone)",
        "getDayOfWeek(trigger.zone)",
        "formatDate('yyyy', trigger.zone)",
    ):
        for asked in (name, f"/proc/self/fd/{reader}"):
            with pytest.raises(Failed, match="there is no time zone"):
                value(f"timestamp('2026-11-20T12:00:00Z').{source}", trigger={"zone": asked})
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("name", "hour"), [("+02:00", 14), ("02:00", 14), ("-03:30", 8), ("UTC", 12)])
def test_an_offset_is_a_zone(name: str, hour: int) -> None:
    moment = "timestamp('2026-11-20T12:00:00Z')"
    assert value(f"{moment}.getHours('{name}')") == hour
    assert value(f"{moment}.formatDate('H', '{name}')") == str(hour)
