"""What may be given to a worker outside, and what its word about an attempt means: pure, for every edge the same.

Rule that holds here: an attempt at something that must not be repeated blindly is given once. Given again it is only while
nobody has claimed it; who has claimed it and fell silent leaves the step in doubt.
"""

import contextlib
from typing import Any, Final, Literal, TypeAlias, assert_never

import msgspec
from msgspec import Struct

from chassis.standing import Standing
from contracts.errors import Failure
from contracts.limits import AttemptNumber, Id, Marks, NodeId, NodeType, OrgId, PoolName, Seconds, StepPath
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt, StepLetGo, Task
from contracts.nodes import Repeat
from contracts.payloads import Blob, Payload
from contracts.workers import Failed, GaveBack, InDoubt, LetGo, Report, Succeeded

Claimed: TypeAlias = Literal["nobody", "us", "another"]
"""Who has said “I begin this call now” of an attempt, as its holder sees it."""
Verdict: TypeAlias = Literal["give", "echo", "doubt", "let_go"]

WITHHELD: Final = "What the worker said is not told: a part of what it brings is marked as sensitive."


class Held(Struct, frozen=True, kw_only=True, array_like=True):
    """What a lease says: all that is needed to speak for a worker, sealed in its hands."""

    org: OrgId
    pool: PoolName
    run: Id
    step: StepPath
    node: NodeId
    node_type: NodeType
    attempt: AttemptNumber
    repeat: Repeat
    timeout_s: Seconds
    given_at: float
    """Unix seconds."""
    delivery: str
    """Names the task at JetStream."""
    claim: str
    """Under which this worker's call is begun; no other delivery has it."""
    trace: str = ""
    sensitive: Marks = ()
    """Places in the output that are sealed where it comes in."""

    @property
    def name(self) -> tuple[str, str, str, int]:
        return self.org, self.run, self.step, self.attempt


def verdict(task: Task, standing: Standing, claimed: Claimed) -> Verdict:
    """What becomes of a task that somebody asked for."""
    if standing == "closed":
        return "echo"
    acted = task.repeat == "no" and claimed != "nobody"
    if acted:
        return "doubt"
    return "let_go" if standing == "stopping" else "give"


def named_blob(config: Any, sha256: str) -> Blob | None:
    """The stored bytes with this name, where the configuration names them."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            blob = value.get("blob")
            if isinstance(blob, dict) and blob.get("sha256") == sha256:
                with contextlib.suppress(msgspec.ValidationError):
                    return msgspec.convert(blob, Blob)
            waiting += value.values()
    return None


def is_late(held: Held, now: float) -> bool:
    return now - held.given_at > held.timeout_s


def outcome(held: Held, report: Report, claimed: Claimed, output: Payload, took_ms: int) -> Outcome:
    """What the history is told. `claimed`: who has begun the call, by the ledger; `output` of a success, stored.

    That a call did not happen is the worker's to say only while its own claim keeps others from making it.
    """
    elsewhere = held.repeat == "no" and claimed == "another"
    match report:
        case Succeeded():
            return StepDone(**address(held), output=output, ports=report.ports, took_ms=took_ms)
        case Failed():
            if held.repeat == "no" and (elsewhere or (report.touched and claimed == "us")):
                return in_doubt(held, _told(held, report.message))
            error = _failure(held, _told(held, report.message), retryable=report.retryable)
            return StepBroken(
                **address(held), error=error, retry_after_s=report.retry_after_s, took_ms=took_ms
            )
        case InDoubt():
            if held.repeat == "no":
                return in_doubt(held, _told(held, report.message))
            # What may be repeated is no doubt: it is made again.
            return StepBroken(
                **address(held),
                error=_failure(held, _told(held, report.message), retryable=True),
                took_ms=took_ms,
            )
        case LetGo():
            effect = "possible" if elsewhere and report.effect == "none" else report.effect
            return StepLetGo(**address(held), effect=effect, detail=_told(held, report.message))
        case GaveBack():
            return in_doubt(held, "The worker gave back what had been begun.")
    assert_never(report)


def may_give_back(held: Held, claimed: Claimed) -> bool:
    """What was begun and must not be repeated is not given to another."""
    return held.repeat != "no" or claimed == "nobody"


def too_late(held: Held, claimed: Claimed) -> Outcome:
    """The attempt's time is over and its worker is still at it."""
    acted = held.repeat == "no" and claimed != "nobody"
    error = Failure(
        code="attempt.timeout",
        message="The attempt did not end in time.",
        retryable=True,
        node=held.node,
    )
    if acted:
        return StepInDoubt(**address(held), error=error)
    return StepBroken(**address(held), error=error, took_ms=int(held.timeout_s * 1000))


def in_doubt(held: Held, message: str) -> StepInDoubt:
    error = Failure(code="unreachable", message=_plain(message), node=held.node)
    return StepInDoubt(**address(held), error=error)


def refused(held: Held, code: str, message: str) -> StepBroken:
    """No worker is given this task."""
    return StepBroken(**address(held), error=Failure(code=code, message=message, node=held.node))


def let_go(held: Held) -> StepLetGo:
    """The run stops, and nobody has begun."""
    return StepLetGo(
        **address(held), effect="none", detail="The attempt was stopped before it was given to anybody."
    )


def address(held: Held) -> dict[str, Any]:
    return {
        "org": held.org,
        "run": held.run,
        "step": held.step,
        "attempt": held.attempt,
        "executor": held.claim,
        "trace": held.trace,
    }


def _failure(held: Held, message: str, *, retryable: bool) -> Failure:
    return Failure(code="worker.failed", message=_plain(message), retryable=retryable, node=held.node)


def _told(held: Held, message: str) -> str:
    """Where something is marked and nothing was brought, nobody knows whether it stands in the worker's words."""
    return WITHHELD if held.sensitive and message else message


def _plain(message: str) -> str:
    """A stranger's words, as the history can keep them."""
    kept = "".join(character for character in message if character.isprintable() or character in "\n\t")
    return kept or "The worker gave no reason."
