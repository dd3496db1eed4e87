"""What a run's history says of a step that asks: whether it asks now, what, and what was answered.

The edge looks here before it says anything to the run's owner, who alone decides.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

from msgspec import Struct, structs

from chassis.ports import Blobs
from contracts.codec import Decoder, decode_commit
from contracts.limits import Sha256, StepPath
from contracts.payloads import Inline
from contracts.runs import (
    Actor,
    ApprovalDecided,
    ApprovalEscalated,
    CallReceived,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunEvent,
    RunFailed,
    RunReopened,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)

Standing: TypeAlias = Literal["unknown", "not_open", "open", "answered", "over"]


class Heard(Struct, frozen=True, kw_only=True):
    """Who answered, and the hash of what."""

    by: Actor
    request: Sha256


class Asked(Struct, frozen=True, kw_only=True):
    """One step, as far as its run's history tells."""

    known: bool = False
    """Whether there is such a run, with all of its history."""
    wait: WaitOpened | None = None
    """The wait that was opened last."""
    open: bool = False
    escalated: bool = False
    answer: CallReceived | ApprovalDecided | None = None
    """Where the history that was read still has it."""
    heard: Heard | None = None
    """Who answered, and the hash of what."""
    ended: bool = False

    def standing(self, now: datetime) -> Standing:
        """How it is now. Whoever owns the run may know better."""
        if not self.known:
            return "unknown"
        if self.heard is not None:
            return "answered"
        if self.ended or (self.wait is not None and not self.open):
            return "over"
        if self.wait is None:
            return "not_open"
        return "over" if self.wait.due is not None and now >= self.wait.due else "open"

    def was_answered_by(self, actor: Actor, request: Sha256) -> bool:
        """Whether it was this very answer that counted."""
        return self.heard == Heard(by=actor, request=request)


def asked(history: Iterable[bytes], step: StepPath, at_seam: Asked | None = None) -> Asked:
    """From the bodies of a run's commits, from the first one on or from a seam. Raises `Malformed` or `Unknown`."""
    told = at_seam or Asked()
    for body in history:
        commit = decode_commit(body)
        if not told.known and commit.version != 1:
            # Its beginning has left the log, as that of ended runs does.
            return Asked(known=True, ended=True)
        told = structs.replace(told, known=True)
        for event in commit.events:
            told = _folded(told, event, step)
    return told


async def asked_in_log(history: Sequence[bytes], step: StepPath, blobs: Blobs) -> Asked:
    """The same of what the log has: of a long run that goes on, what is before a seam may be gone."""
    first = decode_commit(history[0]) if history else None
    if first is None or first.version == 1 or not isinstance(seam := first.events[0], RunContinued):
        return asked(history, step)
    state = seam.state
    data = bytes(state.value) if isinstance(state, Inline) else await blobs.get(state)
    return asked(history, step, _at_seam(_decode(data), step))


class _Step(Struct, frozen=True):
    status: str = "pending"
    heard: Heard | None = None


class _State(Struct, frozen=True):
    """As much of what the engine remembers of a run as is asked for here."""

    waits: dict[str, WaitOpened] = {}
    steps: dict[str, _Step] = {}


_KINDS: Final = ("approval", "call")
_decode: Final = Decoder[_State](_State)


def _at_seam(state: _State, step: StepPath) -> Asked:
    wait = next((state.waits[name] for kind in _KINDS if (name := f"{kind}:{step}") in state.waits), None)
    known = state.steps.get(step, _Step())
    escalates = wait is not None and wait.approval is not None and wait.approval.escalates is not None
    return Asked(
        known=True,
        wait=wait,
        open=wait is not None,
        escalated=escalates and f"escalation:{step}" not in state.waits,
        heard=known.heard,
        ended=wait is None and known.status not in ("pending", "waiting"),
    )


def _folded(told: Asked, event: RunEvent, step: StepPath) -> Asked:
    match event:
        case WaitOpened(kind="call" | "approval") if event.step == step:
            return Asked(known=True, wait=event, open=True)
        case CallReceived() | ApprovalDecided() if event.step == step:
            heard = Heard(by=event.by, request=event.request)
            return structs.replace(told, answer=event, heard=heard, open=False)
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
