"""How a run undoes what it had done before it ends: one step at a time, the one that succeeded last first.

What undoes a step was said when that had succeeded (`undo.kept`), so nothing is evaluated here, and nothing that has
changed or was forgotten since can change it. An undo has the retries of its own node. One that fails for good is told at
the end and stops no other; one that is in doubt waits for a person, and so do those behind it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import structs

from contracts.causes import stopped
from contracts.errors import Failure
from contracts.limits import EVENTS_PER_TURN, StepPath
from contracts.payloads import NULL
from contracts.plans import PlanNode
from contracts.runs import (
    AttemptFailed,
    ChildBegan,
    ChildEnded,
    Decision,
    DoubtResolved,
    RunCancelled,
    RunFailed,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSucceeded,
    UndoKept,
    UndoRun,
    WaitOpened,
)
from orchestrator.attempts import ABANDONED, after_failure, next_attempt
from orchestrator.catalogue import STARTS_RUNS
from orchestrator.control import Called
from orchestrator.evaluate import Evaluate
from orchestrator.evolution import evolve
from orchestrator.kinship import cause_of_children, failure_of, started_output, too_late
from orchestrator.opening import child_asked
from orchestrator.paths import item_of, node_of, within
from orchestrator.readiness import Graph
from orchestrator.state import News, Run
from orchestrator.undos import before_the_end, the_end


def undo_of(run: Run, path: StepPath, node: PlanNode, at: datetime, evaluate: Evaluate) -> UndoKept:
    """What would undo a step that has succeeded just now, said while all that it is made of is at hand."""
    step = within(item_of(path), node.id)
    kept = UndoKept(step=step, node=node.id, undoes=path)
    calls = node.type == STARTS_RUNS and node.pin is None
    said = evaluate.control(run, step, node, at) if calls else evaluate.config(run, step, node)
    match said:
        case Failure():
            return structs.replace(kept, error=said)
        case Called():
            return structs.replace(kept, config=said.input, run=_later(said, at))
        case _:
            return structs.replace(kept, config=said)


def _later(called: Called, at: datetime) -> UndoRun:
    return UndoRun(
        workflow=called.workflow,
        version=called.version,
        plan=called.plan,
        waits=called.waits,
        timeout_s=(called.due - at).total_seconds() if called.due is not None else None,
    )


def called_by(undo: UndoKept, call: UndoRun, at: datetime) -> Called:
    """The run that undoes, asked for at this moment."""
    return Called(
        workflow=call.workflow,
        version=call.version,
        plan=call.plan,
        input=undo.config or NULL,
        waits=call.waits,
        due=at + timedelta(seconds=call.timeout_s) if call.timeout_s is not None else None,
    )


def undone_first(run: Run, graph: Graph, ends: Sequence[Decision], at: datetime) -> list[Decision]:
    """The same decisions; but where they end a run that has done what can be undone, that comes before its end."""
    end = ends[-1] if ends else None
    if not run.undos or not isinstance(end, RunFailed | RunCancelled):
        return list(ends)
    undoing = _Undoing(run, graph, at)
    for decision in (*ends[:-1], before_the_end(end)):
        undoing.say(decision)
    undoing.go_on()
    return undoing.said


def undo(run: Run, graph: Graph, at: datetime) -> list[Decision]:
    """What follows in a run that undoes."""
    undoing = _Undoing(run, graph, at)
    undoing.settle_news()
    undoing.go_on()
    return undoing.said


class _Undoing:
    """One decision being made: what was said so far, and the run as it is after it."""

    def __init__(self, run: Run, graph: Graph, at: datetime) -> None:
        self.said: list[Decision] = []
        self._run = run
        self._graph = graph
        self._at = at

    def say(self, decision: Decision) -> None:
        self._run = evolve(self._run, decision, self._at)
        self.said.append(decision)

    def settle_news(self) -> None:
        """Decide on what the step that undoes has learnt."""
        for path, news in self._run.news.items():
            self._settle(path, self._graph.nodes[node_of(path)], news)

    def go_on(self) -> None:
        """Begin the next undo when none is under way; when none is left, end."""
        while not (self._run.attempts or self._run.waits or self._run.doubts):
            if not self._run.undos:
                self._end()
                return
            if len(self.said) >= EVENTS_PER_TURN:
                self.say(WaitOpened(wait="turn:undo", kind="turn", due=self._at))
                return
            self._begin(self._run.undos[next(reversed(self._run.undos))])

    def _settle(self, path: StepPath, node: PlanNode, news: News) -> None:
        match news:
            case StepReported():
                self.say(StepSucceeded(step=path, node=node.id, ports=news.ports))
            case DoubtResolved(resolution="done"):
                self.say(StepSucceeded(step=path, node=node.id))
            case DoubtResolved(resolution="failed"):
                self._fail(path, node, ABANDONED)
            case WaitOpened(kind="child" | "start"):
                self._child_failed(path, node, too_late(self._run.children[path].child))
            case DoubtResolved() | WaitOpened():
                self._attempt(path, node)
            case AttemptFailed():
                self._retry_or_fail(node, news)
            case ChildBegan():
                self.say(StepSucceeded(step=path, node=node.id, output=started_output(news.child)))
            case ChildEnded(outcome="completed"):
                self.say(StepSucceeded(step=path, node=node.id))
            case ChildEnded():
                self._child_failed(path, node, failure_of(news))
            case _:
                self.say(StepCancelled(step=path, node=node.id))

    def _retry_or_fail(self, node: PlanNode, failed: AttemptFailed) -> None:
        then = after_failure(self._run, node, failed, self._at)
        if then == "never":
            self._fail(failed.step, node, failed.error)
        elif then == "now":
            self._attempt(failed.step, node)
        else:
            self.say(then)

    def _child_failed(self, path: StepPath, node: PlanNode, error: Failure) -> None:
        """Like an attempt that failed; the next one is another run."""
        attempt = self._run.step(path).attempt
        self._retry_or_fail(node, AttemptFailed(step=path, attempt=attempt, error=error))

    def _begin(self, undo: UndoKept) -> None:
        node = self._graph.nodes[undo.node]
        if undo.error is not None:
            self._fail(undo.step, node, undo.error)
        elif node.pin is not None and node.pin.error is not None:
            self._fail(undo.step, node, node.pin.error)
        elif node.pin is not None:
            self.say(StepSucceeded(step=undo.step, node=node.id, output=node.pin.output))
        else:
            self._attempt(undo.step, node)

    def _attempt(self, path: StepPath, node: PlanNode) -> None:
        undo = self._run.undos[path]
        if undo.run is None:
            self.say(next_attempt(self._run, path, node, undo.config or NULL))
        else:
            self._call(path, node, called_by(undo, undo.run, self._at))

    def _call(self, path: StepPath, node: PlanNode, called: Called) -> None:
        refused = stopped(cause_of_children(self._run), called.workflow)
        if refused is not None:
            self._fail(path, node, refused)
            return
        for decision in child_asked(self._run, path, node, called):
            self.say(decision)

    def _fail(self, path: StepPath, node: PlanNode, error: Failure) -> None:
        """The others are undone all the same: that takes the failure over."""
        self.say(StepFailed(step=path, node=node.id, error=error, handled=True))

    def _end(self) -> None:
        if self._run.compensating is not None:
            self.say(the_end(self._run, self._run.compensating))
