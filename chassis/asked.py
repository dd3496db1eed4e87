"""What a run's history says of a step that asks: whether it asks now, what, and what was answered.

The edge looks here before it says anything to the run's owner, who alone decides.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct, structs

from contracts.codec import decode_commit
from contracts.limits import Sha256, StepPath
from contracts.runs import (
    Actor,
    ApprovalDecided,
    ApprovalEscalated,
    CallReceived,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunReopened,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)

Standing: TypeAlias = Literal["unknown", "not_open", "open", "answered", "over"]


class Asked(Struct, frozen=True, kw_only=True):
    """One step, as far as its run's history tells."""

    known: bool = False
    """Whether there is such a run, with all of its history."""
    wait: WaitOpened | None = None
    """The wait that was opened last."""
    open: bool = False
    escalated: bool = False
    answer: CallReceived | ApprovalDecided | None = None
    ended: bool = False

    def standing(self, now: datetime) -> Standing:
        """How it is now. Whoever owns the run may know better."""
        if not self.known:
            return "unknown"
        if self.answer is not None:
            return "answered"
        if self.ended or (self.wait is not None and not self.open):
            return "over"
        if self.wait is None:
            return "not_open"
        return "over" if self.wait.due is not None and now >= self.wait.due else "open"

    def was_answered_by(self, actor: Actor, request: Sha256) -> bool:
        """Whether it was this very answer that counted."""
        return self.answer is not None and (self.answer.by, self.answer.request) == (actor, request)


def asked(history: Iterable[bytes], step: StepPath) -> Asked:
    """From the bodies of a run's commits. Raises `Malformed` or `Unknown`."""
    told = Asked()
    for body in history:
        commit = decode_commit(body)
        if not told.known and commit.version != 1:
            return Asked(
                known=True, ended=True
            )  # Its beginning has left the log, as that of ended runs does.
        told = structs.replace(told, known=True)
        for event in commit.events:
            told = _folded(told, event, step)
    return told


def _folded(told: Asked, event: RunEvent, step: StepPath) -> Asked:
    match event:
        case WaitOpened(kind="call" | "approval") if event.step == step:
            return Asked(known=True, wait=event, open=True)
        case CallReceived() | ApprovalDecided() if event.step == step:
            return structs.replace(told, answer=event, open=False)
        case ApprovalEscalated() if event.step == step:
            return structs.replace(told, escalated=True)
        case WaitEnded() | WaitDropped() if told.wait is not None and event.wait == told.wait.wait:
            return structs.replace(told, open=False)
        case RunCompleted() | RunFailed() | RunCancelled():
            return structs.replace(told, ended=True)
        case RunReopened():
            return Asked(known=True) if step in event.steps else structs.replace(told, ended=False)
        case _:
            return told
