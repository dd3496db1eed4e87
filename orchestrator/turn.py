"""One decision being made: step by step, what follows from what a run knows, until nothing follows any more.

A turn settles what steps learnt, looks at what may follow, begins what is ready in topological order, and lets containers
go on when no step can. It speaks in events, and folds each of them in before it looks again.
"""

from collections import defaultdict
from datetime import datetime
from heapq import heappop, heappush

from contracts.cases import Pin
from contracts.causes import stopped
from contracts.errors import Failure
from contracts.limits import PortName, StepPath
from contracts.payloads import Payload
from contracts.plans import PlanNode
from contracts.runs import (
    ApprovalDecided,
    ApprovalEscalated,
    AttemptCancelled,
    AttemptFailed,
    CallReceived,
    ChildBegan,
    ChildEnded,
    Decision,
    DoubtResolved,
    ItemsBegan,
    ItemsOpened,
    ItemsPaged,
    RunResponded,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepPinned,
    StepReported,
    StepSkipped,
    StepSucceeded,
    WaitDropped,
    WaitOpened,
)
from orchestrator.approvals import approval_wait, came_of_it, undecided
from orchestrator.attempts import ABANDONED, after_failure, next_attempt
from orchestrator.catalogue import ROUNDS
from orchestrator.containers import (
    all_over,
    cleared,
    closed,
    continues,
    next_items,
    over,
    page_over,
    takes_failures,
    turn_wait,
    under_way,
    waits_its_turn,
)
from orchestrator.control import (
    Answered,
    Asking,
    Called,
    Delayed,
    Expecting,
    Fanned,
    Listening,
    Looped,
    Passed,
)
from orchestrator.evaluate import Evaluate
from orchestrator.evolution import evolve
from orchestrator.kinship import cause_of_children, failure_of, started_output, too_late
from orchestrator.opening import Awaited, child_asked, waits_of
from orchestrator.passing import at_gate, may_rank, may_stand, next_gate
from orchestrator.paths import (
    WHOLE,
    ItemPath,
    container_node,
    container_of,
    item_of,
    item_path,
    node_of,
    numbers,
    within,
)
from orchestrator.readiness import Graph, Place, readiness
from orchestrator.state import DONE, Items, News, Run
from orchestrator.undoing import undo_of
from orchestrator.undos import TOO_MUCH, holds_enough


def must_stop(run: Run) -> bool:
    """Whether nothing may begin any more, whatever is ready."""
    if run.turned_away is not None:
        return True
    return run.cancel is not None or run.overdue or run.failed is not None


class Turn:
    """One decision being made: what was said so far, the run as it is after it, and where there is still to look."""

    def __init__(self, run: Run, graph: Graph, at: datetime, evaluate: Evaluate) -> None:
        self.run = run
        self.said: list[Decision] = []
        self._graph = graph
        self._at = at
        self._evaluate = evaluate
        self._steps: list[Place] = []
        """Steps that may be able to begin, or never will: a heap, in topological order."""
        self._containers: list[Place] = []
        """Containers that may go on: a heap, the innermost first."""
        self._touched: dict[StepPath, set[int]] = defaultdict(set)
        """Their items that may be over."""

    def say(self, decision: Decision) -> None:
        self.run = evolve(self.run, decision, self._at)
        self.said.append(decision)

    # --- The gates before the workflow ----------------------------------------------------------

    def enter(self) -> Failure | None:
        """Stand at the next gate, or look everywhere when there is none. A failure: nobody can say which gate, or how soon."""
        if not self._stops and may_rank(self.run, self._graph.plan):
            priority = self._evaluate.priority(self.run)
            if isinstance(priority, Failure):
                return priority
        opened = None if self._stops else next_gate(self.run, self._graph.plan, self._evaluate)
        if isinstance(opened, Failure):
            return opened
        if opened is None:
            self.look_everywhere()
        else:
            self.say(opened)
        return None

    # --- What was learnt about single steps ---------------------------------------------------

    def settle_news(self) -> None:
        """Decide on what each step learnt, and look at what may follow from it."""
        for path, news in self.run.news.items():
            self._settle(path, news)
            self._keep_undo(path)
            self._look_behind(path)

    def _settle(self, path: StepPath, news: News) -> None:
        node = self._graph.nodes[node_of(path)]
        match news:
            case StepReported():
                self.say(StepSucceeded(step=path, node=node.id, ports=news.ports))
            case AttemptFailed():
                self._retry_or_fail(node, news)
            case AttemptCancelled():
                self.say(StepCancelled(step=path, node=node.id))
            case DoubtResolved():
                self._resolve(path, node, news)
            case WaitOpened():
                self._settle_wait(path, node, news)
            case SignalReceived() | CallReceived():
                self.say(StepSucceeded(step=path, node=node.id, output=news.body))
            case ApprovalDecided():
                output = came_of_it(news)
                self.say(StepSucceeded(step=path, node=node.id, ports=(news.decision,), output=output))
            case ChildBegan() | ChildEnded():
                self._hear_of_child(path, node, news)

    def _keep_undo(self, path: StepPath) -> None:
        """Say what would undo a step that has succeeded, while all that it is made of is at hand."""
        undo = self._graph.nodes[node_of(path)].compensate
        if not undo or self.run.step(path).status != "succeeded":
            return
        if within(item_of(path), undo) not in self.run.undos:
            self.say(undo_of(self.run, path, self._graph.nodes[undo], self._at, self._evaluate))

    def _settle_wait(self, path: StepPath, node: PlanNode, wait: WaitOpened) -> None:
        """Its time has come."""
        match wait.kind:
            case "delay":
                self._pass_on(path, node, "main")
            case "signal" | "call":
                self._pass_on(path, node, "timeout")
            case "approval" if self._stops_at(path):
                self.say(StepCancelled(step=path, node=node.id))
            case "approval":
                output = undecided(wait)
                self.say(StepSucceeded(step=path, node=node.id, ports=("timeout",), output=output))
            case "escalation":
                self._escalate(path)
            case "child" | "start":
                self._child_failed(path, node, too_late(self.run.children[path].child))
            case _:
                self._again(path, node)

    def _hear_of_child(self, path: StepPath, node: PlanNode, news: ChildBegan | ChildEnded) -> None:
        match news:
            case ChildBegan():
                self.say(StepSucceeded(step=path, node=node.id, output=started_output(news.child)))
            case ChildEnded(outcome="completed"):
                self.say(StepSucceeded(step=path, node=node.id))
            case ChildEnded(outcome="cancelled") if self._stops_at(path):
                self.say(StepCancelled(step=path, node=node.id))
            case ChildEnded():
                self._child_failed(path, node, failure_of(news))

    def _retry_or_fail(self, node: PlanNode, failed: AttemptFailed) -> None:
        path, then = failed.step, after_failure(self.run, node, failed, self._at)
        if then == "never":
            self._fail(path, node, failed.error)
        elif self._stops_at(path):
            self.say(StepCancelled(step=path, node=node.id))
        elif then == "now":
            self._again(path, node)
        else:
            self.say(then)

    def _child_failed(self, path: StepPath, node: PlanNode, error: Failure) -> None:
        """Like an attempt that failed; the next one is another run."""
        attempt = self.run.step(path).attempt
        self._retry_or_fail(node, AttemptFailed(step=path, attempt=attempt, error=error))

    def _resolve(self, path: StepPath, node: PlanNode, news: DoubtResolved) -> None:
        if news.resolution == "done":
            self.say(StepSucceeded(step=path, node=node.id))
        elif news.resolution == "failed":
            self._fail(path, node, ABANDONED)
        else:
            self._attempt(path, node)

    def _escalate(self, path: StepPath) -> None:
        wait = self.run.waits[approval_wait(path)]
        to = wait.approval.escalate_to if wait.approval else ()
        self.say(ApprovalEscalated(wait=wait.wait, step=path, to=to))

    def _pass_on(self, path: StepPath, node: PlanNode, port: PortName) -> None:
        if self._stops_at(path):
            self.say(StepCancelled(step=path, node=node.id))
            return
        output = self._evaluate.passed_on(self.run, path, node)
        if isinstance(output, Failure):
            self._fail(path, node, output)
        else:
            self.say(StepSucceeded(step=path, node=node.id, ports=(port,), output=output))

    # --- Where there is to look ---------------------------------------------------------------

    def look_everywhere(self) -> None:
        """At every node of the workflow and of each item that is not over."""
        for path in self.run.steps:
            self._keep_undo(path)  # Of what succeeded while nobody had the plan.
        self._look_inside(WHOLE)
        for path, items in self.run.items.items():
            self.look_at(path)
            self._touched[path].update(items.open)
            for number in items.open:
                self._look_inside(item_path(path, number))

    def look_at(self, container: StepPath) -> None:
        heappush(self._containers, (-len(numbers(container)), numbers(container), container))

    def _look_inside(self, item: ItemPath) -> None:
        for node in self._graph.inside[container_node(item)]:
            heappush(self._steps, self._graph.place(within(item, node)))

    def _look_behind(self, path: StepPath) -> None:
        """At what follows from a step that may be done."""
        item, dot, node = path.rpartition(".")
        if self.run.step(path).status in DONE:
            for follower in self._graph.followers[node]:
                heappush(self._steps, self._graph.place(item + dot + follower))
        if item:
            self._look_around(path)

    def _look_around(self, path: StepPath) -> None:
        """At the item in which a step lies: it may be over."""
        item = item_of(path)
        if item:
            container, number = container_of(item)
            self._touched[container].add(number)
            self.look_at(container)

    # --- What can go now ----------------------------------------------------------------------

    def advance(self) -> None:
        """Begin every step that is ready and skip what is never reached; then let containers go on, till nothing goes."""
        if may_stand(self.run, self._graph.plan) and at_gate(self.run):
            return
        while not must_stop(self.run):
            if self._steps:
                self._consider(heappop(self._steps)[2])
            elif self._containers:
                self._go_on(heappop(self._containers)[2])
            else:
                return

    def _consider(self, path: StepPath) -> None:
        if self.run.step(path).status != "pending" or closed(self.run, self._graph, path):
            return
        node = self._graph.nodes[node_of(path)]
        ready = readiness(self._graph, self.run, path)
        if ready == "open":
            return
        if ready == "dead":
            self.say(StepSkipped(step=path, node=node.id))
        elif node.pin is not None:
            self._take_pin(path, node, node.pin)
        else:
            self._begin(path, node)
        if self.run.step(path).status in DONE:
            self._look_behind(path)

    def _begin(self, path: StepPath, node: PlanNode) -> None:
        if node.compensate and holds_enough(self.run):
            self._fail(path, node, TOO_MUCH)
            return
        if node.place == "executor":
            self._attempt(path, node)
            return
        match self._evaluate.control(self.run, path, node, self._at):
            case Passed() as passed:
                self.say(StepSucceeded(step=path, node=node.id, ports=passed.ports, output=passed.output))
            case Delayed() | Listening() | Expecting() | Asking() as awaited:
                self._wait(path, awaited)
            case Answered() as answer:
                self._respond(path, node, answer)
            case Fanned() | Looped() as items:
                self._open(path, node, items)
            case Called() as called:
                self._call(path, node, called)
            case Failure() as error:
                self._fail(path, node, error)

    def _take_pin(self, path: StepPath, node: PlanNode, pin: Pin) -> None:
        """In a test: what came of the node was said beforehand."""
        config = self._evaluate.config(self.run, path, node) if pin.evaluated else None
        if isinstance(config, Failure):
            self._fail(path, node, config)
            return
        if config is not None:
            self.say(StepPinned(step=path, node=node.id, config=config))
        if pin.skipped:
            self.say(StepSkipped(step=path, node=node.id))
        elif pin.error is not None:
            self._fail(path, node, pin.error)
        else:
            self.say(StepSucceeded(step=path, node=node.id, ports=pin.ports or (), output=pin.output))

    def _wait(self, path: StepPath, awaited: Awaited) -> None:
        for wait in waits_of(path, awaited):
            self.say(wait)
        said = self.run.news.get(path)
        if said is not None:  # Before anything waited for it.
            self._settle(path, said)

    def _open(self, path: StepPath, node: PlanNode, items: Fanned | Looped) -> None:
        if isinstance(items, Looped):
            self.say(ItemsOpened(step=path, node=node.id, input=items.input))
        else:
            self.say(ItemsOpened(step=path, node=node.id, count=items.count))
            for page in items.pages:
                self.say(ItemsPaged(step=path, items=page))
        self.look_at(path)

    def _again(self, path: StepPath, node: PlanNode) -> None:
        """The next attempt at a step; for one that starts a run it is another run."""
        if node.place == "orchestrator" and not self._stops_at(path):
            self._begin(path, node)
        else:
            self._attempt(path, node)

    def _call(self, path: StepPath, node: PlanNode, called: Called) -> None:
        refused = stopped(cause_of_children(self.run), called.workflow)
        if refused is not None:
            self._fail(path, node, refused)
            return
        for decision in child_asked(self.run, path, node, called):
            self.say(decision)

    def _respond(self, path: StepPath, node: PlanNode, answer: Answered) -> None:
        """The first answer counts, for ever; a later respond node passes its body on and answers nobody."""
        if self.run.responded is not None:
            self.say(StepSucceeded(step=path, node=node.id, output=answer.body))
            return
        self.say(RunResponded(step=path, status=answer.status, headers=answer.headers, body=answer.body))
        self.say(StepSucceeded(step=path, node=node.id))

    def _attempt(self, path: StepPath, node: PlanNode) -> None:
        if self._stops_at(path):
            self.say(StepCancelled(step=path, node=node.id))
            return
        config = self._evaluate.config(self.run, path, node)
        if isinstance(config, Failure):
            self._fail(path, node, config)
            return
        self.say(next_attempt(self.run, path, node, config))

    def _fail(self, path: StepPath, node: PlanNode, error: Failure) -> None:
        """The step has failed for good, and with it what is around it, until something takes the failure."""
        shut = closed(self.run, self._graph, path)
        handled, ports = node.id in self._graph.handled, None
        if not handled and node.on_error == "continue":
            handled, ports = True, ("main",)
        self.say(StepFailed(step=path, node=node.id, error=error, handled=handled, ports=ports))
        item = item_of(path)
        if handled or shut or not item or self._stops:
            return
        container = container_of(item)[0]
        if not takes_failures(self._graph, container):
            self._fail(container, self._graph.nodes[node_of(container)], error)
            self._look_behind(container)

    # --- Maps and loops -----------------------------------------------------------------------

    def _go_on(self, container: StepPath) -> None:
        """End the items that are over; then begin the next, or end the container."""
        for number in sorted(self._touched.pop(container, ())):
            self._end_item(container, number)
        items, node = self.run.items.get(container), self._graph.nodes[node_of(container)]
        if items is None:
            return
        if self.run.step(container).status != "running" or closed(self.run, self._graph, container):
            self._look_around(container)  # What closes it may be over now.
        elif items.failure is not None and not continues(node):
            self._end_failed(container, node, items.failure)
        elif waits_its_turn(self.run, container):
            return
        elif items.count is None:
            self._next_round(container, node, items)
        elif all_over(items):
            self._end(container, node, self._evaluate.gathered(self.run, container, node))
        else:
            self._begin_items(container)

    def _end_item(self, container: StepPath, number: int) -> None:
        ended = over(self.run, self._graph, item_path(container, number), self._evaluate)
        for decision in ended:
            self.say(decision)
        for decision in page_over(self.run, container, number, self._evaluate) if ended else ():
            self.say(decision)

    def _begin_items(self, container: StepPath) -> None:
        begins = next_items(self.run, self._graph, container, len(self.said), self._at)
        if begins is None:
            return
        self.say(begins)
        if isinstance(begins, ItemsBegan):
            for number in range(begins.first, begins.first + begins.count):
                self._look_inside(item_path(container, number))
            self.look_at(container)

    def _next_round(self, container: StepPath, node: PlanNode, items: Items) -> None:
        if items.open:
            return
        goes_on = self._evaluate.goes_on(self.run, container, node) if items.begun else True
        most = node.config.get("most_rounds", ROUNDS)
        if goes_on is True and items.begun >= most:
            goes_on = Failure(
                code="loop.exhausted", message=f"After {most} rounds the condition still did not hold."
            )
        if goes_on is True:
            self._begin_items(container)
        else:
            self._end(container, node, items.last if goes_on is False else goes_on)

    def _end(self, container: StepPath, node: PlanNode, output: Payload | Failure) -> None:
        if isinstance(output, Failure):
            self._fail(container, node, output)
        else:
            self.say(StepSucceeded(step=container, node=node.id, output=output))
        self._look_behind(container)

    def _end_failed(self, container: StepPath, node: PlanNode, error: Failure) -> None:
        """Its error path takes over, once every attempt inside has said how it ended."""
        inside = f"{container}["
        if under_way(self.run, inside):
            return
        for decision in cleared(self.run, inside):
            self.say(decision)
        if waits_its_turn(self.run, container):
            self.say(WaitDropped(wait=turn_wait(container)))
        self._fail(container, node, error)
        self._look_behind(container)

    def _stops_at(self, path: StepPath) -> bool:
        return self._stops or closed(self.run, self._graph, path)

    @property
    def _stops(self) -> bool:
        return self.run.phase == "stopping" or must_stop(self.run)
