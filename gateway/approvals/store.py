"""Takes decisions: looked at here for whoever made them, decided by the run's owner."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from chassis.asked import Asked, asked
from chassis.clock import Clock
from chassis.decisions import hash_of, kept_of
from chassis.edge.problems import Complaint, Problem
from chassis.questions import complaints, from_json
from contracts.codec import decode_commit, encode
from contracts.forms import questions_in
from contracts.limits import ANSWER_BYTES
from contracts.messages import DecideApproval
from contracts.runs import WaitOpened
from contracts.waits import Approval, may_decide
from gateway.approvals.views import Decide, DecidedView
from gateway.callers import Caller
from gateway.rejected import absent
from gateway.runs.histories import Histories
from gateway.runs.store import Runs
from gateway.sealing import Sealing


class Approvals:
    def __init__(self, runs: Runs, histories: Histories, sealing: Sealing, clock: Clock) -> None:
        self._runs, self._histories, self._sealing, self._clock = runs, histories, sealing, clock

    async def decide(self, caller: Caller, run: str, wanted: Decide) -> DecidedView:
        """The first decision counts; said again by the same person it is the same answer."""
        history = await self._history(caller.org, run)
        step = wanted.step or _only_question(history)
        told = asked(history, step)
        approval = told.wait.approval if told.wait is not None else None
        if approval is None:
            raise absent("approval")
        marks, comment = approval.sensitive, wanted.comment
        sealer = await self._sealing.sealer(caller.org, run, marks)
        request = hash_of([wanted.decision, wanted.fields, comment], sealer)
        before = DecidedView(run=run, step=step, decision=wanted.decision, status="unchanged")
        if told.was_answered_by(caller.actor, request):
            return before
        fields = self._checked(caller, told, approval, wanted)
        kept = kept_of(fields, comment, marks, sealer)
        message = DecideApproval(
            org=caller.org,
            run=run,
            trace=caller.trace,
            actor=caller.actor,
            step=step,
            decision=wanted.decision,
            request=request,
            fields=kept.fields,
            comment=kept.comment,
        )
        try:
            wished = await self._runs.wish(caller, message)
        except Problem:
            # What the owner has forgotten, the history knows: it may have been this very decision.
            if asked(await self._history(caller.org, run), step).was_answered_by(caller.actor, request):
                return before
            raise
        return structs.replace(before, status=wished.status)

    async def _history(self, org: str, run: str) -> Sequence[bytes]:
        kept = [lying.body async for page in self._histories.pages(org, run) for lying in page]
        if not kept:
            raise absent("run")
        return kept

    def _checked(self, caller: Caller, told: Asked, approval: Approval, wanted: Decide) -> dict[str, Any]:
        """What was filled in, as the form reads it. Raises `Problem`."""
        if told.standing(self._clock.now()) != "open":
            raise Problem("wait.over")
        if not may_decide(approval, caller.actor, escalated=told.escalated):
            raise Problem("approval.not_yours")
        checked = from_json(questions_in(approval.form), wanted.fields, may_deny=True)
        wrong = complaints(checked, "/fields")
        if len(encode(wanted.fields)) > ANSWER_BYTES:
            wrong.append(Complaint(pointer="/fields", message=f"This has at most {ANSWER_BYTES} bytes."))
        if "\0" in wanted.comment:
            wrong.append(Complaint(pointer="/comment", message="A NUL character."))
        if wrong:
            raise Problem("approval.bad_fields", errors=wrong)
        return checked.values


def _only_question(history: Sequence[bytes]) -> str:
    """The step of the one approval that is open; or of the only one that ever was."""
    asking = (
        event.step
        for body in history
        for event in decode_commit(body).events
        if isinstance(event, WaitOpened) and event.approval is not None and event.step
    )
    steps = list(dict.fromkeys(asking))
    found = [step for step in steps if asked(history, step).open] or steps
    if not found:
        raise absent("approval")
    if len(found) > 1:
        message = "The run asks several questions: name the step that is meant."
        raise Problem("malformed", errors=[Complaint(pointer="/step", message=message)])
    return found[0]
