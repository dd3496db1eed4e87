"""Which facts a message brings, given what the run already knows.

Rule that holds here: only news becomes a fact. What the state already includes, what is about an attempt or a wait
that is closed, and what comes too early gives none; a wish that the state forbids is refused with its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct

from contracts.errors import Failure
from contracts.limits import SIGNALS_KEPT, StepPath, WaitName
from contracts.messages import (
    CallWait,
    CancelRun,
    ChildOver,
    ChildStarted,
    DecideApproval,
    GiveSlot,
    Look,
    Message,
    RefuseSlot,
    ResolveDoubt,
    RetryRun,
    SendSignal,
    StartRun,
    StepBroken,
    StepDone,
    StepInDoubt,
    StepLetGo,
    UnparkRun,
    Wake,
)
from contracts.runs import (
    TERMINAL,
    ApprovalDecided,
    AttemptCancelled,
    AttemptDoubted,
    AttemptFailed,
    CallReceived,
    CancelRequested,
    ChildBegan,
    ChildEnded,
    DeadlinePassed,
    DoubtResolved,
    Fact,
    RunReopened,
    RunStarted,
    RunUnparked,
    SignalReceived,
    SlotRefused,
    SlotTaken,
    StepReported,
    WaitEnded,
    WaitOpened,
)
from contracts.waits import may_decide
from orchestrator.approvals import approval_wait, call_wait, escalated
from orchestrator.containers import closed
from orchestrator.passing import at_gate, awaited_slot
from orchestrator.readiness import Graph, every_step
from orchestrator.state import Run

RULES: Final = 1
"""The rules of decision that a run which starts today keeps."""
EARLY: Final = timedelta(milliseconds=5)
"""A wake-up may be this much ahead of its wait: two machines' clocks are never one."""


class Refusal(Struct, frozen=True, kw_only=True):
    """The run's state does not allow what was asked."""

    error: Failure


Accepted = Sequence[Fact] | Refusal


def accept(run: Run, graph: Graph | None, message: Message, at: datetime) -> Accepted:
    """The facts to record for this message. None: it says nothing new.

    A parked run records outcomes, so that no executor's work is lost, and decides on them when it is taken up again.
    """
    return _ACCEPT[type(message)](run, graph, message, at)


def _refuse(code: str, message: str) -> Refusal:
    return Refusal(error=Failure(code=code, message=message))


def _start(run: Run, graph: Graph | None, message: StartRun, at: datetime) -> Accepted:
    if run.phase != "queued":
        return ()
    timeout = graph.plan.timeout_s if graph else None
    return (
        RunStarted(
            plan=message.plan,
            workflow=message.workflow,
            version=message.version,
            trigger=message.trigger,
            receipt=message.receipt,
            cause=message.cause,
            input=message.input,
            org_vars=message.org_vars,
            dedupe=message.dedupe,
            request=message.request,
            parent=message.parent,
            mode=message.mode,
            deadline=at + timedelta(seconds=timeout) if timeout else None,
            rules=RULES,
        ),
    )


# --- Outcomes: only of the attempt that is under way or in doubt -------------------------------


def _under_way(run: Run, step: StepPath, attempt: int) -> bool:
    scheduled = run.attempts.get(step)
    return scheduled is not None and scheduled.attempt == attempt


def _awaited(run: Run, step: StepPath, attempt: int) -> bool:
    return _under_way(run, step, attempt) or run.doubts.get(step) == attempt


def _done(run: Run, _graph: Graph | None, message: StepDone, _at: datetime) -> Accepted:
    if not _awaited(run, message.step, message.attempt):
        return ()
    return (
        StepReported(
            step=message.step,
            attempt=message.attempt,
            output=message.output,
            ports=message.ports,
            took_ms=message.took_ms,
        ),
    )


def _broken(run: Run, _graph: Graph | None, message: StepBroken, _at: datetime) -> Accepted:
    if not _awaited(run, message.step, message.attempt):
        return ()
    return (
        AttemptFailed(
            step=message.step,
            attempt=message.attempt,
            error=message.error,
            retry_after_s=message.retry_after_s,
            took_ms=message.took_ms,
        ),
    )


def _in_doubt(run: Run, _graph: Graph | None, message: StepInDoubt, _at: datetime) -> Accepted:
    if not _under_way(run, message.step, message.attempt):
        return ()
    return (AttemptDoubted(step=message.step, attempt=message.attempt, error=message.error),)


def _let_go(run: Run, _graph: Graph | None, message: StepLetGo, _at: datetime) -> Accepted:
    # An executor lets go only of a run that stops; said of another one it is a mistake, and the attempt stays open.
    if run.phase != "stopping" or not _under_way(run, message.step, message.attempt):
        return ()
    return (
        AttemptCancelled(
            step=message.step, attempt=message.attempt, effect=message.effect, detail=message.detail
        ),
    )


# --- Children: only the one that the step asked for last, and only what it waits for -----------


def _child_started(run: Run, _graph: Graph | None, message: ChildStarted, _at: datetime) -> Accepted:
    asked = run.children.get(message.step)
    if asked is None or asked.child != message.child or asked.waits:
        return ()
    return (ChildBegan(step=message.step, child=message.child),)


def _child_over(run: Run, _graph: Graph | None, message: ChildOver, _at: datetime) -> Accepted:
    asked = run.children.get(message.step)
    if asked is None or asked.child != message.child or not asked.waits:
        return ()
    return (
        ChildEnded(
            step=message.step,
            child=message.child,
            outcome=message.outcome,
            output=message.output,
            error=message.error,
        ),
    )


# --- Gates: only the one at which it waits, in this opening ------------------------------------


def _give_slot(run: Run, _graph: Graph | None, message: GiveSlot, _at: datetime) -> Accepted:
    wait = awaited_slot(run, message.gate, message.opening)
    if wait is None or wait.slot is None:
        return ()
    if (wait.slot.bounds.batch is not None) != (message.input is not None):
        return ()  # Whoever stands for others never begins without what has started them.
    return (SlotTaken(wait=wait.wait, gate=message.gate, input=message.input),)


def _refuse_slot(run: Run, _graph: Graph | None, message: RefuseSlot, _at: datetime) -> Accepted:
    wait = awaited_slot(run, message.gate, message.opening)
    if wait is None:
        return ()
    return (SlotRefused(wait=wait.wait, gate=message.gate, why=message.why, by=message.by),)


# --- Time -------------------------------------------------------------------------------------


def _wake(run: Run, _graph: Graph | None, message: Wake, at: datetime) -> Accepted:
    wait = run.waits.get(message.wait) if run.active else None
    if run.parked is not None or wait is None or wait.due is None or at < wait.due - EARLY:
        return ()
    return (*_too_late(run, at), WaitEnded(wait=wait.wait))


def _look(run: Run, _graph: Graph | None, _message: Look, at: datetime) -> Accepted:
    return () if run.parked is not None else _overdue(run, at)


def _overdue(run: Run, at: datetime) -> Sequence[Fact]:
    """Moments that have passed and that nobody has told the run about, the earliest first."""
    late = _too_late(run, at)
    if late:
        return late
    if (
        not run.active
    ):  # Of a history that has left, what is left may tell of a wait and not of what ended it.
        return ()
    due = sorted((wait.due, wait.wait) for wait in run.waits.values() if wait.due and wait.due <= at)
    return tuple(WaitEnded(wait=name) for _, name in due)


def _too_late(run: Run, at: datetime) -> Sequence[Fact]:
    """The run's time is over, and this is the first that it hears of it."""
    late = run.phase == "running" and not run.overdue and run.deadline is not None and at >= run.deadline
    return (DeadlinePassed(),) if late else ()


# --- Wishes -----------------------------------------------------------------------------------


def _unknown_or_ended(run: Run) -> Refusal | None:
    if run.phase == "queued":
        return _refuse("not_found", "There is no such run.")
    if run.phase in TERMINAL:
        return _refuse("run.ended", f"The run has ended: it is {run.status}.")
    return None


def _cancel(run: Run, _graph: Graph | None, message: CancelRun, _at: datetime) -> Accepted:
    if message.opening not in (0, run.opening):
        return ()
    refused = _unknown_or_ended(run)
    if refused is not None:
        return refused
    if run.phase in ("stopping", "compensating") and run.parked is None:
        return ()
    return (CancelRequested(by=message.actor, reason=message.reason),)


def _retry(run: Run, graph: Graph | None, message: RetryRun, _at: datetime) -> Accepted:
    if message.opening not in (0, run.opening):
        return ()
    if run.phase not in ("failed", "cancelled") or not run.opening:
        return _refuse("run.not_reopenable", f"The run is {run.status}.")
    if run.compensating is not None:
        return _refuse("run.not_reopenable", "What the run had done was undone: begin another one.")
    again = tuple(path for path in _in_order(run, graph) if _fell(run, path))
    for path in message.steps:
        if path not in again:
            return _refuse("run.not_reopenable", f"Step {path} neither failed nor was cancelled.")
    return (RunReopened(by=message.actor, steps=again),)


def _in_order(run: Run, graph: Graph | None) -> Sequence[StepPath]:
    return tuple(run.steps) if graph is None else tuple(every_step(graph, run))


def _fell(run: Run, path: StepPath) -> bool:
    """It was cancelled, or failed with nothing to handle it: the run cannot end well without it."""
    step = run.step(path)
    return step.status == "cancelled" or (step.status == "failed" and not step.ports)


def _resolve(run: Run, _graph: Graph | None, message: ResolveDoubt, _at: datetime) -> Accepted:
    refused = _unknown_or_ended(run)
    if refused is not None:
        return refused
    if message.resolution == "retry" and at_gate(run):
        return _refuse("conflict", "The run waits at a gate: nothing begins before it is let in.")
    attempt = run.doubts.get(message.step)
    if message.attempt not in (0, attempt):
        return ()
    if attempt is None:
        return _refuse("step.not_in_doubt", f"Step {message.step} is {run.step(message.step).status}.")
    return (
        DoubtResolved(
            step=message.step,
            attempt=attempt,
            resolution=message.resolution,
            output=message.output,
            by=message.actor,
        ),
    )


def _signal(run: Run, graph: Graph | None, message: SendSignal, _at: datetime) -> Accepted:
    refused = _unknown_or_ended(run)
    if refused is not None:
        return refused
    if message.key in run.heard:
        same = run.heard[message.key] == message.request
        return () if same else _refuse("idempotency_mismatch", "Something else was said under this key.")
    listening = (wait.step for wait in run.waits.values() if wait.signal == message.signal)
    # What waits in an item that fails is dropped with it, and must not take what others will wait for.
    waiting = next((step for step in listening if step and not (graph and closed(run, graph, step))), None)
    if waiting is None and len(run.signals) >= SIGNALS_KEPT:
        return _refuse("signal.too_many", f"{SIGNALS_KEPT} signals lie here that nothing has waited for.")
    return (
        SignalReceived(
            signal=message.signal,
            key=message.key,
            request=message.request,
            by=message.actor,
            body=message.body,
            step=waiting,
        ),
    )


def _call(run: Run, graph: Graph | None, message: CallWait, at: datetime) -> Accepted:
    if _heard_before(run, message):
        return ()
    wait = _awaiting(run, graph, message.step, call_wait(message.step), at)
    if isinstance(wait, Refusal):
        return wait
    return (
        CallReceived(
            wait=wait.wait, step=message.step, request=message.request, by=message.actor, body=message.body
        ),
    )


def _decide(run: Run, graph: Graph | None, message: DecideApproval, at: datetime) -> Accepted:
    if _heard_before(run, message):
        return ()
    wait = _awaiting(run, graph, message.step, approval_wait(message.step), at)
    if isinstance(wait, Refusal):
        return wait
    if wait.approval is None or not may_decide(wait.approval, message.actor, escalated=escalated(run, wait)):
        return _refuse("approval.not_yours", "Others were asked to decide.")
    return (
        ApprovalDecided(
            wait=wait.wait,
            step=message.step,
            decision=message.decision,
            by=message.actor,
            on=at,
            request=message.request,
            fields=message.fields,
            comment=message.comment,
        ),
    )


def _heard_before(run: Run, message: CallWait | DecideApproval) -> bool:
    """The same person said the same before, and it counted."""
    heard = run.step(message.step).heard
    return heard is not None and (heard.by, heard.request) == (message.actor, message.request)


def _awaiting(
    run: Run, graph: Graph | None, step: StepPath, name: WaitName, at: datetime
) -> WaitOpened | Refusal:
    """The wait, if it is open. When its time is over it is believed no more, whether or not it was woken."""
    refused = _unknown_or_ended(run)
    if refused is not None:
        return refused
    wait = run.waits.get(name)
    if wait is None and run.step(step).status == "pending":
        return _refuse("wait.not_open", "The run does not wait for this yet.")
    if wait is None or (wait.due is not None and at >= wait.due) or (graph and closed(run, graph, step)):
        return _refuse("wait.over", "The run does not wait for this any more.")
    return wait


def _unpark(run: Run, _graph: Graph | None, message: UnparkRun, at: datetime) -> Accepted:
    """Whether this release is the one that the run waits for is the shell's to know."""
    if run.parked is None:
        return ()
    # What became due meanwhile comes first: then one look decides on all of it.
    return (*_overdue(run, at), RunUnparked(by=message.actor))


_ACCEPT: Final[Mapping[type, Callable[[Run, Graph | None, Any, datetime], Accepted]]] = {
    StartRun: _start,
    StepDone: _done,
    StepBroken: _broken,
    StepInDoubt: _in_doubt,
    StepLetGo: _let_go,
    Wake: _wake,
    Look: _look,
    CancelRun: _cancel,
    RetryRun: _retry,
    ResolveDoubt: _resolve,
    SendSignal: _signal,
    CallWait: _call,
    DecideApproval: _decide,
    ChildStarted: _child_started,
    ChildOver: _child_over,
    GiveSlot: _give_slot,
    RefuseSlot: _refuse_slot,
    UnparkRun: _unpark,
}
