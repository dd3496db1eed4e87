"""Whether a schedule can be kept, asked when it is written; and when it will fire."""

from datetime import UTC, datetime
from typing import Final

from msgspec import structs

from chassis.edge.problems import Problem
from chassis.slots import UnusableSchedule, slots_of
from contracts.codec import Malformed, decode_json, depth_exceeds
from contracts.schedules import Interval, Schedule
from contracts.workflows import Fault

CODE: Final = "schedule.unusable"
FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)


def checked(schedule: Schedule, now: datetime, before: Schedule | None = None) -> Schedule:
    """The same, with what it leaves open filled in. Raises `Problem` with the place of what is wrong.

    An interval that names no start goes on from where it was counted `before`, else from now.
    """
    settled = _settled(schedule, now, before)
    if schedule.body:
        _checked_body(schedule.body)
    if not coming(settled, now, 1):
        raise _fault("Nothing will ever fire.", "/when")
    return settled


def coming(schedule: Schedule, after: datetime, most: int) -> list[datetime]:
    """The next planned times. Raises `Problem`."""
    settled = _settled(schedule, after, None)
    try:
        return slots_of(settled).between(after, FAR, most)
    except UnusableSchedule as unusable:
        raise _fault(str(unusable), unusable.pointer) from unusable


def _settled(schedule: Schedule, now: datetime, before: Schedule | None) -> Schedule:
    when = schedule.when
    if not isinstance(when, Interval) or when.start is not None:
        return schedule
    was = before.when if before is not None else None
    same = isinstance(was, Interval) and was.seconds == when.seconds
    start = was.start if isinstance(was, Interval) and same else now.replace(microsecond=0)
    return structs.replace(schedule, when=structs.replace(when, start=start))


def _checked_body(body: str) -> None:
    if depth_exceeds(body.encode()):
        raise _fault("The JSON is nested too deeply.", "/body")
    try:
        decode_json(body.encode())
    except Malformed as malformed:
        raise _fault(f"It is not JSON: {malformed}", "/body") from malformed


def _fault(message: str, pointer: str) -> Problem:
    fault = Fault(code=CODE, pointer=f"/schedule{pointer}", message=message)
    return Problem(CODE, message, faults=[fault])
