"""Laws that hold for every run, whatever its plan and whatever happens in whatever order."""

import random
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from chassis.testing.examples import example as an_example
from contracts.commits import Commit
from contracts.errors import Failure
from contracts.messages import (
    CallWait,
    ChildOver,
    ChildStarted,
    DecideApproval,
    Message,
    SendSignal,
    StepDone,
    StepLetGo,
)
from contracts.plans import Plan, PlanEdge, PlanNode
from contracts.runs import (
    TERMINAL,
    AttemptScheduled,
    ChildAsked,
    Fact,
    RunEvent,
    RunParked,
    RunReopened,
    RunStarted,
    WaitOpened,
)
from orchestrator.consider import still_news
from orchestrator.evolution import FOLDS
from orchestrator.history import replay, state_at
from orchestrator.readiness import Graph
from orchestrator.run import Refusal, Run, accept, decide, evolve, outstanding, waiting_for
from orchestrator.state import DONE
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    NOON,
    PATIENT,
    RETRY,
    START,
    TRY_AGAIN,
    UNPARK,
    AsWritten,
    action,
    broken,
    called,
    child_over,
    child_started,
    control,
    decide_on,
    done,
    doubted,
    let_go,
    resolve,
    signal,
    wake,
)
from tests.promises.undos import Undoings

CONTROLS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("filter", {"condition": True}, {}),
    ("filter", {"condition": False}, {}),
    ("if", {"condition": False}, {}),
    ("if", {"condition": "broken"}, {}),
    ("set", {"fields": {"a": 1}}, {}),
    ("merge", {"mode": "all"}, {}),
    ("merge", {"mode": "any"}, {"join": "any"}),
    ("delay", {"seconds": 30}, {}),
    ("wait.signal", {"signal": "paid"}, {}),
    ("wait.signal", {"signal": "paid", "timeout_seconds": 30}, {}),
    ("wait.signal", {"signal": "shipped"}, {}),
    ("wait.webhook", {}, {}),
    ("wait.webhook", {"timeout_seconds": 30, "body": {"ok": True}}, {}),
    ("wait.approval", {"question": "Pay?"}, {}),
    ("wait.approval", {"question": "Pay?", "timeout_seconds": 30, "deciders": ["key:1"]}, {}),
    ("wait.approval", {"question": "Pay?", "timeout_seconds": 30, "escalate_after_seconds": 3}, {}),
    ("wait.approval", {"question": "Pay?", "timeout_seconds": "soon"}, {}),
    ("workflow.run", {"workflow": "child"}, {"retry": PATIENT}),
    ("workflow.run", {"workflow": "child", "timeout_seconds": 30}, {}),
    ("workflow.run", {"workflow": "child", "mode": "start"}, {}),
    ("stop", {"message": "No."}, {}),
    ("noop", {}, {}),
    ("respond", {"body": "hello"}, {}),
]


def random_plan(chance: random.Random) -> Plan:
    """Up to nine nodes, every edge from an earlier to a later one, by a random port."""
    nodes: list[PlanNode] = []
    for number in range(chance.randint(1, 9)):
        name = f"n{number}"
        if chance.random() < 0.5:
            repeat = chance.choice(["yes", "no", "by-key"])
            retry = {"retry": PATIENT} if chance.random() < 0.5 else {}
            nodes.append(action(name, order=number, repeat=repeat, **retry))
        else:
            kind, config, more = chance.choice(CONTROLS)
            nodes.append(control(name, kind, config, order=number, **more))
    edges = {
        PlanEdge(
            source=source.id,
            port=chance.choice([*source.outputs, *source.outputs, "error"]),
            target=target.id,
            into="main",
        )
        for place, target in enumerate(nodes)
        for source in nodes[:place]
        if chance.random() < 0.3
    }
    return Plan(
        org="org",
        workflow="flow",
        version=1,
        nodes=with_undos(nodes, chance) if chance.random() < 0.5 else tuple(nodes),
        edges=tuple(sorted(edges, key=lambda edge: (edge.source, edge.target))),
        vars={},
        timeout_s=chance.choice([None, 45.0]),
    )


def with_undos(nodes: list[PlanNode], chance: random.Random) -> tuple[PlanNode, ...]:
    """The same nodes; what acts can be undone, each by a node of its own."""
    undone, undos = list(nodes), list[PlanNode]()
    for place, node in enumerate(nodes):
        if node.place == "executor" or node.type == "workflow.run":
            retry = {"retry": PATIENT} if chance.random() < 0.5 else {}
            order = len(nodes) + len(undos)
            undos.append(action(f"u{place}", order=order, undoes=node.id, repeat="no", **retry))
            undone[place] = structs.replace(node, compensate=undos[-1].id)
    return (*undone, *undos)


PEOPLE = ("key:1", "key:2", "link")


class Told(Struct):
    """A run and everything that happened to it."""

    graph: Graph
    run: Run
    at: datetime = NOON
    commits: list[Commit[RunEvent]] = []
    recorded: list[Message] = []
    facts: list[Fact] = []

    def hear(self, message: Message) -> None:
        accepted = accept(self.run, self.graph, message, self.at)
        if isinstance(accepted, Refusal) or not accepted:
            return
        self.recorded.append(message)
        events: list[RunEvent] = []
        for fact in accepted:
            if not still_news(self.run, fact):
                continue
            self.fold(fact)
            evaluate = AsWritten(self.graph)
            decisions = decide(self.run, self.graph, fact, self.at, evaluate)
            assert decisions == decide(self.run, self.graph, fact, self.at, evaluate)
            for decision in decisions:
                self.fold(decision)
            self.facts.append(fact)
            events += [fact, *decisions]
        self.commit(events)

    def fold(self, event: RunEvent) -> None:
        before, self.run = self.run, evolve(self.run, event, self.at)
        assert self.run != before, f"{event} is in the history and means nothing"

    def park(self) -> None:
        fact = RunParked(reason="poison")
        self.run = evolve(self.run, fact, self.at)
        self.facts.append(fact)
        self.commit([fact])

    def commit(self, events: list[RunEvent]) -> None:
        self.commits.append(
            Commit[RunEvent](
                id="c",
                org="org",
                run="run-1",
                version=len(self.commits) + 1,
                events=tuple(events),
                time=self.at,
                actor="system",
                causation_id="",
                correlation_id="",
                engine_version="",
                key_id="",
                prev_hash="",
            )
        )

    def events(self) -> list[RunEvent]:
        return [event for commit in self.commits for event in commit.events]


def something(told: Told, chance: random.Random) -> Message:
    """A message that may come now: mostly one that moves the run, sometimes an old or a foolish one."""
    run, choices = told.run, list[Message]()
    for path, attempt in run.attempts.items():
        number = attempt.attempt
        ports = chance.choice([("main",), ("main",), ("true",), ()])
        choices += [done(path, number, output=path, ports=ports)] * 4
        choices += [broken(path, number), broken(path, number, TRY_AGAIN), doubted(path, number)]
        choices += [let_go(path, number, chance.choice(["none", "possible", "done"]))]
    for path, doubtful in run.doubts.items():
        choices += [resolve(path, chance.choice(["retry", "done", "failed"])), done(path, doubtful)]
        choices += [broken(path, doubtful), broken(path, doubtful, TRY_AGAIN)]
    choices += [wake(name) for name in run.waits]
    choices += [signal(wait.signal, f"{chance.random()}") for wait in run.waits.values() if wait.signal]
    choices += [signal("paid", "early"), signal("shipped", "earlier")] if chance.random() < 0.2 else []
    for wait in run.waits.values():
        step = wait.step or ""
        choices += [called(step, chance.random())] * 2 if wait.call else []
        if wait.approval:
            choices += [decide_on(step, chance.choice(["approved", "rejected"]), by) for by in PEOPLE]
    for path, asked in run.children.items():
        choices += [ended(path, asked), ended(path, asked, chance.choice(["failed", "cancelled"]))]
    foolish: list[Message] = [CANCEL, LOOK, LOOK, RETRY, UNPARK, START, done("n0"), resolve("n1", "done")]
    foolish += [called("n0"), decide_on("n1"), called("nowhere")]
    choices.append(chance.choice(foolish))
    if told.recorded and chance.random() < 0.3:
        choices.append(chance.choice(told.recorded))
    return chance.choice(choices)


def ended(path: str, asked: ChildAsked, outcome: str = "completed") -> Message:
    """What the step waits for: the end of its child, or that it is there."""
    if not asked.waits:
        return child_started(path, asked.child)
    return child_over(path, asked.child, outcome, path, None if outcome == "completed" else TRY_AGAIN)


def lived(seed: int, moments: int = 25) -> Told:
    """A run to which random things happened, one after the other."""
    chance = random.Random(seed)
    told = Told(graph=Graph.of(random_plan(chance)), run=Run.new("org", "run-1"))
    told.hear(START)
    for _ in range(moments):
        if chance.random() < 0.3:
            told.at += timedelta(seconds=chance.choice([1, 3, 30]))
        if chance.random() < 0.02:
            told.park()
        told.hear(something(told, chance))
        assert_sound(told.run)
    return told


def assert_sound(run: Run) -> None:
    """What must be true of a run after every commit."""
    if run.status not in TERMINAL:
        assert waiting_for(run), "a run that goes on must name what it waits for"
    if run.parked is None:
        assert not run.news, "everything that was learnt was decided on"
    if run.phase in TERMINAL:
        held = outstanding(run)
        left = [*held.attempts, *held.waits, *run.attempts, *run.waits, *run.doubts, *run.children]
        assert left == [], "what ended has nothing under way"
    if run.status == "completed":
        assert all(step.status in DONE for step in run.steps.values())


seeds = st.integers(min_value=0, max_value=2**32)


@settings(max_examples=200, deadline=None)
@given(seeds)
@example(0)
def test_the_same_history_gives_the_same_state_and_the_same_decisions(seed: int) -> None:
    told = lived(seed)
    assert state_at("org", "run-1", told.commits) == told.run
    assert replay("org", "run-1", told.commits, told.graph) is None
    assert replay("org", "run-1", told.commits, told.graph, AsWritten(told.graph)) is None


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_redelivery_is_harmless(seed: int) -> None:
    told = lived(seed)
    evaluate = AsWritten(told.graph)
    for fact in told.facts:
        assert decide(told.run, told.graph, fact, told.at, evaluate) == [], f"{fact} was acted on twice"
    for message in told.recorded:
        heard = isinstance(message, SendSignal) and told.run.active  # Said after the end it is refused.
        if isinstance(message, StepDone | StepLetGo | ChildOver | ChildStarted) or message == START or heard:
            assert accept(told.run, told.graph, message, told.at) == (), f"{message} was recorded twice"
        if isinstance(message, CallWait | DecideApproval):
            again = accept(told.run, told.graph, message, told.at)
            waited = {wait.step for wait in told.run.waits.values()}
            # Asked anew in another opening, the same answer is another one.
            assert not again or isinstance(again, Refusal) or message.step in waited


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_evolve_accepts_every_event_in_every_state(seed: int) -> None:
    told = lived(seed, moments=10)
    for kind in FOLDS:
        after = evolve(told.run, an_example(kind), told.at)
        assert isinstance(after, Run)
    for event in told.events():
        assert isinstance(evolve(told.run, event, told.at), Run)


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_each_opening_ends_at_most_once_and_no_attempt_is_made_twice(seed: int) -> None:
    told = lived(seed)
    ends, attempts = Counter[int](), Counter[tuple[str, int]]()
    opening = 0
    for event in told.events():
        opening += isinstance(event, RunStarted | RunReopened)
        ends[opening] += str(type(event).__struct_config__.tag) in (
            "run.completed",
            "run.failed",
            "run.cancelled",
        )
        if isinstance(event, AttemptScheduled):
            attempts[event.step, event.attempt] += 1
    assert max(ends.values()) <= 1
    assert max(attempts.values(), default=1) == 1


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_what_was_done_is_undone_once_the_last_step_first_or_told_as_left(seed: int) -> None:
    told = lived(seed)
    undoings = Undoings(told.graph.nodes)
    assert [what for event in told.events() for what in undoings.hear(event)] == []


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_every_run_ends_when_everybody_does_their_part(seed: int) -> None:
    told = lived(seed, moments=8)
    for turn in range(200):
        told.hear(UNPARK)
        if told.run.status in TERMINAL:
            break
        waits = sorted(told.run.waits.values(), key=lambda wait: wait.due or told.at)
        if told.run.attempts:
            path, attempt = next(iter(told.run.attempts.items()))
            told.hear(done(path, attempt.attempt))
        elif told.run.children:
            told.hear(ended(*next(iter(told.run.children.items()))))
        elif told.run.doubts:
            told.hear(resolve(next(iter(told.run.doubts)), "done"))
        elif waits[0].due is None:
            told.hear(what_it_waits_for(waits[0], f"in the end {turn} {waits[0].wait}"))
        else:
            told.at = max(told.at, waits[0].due)
            told.hear(wake(waits[0].wait))
    assert told.run.status in TERMINAL
    settled = {path for path, step in told.run.steps.items() if step.status in {*DONE, "cancelled"}}
    assert settled - {node.compensate for node in told.graph.plan.nodes} == set(told.graph.order)


def what_it_waits_for(wait: WaitOpened, words: str) -> Message:
    if wait.signal is not None:
        return signal(wait.signal, words)
    assert wait.step is not None
    return decide_on(wait.step, by="key:1", comment=words) if wait.approval else called(wait.step, words)


def test_a_run_of_500_steps_is_told_and_folded_quickly_enough_to_be_told_here() -> None:
    names = [f"n{number}" for number in range(500)]
    plan = Plan(
        org="org",
        workflow="flow",
        version=1,
        nodes=tuple(action(name, order=rank) for rank, name in enumerate(names)),
        edges=tuple(PlanEdge(source=a, port="main", target=b, into="main") for a, b in pairwise(names)),
        vars={},
    )
    told = Told(graph=Graph.of(plan), run=Run.new("org", "run-1"))
    told.hear(START)
    for name in names:
        told.hear(done(name))
    assert told.run.status == "completed"
    assert state_at("org", "run-1", told.commits) == told.run


def test_a_failure_in_an_expression_is_the_steps_and_not_the_deciders() -> None:
    broken_config = Failure(code="expression", message="no", node="n0")
    graph = Graph.of(Plan(org="o", workflow="w", version=1, nodes=(action("n0"),), edges=(), vars={}))
    told = Told(graph=graph, run=Run.new("org", "run-1"))
    (fact,) = accept(told.run, graph, START, NOON)  # type: ignore[misc]  # Not refused.
    run = evolve(told.run, fact, NOON)
    decisions = decide(run, graph, fact, NOON, AsWritten(graph, {"n0": broken_config}))
    assert [type(decision).__name__ for decision in decisions] == ["StepFailed", "RunFailed"]
