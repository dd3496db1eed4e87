"""What may stand under `compensate` of a node: an action or another run, to which no edge leads, for this one node alone."""

from collections.abc import Iterator, Mapping
from typing import Final

from contracts.limits import NodeId
from contracts.nodes import NodeSpec
from contracts.workflows import Fault, Node
from orchestrator.catalogue import STARTS_RUNS
from orchestrator.drafts import Draft

CODE: Final = "workflow.bad_undo"


def undone_by(draft: Draft) -> dict[NodeId, NodeId]:
    """The nodes that undo others, each with the first that names it."""
    found: dict[NodeId, NodeId] = {}
    for _, node in draft.nodes:
        if node.compensate is not None:
            found.setdefault(node.compensate, node.id)
    return found


def faults_of_undos(draft: Draft, specs: Mapping[NodeId, NodeSpec]) -> Iterator[Fault]:
    """`specs`: of the nodes whose type is known."""
    nodes = {node.id: node for _, node in draft.nodes}
    first = undone_by(draft)
    linked = {end for _, edge in draft.edges for end in (edge.source, edge.target)}
    for place, node in draft.nodes:
        if node.compensate is None or node.compensate in draft.broken:
            continue
        undo = nodes.get(node.compensate)
        if undo is None:
            message = f"There is no node {node.compensate}."
        elif undo.id in linked:
            message = (
                f"An edge leads to {undo.id} or away from it: what undoes a node stands beside the others."
            )
        elif first[undo.id] != node.id:
            message = f"{undo.id} undoes {first[undo.id]} already; what undoes a node undoes no other."
        else:
            message = _unfit(node, undo, specs)
        if message:
            yield Fault(code=CODE, pointer=f"/nodes/{place}/compensate", message=message, node=node.id)


def _unfit(node: Node, undo: Node, specs: Mapping[NodeId, NodeSpec]) -> str:
    """Why a node cannot be undone by the other one, empty when it can. What nobody knows has been told elsewhere."""
    spec, other = specs.get(node.id), specs.get(undo.id)
    if undo.id == node.id:
        return "It cannot undo itself."
    if undo.inside != node.inside:
        return f"{undo.id} does not lie in the same container."
    if undo.compensate is not None:
        return f"{undo.id} undoes, so nothing undoes it."
    if other is not None and not _acts(other):
        return f"{undo.id} is no action: it could undo nothing."
    if spec is not None and not _acts(spec):
        return "This node does nothing outside of the run that could be undone."
    return ""


def _acts(spec: NodeSpec) -> bool:
    return spec.place == "executor" or spec.type == STARTS_RUNS
