"""What follows from what a run knows.

Rule that holds here: the state says what to do, a fact only where to look. So a fact that was decided on decides nothing
when it is seen again, and a run that was parked is taken up by looking everywhere once.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from contracts.runs import (
    Decision,
    Fact,
    RunCompleted,
    RunReopened,
    RunStarted,
    RunUnparked,
    SlotTaken,
    WaitEnded,
)
from orchestrator.containers import turn_of
from orchestrator.evaluate import Evaluate
from orchestrator.evolution import evolve
from orchestrator.failing import with_handler
from orchestrator.passing import at_gate
from orchestrator.readiness import Graph, every_step
from orchestrator.state import Run
from orchestrator.stopping import end_without_plan, stop, wind_down
from orchestrator.turn import Turn, must_stop
from orchestrator.undoing import undo, undone_first

_LOOK_EVERYWHERE: Final = (RunStarted, RunReopened, RunUnparked, SlotTaken)


class Decided(Struct, frozen=True):
    """What follows, and the run that includes it."""

    run: Run
    said: list[Decision]


def decide(run: Run, graph: Graph | None, fact: Fact, at: datetime, evaluate: Evaluate) -> list[Decision]:
    """Say what follows. `run` already includes `fact`; `at` is the time of the commit that both lie in.

    Pure: whatever `evaluate` needs and does not have, it raises for, before anything is decided.
    """
    return decided(run, graph, fact, at, evaluate).said


def decided(run: Run, graph: Graph | None, fact: Fact, at: datetime, evaluate: Evaluate) -> Decided:
    """The same, with the run as it is behind it: a decision is folded in as it is made, and nobody has to do that again."""
    if run.parked is not None or not run.active:
        return Decided(run, [])
    if graph is None:
        return _folded(run, end_without_plan(run, at), at)
    if run.phase == "compensating":
        return _folded(run, with_handler(run, graph.plan, undo(run, graph, at), at, evaluate), at)
    turn = Turn(run, graph, at, evaluate)
    turn.settle_news()
    if turn.run.phase == "stopping":
        ends = wind_down(turn.run, tuple(every_step(graph, turn.run)), at)
        return _ending(turn, _ended(turn.run, graph, ends, at, evaluate))
    if isinstance(fact, _LOOK_EVERYWHERE) and not at_gate(turn.run):
        refused = turn.enter()
        if refused is not None:
            ends = stop(turn.run, tuple(every_step(graph, turn.run)), at, refused)
            return _ending(turn, _ended(turn.run, graph, ends, at, evaluate))
    elif isinstance(fact, WaitEnded) and (container := turn_of(fact)):
        turn.look_at(container)
    turn.advance()
    if must_stop(turn.run):
        ends = stop(turn.run, tuple(every_step(graph, turn.run)), at)
        return _ending(turn, _ended(turn.run, graph, ends, at, evaluate))
    if _all_done(turn.run):
        turn.say(RunCompleted(output=evaluate.output(turn.run)))
    return Decided(turn.run, turn.said)


def _ending(turn: Turn, ends: Sequence[Decision]) -> Decided:
    for decision in ends:
        turn.say(decision)
    return Decided(turn.run, turn.said)


def _folded(run: Run, said: list[Decision], at: datetime) -> Decided:
    for decision in said:
        run = evolve(run, decision, at)
    return Decided(run, said)


def _ended(
    run: Run, graph: Graph, ends: Sequence[Decision], at: datetime, evaluate: Evaluate
) -> list[Decision]:
    """What comes before the end: what the run had done is undone, then its error workflow is told."""
    return with_handler(run, graph.plan, undone_first(run, graph, ends, at), at, evaluate)


def _all_done(run: Run) -> bool:
    """Nothing is under way and everything ready has begun: by the shape of a graph without circles, nothing is left."""
    return not (run.attempts or run.waits or run.doubts or run.children)
