"""What a run that fails starts before it is over: a run of its error workflow, which is told of the failure.

It stands before the end, in the same commit, so that whoever has the end has it too. That it is started follows from the
history, however often somebody looks; the id follows from the run and the opening, so each failure starts one.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Raw, Struct

from contracts.causes import goes_round, stopped
from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import Id, StepPath
from contracts.payloads import Inline, Payload
from contracts.plans import Plan
from contracts.runs import Decision, HandlerAsked, HandlerRefused, RunFailed, Undone
from orchestrator.control import Called
from orchestrator.evaluate import Evaluate
from orchestrator.kinship import cause_of_children, handler_of
from orchestrator.performing import started_by_a_run
from orchestrator.state import Run


class Told(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an error workflow sees as `trigger.body`."""

    run: Id
    workflow: Id
    version: int
    trigger: Id | None
    error: Failure
    step: StepPath | None
    started_at: datetime | None
    failed_at: datetime
    undone: Undone | None = None
    """Where it had done something that can be undone."""


def with_handler(
    run: Run, plan: Plan, decisions: Sequence[Decision], at: datetime, evaluate: Evaluate
) -> list[Decision]:
    """The same decisions, and the run of an error workflow before an end that failed. A test's failure is nobody's."""
    failed = decisions[-1] if decisions else None
    if not isinstance(failed, RunFailed) or plan.on_failure is None or run.mode == "test":
        return list(decisions)
    return [*decisions[:-1], _handled(run, plan.on_failure, failed, at, evaluate), failed]


def _handled(
    run: Run, workflow: Id, failed: RunFailed, at: datetime, evaluate: Evaluate
) -> HandlerAsked | HandlerRefused:
    cause = cause_of_children(run)
    refused = stopped(cause, workflow, always=goes_round((*cause.chain, workflow)))
    called = refused or evaluate.handler(run, Called(workflow=workflow, input=_input(run, failed, at)))
    if isinstance(called, Failure):
        return HandlerRefused(workflow=workflow, error=called)
    return HandlerAsked(
        child=handler_of(run), workflow=workflow, version=called.version, plan=called.plan, input=called.input
    )


def _input(run: Run, failed: RunFailed, at: datetime) -> Payload:
    told = Told(
        run=run.id,
        workflow=run.workflow,
        version=run.version,
        trigger=run.trigger,
        error=failed.error,
        step=failed.step,
        started_at=run.started_at,
        failed_at=at,
        undone=failed.undone,
    )
    return Inline(value=started_by_a_run(Raw(encode(told)), at))
