"""What seeds draw is what somebody could have built: the compiler's own rules of shape hold in every story."""

from collections import Counter
from collections.abc import Iterator

import pytest
from msgspec import structs

from chassis.expressions import Language
from contracts.nodes import NodeSpec
from contracts.plans import Plan, PlanEdge, PlanNode
from contracts.workflows import Edge, Fault, Node, Workflow
from orchestrator.compiler import compile_workflow
from tests.simulation.outside import NODE_TYPES
from tests.simulation.workflows import Story, story

BLOCKS, BLOCK = 4, 750
LANGUAGE = Language()
SPECS = {
    kind: NodeSpec(type=kind, title="Call", help="", icon="x", category="x", repeat=repeat, config={})
    for repeat, kind in NODE_TYPES.items()
}
CONTAINERS = ("map", "loop")
VALUES = ("workflow.bad_config", "workflow.bad_expression")
"""Of configurations: in the simulation they are values, where a builder writes expressions."""


def faults(plan: Plan) -> Iterator[Fault]:
    """What the compiler says of the workflow that would have this plan."""
    workflow = Workflow(
        nodes=tuple(node_of(node) for node in plan.nodes),
        edges=tuple(
            Edge(source=each.source, port=each.port, target=each.target, into=each.into)
            for each in plan.edges
        ),
        flow=plan.flow,
    )
    compiled = compile_workflow(workflow, SPECS, org="org", workflow="flow", version=1, language=LANGUAGE)
    for fault in compiled if isinstance(compiled, list) else ():
        if fault.code not in VALUES or not fault.pointer.startswith("/nodes/"):
            yield fault


def node_of(node: PlanNode) -> Node:
    """A container for which something else stands has lost what lay inside, and a switch its cases."""
    cases = [{"name": port, "when": "true"} for port in node.outputs if port != "default"]
    return Node(
        id=node.id,
        type="noop" if node.type in CONTAINERS and not node.contains else node.type,
        config={"cases": cases} if node.type == "switch" else node.config,
        inside=node.inside or None,
        on_error=node.on_error,
        compensate=node.compensate or None,
    )


def drawn(block: int) -> Iterator[tuple[int, Story]]:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        yield seed, story(seed)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_workflow_of_a_story_could_have_been_built(block: int) -> None:
    for seed, told in drawn(block):
        for plan in (each.plan for each in told.workflows):
            found = [f"{fault.pointer}: {fault.message}" for fault in faults(plan)]
            assert not found, f"seed {seed}, {plan.workflow}: {found}"


def test_an_edge_across_a_border_would_be_found() -> None:
    plan = next(
        each.plan
        for _, told in drawn(0)
        for each in told.workflows
        if any(node.inside for node in each.plan.nodes)
    )
    outer = next(node.id for node in plan.nodes if not node.inside)
    inner = next(node.id for node in plan.nodes if node.inside)
    crossing = PlanEdge(source=outer, port="main", target=inner, into="main")
    broken = structs.replace(plan, edges=(*plan.edges, crossing))
    assert "workflow.bad_inside" in Counter(fault.code for fault in faults(broken))
