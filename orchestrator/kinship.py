"""How runs are related: what a child is called, how it starts, what its parent hears, and what a parent makes of that. Pure."""

from typing import Final

from msgspec import Raw, structs

from chassis.ids import derived, digest, run_id
from contracts.causes import BEGINNING, behind
from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import Id, StepPath, WaitName
from contracts.messages import ChildOver, ChildStarted, StartRun
from contracts.payloads import Inline, Payload
from contracts.runs import TERMINAL, Cause, ChildAsked, ChildEnded, HandlerAsked, Parent
from orchestrator.state import Run

_MESSAGE_CHARS: Final = 2_000
"""As much as a `Failure` may hold."""


def child_of(run: Run, path: StepPath, attempt: int) -> Id:
    """The one run that this attempt at a step may start, for ever."""
    return run_id(run.org, f"run:{run.id}", f"{path}/{attempt}")


def handler_of(run: Run) -> Id:
    """The one run of its error workflow that this opening of a run may start."""
    return run_id(run.org, f"run:{run.id}", f"on_failure/{run.opening}")


def child_wait(asked: ChildAsked) -> WaitName:
    return f"{'child' if asked.waits else 'start'}:{asked.step}:{asked.attempt}"


def cause_of_children(run: Run) -> Cause:
    return behind(run.cause or BEGINNING, "run", run.id, run.workflow)


def is_awaited(run: Run, asked: ChildAsked) -> bool:
    """Whether the run goes on when this child has ended, or is there."""
    return run.acts and child_wait(asked) in run.waits


def start_of(run: Run, asked: ChildAsked, trace: str) -> StartRun:
    """Asks for a child. It follows from the parent's history alone, so it is the same however often it is said."""
    parent = Parent(run=run.id, step=asked.step, waits=asked.waits)
    return structs.replace(_start(run, asked, trace), parent=parent)


def start_of_handler(run: Run, asked: HandlerAsked, trace: str) -> StartRun:
    """Asks for the run of the error workflow of a run that failed. Nobody waits for it."""
    return _start(run, asked, trace)


def _start(run: Run, asked: ChildAsked | HandlerAsked, trace: str) -> StartRun:
    return StartRun(
        org=run.org,
        run=asked.child,
        trace=trace,
        plan=asked.plan,
        workflow=asked.workflow,
        version=asked.version,
        receipt=derived("child", run.org, asked.child),
        cause=cause_of_children(run),
        input=asked.input,
        org_vars=run.org_vars,
        org_limit=run.org_limit,
        dedupe=digest(asked.child.encode()),
        mode=run.mode,
        actor=f"run:{run.id}",
    )


def beginning_of(run: Run, asked: ChildAsked, trace: str) -> ChildStarted:
    """Tells a parent that its child is there."""
    return ChildStarted(org=run.org, run=run.id, trace=trace, step=asked.step, child=asked.child)


def end_of(run: Run, parent: Parent, trace: str, *, gone: bool = False) -> ChildOver | None:
    """Tells a parent how its child ended; None while it goes on, or when nobody waits for that.

    `gone`: nothing is left of it but its id, and how it ended nobody knows.
    """
    if not parent.waits or run.phase not in TERMINAL:
        return None
    error = (
        Failure(code="child.gone", message=f"Of run {run.id} nothing is left but its id.") if gone else None
    )
    return ChildOver(
        org=run.org,
        run=parent.run,
        trace=trace,
        step=parent.step,
        child=run.id,
        outcome="failed" if gone else run.phase,  # type: ignore[arg-type]  # One of the three, as was asked.
        output=run.output,
        error=error or run.error,
    )


def failure_of(ended: ChildEnded) -> Failure:
    """What the end of a child means for the step that waited: its error, and where to look. It may pass if its own may.

    Of several runs that failed one by the other it names the one in which it began.
    """
    if ended.error is not None and ended.error.code in ("child.gone", "child.failed"):
        return structs.replace(ended.error, node=None)
    why = f"{ended.error.code}: {ended.error.message}" if ended.error is not None else "nobody knows why"
    if ended.outcome == "cancelled":
        return Failure(
            code="child.cancelled", message=f"Run {ended.child} was cancelled: {why}"[:_MESSAGE_CHARS]
        )
    return Failure(
        code="child.failed",
        message=f"Run {ended.child} failed: {why}"[:_MESSAGE_CHARS],
        retryable=ended.error is not None and ended.error.retryable,
    )


def too_late(child: Id) -> Failure:
    """Another run may be in time."""
    return Failure(code="child.timeout", message=f"Run {child} did not end in time.", retryable=True)


def started_output(child: Id) -> Payload:
    """What a step gives that waits only until the run is there."""
    return Inline(value=Raw(encode({"run": child})))
