"""What the promises mean for runs that start runs: each child is there once, its end is heard once and as it was, and nobody
goes on for whom nobody waits.

Told by the histories of parent and child alone: nothing here asks how the orchestrator remembers children.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from contracts import runs
from contracts.codec import decode_domain_commit
from contracts.limits import CAUSES_DEEP, Id, StepPath
from contracts.runs import RunEvent
from contracts.workflows import VersionPublished
from orchestrator.paths import node_of
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.values import Values

STOPPED_WITHIN: Final = 90.0
"""A child hears that nobody waits for it any more from its parent, or from the sweeper, and has its own attempts to end."""
LEARNT_WITHIN: Final = 10.0
"""Who decides reads what is published just then, and may stand still before that is recorded."""
_ENDS: Final = (runs.RunCompleted, runs.RunFailed, runs.RunCancelled)


class _Version(NamedTuple):
    version: int
    plan: str
    since: float


def children_are_one_with_their_parents(
    evidence: Evidence, histories: Sequence[History]
) -> Iterator[Violation]:
    """A child has one parent that asked for it, and a parent believes of its end what the child's history says, once."""
    by_run = {history.run: history for history in histories}
    values = Values(evidence.values)
    for history in histories:
        for what in _born(history, by_run, values):
            yield Violation("P2", what, history.run)
        for what in _heard(history):
            yield Violation("P2", what, history.run)
        for ended in (event for event in history.events if isinstance(event, runs.ChildEnded)):
            yield from _as_it_was(history, ended, by_run.get(ended.child), values)


def _born(history: History, by_run: Mapping[Id, History], values: Values) -> Iterator[str]:
    """Whether a run that has a parent was asked for by it, just so."""
    start = history.start
    if start is None or start.parent is None:
        return
    parent = by_run.get(start.parent.run)
    asked = next((each for each in _asked(parent) if each.child == history.run), None) if parent else None
    if parent is None or parent.start is None or asked is None:
        yield f"no run asked for this one, which says that {start.parent.run} did"
        return
    told = (start.workflow, start.version, start.plan, start.parent.step, start.parent.waits)
    same = values.same(values.read(start.input), asked.input)
    if not same or told != (asked.workflow, asked.version, asked.plan, asked.step, asked.waits):
        yield f"it is not what step {asked.step} of {parent.run} asked for"
    before, cause = parent.start.cause, start.cause
    if cause.depth != before.depth + 1 or cause.chain[-1:] != (parent.start.workflow,):
        yield "its cause does not follow from its parent's"
    if cause.depth > CAUSES_DEEP:
        yield f"it is number {cause.depth} in a chain of causes"


def _asked(history: History) -> Iterator[runs.ChildAsked]:
    return (event for event in history.events if isinstance(event, runs.ChildAsked))


class _Ears:
    """What a parent waits for, and what it heard and has not gone on with, as its events say it."""

    def __init__(self) -> None:
        self._asked: set[Id] = set()
        self.open: dict[StepPath, runs.ChildAsked] = {}
        self._heard: dict[StepPath, RunEvent] = {}

    def hear(self, event: RunEvent) -> Iterator[str]:
        match event:
            case runs.ChildAsked():
                if event.child in self._asked:
                    yield f"child {event.child} was asked for twice"
                self._asked.add(event.child)
                self.open[event.step] = event
            case runs.ChildBegan() | runs.ChildEnded():
                yield from self._heard_of(event)
            case runs.StepSucceeded():
                yield from self._went_on(event)
            case runs.StepFailed() | runs.StepCancelled():
                yield from self._gave_up(event.step)
            case runs.WaitOpened(kind="retry", step=str() as step):
                yield from self._gave_up(step)

    def _heard_of(self, event: runs.ChildBegan | runs.ChildEnded) -> Iterator[str]:
        known = self.open.pop(event.step, None)
        if known is None or known.child != event.child:
            yield f"heard of {event.child}, for which {event.step} does not wait"
        elif known.waits != isinstance(event, runs.ChildEnded):
            yield f"{event.step} heard of {event.child} what it does not wait for"
        self._heard[event.step] = event

    def _went_on(self, event: runs.StepSucceeded) -> Iterator[str]:
        if event.step in self.open:
            yield f"{event.step} went on before it heard of its child {self.open[event.step].child}"
        said = self._heard.pop(event.step, None)
        if isinstance(said, runs.ChildEnded) and said.outcome != "completed":
            yield f"{event.step} succeeded, although its child {said.outcome}"

    def _gave_up(self, step: StepPath) -> Iterator[str]:
        self.open.pop(step, None)
        said = self._heard.pop(step, None)
        if isinstance(said, runs.ChildBegan) or getattr(said, "outcome", "") == "completed":
            yield f"{step} did not succeed, although its child did"


def _heard(history: History) -> Iterator[str]:
    """Whether what a parent heard of its children is about those that it waited for, and once."""
    ears = _Ears()
    for event in history.events:
        yield from ears.hear(event)
    if ears.open and history.state.phase in runs.TERMINAL:
        yield f"it has ended and still waits for {sorted(each.child for each in ears.open.values())}"


def _as_it_was(
    history: History, ended: runs.ChildEnded, child: History | None, values: Values
) -> Iterator[Violation]:
    """Whether the child ended like that, in one of its openings. One that was let go at once has never begun."""
    if child is None and ended.outcome == "cancelled":
        return
    ends = [event for event in child.events if isinstance(event, _ENDS)] if child is not None else []
    for end in ends:
        match end:
            case runs.RunCompleted() if ended.outcome == "completed":
                if values.same(values.read(end.output), ended.output):
                    return
            case runs.RunFailed() if ended.outcome == "failed" and end.error == ended.error:
                return
            case runs.RunCancelled() if ended.outcome == "cancelled":
                return
    yield Violation("P4", f"believes that {ended.child} {ended.outcome}, and it never did so", history.run)


def failures_are_told(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """Whenever a run fails whose workflow names another for that, a run of it is there; and only then."""
    by_run = {history.run: history for history in histories}
    asked: set[Id] = set()
    for history in histories:
        plan = evidence.plans.get(history.start.plan) if history.start is not None else None
        before: RunEvent | None = None
        for event in history.events:
            wanted = plan is not None and plan.on_failure is not None and history.state.mode == "live"
            told = isinstance(before, runs.HandlerAsked | runs.HandlerRefused)
            if isinstance(event, runs.RunFailed) and wanted != told:
                yield Violation("P3", f"failed, and {'somebody' if told else 'nobody'} was told", history.run)
            elif told and not isinstance(event, runs.RunFailed):
                yield Violation("P4", f"told of a failure, and then {type(event).__name__}", history.run)
            if isinstance(event, runs.HandlerAsked):
                yield from _there(evidence, history, event, by_run.get(event.child))
                if event.child in asked:
                    yield Violation("P2", f"two failures are told to {event.child}", history.run)
                asked.add(event.child)
            before = event


def _there(
    evidence: Evidence, history: History, asked: runs.HandlerAsked, handler: History | None
) -> Iterator[Violation]:
    start = handler.start if handler is not None else None
    if start is None:
        if evidence.everything_over:
            yield Violation("P3", f"failed, and {asked.child} was never started", history.run)
    elif (start.workflow, start.plan, start.cause.id) != (asked.workflow, asked.plan, history.run):
        yield Violation("P2", f"{asked.child} is not what was asked for", history.run)


def what_was_asked_for_was_published(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """A run is asked for by a plan that was published: by the version that the step names, or by one that nobody had replaced."""
    published = _published(evidence)
    for history in histories:
        plan = evidence.plans.get(history.start.plan) if history.start is not None else None
        pinned = {node.id: node.config.get("version") for node in plan.nodes} if plan is not None else {}
        for stored, commit in zip(history.stored, history.commits, strict=True):
            for event in commit.events:
                if isinstance(event, runs.ChildAsked | runs.HandlerAsked):
                    versions = published.get((history.org, event.workflow), [])
                    wanted = pinned.get(node_of(event.step)) if isinstance(event, runs.ChildAsked) else None
                    what = _not_published(event, versions, wanted, stored.time) if versions else ""
                    if what:
                        yield Violation("P4", what, history.run)


def _published(evidence: Evidence) -> Mapping[tuple[str, Id], Sequence[_Version]]:
    found: dict[tuple[str, Id], list[_Version]] = defaultdict(list)
    for stored in evidence.triggers:
        _, org, aggregate, workflow = stored.subject.split(".")
        if aggregate == "workflow":
            for event in decode_domain_commit(stored.body, "workflow").events:
                if isinstance(event, VersionPublished):
                    found[org, workflow].append(_Version(event.version, event.plan, stored.time))
    return found


def _not_published(
    asked: runs.ChildAsked | runs.HandlerAsked, versions: Sequence[_Version], wanted: object, at: float
) -> str:
    known = {each.version: each for each in versions if each.since <= at}
    if asked.version not in known or known[asked.version].plan != asked.plan:
        return f"version {asked.version} of {asked.workflow} was asked for by a plan that it has not"
    if isinstance(wanted, int) and wanted:
        return f"version {asked.version} was asked for, not {wanted}" if asked.version != wanted else ""
    newest = max(each.version for each in versions if each.since <= at - LEARNT_WITHIN or each.version == 1)
    return f"version {asked.version} was asked for behind version {newest}" if asked.version < newest else ""


def who_is_not_awaited_is_stopped(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """A child goes on for a while at most when its parent waits for it no longer, unless a person opened it again."""
    by_run = {history.run: history for history in histories}
    for history in histories:
        for child, since in _let_go(history):
            found = by_run.get(child)
            if found is None:
                continue
            until = _begins_to_end(found)
            seconds = (until or evidence.now.timestamp()) - since
            if seconds > STOPPED_WITHIN and not _is_told_to_stop(found):
                yield Violation(
                    "P3", f"{child} goes on, and nobody waits for it for {seconds:.0f} s", history.run
                )


def _let_go(history: History) -> Iterator[tuple[Id, float]]:
    """The children that a run waited for, and did so no longer before they had ended: since when, by the log's clock."""
    open_: dict[StepPath, Id] = {}
    for stored, commit in zip(history.stored, history.commits, strict=True):
        for event in commit.events:
            match event:
                case runs.ChildAsked(waits=True):
                    open_[event.step] = event.child
                case runs.ChildEnded():
                    open_.pop(event.step, None)
                case runs.StepFailed() | runs.StepCancelled() if event.step in open_:
                    yield open_.pop(event.step), stored.time
                case runs.WaitOpened(kind="retry", step=str() as step) if step in open_:
                    yield open_.pop(step), stored.time


def _begins_to_end(history: History) -> float | None:
    """Who stops already is not told to: the grace of its attempts is as long as a clock that was wrong has made it."""
    ending = (*_ENDS, runs.RunStopping, runs.RunCompensating)
    begun = (
        stored.time
        for stored, commit in zip(history.stored, history.commits, strict=True)
        if any(isinstance(event, ending) for event in commit.events)
    )
    return next(begun, None)


def _is_told_to_stop(history: History) -> bool:
    return any(isinstance(event, runs.CancelRequested) for event in history.events)
