"""What is promised about runs that undo: of every success that can be undone an undo is kept, and each is made once, in the
reverse order, one after the other, before the run ends; what is not undone is told.

Told by the events and the plan alone: nothing here asks how the orchestrator remembers undos.
"""

from collections.abc import Iterator, Mapping, Sequence

from contracts import runs
from contracts.limits import NodeId, StepPath
from contracts.plans import PlanNode
from contracts.runs import RunEvent
from orchestrator.paths import node_of
from tests.promises.evidence import Evidence, History, Violation

_BEGINS = (runs.AttemptScheduled, runs.ItemsOpened, runs.ItemsBegan, runs.ChildAsked, runs.RunReopened)
_ENDS_ONE = runs.StepSucceeded | runs.StepFailed | runs.StepCancelled


def what_was_done_is_undone_once(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    for history in histories:
        plan = evidence.plans.get(history.start.plan) if history.start is not None else None
        told = Undoings({node.id: node for node in plan.nodes} if plan is not None else {})
        for event in history.events:
            for what in told.hear(event):
                yield Violation("P5", what, history.run)


class Undoings:
    """What a history has said of undos so far."""

    def __init__(self, nodes: Mapping[NodeId, PlanNode]) -> None:
        self._nodes = nodes
        self._owed: set[StepPath] = set()
        """Successes for which no undo was kept yet."""
        self._kept: dict[StepPath, StepPath] = {}
        """By the step that undoes, the step that it undoes: the oldest success first."""
        self._undone = 0
        self._left = 0
        self._undoes = False
        self._acted: set[StepPath] = set()
        """Steps of which somebody has said what came of them."""

    def hear(self, event: RunEvent) -> Iterator[str]:
        match event:
            case runs.UndoKept():
                yield from self._keep(event)
            case runs.RunCompensating():
                if not self._kept or self._undoes:
                    yield "it undoes, and there is nothing to undo"
                self._undoes = True
            case runs.RunFailed() | runs.RunCancelled():
                yield from self._end(event)
            case runs.RunCompleted() if self._undoes:
                yield "it was undone and is completed"
            case _ if self._undoes:
                yield from self._undo(event)
            case runs.StepReported() | runs.ChildBegan() | runs.ChildEnded() | runs.DoubtResolved():
                self._acted.add(event.step)
            case runs.StepSucceeded():
                self._succeed(event.step)

    def _succeed(self, path: StepPath) -> None:
        """Of what was pinned nothing has to be undone."""
        node = self._nodes.get(node_of(path))
        if node is not None and node.compensate and path in self._acted:
            self._owed.add(path)
        self._acted.discard(path)

    def _keep(self, event: runs.UndoKept) -> Iterator[str]:
        if event.undoes not in self._owed:
            yield f"an undo of {event.undoes} was kept, which has not succeeded just now"
        if event.step in self._kept:
            yield f"{event.step} was kept twice"
        self._owed.discard(event.undoes)
        self._kept[event.step] = event.undoes

    def _undo(self, event: RunEvent) -> Iterator[str]:
        path = getattr(event, "step", None)
        if isinstance(event, _BEGINS) and path not in self._kept:
            yield f"{type(event).__name__} of {path} in a run that undoes"
        elif isinstance(event, _BEGINS) and path != next(reversed(self._kept)):
            yield f"{path} begins, and another step succeeded later"
        if isinstance(event, _ENDS_ONE) and self._kept.pop(event.step, None) is not None:
            done = isinstance(event, runs.StepSucceeded)
            self._undone, self._left = self._undone + done, self._left + (not done)

    def _end(self, event: runs.RunFailed | runs.RunCancelled) -> Iterator[str]:
        plan_is_lost = isinstance(event, runs.RunFailed) and event.error.code == "run.no_plan"
        if self._owed and not plan_is_lost:
            yield f"{sorted(self._owed)} succeeded, and no undo was kept"
        if self._kept and not plan_is_lost and not self._undoes and self._nodes:
            yield f"it ended without undoing {list(self._kept.values())}"
        told = event.undone or runs.Undone()
        if (told.steps, told.left_in_all) != (self._undone, self._left + len(self._kept)):
            yield f"{self._undone} were undone and {self._left + len(self._kept)} were not; its end says {told}"
