"""What a run of a trigger that follows events is given: `trigger` in its expressions, and in the trigger's filter."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from contracts.errors import Failure
from contracts.limits import DEDUPE_KEY_BYTES, POLL_ITEMS
from contracts.runs import Cause
from contracts.triggers import Outcome


class EndedRun(Struct, frozen=True, kw_only=True):
    """`trigger.body` of a run that another run's end has started."""

    run: str
    workflow: str
    version: int
    trigger: str | None
    """What had started it."""
    cause: Cause
    outcome: Outcome
    output: Any = None
    """Its value; of one beyond 64 KiB its place in the object store, as `{"blob": …}`."""
    error: Failure | None = None
    step: str | None = None
    """The step that failed."""
    reason: str = ""
    """What was said by whoever cancelled it."""
    started: datetime
    ended: datetime


class RecordedEvent(Struct, frozen=True, kw_only=True):
    """`trigger.body` of a run that an event has started."""

    id: str
    """The same for the same event, for ever."""
    type: str
    aggregate: str
    """`run`, `workflow`, `trigger`, `org`, `secret`, `key`, `pauses`, or `schedule`: of what the clock has decided."""
    aggregate_id: str
    """Of a schedule: its trigger's id."""
    version: int
    """Of its history, after the commit that the event stands in."""
    place: int
    """In that commit, counted from 0."""
    time: datetime
    actor: str
    event: Raw
    """As it stands in the log."""


class Told(Struct, frozen=True, kw_only=True):
    """The whole of `trigger`."""

    body: Raw
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    method: str
    """`RUN_END`, `EVENT` or `POLL`."""
    content_type: str = "application/json"
    received_at: str
    """When it was recorded."""


class Found(Struct, frozen=True, kw_only=True):
    """One of what a poll has found, and what names it."""

    key: Annotated[str, Meta(min_length=1, max_length=DEDUPE_KEY_BYTES)]
    item: Raw


class Intake(Struct, frozen=True, kw_only=True):
    """What a run that looks gives."""

    items: Annotated[list[Found], Meta(max_length=POLL_ITEMS)]
    cursor: Raw


class Cursor(Struct, frozen=True, kw_only=True):
    """Up to where what was found has started its runs."""

    planned: datetime
    """Of the poll that found it: a later one is not undone by an earlier one."""
    cursor: Raw


def event_id(aggregate: str, aggregate_id: str, version: int, place: int) -> str:
    """What an event is called for ever: its history, the commit in it, its place in the commit."""
    return f"{aggregate}.{aggregate_id}.{version}.{place}"


def run_of(event: str) -> str | None:
    """The run in whose history an event stands; None: in another history."""
    aggregate, aggregate_id, *_ = event.split(".")
    return aggregate_id if aggregate == "run" else None
