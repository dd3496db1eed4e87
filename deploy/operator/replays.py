"""What a replay found, as lines for people: a state, or the first place where history and decisions part."""

from typing import TYPE_CHECKING

from contracts.codec import encode
from contracts.runs import RunEvent
from deploy.commands.here import table
from deploy.operator.timeline import preview, tag, words
from orchestrator.history import Divergence
from orchestrator.state import Run
from orchestrator.waiting import waiting_for

if TYPE_CHECKING:
    from deploy.operator.redeciding import Parting


def state_lines(run: Run) -> list[str]:
    """The state as the engine folds it."""
    lines = [
        f"run       {run.id}",
        f"status    {run.status}",
        f"workflow  {run.workflow} version {run.version}, plan {run.plan[:12]}…",
        f"opened    {run.opening} times" if run.opening > 1 else f"input     {preview(run.input)}",
    ]
    if run.error is not None:
        lines.append(f"error     {run.error.code}: {run.error.message}")
    lines += [f"waits for {each.kind} {each.name}" for each in waiting_for(run)]
    rows = [
        (path, step.status, str(step.attempt or ""), ", ".join(step.ports), preview(step.output))
        for path, step in run.steps.items()
    ]
    return [*lines, "", *table(rows, ("STEP", "STATUS", "ATTEMPT", "PORTS", "OUTPUT"))]


def divergence_lines(run: str, events: int, divergence: Divergence | None) -> list[str]:
    if divergence is None:
        return [f"run {run} replays: {events} events, every decision is the one that was recorded"]
    fact = divergence.fact
    return [
        f"run {run} parts from its history at event {divergence.event} (commit {divergence.version})",
        f"  decided on    {'nothing' if fact is None else f'{tag(fact)} {words(fact)}'}",
        f"  recorded      {_told(divergence.recorded)}",
        f"  decided anew  {_told(divergence.recomputed)}",
    ]


def parting_lines(parting: "Parting") -> list[str]:
    """A run that this release decides differently, or cannot decide at all."""
    name = f"{parting.org}/{parting.run}"
    lines = [f"run {name}: {parting.reason}"] if parting.reason else []
    if parting.divergence is not None:
        lines += divergence_lines(name, 0, parting.divergence)
    return lines


def _told(event: RunEvent | None) -> str:
    return "nothing" if event is None else encode(event).decode()
