"""Plans, messages and a machine to tell stories about runs with."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec import Raw, structs

from chassis.ids import digest
from chassis.testing.scenario import Scenario
from contracts.codec import encode
from contracts.commits import Commit
from contracts.errors import Failure
from contracts.gates import FlowLimit, SlotWanted
from contracts.messages import (
    CallWait,
    CancelRun,
    ChildOver,
    ChildStarted,
    DecideApproval,
    Look,
    Message,
    ResolveDoubt,
    RetryRun,
    SendSignal,
    StartRun,
    StepBroken,
    StepDone,
    StepInDoubt,
    StepLetGo,
    UnparkRun,
    Wake,
)
from contracts.payloads import Inline, Payload
from contracts.plans import Plan, PlanEdge, PlanNode
from contracts.runs import AttemptScheduled, Cause, ChildAsked, HandlerAsked, RunEvent, RunStarted
from contracts.workflows import Retry
from orchestrator.catalogue import SPECS
from orchestrator.control import Called, Outcome
from orchestrator.inputs import Incoming, Values, item_output, map_output, page_output
from orchestrator.passing import wanted
from orchestrator.performing import perform
from orchestrator.published import Published
from orchestrator.run import RULES, Graph, Run, accept, decide, evolve

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PLAN_HASH = "ab" * 32
CHILD_PLAN = "cd" * 32
"""Of every workflow that a node starts."""
PATIENT = Retry(attempts=3, first_pause_s=10, factor=2, jitter=0)


def value(of: Any) -> Inline:
    return Inline(value=Raw(encode(of)))


def action(name: str, **more: Any) -> PlanNode:
    fields: dict[str, Any] = {
        "id": name,
        "type": "echo",
        "place": "executor",
        "timeout_s": 60,
        "config": {},
    }
    return PlanNode(**fields | more)


def control(name: str, kind: str, config: dict[str, Any] | None = None, **more: Any) -> PlanNode:
    outputs = tuple(port.name for port in SPECS[kind].outputs)
    fields: dict[str, Any] = {
        "id": name,
        "type": kind,
        "place": "orchestrator",
        "timeout_s": 0,
        "config": config or {},
        "outputs": outputs,
        "contains": SPECS[kind].contains,
    }
    return PlanNode(**fields | more)


def drawn(
    arrows: str, *nodes: PlanNode, timeout_s: float | None = None, on_failure: str | None = None
) -> Plan:
    """A plan from arrows such as `a>b b.error>c`. Nodes that are not given are actions; their order is topological."""
    edges, given = [], {node.id: node for node in nodes}
    for arrow in arrows.split():
        left, _, right = arrow.partition(">")
        source, _, port = left.partition(".")
        for name in filter(None, (source, right)):
            given.setdefault(name, action(name))
        if right:
            edges.append(PlanEdge(source=source, port=port or "main", target=right, into="main"))
    ranked = list[str]()
    while len(ranked) < len(given):
        ranked.append(
            next(
                name
                for name in given
                if name not in ranked and all(edge.source in ranked for edge in edges if edge.target == name)
            )
        )
    return Plan(
        org="org",
        workflow="flow",
        version=1,
        nodes=tuple(structs.replace(given[name], order=rank) for rank, name in enumerate(ranked)),
        edges=tuple(edges),
        vars={},
        timeout_s=timeout_s,
        on_failure=on_failure,
    )


class AsWritten:
    """Evaluates nothing: every field of a configuration is its own value."""

    def __init__(self, graph: Graph, broken: dict[str, Failure] | None = None) -> None:
        self._graph = graph
        self._broken = broken or {}

    def config(self, _run: Run, _path: str, node: PlanNode) -> Payload | Failure:
        return self._broken.get(node.id) or value(node.config)

    def control(self, run: Run, path: str, node: PlanNode, at: datetime) -> Outcome | Failure:
        given = Incoming(self._graph, run, path, Values({}))
        outcome = self._broken.get(node.id) or perform(node, node.config, given, at)
        if not isinstance(outcome, Called):
            return outcome
        return structs.replace(outcome, version=outcome.version or 1, plan=CHILD_PLAN)

    def passed_on(self, run: Run, path: str, _node: PlanNode) -> Payload | Failure:
        return Incoming(self._graph, run, path, Values({})).payload()

    def goes_on(self, run: Run, path: str, node: PlanNode) -> bool | Failure:
        return bool(run.items[path].begun < node.config["until"])

    def came_of(self, run: Run, item: str) -> Payload:
        return item_output(self._graph, run, item)

    def page(self, run: Run, path: str, page: int) -> Payload:
        return page_output(run.items[path], page)

    def gathered(self, run: Run, path: str, _node: PlanNode) -> Payload | Failure:
        return map_output(run.items[path], Values({}))

    def handler(self, _run: Run, called: Called) -> Called | Failure:
        return self._broken.get("on_failure") or structs.replace(called, version=1, plan=CHILD_PLAN)

    def slot(self, run: Run, limit: FlowLimit) -> SlotWanted | Failure:
        return self._broken.get(limit.name) or wanted(run, limit, self._graph.plan, limit.per)

    def priority(self, _run: Run) -> int | Failure:
        return self._broken.get("priority") or 7

    def output(self, run: Run) -> Payload:
        return item_output(self._graph, run, "")


def story(plan: Plan | None, **broken: Failure) -> Scenario[Run, Message, RunEvent]:
    """A machine for one plan (None: its plan is gone), and a run that nobody has started."""
    graph = Graph.of(plan) if plan is not None else None
    evaluate = AsWritten(graph or Graph.of(drawn("a")), broken)
    return Scenario(
        state=Run.new("org", "run-1"),
        at=NOON,
        accept=lambda run, message, at: accept(run, graph, message, at),
        decide=lambda run, fact, at: decide(run, graph, fact, at, evaluate),  # type: ignore[arg-type]  # Facts only.
        evolve=evolve,
    )


def started(plan: Plan | None, **broken: Failure) -> Scenario[Run, Message, RunEvent]:
    return story(plan, **broken).when(START)


TO: dict[str, Any] = {"org": "org", "run": "run-1"}
START = StartRun(
    **TO,
    plan=PLAN_HASH,
    workflow="flow",
    version=1,
    receipt="receipt-1",
    cause=Cause(kind="api"),
    input=value({"body": {"n": 1}}),
)
STARTED = RunStarted(
    plan=PLAN_HASH,
    workflow="flow",
    version=1,
    receipt="receipt-1",
    cause=Cause(kind="api"),
    input=value({"body": {"n": 1}}),
    rules=RULES,
)
LOOK = Look(**TO)
CANCEL = CancelRun(**TO, actor="key:1", reason="enough")
RETRY = RetryRun(**TO, actor="key:1")
UNPARK = UnparkRun(**TO, actor="key:1")
TRY_AGAIN = Failure(code="unreachable", message="Nobody there.", retryable=True)
REFUSED = Failure(code="refused", message="No.")


def done(step: str, attempt: int = 1, output: Any = None, ports: tuple[str, ...] = ("main",)) -> StepDone:
    return StepDone(
        **TO, step=step, attempt=attempt, executor="executor:1", output=value(output), ports=ports
    )


def broken(
    step: str, attempt: int = 1, error: Failure = REFUSED, retry_after_s: float | None = None
) -> StepBroken:
    return StepBroken(
        **TO, step=step, attempt=attempt, executor="executor:1", error=error, retry_after_s=retry_after_s
    )


def doubted(step: str, attempt: int = 1) -> StepInDoubt:
    return StepInDoubt(
        **TO,
        step=step,
        attempt=attempt,
        executor="executor:1",
        error=Failure(code="unreachable", message="?"),
    )


def let_go(step: str, attempt: int = 1, effect: str = "none") -> StepLetGo:
    return StepLetGo(
        **TO,
        step=step,
        attempt=attempt,
        executor="executor:1",
        effect=effect,  # type: ignore[arg-type]  # One of three words.
    )


def signal(name: str, key: str = "once", body: Any = None) -> SendSignal:
    return SendSignal(**TO, actor="key:person", signal=name, key=key, body=value(body))


def called(step: str, body: Any = None, **more: Any) -> CallWait:
    fields: dict[str, Any] = {"actor": "caller", "request": digest(encode(body)), "body": value(body)}
    return CallWait(**TO, step=step, **fields | more)


def decide_on(
    step: str, decision: Any = "approved", by: str = "key:person", fields: Any = None, comment: str = ""
) -> DecideApproval:
    said = encode([decision, fields, comment])
    return DecideApproval(
        **TO,
        actor=by,
        step=step,
        decision=decision,
        request=digest(said),
        fields=value(fields or {}),
        comment=comment,
    )


def wake(wait: str) -> Wake:
    return Wake(**TO, wait=wait)


def child_started(step: str, child: str) -> ChildStarted:
    return ChildStarted(**TO, step=step, child=child)


def child_over(
    step: str, child: str, outcome: str = "completed", output: Any = None, error: Failure | None = None
) -> ChildOver:
    return ChildOver(
        **TO,
        step=step,
        child=child,
        outcome=outcome,  # type: ignore[arg-type]  # One of three words.
        output=value(output),
        error=error,
    )


def resolve(step: str, resolution: str, output: Any = None) -> ResolveDoubt:
    return ResolveDoubt(
        **TO,
        actor="key:1",
        step=step,
        resolution=resolution,  # type: ignore[arg-type]  # One of three words.
        output=value(output),
    )


def scheduled(step: str, attempt: int = 1, config: Any = None, **more: Any) -> AttemptScheduled:
    fields: dict[str, Any] = {
        "step": step,
        "node": step,
        "node_type": "echo",
        "attempt": attempt,
        "key": f"run-1/{step}",
        "pool": "default",
        "repeat": "no",
        "timeout_s": 60,
        "config": value(config or {}),
    }
    return AttemptScheduled(**fields | more)


class AsRecorded(dict[tuple[str, str], Published]):
    """What was published when a history was decided; what it found nowhere is nowhere."""

    def __missing__(self, key: tuple[str, str]) -> Published:
        return Published()


def as_recorded(commits: Iterable[Commit[RunEvent]]) -> AsRecorded:
    """Told by the runs that were started. Of several versions the last one that was asked for counts as the newest."""
    found = AsRecorded()
    for commit in commits:
        for event in commit.events:
            if isinstance(event, ChildAsked | HandlerAsked):
                key = commit.org, event.workflow
                plans = {**found[key].plans, event.version: event.plan}
                found[key] = Published(exists=True, latest=event.version, plans=plans)
    return found
