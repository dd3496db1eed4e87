"""A run's past, looked at again: its state after any event, and whether deciding anew gives what was decided then.

Facts are taken as they stand, but for what a seam says of the events before it; every consequence is computed anew and compared. What expressions gave is served from the
record, so a replay needs the plan and nothing else, on any later release. With an evaluator of the caller's, expressions
are computed anew as well.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import Struct, structs

from contracts.commits import Commit
from contracts.errors import Failure
from contracts.gates import FlowLimit, SlotWanted
from contracts.limits import ITEMS_PER_PAGE, Positive, StepPath
from contracts.payloads import NULL, Blob, Inline, Payload
from contracts.plans import PlanNode
from contracts.runs import (
    AttemptScheduled,
    ChildAsked,
    Decision,
    Fact,
    HandlerAsked,
    HandlerRefused,
    ItemDone,
    ItemsBegan,
    ItemsKept,
    ItemsOpened,
    ItemsPaged,
    RunCompleted,
    RunContinued,
    RunEvent,
    RunFailed,
    RunResponded,
    StepFailed,
    StepPinned,
    StepSucceeded,
    UndoKept,
    WaitOpened,
)
from contracts.waits import Approval, AwaitedCall
from contracts.workflows import PRIORITY
from orchestrator.catalogue import STARTS_RUNS
from orchestrator.containers import turn_wait
from orchestrator.control import (
    Answered,
    Asking,
    Called,
    Delayed,
    Expecting,
    Fanned,
    Listening,
    Looped,
    Outcome,
    Passed,
)
from orchestrator.decisions import decide
from orchestrator.evaluate import Evaluate
from orchestrator.evolution import evolve
from orchestrator.passing import wanted
from orchestrator.paths import ItemPath, container_of
from orchestrator.readiness import Graph
from orchestrator.segments import FORMAT, continued
from orchestrator.state import Run
from orchestrator.undoing import called_by

D = TypeVar("D")


class Divergence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first place where deciding anew gave something else than the history says."""

    event: Positive
    """Number of the event in the history, counted from 1; one more than its length when an event is missing."""
    version: Positive
    """The commit in which it lies."""
    fact: Fact | None
    """What was decided on. None: the commit begins with a consequence of nothing."""
    recorded: Decision | RunContinued | None = None
    """A seam: what it says is not the fold of the events before it."""
    recomputed: Decision | RunContinued | None = None


class _Turn(Struct, frozen=True, kw_only=True):
    """One fact and what followed from it."""

    number: int
    """Of the first consequence."""
    version: int
    at: datetime
    fact: Fact | None
    decisions: Sequence[Decision]


class Recorded:
    """Evaluates nothing: gives what the history says was the result, and `null` where it says nothing.

    Where it says nothing, it also holds no event like the one that is recomputed: that is the divergence.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._decisions = decisions
        # A turn holds hundreds of them, and each is asked for several times.
        self._first: dict[tuple[Any, ...], Decision] = {}
        for event in decisions:
            for name in _names(event):
                self._first.setdefault(name, event)

    def config(self, _run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        undo = self._said(UndoKept, path)
        if undo is not None:
            return undo.error or undo.config or NULL
        scheduled = self._said(AttemptScheduled, path) or self._said(StepPinned, path)
        if scheduled is not None:
            return scheduled.config
        failed = self._failure(path)
        if (
            node.pin is not None and failed == node.pin.error
        ):  # Said beforehand, so evaluating did not bring it.
            return NULL
        return failed or NULL

    def control(self, _run: Run, path: StepPath, node: PlanNode, at: datetime) -> Outcome | Failure:
        if node.contains:
            return self._contained(path, node)
        answer = self._said(RunResponded, path)
        if answer is not None:
            return Answered(status=answer.status, headers=answer.headers, body=answer.body)
        wait = self._said(WaitOpened, path)
        if node.type in _AWAITED and self._said(StepFailed, path) is None:
            return _awaited(node, wait)
        if node.type == STARTS_RUNS:
            return self._call(path, wait, at)
        if wait is not None and wait.due is not None:
            return Delayed(due=wait.due)
        done = self._said(StepSucceeded, path)
        if done is not None:
            return Passed(output=done.output or NULL, ports=done.ports)
        return self._failure(path) or Passed(output=NULL)

    def passed_on(self, _run: Run, path: StepPath, _node: PlanNode) -> Payload | Failure:
        done = self._said(StepSucceeded, path)
        return (done.output if done is not None else self._failure(path)) or NULL

    def goes_on(self, run: Run, path: StepPath, _node: PlanNode) -> bool | Failure:
        again = (ItemsBegan, path, run.items[path].begun) in self._first
        return again or (WaitOpened, None, turn_wait(path)) in self._first or self._failure(path) or False

    def came_of(self, _run: Run, item: ItemPath) -> Payload:
        done = self._first.get((ItemDone, *container_of(item)))
        return (done.output if isinstance(done, ItemDone) else None) or NULL

    def page(self, _run: Run, path: StepPath, page: int) -> Payload:
        kept = self._first.get((ItemsKept, path, page))
        return kept.results if isinstance(kept, ItemsKept) else NULL

    def gathered(self, run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        return self.passed_on(run, path, node)

    def handler(self, _run: Run, called: Called) -> Called | Failure:
        for event in self._decisions:
            match event:
                case HandlerRefused():
                    return event.error
                case HandlerAsked():
                    return Called(
                        workflow=event.workflow, version=event.version, plan=event.plan, input=event.input
                    )
        return called

    def slot(self, run: Run, limit: FlowLimit) -> SlotWanted | Failure:
        for event in self._decisions:
            match event:
                case WaitOpened(slot=SlotWanted() as slot):
                    return slot
                case RunFailed(step=None):  # Its key could not be told.
                    return event.error
        return wanted(run, limit, None, "")

    def priority(self, _run: Run) -> int | Failure:
        """Where it could be told, it stands in the start, and nobody asks."""
        failed = (
            event.error for event in self._decisions if isinstance(event, RunFailed) and event.step is None
        )
        return next(failed, PRIORITY)

    def output(self, _run: Run) -> Payload:
        completed = (event.output for event in self._decisions if isinstance(event, RunCompleted))
        return next(completed, NULL)

    def _call(self, path: StepPath, wait: WaitOpened | None, at: datetime) -> Called | Failure:
        undo = self._said(UndoKept, path)
        if undo is not None and undo.run is not None:
            return called_by(undo, undo.run, at)
        error = self._failure(path) if undo is None else undo.error
        return error or self._called(path, wait)

    def _called(self, path: StepPath, wait: WaitOpened | None) -> Called:
        asked = self._said(ChildAsked, path)
        if asked is None:  # It was taken out, which must be missed.
            return Called(workflow="", input=NULL)
        return Called(
            workflow=asked.workflow,
            version=asked.version,
            plan=asked.plan,
            input=asked.input,
            waits=asked.waits,
            due=wait.due if wait is not None else None,
        )

    def _contained(self, path: StepPath, node: PlanNode) -> Outcome | Failure:
        opened = self._said(ItemsOpened, path)
        if opened is None:
            # It could not begin; or that it began was taken out, which must be missed.
            return self._failure(path) or (
                Fanned(count=0, pages=()) if node.type == "map" else Looped(input=NULL)
            )
        if opened.count is None:
            return Looped(input=opened.input or NULL)
        pages = [
            event.items
            for event in self._decisions
            if isinstance(event, ItemsPaged) and event.step == opened.step
        ]
        # As many as the count asks for, so that one which was taken out is missed.
        missing = -(-opened.count // ITEMS_PER_PAGE) - len(pages)
        return Fanned(count=opened.count, pages=(*pages, *(NULL,) * missing))

    def _said(self, kind: type[D], path: StepPath) -> D | None:
        found = self._first.get((kind, path))
        return found if isinstance(found, kind) else None

    def _failure(self, path: StepPath) -> Failure | None:
        failed = self._said(StepFailed, path)
        return failed.error if failed is not None else None


def _names(event: Decision) -> Iterator[tuple[Any, ...]]:
    """By what a decision is asked for: its kind and its step, and which item, page or wait of it."""
    kind = type(event)
    yield kind, getattr(event, "step", None)
    match event:
        case ItemsBegan():
            yield kind, event.step, event.first
        case ItemDone():
            yield kind, event.step, event.item
        case ItemsKept():
            yield kind, event.step, event.page
        case WaitOpened():
            yield kind, None, event.wait
        case _:
            pass


_AWAITED: Final = frozenset({"wait.signal", "wait.webhook", "wait.approval"})


def _awaited(node: PlanNode, wait: WaitOpened | None) -> Outcome:
    """Also where no wait stands: what was said before it would hide that it was taken out."""
    due = wait.due if wait is not None else None
    if node.type == "wait.signal":
        return Listening(signal=node.config["signal"], due=due)
    if node.type == "wait.webhook":
        return Expecting(call=(wait.call if wait else None) or AwaitedCall(), due=due)
    return Asking(approval=(wait.approval if wait else None) or Approval(question="?"), due=due)


def state_at(
    org: str,
    run_id: str,
    commits: Iterable[Commit[RunEvent]],
    event: int | None = None,
    seam: Run | None = None,
) -> Run:
    """The run after event number `event`, counted from 1; after all of them when it is None or beyond the last.

    `seam`: the state with which the first commit goes on, where it is not the run's first one.
    """
    run, number = Run.new(org, run_id) if seam is None else seam, 0
    for commit in commits:
        if seam is not None and isinstance(commit.events[0], RunContinued):
            number, seam = commit.events[0].events, None
        for recorded in commit.events:
            if event is not None and number >= event:
                return run
            run = evolve(run, recorded, commit.time)
            number += 1
    return run


def replay(
    org: str,
    run_id: str,
    commits: Iterable[Commit[RunEvent]],
    graph: Graph | None,
    evaluate: Evaluate | None = None,
) -> Divergence | None:
    """Decide anew at every fact. None: the history is what this release would have decided.

    `evaluate`: compute expressions anew with it, instead of taking their recorded results.
    """
    run, segment = Run.new(org, run_id), 1
    for turn in _turns(commits):
        if isinstance(turn.fact, RunContinued):
            segment += 1
            parted = _misjoined(run, turn, turn.fact, segment)
            if parted is not None:
                return parted
            continue
        again: list[Decision] = []
        if turn.fact is not None:
            run = evolve(run, turn.fact, turn.at)
            again = decide(run, graph, turn.fact, turn.at, evaluate or Recorded(turn.decisions))
        place = _first_difference(turn.decisions, again)
        if place is not None:
            return Divergence(
                event=turn.number + place,
                version=turn.version,
                fact=turn.fact,
                recorded=_at(turn.decisions, place),
                recomputed=_at(again, place),
            )
        for decision in turn.decisions:
            run = evolve(run, decision, turn.at)
    return None


def _misjoined(run: Run, turn: _Turn, seam: RunContinued, segment: int) -> Divergence | None:
    """Where a seam says something else than the events before it, or something follows from it: nothing does."""
    recomputed = continued(run, segment, turn.number - 2)
    if recomputed is not None and seam.format != FORMAT:
        # How another release wrote its states nobody here knows; they are not gone by, the events are.
        recomputed = structs.replace(recomputed, format=seam.format, state=seam.state)
    if recomputed is None or not _same(seam, recomputed):
        return Divergence(
            event=turn.number - 1, version=turn.version, fact=seam, recorded=seam, recomputed=recomputed
        )
    if turn.decisions:
        return Divergence(event=turn.number, version=turn.version, fact=seam, recorded=turn.decisions[0])
    return None


def _turns(commits: Iterable[Commit[RunEvent]]) -> Iterator[_Turn]:
    before = 0
    for commit in commits:
        events = commit.events
        starts = [place for place, event in enumerate(events) if event.is_fact]
        if starts[:1] != [0]:
            starts.insert(0, 0)
        for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
            fact = cast("Fact", events[start]) if events[start].is_fact else None
            first = start + (fact is not None)
            yield _Turn(
                number=before + first + 1,
                version=commit.version,
                at=commit.time,
                fact=fact,
                decisions=cast("Sequence[Decision]", events[first:end]),
            )
        before += len(events)


def _first_difference(recorded: Sequence[Decision], recomputed: Sequence[Decision]) -> int | None:
    for place in range(max(len(recorded), len(recomputed))):
        ours, theirs = _at(recorded, place), _at(recomputed, place)
        if ours is None or theirs is None or not _same(ours, theirs):
            return place
    return None


def _at(decisions: Sequence[Decision], place: int) -> Decision | None:
    return decisions[place] if place < len(decisions) else None


def _same(recorded: RunEvent, recomputed: RunEvent) -> bool:
    if recorded == recomputed:
        return True
    return type(recorded) is type(recomputed) and all(
        _same_value(getattr(recorded, name), getattr(recomputed, name)) for name in recorded.__struct_fields__
    )


def _same_value(recorded: object, recomputed: object) -> bool:
    """A value is the same whether it stands in the event or apart, and however its JSON is spelt."""
    match recorded, recomputed:
        case Inline(), Inline():
            return bool(msgspec.json.decode(recorded.value) == msgspec.json.decode(recomputed.value))
        case Blob(), Inline():
            return recorded.sha256 == hashlib.sha256(recomputed.value).hexdigest()
        case Inline(), Blob():
            return _same_value(recomputed, recorded)
        case _:
            return recorded == recomputed
