"""What came of a run and of its nodes, read from its history: for pins, for cases, and to judge by."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from chassis.archive import Lying
from contracts.cases import Pin
from contracts.codec import decode_commit
from contracts.commits import Commit
from contracts.errors import Failure
from contracts.limits import RECORDED_BYTES, PortName
from contracts.payloads import NULL, Payload
from contracts.runs import (
    TERMINAL,
    AttemptScheduled,
    ChildEnded,
    DoubtResolved,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunReopened,
    RunResponded,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepPinned,
    StepReported,
    StepSkipped,
    StepStatus,
    StepSucceeded,
    WaitOpened,
    beginning,
)
from gateway.rejected import Rejected, absent

COMMITS_AT_ONCE: Final = 20


class StepOutcome(Struct, frozen=True, kw_only=True):
    """How a node of the workflow's own ended, if it did."""

    status: StepStatus = "pending"
    ports: tuple[PortName, ...] = ()
    output: Payload = NULL
    error: Failure | None = None
    sent: Payload | None = None
    """With which configuration the last attempt was made, or would have been."""
    waited: bool = False
    """For the clock, a person or another program."""

    def given(self) -> Payload | None:
        """What the node gave to those behind it."""
        return self.output if self.status == "succeeded" else None

    def pin(self) -> Pin | None:
        """What stands for the node in another run; None: nobody knows."""
        match self.status:
            case "succeeded":
                return Pin(output=self.output, ports=self.ports, waited=self.waited)
            case "failed" if self.error is not None:
                return Pin(error=self.error, waited=self.waited)
            case "skipped":
                return Pin(skipped=True)
        return None


class Outcome(Struct, frozen=True, kw_only=True):
    """A run as far as it has come."""

    started: RunStarted
    key_id: str
    """Names the salt under which values of the run are sealed; empty when nothing is."""
    began: datetime
    last: datetime
    status: str = "running"
    output: Payload = NULL
    error: Failure | None = None
    steps: Mapping[str, StepOutcome] = {}

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    def pins(self) -> dict[str, Pin]:
        return {name: pin for name, step in self.steps.items() if (pin := step.pin()) is not None}


async def outcome_of(pages: AsyncIterator[Sequence[Lying]]) -> Outcome:
    """Fold a whole history, and let others have their turn meanwhile.

    Raises `Rejected` where there is none, or its beginning is gone, or it is too long; and `Unknown`.
    """
    outcome: Outcome | None = None
    steps: dict[str, StepOutcome] = {}
    number = size = 0
    async for page in pages:
        for lying in page:
            number, size = number + 1, size + len(lying.body)
            if size > RECORDED_BYTES:
                raise Rejected("too_large", f"The run's history has more than {RECORDED_BYTES} bytes.")
            commit = decode_commit(lying.body)
            outcome = outcome or _begun(commit)
            for event in commit.events:
                outcome = _folded(outcome, steps, event)
            outcome = structs.replace(outcome, last=commit.time)
            if not number % COMMITS_AT_ONCE:
                await asyncio.sleep(0)
    if outcome is None:
        raise absent("run")
    return structs.replace(outcome, steps=steps)


def _begun(first: Commit[RunEvent]) -> Outcome:
    started = beginning(first.events)
    if started is None or first.version != 1:
        raise Rejected("not_found", "The beginning of the run's history is no longer kept.")
    return Outcome(started=started, key_id=first.key_id, began=first.time, last=first.time)


def _folded(outcome: Outcome, steps: dict[str, StepOutcome], event: RunEvent) -> Outcome:
    change = _STEPS.get(type(event))
    path, inner, _ = str(getattr(event, "step", None) or "").partition("[")
    # Of what lies in a map it is only told whether anything there has waited: the map is one node.
    if path and change is not None and (not inner or isinstance(event, WaitOpened)):
        steps[path] = structs.replace(steps.get(path, StepOutcome()), **change(event))
    match event:
        case RunCompleted():
            return structs.replace(outcome, status="completed", output=event.output)
        case RunFailed():
            return structs.replace(outcome, status="failed", error=event.error)
        case RunCancelled():
            return structs.replace(outcome, status="cancelled")
        case RunReopened():
            return structs.replace(outcome, status="running", error=None)
    return outcome


def _succeeded(event: StepSucceeded) -> dict[str, Any]:
    # An action's output was told before, by whoever brought it.
    told = {} if event.output is None else {"output": event.output}
    return {"status": "succeeded", "ports": event.ports, "error": None, **told}


_OWN_WAITS: Final = frozenset({"retry", "grace", "turn"})
"""In which nobody is waited for."""
_STEPS: Final[Mapping[type, Callable[[Any], dict[str, Any]]]] = {
    AttemptScheduled: lambda event: {"sent": event.config},
    StepPinned: lambda event: {"sent": event.config},
    WaitOpened: lambda event: {} if event.kind in _OWN_WAITS else {"waited": True},
    StepReported: lambda event: {"output": event.output},
    DoubtResolved: lambda event: {"output": event.output},
    ChildEnded: lambda event: {"output": event.output},
    RunResponded: lambda event: {"output": event.body},
    StepSucceeded: _succeeded,
    StepFailed: lambda event: {"status": "failed", "error": event.error},
    StepSkipped: lambda _: {"status": "skipped"},
    StepCancelled: lambda _: {"status": "cancelled"},
}
