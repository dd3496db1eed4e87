"""What a step says that begins to wait: for a moment, for what somebody says, or for a run of its own."""

from collections.abc import Iterator
from typing import TypeAlias

from contracts.limits import StepPath
from contracts.plans import PlanNode
from contracts.runs import ChildAsked, Decision, WaitKind, WaitOpened
from orchestrator.approvals import approval_wait, call_wait, escalation_wait
from orchestrator.control import Asking, Called, Delayed, Expecting, Listening
from orchestrator.kinship import child_of, child_wait
from orchestrator.state import Run

Awaited: TypeAlias = Delayed | Listening | Expecting | Asking


def waits_of(path: StepPath, awaited: Awaited) -> Iterator[WaitOpened]:
    """The waits that a step opens."""
    match awaited:
        case Delayed():
            yield WaitOpened(wait=f"delay:{path}", kind="delay", due=awaited.due, step=path)
        case Listening():
            wait, said = f"signal:{path}", awaited.signal
            yield WaitOpened(wait=wait, kind="signal", due=awaited.due, step=path, signal=said)
        case Expecting():
            wait = call_wait(path)
            yield WaitOpened(wait=wait, kind="call", due=awaited.due, step=path, call=awaited.call)
        case Asking():
            yield from _asked(path, awaited)


def _asked(path: StepPath, asking: Asking) -> Iterator[WaitOpened]:
    wait, approval = approval_wait(path), asking.approval
    yield WaitOpened(wait=wait, kind="approval", due=asking.due, step=path, approval=approval)
    if approval.escalates is not None:
        wait = escalation_wait(path)
        yield WaitOpened(wait=wait, kind="escalation", due=approval.escalates, step=path)


def child_asked(run: Run, path: StepPath, node: PlanNode, called: Called) -> tuple[Decision, Decision]:
    """The run that a step starts, behind the wait for it."""
    attempt = run.step(path).attempt + 1
    asked = ChildAsked(
        step=path,
        node=node.id,
        attempt=attempt,
        child=child_of(run, path, attempt),
        workflow=called.workflow,
        version=called.version,
        plan=called.plan,
        waits=called.waits,
        input=called.input,
    )
    kind: WaitKind = "child" if called.waits else "start"
    return WaitOpened(wait=child_wait(asked), kind=kind, due=called.due, step=path), asked
