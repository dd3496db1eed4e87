"""Which steps can go now: an edge is open, taken or dead, and a step waits for its edges."""

from typing import Literal, TypeAlias

from msgspec import Struct

from contracts.limits import NodeId
from contracts.plans import Plan, PlanEdge, PlanNode
from orchestrator.state import DONE, ERROR_PORT, Run

Readiness: TypeAlias = Literal["ready", "open", "dead"]


class Graph(Struct, frozen=True, kw_only=True, eq=False):
    """A plan with its edges indexed; made once per plan."""

    plan: Plan
    nodes: dict[NodeId, PlanNode]
    order: tuple[NodeId, ...]
    """Topological: a node stands behind every node that leads to it."""
    incoming: dict[NodeId, tuple[PlanEdge, ...]]
    followers: dict[NodeId, tuple[NodeId, ...]]
    handled: frozenset[NodeId]
    """Nodes whose failure has an error path."""
    leaves: tuple[NodeId, ...]
    """Nodes from which no edge leaves: their outputs are the run's."""

    @staticmethod
    def of(plan: Plan) -> "Graph":
        incoming: dict[NodeId, list[PlanEdge]] = {node.id: [] for node in plan.nodes}
        followers: dict[NodeId, dict[NodeId, None]] = {node.id: {} for node in plan.nodes}
        for edge in plan.edges:
            incoming[edge.target].append(edge)
            followers[edge.source][edge.target] = None
        order = sorted(plan.nodes, key=lambda node: node.order)
        return Graph(
            plan=plan,
            nodes={node.id: node for node in plan.nodes},
            order=tuple(node.id for node in order),
            incoming={target: tuple(edges) for target, edges in incoming.items()},
            followers={source: tuple(targets) for source, targets in followers.items()},
            handled=frozenset(edge.source for edge in plan.edges if edge.port == ERROR_PORT),
            leaves=tuple(node.id for node in order if not followers[node.id]),
        )


def readiness(graph: Graph, run: Run, node: NodeId) -> Readiness:
    """Whether a pending step can begin, must wait, or is never reached.

    Join `all`: no edge is open and one is taken. Join `any`: one is taken. No edges: a start node, ready at once.
    """
    edges = graph.incoming[node]
    if not edges:
        return "ready"
    some_open = some_taken = False
    for edge in edges:
        step = run.steps.get(edge.source)
        if step is None or step.status not in DONE:
            some_open = True
        elif edge.port in step.ports:
            some_taken = True
    if some_taken and (not some_open or graph.nodes[node].join == "any"):
        return "ready"
    return "open" if some_open else "dead"


def taken_from(graph: Graph, run: Run, node: NodeId) -> tuple[NodeId, ...]:
    """The nodes from which a taken edge leads here, in topological order."""
    sources = {
        edge.source
        for edge in graph.incoming[node]
        if (step := run.steps.get(edge.source)) and step.status in DONE and edge.port in step.ports
    }
    return tuple(sorted(sources, key=lambda source: graph.nodes[source].order))
