"""The smallest changes: a step that moves as the table says, and a mapping without one of its keys."""

from typing import Any, TypeAlias

from msgspec import structs

from contracts.limits import StepPath
from contracts.runs import RunEvent
from orchestrator.state import STEP_STATUSES, Run, Step

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
    return settled(run, path, structs.replace(step, status=status, **changes))


def settled(run: Run, path: StepPath, step: Step) -> Changes:
    """The step is this now, and what was under way at it is over.

    Only fields that change are named: folds are much of what a decision costs.
    """
    changes: Changes = {"steps": {**run.steps, path: step}}
    if path in run.attempts:
        changes["attempts"] = without(run.attempts, path)
    if path in run.doubts:
        changes["doubts"] = without(run.doubts, path)
    if path in run.children:
        changes["children"] = without(run.children, path)
    if path in run.news:
        changes["news"] = without(run.news, path)
    return changes
