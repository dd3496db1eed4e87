"""What is said to a run's owner for each thing that happens to the run."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from msgspec import structs

from chassis.ids import digest
from contracts import errors, messages
from contracts.codec import encode
from contracts.messages import Message
from contracts.payloads import Payload
from contracts.waits import CALLER
from orchestrator.kinship import child_of
from orchestrator.run import Run
from orchestrator.standing_for import BatchInput
from tests.conformance import case as told
from tests.conformance.case import Happening

EXECUTOR: Final = "executor:1"
PERSON: Final = "key:1"
Keep: TypeAlias = Callable[[bytes], Payload]
"""Puts a value where whoever brings it puts it: a large one into the store, before anybody hears of it."""


def said(happening: Happening, run: Run, keep: Keep) -> Message:
    """The message, about the run as it is now."""
    return _SAID[type(happening)](happening, run, keep)


# --- Executors --------------------------------------------------------------------------------


def _attempt(happening: Any, run: Run) -> dict[str, Any]:
    step: str = happening.step
    attempt = happening.attempt or max(run.step(step).attempt, 1)
    return {"org": run.org, "run": run.id, "step": step, "attempt": attempt, "executor": EXECUTOR}


def _done(success: told.Success, run: Run, keep: Keep) -> Message:
    output = encode("x" * success.large_output) if success.large_output else bytes(success.output)
    return messages.StepDone(**_attempt(success, run), output=keep(output), ports=success.ports)


def _broken(failure: told.Failure, run: Run, _keep: Keep) -> Message:
    error, after = _error(failure.error), failure.retry_after_s
    return messages.StepBroken(**_attempt(failure, run), error=error, retry_after_s=after)


def _doubted(doubt: told.Doubt, run: Run, _keep: Keep) -> Message:
    return messages.StepInDoubt(**_attempt(doubt, run), error=_error(doubt.error))


def _let_go(letting: told.LettingGo, run: Run, _keep: Keep) -> Message:
    return messages.StepLetGo(**_attempt(letting, run), effect=letting.effect)


def _error(error: told.Error) -> errors.Failure:
    return errors.Failure(code=error.code, message=error.message, retryable=error.retryable)


# --- Time -------------------------------------------------------------------------------------


def _woken(wake: told.WakeUp, run: Run, _keep: Keep) -> Message:
    return messages.Wake(org=run.org, run=run.id, wait=wake.wait)


def _looked(_look: told.Look, run: Run, _keep: Keep) -> Message:
    return messages.Look(org=run.org, run=run.id)


# --- People -----------------------------------------------------------------------------------


def _wish(run: Run) -> dict[str, Any]:
    return {"org": run.org, "run": run.id, "actor": PERSON}


def _meant(run: Run, opening: int | None) -> int:
    """A wish names the opening that it means, as the API makes it do."""
    return run.opening if opening is None else opening


def _cancelled(cancellation: told.Cancellation, run: Run, _keep: Keep) -> Message:
    opening = _meant(run, cancellation.opening)
    return messages.CancelRun(**_wish(run), opening=opening, reason=cancellation.reason)


def _retried(retry: told.Retry, run: Run, _keep: Keep) -> Message:
    return messages.RetryRun(**_wish(run), opening=_meant(run, retry.opening), steps=retry.steps)


def _resolved(resolution: told.Resolution, run: Run, keep: Keep) -> Message:
    doubted = run.doubts.get(resolution.step, 0)
    return messages.ResolveDoubt(
        **_wish(run),
        step=resolution.step,
        attempt=doubted if resolution.attempt is None else resolution.attempt,
        resolution=resolution.resolution,
        output=keep(bytes(resolution.output)),
    )


def _signalled(saying: told.Saying, run: Run, keep: Keep) -> Message:
    return messages.SendSignal(
        **_wish(run),
        signal=saying.signal,
        key=saying.key,
        request=digest(encode((saying.signal, saying.body))),
        body=keep(bytes(saying.body)),
        is_sealed=saying.is_sealed,
    )


def _decided(decision: told.Decision, run: Run, keep: Keep) -> Message:
    return messages.DecideApproval(
        org=run.org,
        run=run.id,
        actor=decision.by,
        step=decision.step,
        decision=decision.decision,
        request=digest(encode((decision.decision, decision.fields, decision.comment))),
        fields=keep(bytes(decision.fields)),
        comment=decision.comment,
        name=decision.name,
    )


def _called(call: told.Call, run: Run, keep: Keep) -> Message:
    body = bytes(call.body)
    return messages.CallWait(
        org=run.org, run=run.id, actor=CALLER, step=call.step, request=digest(body), body=keep(body)
    )


# --- Runs of other workflows --------------------------------------------------------------------


def _child(happening: Any, run: Run) -> dict[str, Any]:
    step: str = happening.step
    attempt = happening.attempt or max(run.step(step).attempt, 1)
    return {"org": run.org, "run": run.id, "step": step, "child": child_of(run, step, attempt)}


def _child_begun(begun: told.ChildBegun, run: Run, _keep: Keep) -> Message:
    return messages.ChildStarted(**_child(begun, run))


def _child_ended(end: told.ChildEnd, run: Run, keep: Keep) -> Message:
    return messages.ChildOver(
        **_child(end, run),
        outcome=end.outcome,
        output=keep(bytes(end.output)),
        error=_error(end.error) if end.error is not None else None,
    )


# --- Gates --------------------------------------------------------------------------------------


def _gate(run: Run, limit: str = "") -> str:
    """The one at which the run stands, or has been let in by."""
    standing = [wait.slot for wait in run.waits.values() if wait.slot is not None]
    found = [slot.gate for slot in (*standing, *run.slots) if limit in ("", slot.name)]
    return found[0] if found else "nowhere"


def _let_in(letting: told.LettingIn, run: Run, keep: Keep) -> Message:
    given = messages.GiveSlot(
        org=run.org, run=run.id, gate=_gate(run, letting.limit), opening=letting.opening or run.opening
    )
    if letting.batch is None:
        return given
    batch = BatchInput(body=list(letting.batch), runs=[run.id])
    return structs.replace(given, input=keep(encode(batch)))


def _turned_away(turning: told.TurningAway, run: Run, _keep: Keep) -> Message:
    return messages.RefuseSlot(
        org=run.org, run=run.id, gate=_gate(run), opening=run.opening, why=turning.why, by=turning.by
    )


def _unparked(_unparking: told.Unparking, run: Run, _keep: Keep) -> Message:
    return messages.UnparkRun(**_wish(run))


_SAID: Final[Mapping[type, Callable[[Any, Run, Keep], Message]]] = {
    told.Success: _done,
    told.Failure: _broken,
    told.Doubt: _doubted,
    told.LettingGo: _let_go,
    told.WakeUp: _woken,
    told.Look: _looked,
    told.Cancellation: _cancelled,
    told.Retry: _retried,
    told.Resolution: _resolved,
    told.Saying: _signalled,
    told.Decision: _decided,
    told.Call: _called,
    told.ChildBegun: _child_begun,
    told.ChildEnd: _child_ended,
    told.LettingIn: _let_in,
    told.TurningAway: _turned_away,
    told.Unparking: _unparked,
}
