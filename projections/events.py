"""What each event of a run changes in the rows of the run and of its steps."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct, structs

from contracts import limits, runs
from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import DETAILS_CHARS, QUESTION_CHARS
from contracts.payloads import Payload
from contracts.waits import Approval
from projections import at_gates
from projections.rows import Asks, RunRow, StepRow, UsageRow, Wait
from projections.sanitised import moment, optional, preview, text

STILL: Final = timedelta(seconds=30)
OVERDUE: Final = timedelta(seconds=5)
ASKED_FOR: Final[tuple[runs.WaitKind, ...]] = ("start", "slot")
"""For these waits it is the run itself that has to see to it that something comes."""
NAME_CHARS: Final = 640
UNFINISHED: Final = 100

_DONE: Final = frozenset({"succeeded", "failed", "skipped", "cancelled"})
_SETTLED: Final = runs.TERMINAL | {"stopping", "compensating", "parked"}
_waits: Final = msgspec.json.Decoder(list[Wait])
_asks: Final = msgspec.json.Decoder(Asks)
ASKS_CHARS: Final = 200_000


class Scene(Struct):
    """Where an event happens: its run, its time and number, and how to get at the other rows."""

    run: RunRow
    at: datetime
    number: int
    step: Callable[[str], StepRow]
    """The row of a path; made when there is none."""
    usage: UsageRow


def apply(scene: Scene, event: runs.RunEvent) -> None:
    """Change the rows as the event says. Boring: every event is taken in every state."""
    EFFECTS[type(event)](scene, event)


def settle(run: RunRow) -> None:
    """After a commit: say whether it runs or waits, and when somebody should look at it."""
    if run.status not in _SETTLED:
        waits = run.waits != "[]" or run.steps_in_doubt > 0
        run.status = "waiting" if waits and not run.steps_running else "running"
    if run.status != "waiting":
        run.waiting_since = None
    elif run.waiting_since is None:
        run.waiting_since = run.last_time
    run.look_at = _look_at(run)


def _look_at(run: RunRow) -> datetime | None:
    if run.status == "parked" or run.status in runs.TERMINAL:
        return None
    deadline = run.deadline if run.status != "compensating" else None  # It does not count any more.
    moments = [_after(each, OVERDUE) for each in (run.next_due, deadline) if each is not None]
    starts = any(f'"kind":"{kind}"' in run.waits for kind in ASKED_FOR)
    if run.steps_running or starts or (run.waits == "[]" and not run.steps_in_doubt):
        moments.append(_after(run.last_time, STILL))
    return min(moments, default=None)


def _after(time: datetime, pause: timedelta) -> datetime:
    try:
        return time + pause
    except OverflowError:
        return time


# --- The run ----------------------------------------------------------------------------------


def _started(scene: Scene, event: runs.RunStarted) -> None:
    run, shown = scene.run, preview(event.input)
    run.workflow, run.version, run.plan = event.workflow, event.version, event.plan
    run.trigger, run.receipt = event.trigger, event.receipt
    run.cause, run.cause_id = event.cause.kind, text(event.cause.id)
    if event.parent is not None:
        run.parent_run, run.parent_step = event.parent.run, event.parent.step
        run.parent_waits = event.parent.waits
    run.dedupe, run.request = event.dedupe, event.request
    run.input_preview, run.input_size, run.input_blob = shown.text, shown.size, shown.blob
    run.mode = event.mode
    run.deadline, run.opened = None if event.deadline is None else moment(event.deadline), scene.at
    scene.usage.runs_started += 1


def _completed(scene: Scene, event: runs.RunCompleted) -> None:
    shown = preview(event.output)
    run = scene.run
    run.output_preview, run.output_size, run.output_blob = shown.text, shown.size, shown.blob
    run.error_code = run.error_message = run.error_step = None
    scene.usage.runs_completed += 1
    _end(scene, "completed")


def _failed(scene: Scene, event: runs.RunFailed) -> None:
    _blame(scene.run, event.error, event.step)
    _leave_unfinished(scene.run, event.unfinished)
    _tell_undone(scene.run, event.undone)
    scene.usage.runs_failed += 1
    _end(scene, "failed")


def _cancelled(scene: Scene, event: runs.RunCancelled) -> None:
    scene.run.error_message = text(event.reason) or None
    _leave_unfinished(scene.run, event.unfinished)
    _tell_undone(scene.run, event.undone)
    scene.usage.runs_cancelled += 1
    _end(scene, "cancelled")


def _end(scene: Scene, status: str) -> None:
    scene.run.status, scene.run.ended = status, scene.at
    at_gates.has_left(scene.run)
    _keep_waits(scene.run, [])


def _blame(run: RunRow, error: Failure, step: str | None) -> None:
    run.error_code, run.error_message = text(error.code), text(error.message)
    run.error_step = optional(step or error.node)


def _leave_unfinished(run: RunRow, unfinished: tuple[runs.Unfinished, ...]) -> None:
    told = [structs.replace(each, detail=text(each.detail, 200)) for each in unfinished[:UNFINISHED]]
    run.unfinished = encode(told).decode() if told else None


def _tell_undone(run: RunRow, undone: runs.Undone | None) -> None:
    run.undone = encode(undone).decode() if undone is not None else None


def _handler_asked(scene: Scene, event: runs.HandlerAsked) -> None:
    told = [*filter(None, scene.run.handlers.split(",")), event.child]
    scene.run.handlers = ",".join(told[-limits.HANDLERS_REMEMBERED :])


def _handler_refused(scene: Scene, event: runs.HandlerRefused) -> None:
    scene.run.handler_error = text(f"{event.error.code}: {event.error.message}")


def _stopping(scene: Scene, event: runs.RunStopping) -> None:
    scene.run.status = "stopping"
    if event.error is not None:
        _blame(scene.run, event.error, None)


def _compensating(scene: Scene, event: runs.RunCompensating) -> None:
    scene.run.status = "compensating"
    _tell_undone(scene.run, runs.Undone())
    _leave_unfinished(scene.run, event.unfinished)
    if event.error is not None:
        _blame(scene.run, event.error, event.step)


def _reopened(scene: Scene, event: runs.RunReopened) -> None:
    run = scene.run
    run.opening += 1
    run.status, run.ended, run.unfinished = "running", None, None
    run.handler_error = run.undone = None
    run.error_code = run.error_message = run.error_step = None
    run.output_preview = run.output_size = run.output_blob = None
    if run.deadline is not None:
        # As long as it had before, counted from now on.
        run.deadline = _after(scene.at, run.deadline - (run.opened or run.started))
    run.opened = scene.at
    for path in event.steps:
        step = scene.step(path)
        doubtful = step.repeat == "no" and step.effect in ("possible", "done")
        step.effect = None
        if step.items_done is not None:
            _move(run, step, "running")
        else:
            _move(run, step, "in_doubt" if doubtful else "pending")


def _parked(scene: Scene, event: runs.RunParked) -> None:
    scene.run.status, scene.run.parked_reason = "parked", text(event.reason)
    scene.run.needs_release = optional(event.needs_release)


def _unparked(scene: Scene, _: runs.RunUnparked) -> None:
    """A run that undoes goes on with that, and with nothing else: it is never opened again."""
    run = scene.run
    run.status = "running" if run.undone is None else "compensating"
    run.parked_reason = run.needs_release = None


def _responded(scene: Scene, event: runs.RunResponded) -> None:
    scene.run.responded_status = event.status


def _nothing(_: Scene, __: object) -> None:
    """What follows from the event stands in events of its own."""


# --- Its steps --------------------------------------------------------------------------------


def _attempt_scheduled(scene: Scene, event: runs.AttemptScheduled) -> None:
    step = scene.step(event.step)
    step.node, step.node_type, step.pool, step.attempt = (
        event.node,
        event.node_type,
        event.pool,
        event.attempt,
    )
    step.scheduled, step.ended, step.took_ms = scene.at, None, None
    step.repeat, step.effect = event.repeat, None
    _move(scene.run, step, "scheduled")


def _reported(scene: Scene, event: runs.StepReported) -> None:
    step = scene.step(event.step)
    step.attempt, step.took_ms = event.attempt, event.took_ms
    _show_output(step, event.output)


def _attempt_failed(scene: Scene, event: runs.AttemptFailed) -> None:
    step = scene.step(event.step)
    step.attempt, step.took_ms = event.attempt, event.took_ms
    _blame_step(step, event.error)
    _move(scene.run, step, "pending")


def _doubted(scene: Scene, event: runs.AttemptDoubted) -> None:
    step = scene.step(event.step)
    step.attempt = event.attempt
    _blame_step(step, event.error)
    _move(scene.run, step, "in_doubt")


def _attempt_cancelled(scene: Scene, event: runs.AttemptCancelled) -> None:
    step = scene.step(event.step)
    step.attempt, step.effect = event.attempt, event.effect
    _move(scene.run, step, "pending")


def _resolved(scene: Scene, event: runs.DoubtResolved) -> None:
    step = scene.step(event.step)
    if event.resolution == "done":
        _show_output(step, event.output)
    _move(scene.run, step, "pending")


def _succeeded(scene: Scene, event: runs.StepSucceeded) -> None:
    step = _finished(scene, event.step, event.node, "succeeded")
    step.ports, step.error, step.error_code = ",".join(event.ports), None, None
    if event.output is not None:
        _show_output(step, event.output)
    scene.usage.steps += 1


def _step_failed(scene: Scene, event: runs.StepFailed) -> None:
    step = _finished(scene, event.step, event.node, "failed")
    _blame_step(step, event.error)
    if event.ports is not None:
        step.ports = ",".join(event.ports)
    scene.usage.steps += 1


def _skipped(scene: Scene, event: runs.StepSkipped) -> None:
    _finished(scene, event.step, event.node, "skipped")


def _step_cancelled(scene: Scene, event: runs.StepCancelled) -> None:
    step = scene.step(event.step)
    if step.status in ("scheduled", "in_doubt") or step.awaits:
        step.effect = "possible"  # Nobody has said how the attempt ended.
    _finished(scene, event.step, event.node, "cancelled")


def _finished(scene: Scene, path: str, node: str, status: str) -> StepRow:
    step = scene.step(path)
    step.node, step.ended = node, scene.at
    if step.scheduled is None:
        step.scheduled = scene.at
    if step.status == "waiting":  # For something that had been said before.
        _close_wait_of(scene.run, step)
    step.awaits = False
    _move(scene.run, step, status)
    return step


def _show_output(step: StepRow, output: Payload) -> None:
    shown = preview(output)
    step.output_preview, step.output_size, step.output_blob = shown.text, shown.size, shown.blob


def _blame_step(step: StepRow, error: Failure) -> None:
    step.error, step.error_code = text(encode(error).decode(), 20_000), text(error.code)


def _move(run: RunRow, step: StepRow, status: str) -> None:
    before, step.status = step.status, status
    run.steps_done += (status in _DONE) - (before in _DONE)
    run.steps_running += (status == "scheduled") - (before == "scheduled")
    run.steps_in_doubt += (status == "in_doubt") - (before == "in_doubt")


# --- The runs that they start -------------------------------------------------------------------


def _child_asked(scene: Scene, event: runs.ChildAsked) -> None:
    step = scene.step(event.step)
    step.node, step.attempt, step.child, step.awaits = event.node, event.attempt, event.child, event.waits
    step.scheduled, step.ended, step.took_ms = scene.at, None, None
    step.repeat, step.effect = "yes", None


def _child_began(scene: Scene, event: runs.ChildBegan) -> None:
    _heard_of_child(scene, event.step)


def _child_ended(scene: Scene, event: runs.ChildEnded) -> None:
    step = _heard_of_child(scene, event.step)
    if event.outcome == "completed":
        _show_output(step, event.output)
    elif event.error is not None:
        _blame_step(step, event.error)


def _heard_of_child(scene: Scene, path: str) -> StepRow:
    step = scene.step(path)
    _close_wait_of(scene.run, step)
    step.awaits = False
    _move(scene.run, step, "pending")
    return step


# --- The items of its maps and loops ------------------------------------------------------------


def _items_opened(scene: Scene, event: runs.ItemsOpened) -> None:
    step = scene.step(event.step)
    step.node, step.scheduled, step.ended = event.node, scene.at, None
    step.items_total, step.items_done, step.items_failed = event.count, 0, 0
    _move(scene.run, step, "running")


def _item_done(scene: Scene, event: runs.ItemDone) -> None:
    step = scene.step(event.step)
    step.items_done = (step.items_done or 0) + 1


def _item_failed(scene: Scene, event: runs.ItemFailed) -> None:
    step = scene.step(event.step)
    step.items_done = (step.items_done or 0) + 1
    step.items_failed = (step.items_failed or 0) + 1


# --- Its waits --------------------------------------------------------------------------------


def _wait_opened(scene: Scene, event: runs.WaitOpened) -> None:
    opened = Wait(
        name=text(event.wait, NAME_CHARS),
        kind=event.kind,
        due=moment(event.due) if event.due else None,
        step=event.step,
        since=scene.at,
    )
    others = [wait for wait in _waits.decode(scene.run.waits) if wait.name != opened.name]
    _keep_waits(scene.run, [*others, opened])
    at_gates.stands(scene.run, event, scene.at)
    if event.step is None or event.kind == "escalation":
        return
    step = scene.step(event.step)
    _move(scene.run, step, "waiting")
    if event.approval is not None:
        _ask(step, event.approval, opened)


def _ask(step: StepRow, approval: Approval, opened: Wait) -> None:
    asks = Asks(
        question=text(approval.question, QUESTION_CHARS),
        details=text(approval.details, DETAILS_CHARS),
        form=approval.form,
        deciders=approval.deciders,
        by_link=approval.by_link,
        escalate_to=approval.escalate_to,
        due=opened.due,
        escalates=moment(approval.escalates) if approval.escalates else None,
    )
    step.asks, step.asked = text(encode(asks).decode(), ASKS_CHARS), opened.since


def _escalated(scene: Scene, event: runs.ApprovalEscalated) -> None:
    step = scene.step(event.step)
    if step.asks is not None:
        asks = structs.replace(_asks.decode(step.asks), escalated=scene.at)
        step.asks = encode(asks).decode()


def _let_in(scene: Scene, event: runs.SlotTaken) -> None:
    at_gates.let_in(scene.run, event.wait, scene.at)
    _wait_closed(scene, event)


def _wait_closed(
    scene: Scene, event: runs.WaitEnded | runs.WaitDropped | runs.SlotTaken | runs.SlotRefused
) -> None:
    at_gates.waits_no_longer(scene.run, event.wait)
    name = text(event.wait, NAME_CHARS)
    waits = _waits.decode(scene.run.waits)
    _keep_waits(scene.run, [wait for wait in waits if wait.name != name])
    for wait in waits:
        if wait.name != name or wait.step is None or wait.kind == "escalation":
            continue
        step = scene.step(wait.step)
        step.awaits = False
        if wait.kind == "approval":
            _close_wait_of(scene.run, step)
        if step.status == "waiting":
            _move(scene.run, step, "pending")


def _answered(scene: Scene, event: runs.CallReceived | runs.ApprovalDecided) -> None:
    step = scene.step(event.step)
    _close_wait_of(scene.run, step)
    _move(scene.run, step, "pending")


def _signal_received(scene: Scene, event: runs.SignalReceived) -> None:
    if event.step is None:
        return  # The run keeps it for a wait to come.
    step = scene.step(event.step)
    _close_wait_of(scene.run, step)
    _move(scene.run, step, "pending")


def _close_wait_of(run: RunRow, step: StepRow) -> None:
    """With an approval ends its escalation."""
    _keep_waits(run, [wait for wait in _waits.decode(run.waits) if wait.step != step.path])
    step.asks = step.asked = None


def _keep_waits(run: RunRow, waits: list[Wait]) -> None:
    run.waits = encode(waits).decode()
    run.next_due = min((wait.due for wait in waits if wait.due), default=None)


_Effect: TypeAlias = Callable[[Scene, Any], None]

EFFECTS: Final[dict[type, _Effect]] = {
    runs.RunStarted: _started,
    runs.StepReported: _reported,
    runs.AttemptFailed: _attempt_failed,
    runs.AttemptDoubted: _doubted,
    runs.AttemptCancelled: _attempt_cancelled,
    runs.DoubtResolved: _resolved,
    runs.WaitEnded: _wait_closed,
    runs.SignalReceived: _signal_received,
    runs.CallReceived: _answered,
    runs.ApprovalDecided: _answered,
    runs.ChildBegan: _child_began,
    runs.ChildEnded: _child_ended,
    runs.SlotTaken: _let_in,
    runs.SlotRefused: _wait_closed,
    runs.CancelRequested: _nothing,
    runs.DeadlinePassed: _nothing,
    runs.RunReopened: _reopened,
    runs.RunParked: _parked,
    runs.RunUnparked: _unparked,
    runs.RunContinued: _nothing,
    runs.AttemptScheduled: _attempt_scheduled,
    runs.StepPinned: _nothing,
    runs.StepSucceeded: _succeeded,
    runs.UndoKept: _nothing,
    runs.StepFailed: _step_failed,
    runs.StepSkipped: _skipped,
    runs.StepCancelled: _step_cancelled,
    runs.ItemsOpened: _items_opened,
    runs.ItemsPaged: _nothing,
    runs.ItemsBegan: _nothing,
    runs.ItemDone: _item_done,
    runs.ItemFailed: _item_failed,
    runs.ItemsKept: _nothing,
    runs.ChildAsked: _child_asked,
    runs.HandlerAsked: _handler_asked,
    runs.HandlerRefused: _handler_refused,
    runs.WaitOpened: _wait_opened,
    runs.ApprovalEscalated: _escalated,
    runs.WaitDropped: _wait_closed,
    runs.RunResponded: _responded,
    runs.RunStopping: _stopping,
    runs.RunCompensating: _compensating,
    runs.RunCompleted: _completed,
    runs.RunFailed: _failed,
    runs.RunCancelled: _cancelled,
}
