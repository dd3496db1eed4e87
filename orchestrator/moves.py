"""The smallest changes: a step that moves as the table says, and a mapping without one of its keys."""

from typing import Any, TypeAlias

from msgspec import structs

from contracts.limits import StepPath
from contracts.runs import RunEvent
from orchestrator.state import STEP_STATUSES, Run

Changes: TypeAlias = dict[str, Any]
"""Of the fields of a run."""


def without(mapping: dict[Any, Any], key: object) -> dict[Any, Any]:
    return {k: v for k, v in mapping.items() if k != key} if key in mapping else mapping


def moved(run: Run, path: StepPath, event: RunEvent, **changes: Any) -> Changes:
    """The step moves as the table says, and what was under way at it is over."""
    step = run.step(path)
    status = STEP_STATUSES[type(event)].get(step.status)
    if status is None:
        return {}
    return {
        "steps": {**run.steps, path: structs.replace(step, status=status, **changes)},
        "attempts": without(run.attempts, path),
        "doubts": without(run.doubts, path),
        "children": without(run.children, path),
        "news": without(run.news, path),
    }
