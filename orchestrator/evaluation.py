"""What the expressions of a node give in a run. The last step before a decision, and as pure as one.

Whatever is not at hand is raised for, before anything is decided: stored values that were not fetched, and evaluations
so costly that a process of their own makes them. Results stand in the events, so no replay evaluates anything.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from chassis.expressions import (
    MISSING,
    NO_ANSWERS,
    Answers,
    Apart,
    CompiledConfig,
    Context,
    ExpressionError,
    ExpressionFault,
    Form,
    Language,
    Reads,
    Settled,
    Value,
    compile_condition,
    compile_config,
)
from chassis.links import Place, mark
from contracts.codec import encode
from contracts.errors import Failure
from contracts.gates import FlowLimit, SlotWanted
from contracts.limits import PRIORITIES, NodeId, StepPath
from contracts.payloads import Inline, Payload
from contracts.plans import Plan, PlanNode
from contracts.workflows import Flow
from orchestrator.asking import WITH_LINKS
from orchestrator.control import Called, Outcome, Unfit
from orchestrator.inputs import (
    Incoming,
    NotReady,
    Unreadable,
    Values,
    item_output,
    item_value,
    map_output,
    page_output,
)
from orchestrator.passing import wanted
from orchestrator.paths import WHOLE, ItemPath, container_of, item_of, item_path, within
from orchestrator.performing import goes_on, perform
from orchestrator.published import NOT_LOOKED, Workflows, looked_up
from orchestrator.readiness import Graph, seen_from
from orchestrator.state import Run

_TRIGGER: Final = "@trigger"
_ITEM: Final = "@item"
"""Beside the outputs of nodes, whose ids have no such letter."""
_MESSAGE: Final = 2_000
_POINTER: Final = 1_000
_POSITION: Final = 100_000
"""The bounds of `Failure`: one that breaks them could be stored and never be read again."""
_HOW_SOON: Final = "/flow/priority"
"""No limit has such a name."""


class Compiled:
    """A plan with its expressions compiled, each node's when it is first evaluated."""

    def __init__(self, plan: Plan, language: Language) -> None:
        self.graph = Graph.of(plan)
        self._language = language
        self._nodes: dict[NodeId, _Node] = {}
        self._keys: dict[str, CompiledConfig] = {}

    def evaluator(
        self,
        values: Mapping[str, bytes | None],
        answers: Answers = NO_ANSWERS,
        workflows: Workflows = NOT_LOOKED,
    ) -> "Evaluation":
        """Evaluates with these stored values, answers and published workflows at hand. Made for one message."""
        return Evaluation(self, Values(values), answers, workflows)

    def node(self, node: PlanNode) -> "_Node":
        known = self._nodes.get(node.id)
        if known is None:
            known = self._nodes[node.id] = _compiled(node, self._language)
        return known

    def key(self, limit: FlowLimit) -> CompiledConfig:
        """The expression by which each run has the gate of its own key."""
        known = self._keys.get(limit.name)
        if known is None:
            field = f"/flow/limits/{_place_of(self.graph.plan, limit)}/per"
            known = compile_condition(limit.per, self._language, node="", field=field)
            self._keys[limit.name] = known
        return known

    def priority(self) -> CompiledConfig:
        """The expression by which each run has its own priority."""
        known = self._keys.get(_HOW_SOON)
        if known is None:
            flow = self.graph.plan.flow or Flow()
            known = compile_condition(str(flow.priority), self._language, node="", field=_HOW_SOON)
            self._keys[_HOW_SOON] = known
        return known


def _place_of(plan: Plan, limit: FlowLimit) -> int:
    return plan.flow.limits.index(limit) if plan.flow is not None else 0


class _Node(Struct, frozen=True, eq=False):
    """A node's expressions."""

    whole: CompiledConfig
    cases: tuple[CompiledConfig, ...] = ()
    """A switch's conditions one by one: behind the first that holds, none is evaluated. Or the condition of a loop."""
    constant: Any = None
    """The configuration, when it has no expressions."""
    encoded: Inline | None = None
    """The same as it stands in an event."""


def _compiled(node: PlanNode, language: Language) -> _Node:
    form = Form(conditions=node.conditions, literal=node.literal)
    if node.type == "loop":
        condition = compile_condition(node.config["until"], language, node=node.id, field="/until")
        return _Node(compile_config({}, language, node=node.id), (condition,))
    if node.type == "switch":
        cases = tuple(
            compile_condition(case["when"], language, node=node.id, field=f"/cases/{number}/when")
            for number, case in enumerate(node.config["cases"])
        )
        return _Node(compile_config({}, language, node=node.id), cases)
    whole = compile_config(node.config, language, node=node.id, form=form)
    if whole.faults or whole.expressions:
        return _Node(whole)
    constant = whole.evaluate(Context.from_roots())
    return _Node(whole, (), constant, Inline(value=Raw(encode(constant))))


class Evaluation:
    """Evaluates for one message: what several nodes read is decoded once."""

    def __init__(self, compiled: Compiled, values: Values, answers: Answers, workflows: Workflows) -> None:
        self._compiled = compiled
        self._values = values
        self._answers = answers
        self._workflows = workflows
        self._decoded: dict[int, tuple[Payload, Value]] = {}

    def config(self, run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        compiled = self._compiled.node(node)
        if compiled.encoded is not None:
            return compiled.encoded
        try:
            return Inline(value=Raw(encode(self._evaluated(compiled.whole, run, path))))
        except _FAILURES as error:
            return _failure(error, node)

    def control(self, run: Run, path: StepPath, node: PlanNode, at: datetime) -> Outcome | Failure:
        try:
            outcome = perform(node, self._control_config(run, path, node), self._incoming(run, path), at)
        except _FAILURES as error:
            return _failure(error, node)
        return looked_up(outcome, run.org, self._workflows, node) if isinstance(outcome, Called) else outcome

    def passed_on(self, run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        try:
            return self._incoming(run, path).payload()
        except _FAILURES as error:
            return _failure(error, node)

    def goes_on(self, run: Run, path: StepPath, node: PlanNode) -> bool | Failure:
        (condition,) = self._compiled.node(node).cases
        round_over = item_path(path, run.items[path].begun - 1)
        try:
            return goes_on(self._evaluated(condition, run, within(round_over, node.id)))
        except Unfit as unfit:
            return Failure(code="expression", message=str(unfit), node=node.id, field=unfit.field)
        except _FAILURES as error:
            return _failure(error, node)

    def came_of(self, run: Run, item: ItemPath) -> Payload:
        return item_output(self._compiled.graph, run, item)

    def page(self, run: Run, path: StepPath, page: int) -> Payload:
        return page_output(run.items[path], page)

    def gathered(self, run: Run, path: StepPath, node: PlanNode) -> Payload | Failure:
        try:
            return map_output(run.items[path], self._values)
        except _FAILURES as error:
            return _failure(error, node)

    def handler(self, run: Run, called: Called) -> Called | Failure:
        return looked_up(called, run.org, self._workflows)

    def slot(self, run: Run, limit: FlowLimit) -> SlotWanted | Failure:
        plan = self._compiled.graph.plan
        if not limit.per:
            return wanted(run, limit, plan, "")
        try:
            found = self._evaluated(self._compiled.key(limit), run, "")
        except _FAILURES as error:
            return _failure(error, None)
        if not isinstance(found, str | int | float) or found == "":
            return Failure(
                code="expression",
                message=f"The key of a gate is a text, a number or a truth; this is {type(found).__name__}.",
                field=f"/flow/limits/{_place_of(plan, limit)}/per",
            )
        return wanted(run, limit, plan, found if isinstance(found, str) else encode(found).decode())

    def priority(self, run: Run) -> int | Failure:
        """What is under the bounds counts as the lowest, what is over them as the highest."""
        try:
            found = self._evaluated(self._compiled.priority(), run, "")
        except _FAILURES as error:
            return _failure(error, None)
        if isinstance(found, bool) or not isinstance(found, int | float) or found != found // 1:
            message = f"A priority is a whole number; this is {_shown(found)}."
            return Failure(code="expression", message=message, field=_HOW_SOON)
        return max(0, min(PRIORITIES, int(found)))

    def output(self, run: Run) -> Payload:
        return self.came_of(run, WHOLE)

    def _incoming(self, run: Run, path: StepPath) -> Incoming:
        return Incoming(self._compiled.graph, run, path, self._values)

    def _control_config(self, run: Run, path: StepPath, node: PlanNode) -> Mapping[str, Any]:
        compiled = self._compiled.node(node)
        if node.type == "loop":
            return node.config
        if not compiled.cases:
            config: dict[str, Any] = compiled.constant or self._evaluated(compiled.whole, run, path)
            return config
        cases: list[dict[str, Any]] = []
        for case, condition in zip(node.config["cases"], compiled.cases, strict=True):
            cases.append({"name": case["name"], "when": self._evaluated(condition, run, path)})
            if cases[-1]["when"] is True:
                break
        return {"cases": cases}

    def _evaluated(self, config: CompiledConfig, run: Run, path: StepPath) -> Any:
        if config.faults:
            raise _Faulty(config.faults[0])
        try:
            return config.evaluate(self._context(run, path, config.reads), self._answers)
        except Apart as apart:
            raise NotReady(jobs=apart.jobs) from None

    # --- The values that expressions read -----------------------------------------------------

    def _context(self, run: Run, path: StepPath, reads: Reads) -> Context:
        """Exactly what is read, so that nothing is fetched or decoded in vain."""
        graph, item = self._compiled.graph, item_of(path)
        steps = {name: run.step(seen_from(graph, path, name)) for name in sorted(reads.nodes)}
        payloads = {name: step.output for name, step in steps.items() if step.output is not None}
        if reads.trigger:
            payloads[_TRIGGER] = run.input
        if reads.item:
            payloads[_ITEM] = item_value(run, item, self._values)
        values = self._decodable(payloads)
        return Context.from_roots(
            trigger=values[_TRIGGER] if reads.trigger else MISSING,
            item=values[_ITEM] if reads.item else MISSING,
            index=container_of(item)[1] if reads.item else MISSING,
            run=_about(run) if reads.run else MISSING,
            vars={**run.org_vars, **graph.plan.vars} if reads.vars else MISSING,
            steps={
                name: Settled(
                    output=values.get(name, MISSING),
                    status=step.status,
                    error=msgspec.to_builtins(step.error),
                    resume_url=self._link(run, path, name),
                )
                for name, step in steps.items()
            },
        )

    def _link(self, run: Run, path: StepPath, name: NodeId) -> object:
        """The mark of a node's link, where it has one."""
        graph = self._compiled.graph
        if graph.nodes[name].type not in WITH_LINKS:
            return MISSING
        return mark(Place(run.org, run.id, seen_from(graph, path, name)), run.plan)

    def _decodable(self, payloads: Mapping[str, Payload]) -> dict[str, Value]:
        raws = self._values.all_json(
            {name: payload for name, payload in payloads.items() if id(payload) not in self._decoded}
        )
        for name, raw in raws.items():
            # The payload is kept beside its value, so that its identity stays its own.
            self._decoded[id(payloads[name])] = (payloads[name], Value(raw))
        return {name: self._decoded[id(payload)][1] for name, payload in payloads.items()}


def _about(run: Run) -> dict[str, Any]:
    """What `run` is in expressions: nothing that differs between two attempts at a step."""
    return {
        "id": run.id,
        "org": run.org,
        "workflow": run.workflow,
        "version": run.version,
        "trigger": run.trigger,
        "started_at": run.started_at.isoformat().replace("+00:00", "Z") if run.started_at else None,
    }


def _shown(found: object) -> str:
    return f"{found:g}" if isinstance(found, float) else type(found).__name__


class _Faulty(Exception):
    """The plan has an expression that this release does not take."""

    def __init__(self, fault: ExpressionFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


_FAILURES: Final = (ExpressionError, _Faulty, Unreadable)


def _failure(error: Exception, node: PlanNode | None) -> Failure:
    """`node`: None where the workflow itself is evaluated."""
    name = node.id if node is not None else None
    match error:
        case Unreadable():
            return msgspec.structs.replace(error.failure, node=name)
        case _Faulty(fault=found) | (ExpressionError() as found):
            return Failure(
                code="expression",
                message=found.message[:_MESSAGE],
                node=name,
                field=found.field[:_POINTER],
                position=min(found.position.offset, _POSITION),
            )
    raise error
