"""What the promises mean where branches come together: what a merge gives is what came, in the order of the branches, and nothing else.

Told by the histories and the plan alone: what each branch gave, and by which port it went on.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from contracts import runs
from contracts.limits import NodeId, PortName, StepPath
from contracts.payloads import Payload
from contracts.plans import Plan, PlanNode
from contracts.runs import RunEvent
from orchestrator.paths import item_of, within
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.values import UNKNOWN, Values


def merges_give_what_came(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    values = Values(evidence.values)
    for history in histories:
        plan = evidence.plans.get(history.start.plan) if history.start is not None else None
        if plan is None:
            continue
        merges = {node.id: node for node in plan.nodes if node.type == "merge" and node.pin is None}
        if not merges:
            continue
        branches = _Branches(plan, values)
        for event in history.events:
            if isinstance(event, runs.StepSucceeded) and event.node in merges and event.output is not None:
                came = branches.before(event.step, event.node)
                given = values.read(event.output)
                if not _is_what_came(merges[event.node], came, given):
                    yield Violation("P4", f"{event.step} gave {given!r:.200} of {came!r:.200}", history.run)
            branches.hear(event)


class _Branches:
    """What each step gave, and by which ports."""

    def __init__(self, plan: Plan, values: Values) -> None:
        self._plan, self._values = plan, values
        self._order = {node.id: node.order for node in plan.nodes}
        self._told: dict[StepPath, Payload] = {}
        self._gave: dict[StepPath, tuple[tuple[PortName, ...], Any]] = {}

    def hear(self, event: RunEvent) -> None:
        match event:
            case runs.StepReported() | runs.DoubtResolved() | runs.ChildEnded() if event.output is not None:
                self._told[event.step] = event.output
            case runs.StepSucceeded():
                output = event.output if event.output is not None else self._told.get(event.step)
                value = self._values.read(output) if output is not None else UNKNOWN
                self._gave[event.step] = event.ports, value
            case runs.StepFailed():
                self._gave[event.step] = event.ports or ("error",), UNKNOWN

    def before(self, path: StepPath, node: NodeId) -> dict[NodeId, Any]:
        """What the branches gave that lead there and were taken, in the order of their nodes."""
        found: dict[NodeId, Any] = {}
        for edge in sorted(self._plan.edges, key=lambda edge: self._order[edge.source]):
            ports, value = self._gave.get(within(item_of(path), edge.source), ((), None))
            if edge.target == node and edge.port in ports:
                found[edge.source] = value
        return found


def _is_what_came(node: PlanNode, came: Mapping[NodeId, Any], given: Any) -> bool:
    if not came or given is UNKNOWN or any(value is UNKNOWN for value in came.values()):
        return True  # Nobody looked, or nothing leads there: it gives what its run or item began with.
    if node.config.get("mode") == "first":
        return bool(given == next(iter(came.values())))
    return bool(given == _WAYS[node.config.get("output", "object")](came, node.config.get("key", "")))


def _by_position(came: Mapping[NodeId, Any], _key: str) -> list[Any]:
    longest = max(len(items) for items in came.values())
    found: list[dict[str, Any]] = [{} for _ in range(longest)]
    for items in came.values():
        for place, item in enumerate(items):
            found[place].update(item)
    return found


def _by_key(came: Mapping[NodeId, Any], key: str) -> list[Any]:
    found: dict[str, dict[str, Any]] = {}
    for items in came.values():
        for item in items:
            value = item[key]
            whole = int(value) if isinstance(value, float) and value.is_integer() else value
            found.setdefault(json.dumps(whole, sort_keys=True), {}).update(item)
    return list(found.values())


_WAYS: Final[Mapping[str, Callable[[Mapping[NodeId, Any], str], Any]]] = {
    "object": lambda came, _: dict(came),
    "list": lambda came, _: list(came.values()),
    "append": lambda came, _: [item for items in came.values() for item in items],
    "by_position": _by_position,
    "by_key": _by_key,
}
