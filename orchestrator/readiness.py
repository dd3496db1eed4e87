"""Which steps can go now: an edge is open, taken or dead, and a step waits for its edges."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from contracts.limits import NodeId, SignalName, StepPath
from contracts.plans import Plan, PlanEdge, PlanNode
from orchestrator.paths import container_node, item_of, node_of, numbers, within
from orchestrator.state import DONE, ERROR_PORT, Run

Place: TypeAlias = tuple[int, tuple[int, ...], StepPath]
Readiness: TypeAlias = Literal["ready", "open", "dead"]


class Graph(Struct, frozen=True, kw_only=True, eq=False):
    """A plan with its edges indexed; made once per plan."""

    plan: Plan
    nodes: dict[NodeId, PlanNode]
    inside: dict[NodeId, tuple[NodeId, ...]]
    """The nodes of each container, topological: a node stands behind every node that leads to it. Those of the
    workflow itself stand under the empty name. What undoes others is not among them."""
    incoming: dict[NodeId, tuple[PlanEdge, ...]]
    followers: dict[NodeId, tuple[NodeId, ...]]
    handled: frozenset[NodeId]
    """Nodes whose failure has an error path."""
    places: dict[StepPath, Place]
    """Where the workflow's own steps stand in order."""
    seals: bool
    """Whether some node seals a part of its output."""
    sealed_signals: frozenset[SignalName]
    """Those of which somebody who listens seals a part."""
    leaves: dict[NodeId, tuple[NodeId, ...]]
    """Of each container, the nodes from which no edge leaves: their outputs are the item's, or the run's."""

    @staticmethod
    def of(plan: Plan) -> "Graph":
        nodes = {node.id: node for node in plan.nodes}
        incoming: dict[NodeId, list[PlanEdge]] = {node.id: [] for node in plan.nodes}
        followers: dict[NodeId, dict[NodeId, None]] = {node.id: {} for node in plan.nodes}
        for edge in plan.edges:
            incoming[edge.target].append(edge)
            followers[edge.source][edge.target] = None
        containers = ["", *(node.id for node in plan.nodes if node.contains)]
        inside: dict[NodeId, list[NodeId]] = {container: [] for container in containers}
        for node in sorted(plan.nodes, key=lambda node: node.order):
            if not node.undoes:
                inside[node.inside].append(node.id)
        return Graph(
            plan=plan,
            nodes=nodes,
            inside={container: tuple(nodes) for container, nodes in inside.items()},
            incoming={target: tuple(edges) for target, edges in incoming.items()},
            followers={source: tuple(targets) for source, targets in followers.items()},
            places={
                node: (plan_node.order, (), node) for node, plan_node in nodes.items() if not plan_node.inside
            },
            seals=any(node.sensitive for node in plan.nodes),
            sealed_signals=frozenset(
                node.config["signal"] for node in plan.nodes if node.sensitive and node.type == "wait.signal"
            ),
            handled=frozenset(edge.source for edge in plan.edges if edge.port == ERROR_PORT),
            leaves={
                container: tuple(node for node in nodes if not followers[node])
                for container, nodes in inside.items()
            },
        )

    @property
    def order(self) -> tuple[NodeId, ...]:
        """The workflow's own nodes, topological."""
        return self.inside[""]

    def place(self, path: StepPath) -> Place:
        """Sorts steps: a node's behind those that lead to it, and in the order of their items."""
        return self.places.get(path) or (self.nodes[node_of(path)].order, numbers(path), path)


def every_step(graph: Graph, run: Run) -> Iterator[StepPath]:
    """The steps in items to which something happened, then the workflow's own, each group in its order."""
    yield from sorted((path for path in run.steps if item_of(path)), key=graph.place)
    yield from graph.order


def readiness(graph: Graph, run: Run, path: StepPath) -> Readiness:
    """Whether a pending step can begin, must wait, or is never reached.

    Join `all`: no edge is open and one is taken. Join `any`: one is taken. No edges: a start node, ready at once.
    """
    item, dot, node = path.rpartition(".")
    edges, beside = graph.incoming[node], item + dot
    if not edges:
        return "ready"
    some_open = some_taken = False
    for edge in edges:
        step = run.steps.get(beside + edge.source)
        if step is None or step.status not in DONE:
            some_open = True
        elif edge.port in step.ports:
            some_taken = True
    if some_taken and (not some_open or graph.nodes[node].join == "any"):
        return "ready"
    return "open" if some_open else "dead"


def taken_from(graph: Graph, run: Run, path: StepPath) -> tuple[StepPath, ...]:
    """The steps from which a taken edge leads here, in topological order."""
    item, dot, node = path.rpartition(".")
    sources = {
        source
        for edge in graph.incoming[node]
        if (step := run.steps.get(source := item + dot + edge.source))
        and step.status in DONE
        and edge.port in step.ports
    }
    return tuple(sorted(sources, key=graph.place))


def seen_from(graph: Graph, path: StepPath, node: NodeId) -> StepPath:
    """The step of another node that a step's expressions mean: in its own item, or in one around it."""
    container, item = graph.nodes[node].inside, item_of(path)
    while item and container_node(item) != container:
        item = item_of(item)
    return within(item, node)
