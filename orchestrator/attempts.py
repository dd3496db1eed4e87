"""An attempt at a step, and whether another one follows it: at once, after a pause, or never."""

from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from contracts.errors import Failure
from contracts.limits import StepPath
from contracts.payloads import Payload
from contracts.plans import PlanNode
from contracts.runs import AttemptFailed, AttemptScheduled, WaitOpened
from orchestrator.retries import jitter, pause_before_retry
from orchestrator.state import Run

Next: TypeAlias = WaitOpened | Literal["now", "never"]

ABANDONED: Final = Failure(
    code="in_doubt.abandoned", message="A person decided that the step in doubt has failed."
)


def next_attempt(run: Run, path: StepPath, node: PlanNode, config: Payload) -> AttemptScheduled:
    """The one that an executor shall make now."""
    return AttemptScheduled(
        step=path,
        node=node.id,
        node_type=node.type,
        attempt=run.step(path).attempt + 1,
        key=f"{run.id}/{path}",
        pool=node.pool,
        repeat=node.repeat,
        timeout_s=node.timeout_s,
        config=config,
    )


def after_failure(run: Run, node: PlanNode, failed: AttemptFailed, at: datetime) -> Next:
    """What the node's policy says of an attempt that failed."""
    path, attempt = failed.step, failed.attempt
    pause = pause_before_retry(
        node.retry,
        failed.error,
        tries=attempt - run.step(path).first + 1,
        shift=jitter(run.id, path, attempt),
        retry_after_s=failed.retry_after_s,
    )
    if not pause:
        return "never" if pause is None else "now"
    due = at + timedelta(seconds=pause)
    return WaitOpened(wait=f"retry:{path}:{attempt + 1}", kind="retry", due=due, step=path)
