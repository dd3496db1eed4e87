"""What happened, as the triggers that follow events are given it. Pure: told what is in the log, and asking for nothing."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Raw, Struct

from chassis.ids import derived, digest, run_id
from chassis.ports import Stored
from contracts.causes import BEGINNING, behind
from contracts.cloudevents import EVENT_TYPES
from contracts.codec import decode_commit, decode_domain_commit, decode_schedule_commit, encode
from contracts.commits import Commit, DomainCommit
from contracts.messages import StartRun
from contracts.occasions import EndedRun, Found, RecordedEvent, Told, event_id
from contracts.payloads import Inline, Payload
from contracts.runs import Cause, RunCancelled, RunCompleted, RunFailed, RunStarted
from contracts.schedules import ScheduleCommit
from contracts.triggers import Follows, Happening, Poll, RunEnd
from contracts.workflows import OrgSays
from projections.subscriptions import Subscription, Watched, types_of

AnyCommit: TypeAlias = Commit[Any] | DomainCommit[Any] | ScheduleCommit


class Occurrence(Struct, frozen=True, kw_only=True):
    """One event that some trigger may want."""

    id: str
    type: str
    commit: AnyCommit
    place: int

    @property
    def org(self) -> str:
        return self.commit.org

    @property
    def event(self) -> Any:
        return self.commit.events[self.place]

    @property
    def run(self) -> str | None:
        """The run in whose history it stands."""
        return self.commit.run if isinstance(self.commit, Commit) else None


def occurrences(stored: Stored, wanted: Mapping[str, Sequence[str]]) -> Iterator[Occurrence]:
    """The events of a commit whose types somebody wants. Raises `Malformed` or `Unknown`."""
    told = stored.headers.get(EVENT_TYPES)
    if told is not None and wanted.keys().isdisjoint(told.split(",")):
        return
    commit = _decoded(stored)
    aggregate, id_ = _place_of(commit)
    for place, event in enumerate(commit.events):
        kind = str(type(event).__struct_config__.tag)
        if kind in wanted:
            yield Occurrence(
                id=event_id(aggregate, id_, commit.version, place), type=kind, commit=commit, place=place
            )


def _decoded(stored: Stored) -> AnyCommit:
    words = stored.subject.split(".")
    match words[0]:
        case "run":
            return decode_commit(stored.body)
        case "sched":
            return decode_schedule_commit(stored.body)
        case _:
            return decode_domain_commit(stored.body, words[2])


def _place_of(commit: AnyCommit) -> tuple[str, str]:
    match commit:
        case Commit():
            return "run", commit.run
        case ScheduleCommit():
            return "schedule", commit.schedule
        case DomainCommit():
            return commit.aggregate, commit.aggregate_id


class Origin(Struct, frozen=True, kw_only=True):
    """How the run began in whose history something happened."""

    start: RunStarted
    at: datetime

    @property
    def planned(self) -> datetime:
        """Of a run that the clock has started: when it was to begin."""
        return datetime.fromisoformat(self.start.cause.id)


def is_for(on: Watched, occurrence: Occurrence, origin: Origin | None, subscription: Subscription) -> bool:
    """Whether this is what is followed, but for the filter."""
    if occurrence.type not in types_of(on) or (origin is not None and origin.start.mode == "test"):
        return False  # A test has nothing to say to what is in earnest.
    if isinstance(on, Happening):
        return True
    if origin is None:
        return False
    if isinstance(on, Poll):
        return looks(origin) and origin.start.trigger == subscription.trigger
    workflow = origin.start.workflow
    if on.workflows:
        return workflow in on.workflows
    return workflow != subscription.workflow and not looks(origin)


def looks(origin: Origin) -> bool:
    """Whether it is a run that looks for something to start a workflow with: it is nobody's but its trigger's own."""
    return origin.start.trigger is not None and origin.start.workflow == origin.start.trigger


def given_to(on: Follows, occurrence: Occurrence, origin: Origin | None) -> bytes:
    """`trigger`, as the run and the filter see it."""
    at = occurrence.commit.time.isoformat()
    match on:
        case RunEnd():
            assert origin is not None  # noqa: S101  # `is_for` asked.
            return encode(
                Told(body=Raw(encode(_ended(occurrence, origin))), method="RUN_END", received_at=at)
            )
        case Happening():
            return encode(Told(body=Raw(encode(_recorded(occurrence))), method="EVENT", received_at=at))


def _ended(occurrence: Occurrence, origin: Origin) -> EndedRun:
    event, start = occurrence.event, origin.start
    common: dict[str, Any] = {
        "run": occurrence.run,
        "workflow": start.workflow,
        "version": start.version,
        "trigger": start.trigger,
        "cause": start.cause,
        "started": origin.at,
        "ended": occurrence.commit.time,
    }
    match event:
        case RunCompleted():
            return EndedRun(outcome="completed", output=_value(event.output), **common)
        case RunFailed():
            return EndedRun(outcome="failed", error=event.error, step=event.step, **common)
        case RunCancelled():
            return EndedRun(outcome="cancelled", reason=event.reason, **common)
    raise TypeError(f"{occurrence.type} ends no run")


def _value(payload: Payload) -> Any:
    return payload.value if isinstance(payload, Inline) else {"blob": payload}


def _recorded(occurrence: Occurrence) -> RecordedEvent:
    commit = occurrence.commit
    aggregate, id_ = _place_of(commit)
    return RecordedEvent(
        id=occurrence.id,
        type=occurrence.type,
        aggregate=aggregate,
        aggregate_id=id_,
        version=commit.version,
        place=occurrence.place,
        time=commit.time,
        actor=commit.actor,
        event=Raw(encode(occurrence.event)),
    )


def cause_of(on: Watched, occurrence: Occurrence, origin: Origin | None) -> Cause:
    """One deeper than the run that brought it about; what people did stands at the beginning."""
    before = origin.start.cause if origin is not None else BEGINNING
    if isinstance(on, Poll):  # What looks is no workflow.
        return behind(before, "run", occurrence.run or "")
    workflow = origin.start.workflow if origin is not None else None
    if isinstance(on, RunEnd):
        return behind(before, "run", occurrence.run or "", workflow)
    if occurrence.run is None:
        return Cause(kind="event", id=occurrence.id)
    return behind(before, "event", occurrence.id, workflow)


def item_start(
    subscription: Subscription, found: Found, cause: Cause, given: Payload, says: OrgSays
) -> StartRun:
    """The one run that a key may start, for ever."""
    key = f"item:{found.key}"
    return StartRun(
        org=subscription.org,
        run=run_id(subscription.org, subscription.trigger, key),
        plan=subscription.plan,
        workflow=subscription.workflow,
        version=subscription.version,
        receipt=derived("item", subscription.org, subscription.trigger, found.key),
        cause=cause,
        input=given,
        trigger=subscription.trigger,
        org_vars=says.vars,
        org_limit=says.limit,
        dedupe=digest(key.encode()),
        actor=f"trigger:{subscription.trigger}",
    )


def run_for(subscription: Subscription, occurrence: Occurrence) -> str:
    """The one run that this trigger may start for this event, for ever."""
    return run_id(subscription.org, subscription.trigger, key_of(occurrence))


def key_of(occurrence: Occurrence) -> str:
    return f"event:{occurrence.id}"


def receipt_for(subscription: Subscription, occurrence: Occurrence) -> str:
    return derived("event", subscription.org, subscription.trigger, occurrence.id)


def start_of(
    subscription: Subscription,
    occurrence: Occurrence,
    cause: Cause,
    given: Payload,
    says: OrgSays,
) -> StartRun:
    return StartRun(
        org=subscription.org,
        run=run_for(subscription, occurrence),
        plan=subscription.plan,
        workflow=subscription.workflow,
        version=subscription.version,
        receipt=receipt_for(subscription, occurrence),
        cause=cause,
        input=given,
        trigger=subscription.trigger,
        org_vars=says.vars,
        org_limit=says.limit,
        dedupe=digest(key_of(occurrence).encode()),
        actor=f"trigger:{subscription.trigger}",
    )
