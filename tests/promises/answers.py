"""What the promises mean for approvals and calls: the first answer in time counts, for its step, and no other."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from contracts import runs
from contracts.waits import LINK, Approval
from tests.promises.evidence import Evidence, History, Violation


def what_was_answered_counts_once(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """Whoever was told that an answer counts, or counted before, finds it in the history."""
    recorded = {
        (history.run, event.step, event.by, event.request)
        for history in histories
        for event in history.events
        if isinstance(event, runs.CallReceived | runs.ApprovalDecided)
    }
    for told in evidence.answered:
        if (told.run, told.step, told.by, told.request) not in recorded:
            yield Violation("P1", f"an answer to {told.step} was {told.result}, and is not there", told.run)


def only_what_somebody_meant_counts(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """Looking at a question decides nothing, and nobody else's word is taken for an answer."""
    if evidence.meant is None:
        return
    meant = {(each.run, each.step, each.by, each.request) for each in evidence.meant}
    for history in histories:
        for event in history.events:
            if (
                isinstance(event, runs.CallReceived | runs.ApprovalDecided)
                and (history.run, event.step, event.by, event.request) not in meant
            ):
                yield Violation(
                    "P2", f"{event.by} answered {event.step}, and meant nothing of it", history.run
                )


def only_answers_in_time_count(_evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """An answer ends the wait that it names while it is open, by who is asked, before its time is over, and nothing else does."""
    for history in histories:
        desk = _Desk(history.run)
        for commit in history.commits:
            for event in commit.events:
                yield from desk.hear(event, commit.time)
        if history.state.parked is None:
            for step in desk.answered:
                yield Violation("P3", f"{step} was answered, and nothing followed", history.run)


class _Desk:
    """Which steps of a run ask, as its events say it."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._open: dict[str, runs.WaitOpened] = {}
        self._escalated: set[str] = set()
        self.answered: dict[str, runs.CallReceived | runs.ApprovalDecided] = {}
        """Steps whose wait was answered, and that have not gone on yet."""

    def hear(self, event: runs.RunEvent, at: datetime) -> Iterator[Violation]:
        match event:
            case runs.WaitOpened(kind="call" | "approval"):
                self._open[event.wait] = event
            case runs.CallReceived() | runs.ApprovalDecided():
                yield from self._hear_answer(event, at)
            case runs.ApprovalEscalated():
                if event.wait not in self._open:
                    yield Violation("P3", f"{event.wait} was escalated, and asks nobody", self._run)
                self._escalated.add(event.wait)
            case runs.WaitEnded() | runs.WaitDropped():
                self._open.pop(event.wait, None)
                self._escalated.discard(event.wait)
            case runs.StepSucceeded():
                yield from self._went_on(event)
            case runs.StepCancelled():
                self.answered.pop(event.step, None)

    def _hear_answer(
        self, event: runs.CallReceived | runs.ApprovalDecided, at: datetime
    ) -> Iterator[Violation]:
        wait = self._open.pop(event.wait, None)
        if wait is None or wait.step != event.step:
            yield Violation("P2", f"{event.wait} was answered by {event.by}, and is not open", self._run)
            return
        if wait.due is not None and at >= wait.due:
            yield Violation("P3", f"{event.wait} was answered at {at}, and was due at {wait.due}", self._run)
        escalated = event.wait in self._escalated
        if wait.approval and not _was_asked(wait.approval, event.by, escalated=escalated):
            yield Violation("P3", f"{event.by} decided {event.wait}, and was not asked", self._run)
        self._escalated.discard(event.wait)
        self.answered[event.step] = event

    def _went_on(self, event: runs.StepSucceeded) -> Iterator[Violation]:
        if any(wait.step == event.step for wait in self._open.values()):
            yield Violation("P3", f"{event.step} went on, and nobody had answered", self._run)
        answer = self.answered.pop(event.step, None)
        match answer:
            case runs.ApprovalDecided() if event.ports != (answer.decision,):
                yield Violation(
                    "P3", f"{event.step} was {answer.decision}, and went on by {event.ports}", self._run
                )
            case runs.CallReceived() if event.ports != ("main",) or event.output != answer.body:
                yield Violation("P3", f"{event.step} was called, and went on with something else", self._run)


def _was_asked(approval: Approval, by: str, *, escalated: bool) -> bool:
    if by == LINK:
        return approval.by_link
    asked = [*approval.deciders, *(approval.escalate_to if escalated else [])]
    return by in asked if approval.deciders else True
