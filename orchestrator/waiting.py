"""What a run that goes on waits for, by name; and what must exist in the world for it to go on."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from contracts.limits import Id, SignalName, StepPath
from contracts.runs import AttemptScheduled, ChildAsked, WaitOpened
from orchestrator.state import Run


class Outstanding(Struct, frozen=True, kw_only=True):
    """What TASKS and INBOX must hold for the run now, and whom it asked for; emitted again when it may have been lost."""

    attempts: Sequence[AttemptScheduled]
    waits: Sequence[WaitOpened]
    children: Sequence[ChildAsked]


class WaitingFor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that must come before the run goes on."""

    kind: Literal[
        "start",
        "attempt",
        "delay",
        "retry",
        "grace",
        "signal",
        "turn",
        "call",
        "approval",
        "escalation",
        "child",
        "slot",
        "decision",
        "release",
        "person",
    ]
    """`decision`: a step is in doubt. `release`, `person`: the run is parked. `start`: a run must be there, this one or
    `run`."""
    name: str
    step: StepPath | None = None
    due: datetime | None = None
    signal: SignalName | None = None
    """What somebody has to say, by kind `signal`."""
    question: str | None = None
    """What somebody has to decide, by kind `approval`."""
    run: Id | None = None
    """The run that must end, by kind `child`."""
    gate: Id | None = None
    """What has to let it in, by kind `slot`."""
    limit: str = ""
    """The name of that limit in the workflow."""
    key: str = ""
    """Whose gate it is, where each key has its own."""
    held: str = ""
    """Why an attempt is not asked for yet; empty: it is."""


def outstanding(run: Run) -> Outstanding:
    """Attempts under way and open waits. A parked run's too: what they bring is recorded and decided on later."""
    if not run.active:
        return Outstanding(attempts=(), waits=(), children=())
    return Outstanding(
        attempts=tuple(run.attempts.values()),
        waits=tuple(run.waits.values()),
        children=tuple(run.children.values()),
    )


def waiting_for(run: Run) -> list[WaitingFor]:
    """Never empty while the run has not ended."""
    if run.parked is not None:
        needs = run.parked.needs_release
        return [WaitingFor(kind="release" if needs else "person", name=needs or run.parked.reason)]
    if run.phase == "queued":
        return [WaitingFor(kind="start", name="run.start")]
    if not run.active:
        return []
    found = [
        WaitingFor(kind="attempt", name=f"{path}/{attempt.attempt}", step=path)
        for path, attempt in run.attempts.items()
    ]
    found += [
        WaitingFor(
            kind=wait.kind,
            name=name,
            step=wait.step,
            due=wait.due,
            signal=wait.signal,
            question=wait.approval.question if wait.approval else None,
            run=_child(run, wait.step),
            gate=wait.slot.gate if wait.slot else None,
            limit=wait.slot.name if wait.slot else "",
            key=wait.slot.key if wait.slot else "",
        )
        for name, wait in run.waits.items()
    ]
    found += [
        WaitingFor(kind="decision", name=f"{path}/{attempt}", step=path)
        for path, attempt in run.doubts.items()
    ]
    return found


def _child(run: Run, path: StepPath | None) -> Id | None:
    asked = run.children.get(path) if path is not None else None
    return asked.child if asked is not None else None
