"""Arithmetic with moments on a calendar: what a clock on the wall of a time zone shows.

A wall time that is skipped when clocks go forward is taken for the moment as far behind the gap; of one that comes twice
the first is meant, except where the moment that it comes from was the second.
"""

from calendar import monthrange
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from chassis.expressions.zones import Unusable

_UNITS: Final = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
_NAMES: Final = {name: unit for unit in _UNITS for name in (unit, f"{unit}s")}
_MONTHS: Final = {"year": 12, "quarter": 3, "month": 1}
_DAYS: Final = {"week": 7, "day": 1}
_SECONDS: Final = {"hour": 3_600, "minute": 60, "second": 1}
_BEYOND: Final = "the moment would be outside of the years 1 to 9999"


def add(moment: datetime, count: int, unit: str, zone: tzinfo) -> datetime:
    """Months keep the day where there is one, else take the month's last; hours and less are exact."""
    unit = _unit(unit)
    try:
        if unit in _SECONDS:
            return moment + timedelta(seconds=count * _SECONDS[unit])
        local = moment.astimezone(zone)
        wall = local.replace(tzinfo=None)
        if unit in _DAYS:
            moved = wall + timedelta(days=count * _DAYS[unit])
        else:
            moved = _months_later(wall, count * _MONTHS[unit])
        return _moment(moved, zone, local.fold)
    except (OverflowError, ValueError):
        raise Unusable(_BEYOND) from None


def start_of(moment: datetime, unit: str, zone: tzinfo) -> datetime:
    """The first moment of the year, …, second in which a moment lies. Weeks begin on Monday."""
    unit = _unit(unit)
    try:
        local = moment.astimezone(zone)
        wall = local.replace(tzinfo=None, microsecond=0)
        match unit:
            case "second":
                begun = wall
            case "minute":
                begun = wall.replace(second=0)
            case "hour":
                begun = wall.replace(second=0, minute=0)
            case _:
                begun = _day_that_begins(wall.replace(second=0, minute=0, hour=0), unit)
        return _moment(begun, zone, local.fold if unit in _SECONDS else 0)
    except (OverflowError, ValueError):
        raise Unusable(_BEYOND) from None


def diff(later: datetime, earlier: datetime, unit: str, zone: tzinfo) -> int:
    """How many whole units lie between two moments; negative when the first is the earlier one."""
    unit = _unit(unit)
    if unit in _SECONDS:
        return _whole(later - earlier, timedelta(seconds=_SECONDS[unit]))
    try:
        to, since = (one.astimezone(zone).replace(tzinfo=None) for one in (later, earlier))
    except OverflowError:
        raise Unusable(_BEYOND) from None
    if unit in _DAYS:
        return _whole(to - since, timedelta(days=_DAYS[unit]))
    sign = 1 if to >= since else -1
    first, last = sorted((to, since))
    months = (last.year - first.year) * 12 + last.month - first.month
    # From the earlier one on, so that both directions give the same number.
    if (last.day, last.time()) < (min(first.day, monthrange(last.year, last.month)[1]), first.time()):
        months -= 1
    return sign * (months // _MONTHS[unit])


def _unit(name: str) -> str:
    if name not in _NAMES:
        raise Unusable(f"`{name[:100]}` is no unit of time; there are {', '.join(_UNITS)}")
    return _NAMES[name]


def _whole(span: timedelta, unit: timedelta) -> int:
    count = abs(span) // unit
    return -count if span < timedelta() else count


def _day_that_begins(day: datetime, unit: str) -> datetime:
    match unit:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(day=1, month=(day.month - 1) // 3 * 3 + 1)
        case "year":
            return day.replace(day=1, month=1)
        case _:
            return day


def _months_later(wall: datetime, months: int) -> datetime:
    year, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise OverflowError
    return wall.replace(year=year, month=month + 1, day=min(wall.day, monthrange(year, month + 1)[1]))


def _moment(wall: datetime, zone: tzinfo, fold: int) -> datetime:
    first, second = (wall.replace(tzinfo=zone, fold=each) for each in (0, 1))
    skipped = (first.utcoffset() or timedelta()) < (second.utcoffset() or timedelta())
    return (second if fold and not skipped else first).astimezone(UTC)
