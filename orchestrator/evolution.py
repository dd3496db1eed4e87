"""How one recorded event changes what is remembered of a run.

Rule that holds here: `evolve` is total and boring. It never refuses an event, and one that does not fit the state
(a second start, an outcome of an attempt that is closed) changes nothing.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import UNSET, structs

from contracts.errors import Failure
from contracts.limits import HANDLERS_REMEMBERED, StepPath
from contracts.payloads import NULL
from contracts.runs import (
    TERMINAL,
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
    RunStatus,
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
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator import remembered, undos, waited
from orchestrator.kinship import child_wait
from orchestrator.moves import Changes, moved, settled, without
from orchestrator.paths import item_of, item_path, within
from orchestrator.state import (
    ERROR_PORT,
    RUN_STATUSES,
    Items,
    Lost,
    Phase,
    Result,
    Run,
    Step,
)


def evolve(run: Run, event: RunEvent, at: datetime) -> Run:
    """Fold one recorded event into the state; `at` is the time of its commit. Total: it never refuses an event."""
    kind = type(event)
    phase = run.phase
    moves = RUN_STATUSES.get(kind)
    if moves is not None:
        if phase not in moves:
            return run
        phase = moves[phase]
    changes = FOLDS[kind](run, event, at)
    if moves is None and not changes:
        return run
    changes["phase"] = phase
    changes["status"] = _status(run, changes, phase)
    return structs.replace(run, **changes)


def _status(run: Run, changes: Changes, phase: Phase) -> RunStatus:
    if changes.get("parked", run.parked) and phase not in TERMINAL:
        return "parked"
    if phase != "running" or changes.get("attempts", run.attempts):
        return phase
    if changes.get("waits", run.waits) or changes.get("doubts", run.doubts):
        return "waiting"
    return "running"


# --- Facts ------------------------------------------------------------------------------------


def _started(run: Run, event: RunStarted, at: datetime) -> Changes:
    kept = (
        "plan",
        "workflow",
        "version",
        "trigger",
        "cause",
        "parent",
        "mode",
        "receipt",
        "request",
        "input",
        "org_vars",
        "deadline",
        "rules",
    )
    changes: Changes = {name: getattr(event, name) for name in kept}
    changes |= {"opening": 1, "started_at": at, "opened_at": at}
    return changes | {
        name: told for name in ("priority", "org_limit") if (told := getattr(event, name)) is not UNSET
    }


def _open_at(run: Run, path: StepPath, attempt: int) -> bool:
    """Whether this attempt is under way or in doubt: its outcome is still news."""
    scheduled = run.attempts.get(path)
    return (scheduled is not None and scheduled.attempt == attempt) or run.doubts.get(path) == attempt


def _ended(
    run: Run, event: StepReported | AttemptFailed | AttemptCancelled | DoubtResolved, **changes: Any
) -> Changes:
    """The attempt is not under way any more; what follows is not decided yet."""
    path = event.step
    if not _open_at(run, path, event.attempt):
        return {}
    over = settled(run, path, structs.replace(run.step(path), **changes))
    over["news"] = {**run.news, path: event}
    return over


def _reported(run: Run, event: StepReported, _at: datetime) -> Changes:
    return _ended(run, event, output=event.output)


def _attempt_failed(run: Run, event: AttemptFailed, _at: datetime) -> Changes:
    return _ended(run, event, error=event.error)


def _attempt_cancelled(run: Run, event: AttemptCancelled, _at: datetime) -> Changes:
    return _ended(run, event, effect=event.effect, detail=event.detail)


def _doubted(run: Run, event: AttemptDoubted, _at: datetime) -> Changes:
    path = event.step
    if path not in run.attempts or not _open_at(run, path, event.attempt):
        return {}
    changes = moved(run, path, event, error=event.error)
    return changes | {"doubts": {**run.doubts, path: event.attempt}}


def _doubt_resolved(run: Run, event: DoubtResolved, _at: datetime) -> Changes:
    return _ended(run, event, output=event.output if event.resolution == "done" else None)


def _child_heard(run: Run, event: ChildBegan | ChildEnded, _at: datetime) -> Changes:
    """Nothing waits for it any more; what follows is not decided yet."""
    path = event.step
    asked = run.children.get(path)
    if asked is None or asked.child != event.child:
        return {}
    step = run.step(path)
    if isinstance(event, ChildEnded):
        step = structs.replace(step, output=event.output, error=event.error)
    return {
        "steps": {**run.steps, path: step},
        "children": without(run.children, path),
        "waits": without(run.waits, child_wait(asked)),
        "news": {**run.news, path: event},
    }


def _slot_taken(run: Run, event: SlotTaken, _at: datetime) -> Changes:
    wait = run.waits.get(event.wait)
    if wait is None or wait.slot is None:
        return {}
    changes: Changes = {"waits": without(run.waits, event.wait), "slots": (*run.slots, wait.slot)}
    return changes if event.input is None else changes | {"input": event.input, "batch": event.gate}


def _slot_refused(run: Run, event: SlotRefused, _at: datetime) -> Changes:
    wait = run.waits.get(event.wait)
    if wait is None or wait.slot is None:
        return {}
    changes: Changes = {"waits": without(run.waits, event.wait)}
    if event.why == "full":
        return changes | {"turned_away": event}
    reason = {
        "superseded": f"Run {event.by} came after it, and goes on in its place.",
        "gathered": f"Run {event.by} stands for it: they are in one batch.",
    }.get(event.why, f"Gate {wait.slot.name} is closed, and nobody waits there.")
    return changes | {"cancel": CancelRequested(by=f"gate:{event.gate}", reason=reason), "parked": None}


def _cancel_requested(run: Run, event: CancelRequested, _at: datetime) -> Changes:
    # A person who cancels a parked run takes it up again, only to end it.
    return {"cancel": event, "parked": None} if run.active else {}


def _deadline_passed(run: Run, _event: DeadlinePassed, _at: datetime) -> Changes:
    return {"overdue": True} if run.active else {}


def _reopened(run: Run, event: RunReopened, at: datetime) -> Changes:
    steps, doubts = dict(run.steps), dict[StepPath, int]()
    for path in event.steps:
        step = run.step(path)
        if path in run.items:
            steps[path] = structs.replace(step, status="running", error=None)
        elif step.repeat == "no" and step.effect in ("possible", "done"):
            steps[path] = structs.replace(step, status="in_doubt", effect=None)
            doubts[path] = step.attempt
        else:
            steps[path] = Step(attempt=step.attempt, first=step.attempt + 1, repeat=step.repeat)
    spent = run.deadline - run.opened_at if run.deadline and run.opened_at else None
    return {
        "steps": steps,
        "doubts": doubts,
        "items": {path: remembered.reopened(items) for path, items in run.items.items()},
        "opening": run.opening + 1,
        "opened_at": at,
        "deadline": at + spent if spent else None,
        "cancel": None,
        "overdue": False,
        "slots": (),
        "turned_away": None,
        "failed": None,
        "stopping": None,
        "error": None,
        "output": NULL,
        "unfinished": (),
        "handler": None,
    }


def _parked(run: Run, event: RunParked, _at: datetime) -> Changes:
    return {} if run.phase in TERMINAL else {"parked": event}


def _unparked(_run: Run, _event: RunUnparked, _at: datetime) -> Changes:
    return {"parked": None}


def _continued(_run: Run, _event: RunContinued, _at: datetime) -> Changes:
    """It says what is known already."""
    return {}


# --- Consequences -----------------------------------------------------------------------------


def _scheduled(run: Run, event: AttemptScheduled, _at: datetime) -> Changes:
    changes = moved(
        run,
        event.step,
        event,
        attempt=event.attempt,
        repeat=event.repeat,
        output=None,
        effect=None,
        detail="",
    )
    return changes | {"attempts": {**run.attempts, event.step: event}} if changes else {}


def _succeeded(run: Run, event: StepSucceeded, _at: datetime) -> Changes:
    path = event.step
    output = run.step(path).output if event.output is None else event.output
    changes = moved(run, path, event, ports=event.ports, output=output, error=None)
    if not changes:
        return {}
    if path in run.items:
        changes["items"] = without(run.items, path)
    return changes | undos.over(run, path, undone=True) if path in run.undos else changes


def _failed(run: Run, event: StepFailed, _at: datetime) -> Changes:
    ports = event.ports or (ERROR_PORT,) if event.handled else ()
    path = event.step
    changes = moved(run, path, event, ports=ports, error=event.error, output=None)
    if not changes:
        return {}
    if event.handled and path in run.items:
        inside = f"{path}["
        changes["items"] = {
            each: items for each, items in run.items.items() if each != path and not each.startswith(inside)
        }
        changes["steps"] = remembered.without_steps(changes["steps"], inside)
    if not event.handled and item_of(path):
        changes["items"] = remembered.failing(run.items, item_of(path), event.error)
    elif not event.handled and run.failed is None:
        changes["failed"] = path
    return changes | undos.over(run, path, undone=False)


def _skipped(run: Run, event: StepSkipped, _at: datetime) -> Changes:
    return moved(run, event.step, event)


def _cancelled(run: Run, event: StepCancelled, _at: datetime) -> Changes:
    changes = _let_go(run, event)
    return changes | undos.over(run, event.step, undone=False) if changes else {}


def _let_go(run: Run, event: StepCancelled) -> Changes:
    path = event.step
    if path in run.attempts:
        detail = "No executor has said how the attempt ended."
        return moved(run, path, event, effect="possible", detail=detail)
    if path in run.doubts:
        return moved(run, path, event, effect="possible", detail="The attempt was in doubt.")
    if path in run.children:
        detail = f"Run {run.children[path].child} had not ended."
        return moved(run, path, event, effect="possible", detail=detail)
    return moved(run, path, event)


def _items_opened(run: Run, event: ItemsOpened, _at: datetime) -> Changes:
    changes = moved(run, event.step, event)
    opened = Items(count=event.count, last=event.input or NULL)
    return changes | {"items": {**run.items, event.step: opened}} if changes else {}


def _items_paged(run: Run, event: ItemsPaged, _at: datetime) -> Changes:
    return {"items": remembered.paged(run.items, event)}


def _items_began(run: Run, event: ItemsBegan, _at: datetime) -> Changes:
    return {"items": remembered.began(run.items, event)}


def _item_done(run: Run, event: ItemDone, _at: datetime) -> Changes:
    item = item_path(event.step, event.item)
    leaf = run.step(within(item, event.leaf)).output if event.leaf else None
    return _item_over(run, event, event.output or leaf or NULL)


def _pinned(_run: Run, _event: StepPinned, _at: datetime) -> Changes:
    """Only for whoever wants to know what would have been sent."""
    return {}


def _item_failed(run: Run, event: ItemFailed, _at: datetime) -> Changes:
    return _item_over(run, event, Lost(error=event.error))


def _item_over(run: Run, event: ItemDone | ItemFailed, result: Result) -> Changes:
    inner = f"{item_path(event.step, event.item)}."
    over = remembered.over(run.items, event, result)
    return {
        "steps": remembered.without_steps(run.steps, inner),
        "items": {path: items for path, items in over.items() if not path.startswith(inner)},
    }


def _items_kept(run: Run, event: ItemsKept, _at: datetime) -> Changes:
    return {"items": remembered.kept(run.items, event)}


def _child_asked(run: Run, event: ChildAsked, _at: datetime) -> Changes:
    # It may be asked for again without harm: each time it is another run.
    fresh: Changes = {"repeat": "yes", "output": None, "error": None, "effect": None, "detail": ""}
    changes = moved(run, event.step, event, attempt=event.attempt, **fresh)
    return changes | {"children": {**run.children, event.step: event}} if changes else {}


def _responded(run: Run, event: RunResponded, _at: datetime) -> Changes:
    if run.responded is not None:
        return {}
    step = structs.replace(run.step(event.step), output=event.body)
    return {"responded": event, "steps": {**run.steps, event.step: step}}


def _handled(run: Run, event: HandlerAsked | HandlerRefused, _at: datetime) -> Changes:
    if isinstance(event, HandlerRefused):
        return {"handler": event}
    return {"handler": event, "handlers": (*run.handlers, event)[-HANDLERS_REMEMBERED:]}


def _stopping(_run: Run, event: RunStopping, _at: datetime) -> Changes:
    return {"stopping": event}


def _compensating(_run: Run, event: RunCompensating, _at: datetime) -> Changes:
    return {"compensating": event}


def _completed(_run: Run, event: RunCompleted, _at: datetime) -> Changes:
    return {"output": event.output, "undos": {}}


def _run_failed(_run: Run, event: RunFailed, _at: datetime) -> Changes:
    return {"error": event.error, "unfinished": event.unfinished}


def _run_cancelled(_run: Run, event: RunCancelled, _at: datetime) -> Changes:
    error = Failure(code="attempt.cancelled", message=event.reason or "The run was cancelled.")
    return {"error": error, "unfinished": event.unfinished}


FOLDS: Final[Mapping[type, Callable[[Run, Any, datetime], Changes]]] = {
    RunStarted: _started,
    StepReported: _reported,
    AttemptFailed: _attempt_failed,
    AttemptDoubted: _doubted,
    AttemptCancelled: _attempt_cancelled,
    DoubtResolved: _doubt_resolved,
    WaitEnded: waited.wait_ended,
    SignalReceived: waited.signal_received,
    CallReceived: waited.wait_answered,
    ApprovalDecided: waited.wait_answered,
    ChildBegan: _child_heard,
    ChildEnded: _child_heard,
    SlotTaken: _slot_taken,
    SlotRefused: _slot_refused,
    CancelRequested: _cancel_requested,
    DeadlinePassed: _deadline_passed,
    RunReopened: _reopened,
    RunParked: _parked,
    RunUnparked: _unparked,
    RunContinued: _continued,
    AttemptScheduled: _scheduled,
    StepSucceeded: _succeeded,
    UndoKept: undos.kept,
    StepFailed: _failed,
    StepSkipped: _skipped,
    StepCancelled: _cancelled,
    ItemsOpened: _items_opened,
    ItemsPaged: _items_paged,
    ItemsBegan: _items_began,
    ItemDone: _item_done,
    StepPinned: _pinned,
    ItemFailed: _item_failed,
    ItemsKept: _items_kept,
    ChildAsked: _child_asked,
    HandlerAsked: _handled,
    HandlerRefused: _handled,
    WaitOpened: waited.wait_opened,
    ApprovalEscalated: waited.escalated,
    WaitDropped: waited.wait_dropped,
    RunResponded: _responded,
    RunStopping: _stopping,
    RunCompensating: _compensating,
    RunCompleted: _completed,
    RunFailed: _run_failed,
    RunCancelled: _run_cancelled,
}
"""One function per event; a test holds it against the union."""
