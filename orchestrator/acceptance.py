"""Which facts a message brings, given what the run already knows.

Rule that holds here: only news becomes a fact. What the state already includes, what is about an attempt or a wait
that is closed, and what comes too early gives none; a command that the state forbids is refused with its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import UNSET

from contracts.limits import StepPath
from contracts.messages import (
    ChildOver,
    ChildStarted,
    GiveSlot,
    Look,
    Message,
    RefuseSlot,
    StartRun,
    StepBroken,
    StepDone,
    StepInDoubt,
    StepLetGo,
    UnparkRun,
    Wake,
)
from contracts.runs import (
    AttemptCancelled,
    AttemptDoubted,
    AttemptFailed,
    ChildBegan,
    ChildEnded,
    DeadlinePassed,
    Fact,
    RunStarted,
    RunUnparked,
    SlotRefused,
    SlotTaken,
    StepReported,
    WaitEnded,
)
from orchestrator.commands import COMMANDS, Accepted
from orchestrator.passing import awaited_slot
from orchestrator.readiness import Graph
from orchestrator.state import Run

RULES: Final = 1
"""The rules of decision that a run which starts today keeps."""
EARLY: Final = timedelta(milliseconds=5)
"""A wake-up may be this much ahead of its wait: two machines' clocks are never one."""


def accept(run: Run, graph: Graph | None, message: Message, at: datetime) -> Accepted:
    """The facts to record for this message. None: it says nothing new.

    A parked run records outcomes, so that no executor's work is lost, and decides on them when it is taken up again.
    """
    return _ACCEPT[type(message)](run, graph, message, at)


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
            org_limit=message.org_limit or UNSET,
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
    ChildStarted: _child_started,
    ChildOver: _child_over,
    GiveSlot: _give_slot,
    RefuseSlot: _refuse_slot,
    UnparkRun: _unpark,
    **COMMANDS,
}
