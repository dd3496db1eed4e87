"""When a schedule fires: its planned times, as moments in UTC. Pure; what comes after a moment depends on nothing but it.

Cron fields are matched against the clock on the wall, by cronsim on times without a zone; how the wall's clock hangs
together with real time is worked out here, because cronsim minds clock changes only where there is no field for seconds.

Rules that hold when clocks change:
  * hour and minute both named (`30 2 * * *`): once a day. A time that the change leaves out is fired at the change; one
    that comes twice is fired the first time;
  * hour or minute begins with `*` (`*/15 * * * *`): a rhythm in real time. What is left out is left out, what comes twice
    comes twice;
  * an interval counts seconds and notices nothing.
"""

from calendar import monthrange
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Protocol

from cronsim import CronSim, CronSimError
from msgspec import Struct

from chassis.expressions.zones import Unusable, zone
from contracts.limits import MISSED_COUNTED
from contracts.schedules import Cron, Excluded, Schedule

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * SUN",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)
STEP: Final = timedelta(hours=12)
"""No zone changes its clock twice within so long."""
LAST_YEAR: Final = 2500
FIRST_YEAR: Final = 1970
FAR: Final = f"A date lies before the year {FIRST_YEAR} or after {LAST_YEAR}."
JUMPS: Final = 2_000
"""How many excluded spans are passed by in search of one planned time."""


class UnusableSchedule(ValueError):
    """It cannot be kept. `pointer` names the place in the schedule, the message says why."""

    def __init__(self, message: str, pointer: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class _Times(Protocol):
    def after(self, moment: datetime) -> datetime | None:
        """The first planned time behind a moment; None when there never is one."""
        ...


class Missing(Struct, frozen=True, kw_only=True):
    """The planned times of a span that has passed: the newest of them, oldest first, and how many there are."""

    first: datetime
    newest: tuple[datetime, ...]
    count: int
    exact: bool


class Slots:
    """The planned times of one schedule. Raises `UnusableSchedule` when it cannot be kept."""

    def __init__(self, schedule: Schedule) -> None:
        try:
            self._zone = zone(schedule.zone)
        except Unusable as unusable:
            raise UnusableSchedule(f"There is no time zone {schedule.zone!r}.", "/zone") from unusable
        self._excluded = schedule.excluded
        for place, excluded in enumerate(schedule.excluded):
            if not all(_is_near(day) for day in (excluded.first, excluded.last or excluded.first)):
                raise UnusableSchedule(FAR, f"/excluded/{place}")
            if excluded.last is not None and excluded.last < excluded.first:
                raise UnusableSchedule("The last day lies before the first.", f"/excluded/{place}/last")
        self._times: _Times
        if isinstance(schedule.when, Cron):
            self._times = _Wall(schedule.when.expression, self._zone)
        elif schedule.when.start is None:
            raise UnusableSchedule("An interval is counted from some moment.", "/when/start")
        elif not _is_near(schedule.when.start):
            raise UnusableSchedule(FAR, "/when/start")
        else:
            self._times = _Steps(schedule.when.start.astimezone(UTC), schedule.when.seconds)

    def after(self, moment: datetime) -> datetime | None:
        """The first planned time behind a moment; None when there is none within fifty years."""
        for _ in range(JUMPS):
            if not _is_near(moment):
                return None
            moment = moment.astimezone(UTC)
            found = self._times.after(moment)
            if found is None or not _is_near(found):
                return None
            free = self._free_again(found)
            if free is None:
                return found
            moment = max(free - SECOND, found)
        return None

    def between(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """The first planned times behind `after` and not behind `until`."""
        found: list[datetime] = []
        for slot in self._walk(after, until):
            if len(found) == most:
                break
            found.append(slot)
        return found

    def missing(self, after: datetime, until: datetime, newest: int) -> Missing | None:
        """What passed in a span. No longer a search for a span of a year than for one of an hour."""
        first = self.after(after)
        if first is None or first > until:
            return None
        counted = self.between(after, until, MISSED_COUNTED + 1)
        exact = len(counted) <= MISSED_COUNTED
        last = counted if exact else self._newest(after, until, newest)
        return Missing(
            first=first,
            newest=tuple(last[-newest:]),
            count=min(len(counted), MISSED_COUNTED),
            exact=exact,
        )

    def _newest(self, after: datetime, until: datetime, most: int) -> Sequence[datetime]:
        """Look back further and further, until enough were found."""
        span = timedelta(minutes=1)
        while True:
            start = max(after, until - span)
            found = deque(self._walk(start, until), maxlen=most)
            if len(found) == most or start == after:
                return list(found)
            span *= 2

    def _walk(self, after: datetime, until: datetime) -> Iterator[datetime]:
        slot = self.after(after)
        while slot is not None and slot <= until:
            yield slot
            slot = self.after(slot)

    def _free_again(self, slot: datetime) -> datetime | None:
        """When the excluded days are over in which it lies; None when it lies in none."""
        day = slot.astimezone(self._zone).date()
        ends = [end for excluded in self._excluded if (end := _end(excluded, day)) is not None]
        return _moment(max(ends) + DAY, self._zone) if ends else None


def _is_near(day: date) -> bool:
    """Whether one can reckon with it."""
    return FIRST_YEAR <= day.year < LAST_YEAR


@lru_cache(maxsize=2_000)
def slots_of(schedule: Schedule) -> Slots:
    """The same, worked out once. Raises `UnusableSchedule`."""
    return Slots(schedule)


def _end(excluded: Excluded, day: date) -> date | None:
    """The last of the excluded days around a day."""
    if not excluded.yearly:
        last = excluded.last or excluded.first
        return last if excluded.first <= day <= last else None
    begin, end, shown = _of_year(excluded.first), _of_year(excluded.last or excluded.first), _of_year(day)
    around_new_year = end < begin
    if around_new_year and shown >= begin:
        return _last_day(day.year + 1, *end)
    inside = shown <= end if around_new_year else begin <= shown <= end
    return _last_day(day.year, *end) if inside else None


def _of_year(day: date) -> tuple[int, int]:
    return day.month, day.day


def _last_day(year: int, month: int, day: int) -> date:
    """Where there is no 29 February, the span that ends with it ends a day sooner."""
    return date(year, month, min(day, monthrange(year, month)[1]))


def _moment(day: date, there: tzinfo) -> datetime:
    """When a day begins. Where its first hour is left out, at the change."""
    return datetime.combine(day, time(), there).astimezone(UTC)


class _Steps:
    """An interval."""

    def __init__(self, start: datetime, seconds: int) -> None:
        self._start = start.replace(microsecond=0)
        self._seconds = timedelta(seconds=seconds)

    def after(self, moment: datetime) -> datetime | None:
        if moment < self._start:
            return self._start
        return self._start + ((moment - self._start) // self._seconds + 1) * self._seconds


class _Wall:
    """A cron expression, read off the clock on a wall."""

    def __init__(self, expression: str, there: tzinfo) -> None:
        text = ALIASES.get(expression.strip().lower(), expression)
        fields = text.split()
        try:
            self._cron = CronSim(text, datetime(FIRST_YEAR, 1, 1))  # noqa: DTZ001  # The wall has no zone.
        except (CronSimError, ValueError) as error:
            raise UnusableSchedule(f"{error}: {expression!r}", "/when/expression") from error
        *_, minute, hour = fields[: len(fields) - 3]
        self._fixed = not (minute.startswith("*") or hour.startswith("*"))
        self._zone = there

    def after(self, moment: datetime) -> datetime | None:
        moment = moment.replace(microsecond=0)
        offset = self._offset(moment)
        wall = moment.replace(tzinfo=None) + offset
        while True:
            found = self._next(wall)
            if found is None:
                return None
            slot = (found - offset).replace(tzinfo=UTC)
            change = self._change(moment, slot)
            if change is None:
                if self._fixed and slot.astimezone(self._zone).fold:
                    # The second time that the wall shows it.
                    wall = found.replace(second=59)
                    continue
                return slot
            left_out = self._offset(change) - offset
            there = change.replace(tzinfo=None) + offset
            if self._is_at(change, there, left_out):
                return change
            moment, offset = change, self._offset(change)
            wall = moment.replace(tzinfo=None) + offset

    def _is_at(self, change: datetime, there: datetime, left_out: timedelta) -> bool:
        """Whether something fires at the moment of a change: what it leaves out, and what the wall shows then."""
        shown = there + left_out
        start = min(there, shown) if self._fixed and left_out > timedelta() else shown
        found = self._next(start - SECOND)
        return found is not None and found <= shown and not (self._fixed and left_out < timedelta())

    def _next(self, wall: datetime) -> datetime | None:
        self._cron.dt = wall.replace(microsecond=0)
        try:
            return next(self._cron)
        except StopIteration:
            return None

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta()

    def _change(self, after: datetime, until: datetime) -> datetime | None:
        """The first moment behind `after` and not behind `until` at which the wall's clock is set anew."""
        if self._zone is UTC:
            return None
        offset = self._offset(after)
        low = after
        while low < until:
            high = min(low + STEP, until)
            if self._offset(high) != offset:
                return self._exactly(low, high, offset)
            low = high
        return None

    def _exactly(self, low: datetime, high: datetime, offset: timedelta) -> datetime:
        """The change between two moments, to the second."""
        while high - low > SECOND:
            middle = (low + (high - low) / 2).replace(microsecond=0)
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high
