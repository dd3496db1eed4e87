"""A run's history as lines for people: one line per event, its facts at the margin and what follows from them indented."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from contracts.commits import Commit
from contracts.errors import Failure
from contracts.payloads import Inline, Payload
from contracts.runs import (
    ApprovalDecided,
    ApprovalEscalated,
    AttemptCancelled,
    AttemptDoubted,
    AttemptFailed,
    AttemptScheduled,
    CallReceived,
    CancelRequested,
    ChildAsked,
    ChildBegan,
    ChildEnded,
    DeadlinePassed,
    DoubtResolved,
    HandlerAsked,
    HandlerRefused,
    ItemDone,
    ItemFailed,
    ItemsBegan,
    ItemsKept,
    ItemsOpened,
    ItemsPaged,
    RunCancelled,
    RunCompensating,
    RunCompleted,
    RunContinued,
    RunEvent,
    RunFailed,
    RunParked,
    RunReopened,
    RunResponded,
    RunStarted,
    RunStopping,
    RunUnparked,
    SignalReceived,
    SlotRefused,
    SlotTaken,
    StepCancelled,
    StepFailed,
    StepPinned,
    StepReported,
    StepSkipped,
    StepSucceeded,
    UndoKept,
    Undone,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)

_PREVIEW: Final = 72


class Numbered(Struct, frozen=True, kw_only=True):
    """One event where it lies: its number in the history (from 1) and the commit around it."""

    number: int
    commit: Commit[RunEvent]
    event: RunEvent


def numbered(commits: Iterable[Commit[RunEvent]], after: int = 0) -> Iterator[Numbered]:
    """Every event with its number; `after`: how many lie before the first commit."""
    for commit in commits:
        for event in commit.events:
            after += 1
            yield Numbered(number=after, commit=commit, event=event)


def line(each: Numbered, began: datetime) -> str:
    """One event on one line: number, commit, seconds since the run began, type, and what it says."""
    seconds = (each.commit.time - began).total_seconds()
    margin = "" if each.event.is_fact else "  "
    return (
        f"{each.number:>4}  v{each.commit.version:<3} +{seconds:8.3f} s  "
        f"{margin + tag(each.event):<20} {words(each.event)}"
    ).rstrip()


def glance(each: Numbered) -> str:
    """One event among those of other runs: at which hour, in which commit, what."""
    time = each.commit.time.isoformat(timespec="milliseconds")[11:23]
    return f"{time}  {each.commit.run}  v{each.commit.version:<3} {tag(each.event):<18} {words(each.event)}".rstrip()


def tag(event: RunEvent) -> str:
    return str(type(event).__struct_config__.tag)


def words(event: RunEvent) -> str:
    """What an event says, on one line. Nothing that stands in a log can break it into two."""
    said = _WORDS[type(event)](event)
    return "".join(character if character.isprintable() else " " for character in said)


def preview(payload: Payload | None) -> str:
    """The beginning of a value; a stored one is told by its size and hash."""
    if payload is None:
        return ""
    if not isinstance(payload, Inline):
        return f"{payload.size} bytes of {payload.content_type}, sha256 {payload.sha256[:12]}…"
    text = bytes(payload.value).decode(errors="replace")
    return text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}…"


def _failure(error: Failure | None) -> str:
    return "" if error is None else f"{error.code}: {error.message}"


def _attempt(event: Any) -> str:
    return f"{event.step}, attempt {event.attempt}"


def _ports(event: StepSucceeded) -> str:
    taken = f" by {', '.join(event.ports)}" if event.ports != ("main",) else ""
    output = preview(event.output)
    return f"{event.step}{taken}{f': {output}' if output else ''}"


def _unfinished(event: RunFailed | RunCancelled) -> str:
    left = [f"{each.step} (effect {each.effect})" for each in event.unfinished]
    unfinished = f"; unfinished: {', '.join(left)}" if left else ""
    return unfinished + (_undone(event.undone) if event.undone is not None else "")


def _why(event: RunCompensating) -> str:
    why = f", {_failure(event.error)}" if event.error is not None else ""
    return why + (f": {event.reason}" if event.reason else "")


def _undone(undone: Undone) -> str:
    left = f", not undone: {', '.join(undone.left)}" if undone.left else ""
    more = undone.left_in_all - len(undone.left)
    return f"; undone: {undone.steps}{left}{f' and {more} more' if more else ''}"


def _wait(event: WaitOpened) -> str:
    of = f" of {event.step}" if event.step else ""
    what = f", for {event.signal}" if event.signal else ""
    what += f": {event.approval.question}" if event.approval else ""
    what += f", at gate {event.slot.name}" if event.slot else ""
    what += f" of {event.slot.key}" if event.slot and event.slot.key else ""
    until = f" until {event.due.isoformat()}" if event.due else ""
    return f"{event.wait}, {event.kind}{of}{what}{until}"


def _child_ended(event: ChildEnded) -> str:
    what = preview(event.output) if event.outcome == "completed" else _failure(event.error)
    return f"{event.step}, run {event.child} {event.outcome}{f': {what}' if what else ''}"


def _opened(event: ItemsOpened) -> str:
    return event.step + (" round by round" if event.count is None else f", {event.count} items")


def _began(event: ItemsBegan) -> str:
    last = event.first + event.count - 1
    return f"{event.step}[{event.first}]" + (f" to {event.step}[{last}]" if event.count > 1 else "")


_WORDS: Final[Mapping[type, Callable[[Any], str]]] = {
    RunStarted: lambda e: (
        f"workflow {e.workflow} version {e.version}, {e.cause.kind} {e.cause.id}".rstrip()
        + (f", trigger {e.trigger}" if e.trigger else "")
    ),
    StepReported: lambda e: f"{_attempt(e)}, {e.took_ms} ms: {preview(e.output)}",
    AttemptFailed: lambda e: f"{_attempt(e)}, {_failure(e.error)}",
    AttemptDoubted: lambda e: f"{_attempt(e)}, {_failure(e.error)}",
    AttemptCancelled: lambda e: f"{_attempt(e)}, effect {e.effect}",
    DoubtResolved: lambda e: f"{_attempt(e)}, {e.resolution} by {e.by}",
    WaitEnded: lambda e: e.wait,
    SignalReceived: lambda e: (
        f"{e.signal} by {e.by}, {f'for {e.step}' if e.step else 'kept'}: {preview(e.body)}"
    ),
    CallReceived: lambda e: f"{e.step} by {e.by}: {preview(e.body)}",
    ApprovalDecided: lambda e: (
        f"{e.step}, {e.decision} by {e.by}{f' ({e.name!r} as they said)' if e.name else ''}"
        f"{f': {e.comment}' if e.comment else ''}; {preview(e.fields)}"
    ),
    ApprovalEscalated: lambda e: " to ".join([e.step, *filter(None, [", ".join(e.to)])]),
    ItemsOpened: _opened,
    ItemsPaged: lambda e: f"{e.step}: {preview(e.items)}",
    ItemsBegan: _began,
    ItemDone: lambda e: f"{e.step}[{e.item}]{f': {preview(e.output)}' if e.output is not None else ''}",
    ItemFailed: lambda e: f"{e.step}[{e.item}], {_failure(e.error)}",
    ItemsKept: lambda e: f"{e.step}, page {e.page}: {preview(e.results)}",
    ChildAsked: lambda e: (
        f"{_attempt(e)}, run {e.child} of workflow {e.workflow} version {e.version}"
        + ("" if e.waits else ", which it does not wait for")
    ),
    HandlerAsked: lambda e: f"run {e.child} of workflow {e.workflow} version {e.version}",
    HandlerRefused: lambda e: f"workflow {e.workflow}, {_failure(e.error)}",
    ChildBegan: lambda e: f"{e.step}, run {e.child}",
    ChildEnded: _child_ended,
    SlotTaken: lambda e: f"{e.wait}, gate {e.gate}",
    SlotRefused: lambda e: f"{e.wait}, gate {e.gate}: {e.why}{f' by run {e.by}' if e.by else ''}",
    CancelRequested: lambda e: f"by {e.by}{f': {e.reason}' if e.reason else ''}",
    DeadlinePassed: lambda _: "",
    RunReopened: lambda e: f"by {e.by}: {', '.join(e.steps)}",
    RunParked: lambda e: e.reason + (f", needs release ≥ {e.needs_release}" if e.needs_release else ""),
    RunUnparked: lambda e: f"by {e.by}",
    RunContinued: lambda e: f"segment {e.segment}, after {e.events} events",
    AttemptScheduled: lambda e: f"{_attempt(e)}, {e.node_type} on pool {e.pool}",
    StepPinned: lambda e: f"{e.step}, not done: {preview(e.config)}",
    StepSucceeded: _ports,
    UndoKept: lambda e: f"{e.step} undoes {e.undoes}{f': {_failure(e.error)}' if e.error else ''}",
    StepFailed: lambda e: f"{e.step}, {_failure(e.error)}{' (handled)' if e.handled else ''}",
    StepSkipped: lambda e: e.step,
    StepCancelled: lambda e: e.step,
    WaitOpened: _wait,
    WaitDropped: lambda e: e.wait,
    RunResponded: lambda e: f"{e.step}, status {e.status}: {preview(e.body)}",
    RunCompensating: lambda e: f"outcome {e.outcome}{f', {e.step}' if e.step else ''}{_why(e)}",
    RunStopping: lambda e: f"outcome {e.outcome}{f', {_failure(e.error)}' if e.error else ''}",
    RunCompleted: lambda e: preview(e.output),
    RunFailed: lambda e: f"{f'{e.step}, ' if e.step else ''}{_failure(e.error)}{_unfinished(e)}",
    RunCancelled: lambda e: f"{e.reason}{_unfinished(e)}",
}


def as_json(each: Numbered) -> dict[str, Any]:
    """The same for programs, to be encoded by `contracts.codec.encode`."""
    commit = each.commit
    return {
        "number": each.number,
        "version": commit.version,
        "time": commit.time.isoformat(),
        "actor": commit.actor,
        "event": each.event,
    }
