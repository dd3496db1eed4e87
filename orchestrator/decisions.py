"""What follows from what a run knows.

Rule that holds here: the state says what to do, a fact only where to look. So a fact that was decided on decides nothing
when it is seen again, and a run that was parked is taken up by looking everywhere once.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from contracts.errors import Failure
from contracts.limits import NodeId, PortName, StepPath
from contracts.payloads import Payload
from contracts.plans import PlanNode
from contracts.runs import (
    AttemptCancelled,
    AttemptFailed,
    AttemptScheduled,
    Decision,
    DoubtResolved,
    Fact,
    RunCompleted,
    RunReopened,
    RunResponded,
    RunStarted,
    RunUnparked,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSkipped,
    StepSucceeded,
    WaitOpened,
)
from orchestrator.control import Answered, Delayed, Listening, Outcome, Passed
from orchestrator.evolution import evolve
from orchestrator.readiness import Graph, readiness
from orchestrator.retries import jitter, pause_before_retry
from orchestrator.state import DONE, News, Run, node_of
from orchestrator.stopping import stop, wind_down


class Evaluate(Protocol):
    """What the expressions of a node give in a run as it is now. A `Failure` is the step's, not the caller's."""

    def config(self, run: Run, node: PlanNode) -> Payload | Failure:
        """An action's configuration with every expression evaluated; secret references stay references."""
        ...

    def control(self, run: Run, node: PlanNode, at: datetime) -> Outcome | Failure:
        """What a control node does with its input."""
        ...

    def passed_on(self, run: Run, node: PlanNode) -> Payload | Failure:
        """What a node that only passes on gives to the next one."""
        ...

    def output(self, run: Run) -> Payload:
        """The output of a run whose steps are done."""
        ...


_LOOK_EVERYWHERE: Final = (RunStarted, RunReopened, RunUnparked)


def decide(run: Run, graph: Graph | None, fact: Fact, at: datetime, evaluate: Evaluate) -> list[Decision]:
    """Say what follows. `run` already includes `fact`; `at` is the time of the commit that both lie in.

    Pure: whatever `evaluate` needs and does not have, it raises for, before anything is decided.
    """
    if run.parked is not None or not run.active:
        return []
    if graph is None:
        missing = Failure(code="run.no_plan", message=f"Plan {run.plan} is not in the store.")
        return stop(run, tuple(run.steps), at, missing)
    turn = _Turn(run, graph, at, evaluate)
    seeds = turn.settle_news()
    if turn.run.phase == "stopping":
        return turn.said + wind_down(turn.run, graph.order, at)
    if isinstance(fact, _LOOK_EVERYWHERE):
        seeds = graph.order
    turn.advance(seeds)
    if _must_stop(turn.run):
        return turn.said + stop(turn.run, graph.order, at)
    if _all_done(turn.run):
        turn.say(RunCompleted(output=evaluate.output(turn.run)))
    return turn.said


def _must_stop(run: Run) -> bool:
    return run.cancel is not None or run.overdue or run.failed is not None


def _all_done(run: Run) -> bool:
    """Nothing is under way and everything ready has begun: by the shape of a graph without circles, nothing is left."""
    return not (run.attempts or run.waits or run.doubts)


class _Turn:
    """One decision being made: what was said so far, and the run as it is after it."""

    def __init__(self, run: Run, graph: Graph, at: datetime, evaluate: Evaluate) -> None:
        self.run = run
        self.said: list[Decision] = []
        self._graph = graph
        self._at = at
        self._evaluate = evaluate

    def say(self, decision: Decision) -> None:
        self.run = evolve(self.run, decision, self._at)
        self.said.append(decision)

    # --- What was learnt about single steps ---------------------------------------------------

    def settle_news(self) -> Iterable[NodeId]:
        """Decide on what each step learnt; gives the nodes that follow those which are done by it."""
        followers: list[NodeId] = []
        for path, news in self.run.news.items():
            self._settle(path, news)
            if self.run.step(path).status in DONE:
                followers.extend(self._graph.followers[node_of(path)])
        return followers

    def _settle(self, path: StepPath, news: News) -> None:
        node = self._graph.nodes[node_of(path)]
        match news:
            case StepReported():
                self.say(StepSucceeded(step=path, node=node.id, ports=news.ports))
            case AttemptFailed():
                self._retry_or_fail(path, node, news)
            case AttemptCancelled():
                self.say(StepCancelled(step=path, node=node.id))
            case DoubtResolved():
                self._resolve(path, node, news)
            case WaitOpened(kind="delay"):
                self._pass_on(path, node, "main")
            case WaitOpened(kind="signal"):
                self._pass_on(path, node, "timeout")
            case SignalReceived():
                self.say(StepSucceeded(step=path, node=node.id, output=news.body))
            case WaitOpened():
                self._attempt(path, node)

    def _retry_or_fail(self, path: StepPath, node: PlanNode, news: AttemptFailed) -> None:
        pause = pause_before_retry(
            node.retry,
            news.error,
            tries=news.attempt - self.run.step(path).first + 1,
            shift=jitter(self.run.id, path, news.attempt),
            retry_after_s=news.retry_after_s,
        )
        if pause is None:
            self._fail(path, node, news.error)
        elif self._stops:
            self.say(StepCancelled(step=path, node=node.id))
        elif pause == 0:
            self._attempt(path, node)
        else:
            wait = f"retry:{path}:{news.attempt + 1}"
            due = self._at + timedelta(seconds=pause)
            self.say(WaitOpened(wait=wait, kind="retry", due=due, step=path))

    def _resolve(self, path: StepPath, node: PlanNode, news: DoubtResolved) -> None:
        if news.resolution == "done":
            self.say(StepSucceeded(step=path, node=node.id))
        elif news.resolution == "failed":
            error = Failure(
                code="in_doubt.abandoned", message="A person decided that the step in doubt has failed."
            )
            self._fail(path, node, error)
        else:
            self._attempt(path, node)

    def _pass_on(self, path: StepPath, node: PlanNode, port: PortName) -> None:
        if self._stops:
            self.say(StepCancelled(step=path, node=node.id))
            return
        output = self._evaluate.passed_on(self.run, node)
        if isinstance(output, Failure):
            self._fail(path, node, output)
        else:
            self.say(StepSucceeded(step=path, node=node.id, ports=(port,), output=output))

    # --- What can go now ----------------------------------------------------------------------

    def advance(self, seeds: Iterable[NodeId]) -> None:
        """Begin every step that is ready, and skip what is never reached, in topological order."""
        nodes = self._graph.nodes
        ranks = [nodes[seed].order for seed in seeds]
        heapify(ranks)
        while ranks and not self._stops:
            path = self._graph.order[heappop(ranks)]
            if self.run.step(path).status != "pending":
                continue
            ready = readiness(self._graph, self.run, path)
            if ready == "open":
                continue
            if ready == "dead":
                self.say(StepSkipped(step=path, node=path))
            else:
                self._begin(path, nodes[path])
            if self.run.step(path).status in DONE:
                for follower in self._graph.followers[path]:
                    heappush(ranks, nodes[follower].order)

    def _begin(self, path: StepPath, node: PlanNode) -> None:
        if node.place == "executor":
            self._attempt(path, node)
            return
        match self._evaluate.control(self.run, node, self._at):
            case Passed() as passed:
                self.say(StepSucceeded(step=path, node=path, ports=passed.ports, output=passed.output))
            case Delayed() as delayed:
                self.say(WaitOpened(wait=f"delay:{path}", kind="delay", due=delayed.due, step=path))
            case Listening() as listening:
                self._listen(path, node, listening)
            case Answered() as answer:
                self._respond(path, answer)
            case Failure() as error:
                self._fail(path, node, error)

    def _listen(self, path: StepPath, node: PlanNode, listening: Listening) -> None:
        wait = f"signal:{path}"
        self.say(WaitOpened(wait=wait, kind="signal", due=listening.due, step=path, signal=listening.signal))
        said = self.run.news.get(path)
        if said is not None:  # Before anything waited for it.
            self._settle(path, said)

    def _respond(self, path: StepPath, answer: Answered) -> None:
        """The first answer counts, for ever; a later respond node passes its body on and answers nobody."""
        if self.run.responded is not None:
            self.say(StepSucceeded(step=path, node=path, output=answer.body))
            return
        self.say(RunResponded(step=path, status=answer.status, headers=answer.headers, body=answer.body))
        self.say(StepSucceeded(step=path, node=path))

    def _attempt(self, path: StepPath, node: PlanNode) -> None:
        if self._stops:
            self.say(StepCancelled(step=path, node=node.id))
            return
        config = self._evaluate.config(self.run, node)
        if isinstance(config, Failure):
            self._fail(path, node, config)
            return
        self.say(
            AttemptScheduled(
                step=path,
                node=node.id,
                node_type=node.type,
                attempt=self.run.step(path).attempt + 1,
                key=f"{self.run.id}/{path}",
                pool=node.pool,
                repeat=node.repeat,
                timeout_s=node.timeout_s,
                config=config,
            )
        )

    def _fail(self, path: StepPath, node: PlanNode, error: Failure) -> None:
        self.say(StepFailed(step=path, node=node.id, error=error, handled=node.id in self._graph.handled))

    @property
    def _stops(self) -> bool:
        return self.run.phase == "stopping" or _must_stop(self.run)
