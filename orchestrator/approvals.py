"""What came of an approval, and who may decide it now."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Raw

from contracts.codec import decode_json, encode
from contracts.limits import StepPath, WaitName
from contracts.payloads import Inline, Payload
from contracts.runs import ApprovalDecided, WaitOpened
from orchestrator.state import Run


def approval_wait(step: StepPath) -> WaitName:
    return f"approval:{step}"


def escalation_wait(step: StepPath) -> WaitName:
    return f"escalation:{step}"


def call_wait(step: StepPath) -> WaitName:
    return f"call:{step}"


def escalated(run: Run, wait: WaitOpened) -> bool:
    """Whether the others are asked as well by now."""
    asked = wait.approval is not None and wait.approval.escalates is not None
    return asked and escalation_wait(wait.step or "") not in run.waits


def to_drop(run: Run) -> Iterator[WaitName]:
    """The waits whose end has to be said: that of an approval is the end of its escalation, too."""
    return (name for name, wait in run.waits.items() if wait.kind != "escalation")


def came_of_it(decided: ApprovalDecided) -> Payload:
    """The step's output: the decision, what was filled in, and who it was."""
    fields = decode_json(decided.fields.value) if isinstance(decided.fields, Inline) else {}
    named = {"name": decided.name} if decided.name else {}
    return _output(decided.decision, fields, decided.by, decided.on, decided.comment, **named)


def undecided(wait: WaitOpened) -> Payload:
    """The same when nobody decided in time."""
    return _output("timeout", {}, None, wait.due, "")


def _output(
    decision: str, fields: object, by: str | None, at: datetime | None, comment: str, **more: str
) -> Payload:
    said = {"decision": decision, "fields": fields, "by": by, "at": at, "comment": comment} | more
    return Inline(value=Raw(encode(said)))
