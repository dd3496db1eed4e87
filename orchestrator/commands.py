"""What people and programs ask of a run: each command becomes a fact, or is refused with its reason."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from contracts.errors import Failure
from contracts.limits import SIGNALS_KEPT, StepPath, WaitName
from contracts.messages import (
    CallWait,
    CancelRun,
    DecideApproval,
    ResolveDoubt,
    RetryRun,
    SendSignal,
)
from contracts.runs import (
    TERMINAL,
    ApprovalDecided,
    CallReceived,
    CancelRequested,
    DoubtResolved,
    Fact,
    RunReopened,
    SignalReceived,
    WaitOpened,
)
from contracts.waits import may_decide
from orchestrator.approvals import approval_wait, call_wait, escalated
from orchestrator.containers import closed
from orchestrator.passing import at_gate
from orchestrator.readiness import Graph, every_step
from orchestrator.state import Run


class Refusal(Struct, frozen=True, kw_only=True):
    """The run's state does not allow what was asked."""

    error: Failure


Accepted = Sequence[Fact] | Refusal


def _refuse(code: str, message: str) -> Refusal:
    return Refusal(error=Failure(code=code, message=message))


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
    if not message.is_sealed and (graph is None or message.signal in graph.sealed_signals):
        return _refuse("signal.not_sealed", "A part of what is said is marked as sensitive.")
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
            name=message.name,
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


COMMANDS: Final[Mapping[type, Callable[[Run, Graph | None, Any, datetime], Accepted]]] = {
    CancelRun: _cancel,
    RetryRun: _retry,
    ResolveDoubt: _resolve,
    SendSignal: _signal,
    CallWait: _call,
    DecideApproval: _decide,
}
