"""What the compiler takes as an undo, and what its expressions may read."""

import json
from typing import Any

import pytest

from chassis.expressions import Language
from contracts.nodes import NodeSpec
from contracts.plans import Plan
from contracts.workflows import Fault
from orchestrator.compiler import compile_workflow
from orchestrator.readiness import Graph

ECHO = NodeSpec(
    type="echo",
    title="Echo",
    help="",
    icon="",
    category="",
    config={"type": "object", "properties": {"value": {}}, "additionalProperties": False},
)
LANGUAGE = Language()
MAP = {"id": "each", "type": "map", "config": {"items": [1]}}


def compiled(nodes: list[dict[str, Any]], *edges: str) -> Plan | list[Fault]:
    drawn = [dict(zip(("source", "target"), edge.split(">"), strict=True)) for edge in edges]
    workflow = json.dumps({"nodes": nodes, "edges": drawn}).encode()
    return compile_workflow(
        workflow, {"echo": ECHO}, org="org", workflow="flow", version=1, language=LANGUAGE
    )


def echo(name: str, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "echo", "config": {"value": value}, **more}


def test_an_undo_is_a_node_of_the_plan_and_has_no_place_among_the_others() -> None:
    plan = compiled([echo("a", compensate="undo"), echo("b"), echo("undo")], "a>b")
    assert isinstance(plan, Plan), plan
    nodes = {node.id: node for node in plan.nodes}
    assert (nodes["a"].compensate, nodes["undo"].undoes) == ("undo", "a")
    assert (nodes["b"].compensate, nodes["b"].undoes) == ("", "")
    graph = Graph.of(plan)
    assert graph.order == ("a", "b")
    assert graph.leaves[""] == ("b",)


def test_an_undo_reads_what_it_undoes_and_what_came_before_that() -> None:
    told = "{{ [steps.first.output, steps.a.output] }}"
    plan = compiled([echo("first"), echo("a", compensate="undo"), echo("undo", told)], "first>a")
    assert isinstance(plan, Plan), plan
    [undo] = [node for node in plan.nodes if node.undoes]
    assert undo.reads.nodes == ("a", "first")


def test_an_undo_inside_of_a_map_reads_the_item() -> None:
    inner = echo("a", compensate="undo", inside="each")
    plan = compiled([MAP, inner, echo("undo", "{{ [item, steps.a.output] }}", inside="each")])
    assert isinstance(plan, Plan), plan


def test_a_run_of_another_workflow_may_undo() -> None:
    back = {
        "id": "back",
        "type": "workflow.run",
        "config": {"workflow": "w", "input": "{{ steps.a.output }}"},
    }
    plan = compiled([echo("a", compensate="back"), back])
    assert isinstance(plan, Plan), plan


@pytest.mark.parametrize("read", ["after", "undo"])
def test_an_undo_reads_nothing_that_comes_later(read: str) -> None:
    nodes = [echo("a", compensate="undo"), echo("after"), echo("undo", f"{{{{ steps.{read}.output }}}}")]
    faults = compiled(nodes, "a>after")
    assert isinstance(faults, list)
    assert [(fault.code, fault.pointer) for fault in faults] == [
        ("workflow.bad_expression", "/nodes/2/config/value")
    ]


@pytest.mark.parametrize(
    ("nodes", "edges", "place", "message"),
    [
        ([echo("a", compensate="x")], [], 0, "no node x"),
        ([echo("a", compensate="a")], [], 0, "itself"),
        ([echo("a", compensate="b"), echo("b")], ["a>b"], 0, "edge"),
        ([echo("a", compensate="b"), echo("b"), echo("c")], ["b>c"], 0, "edge"),
        ([echo("a", compensate="u"), echo("b", compensate="u"), echo("u")], [], 1, "undoes a already"),
        ([echo("a", compensate="b"), echo("b", compensate="c"), echo("c")], [], 0, "nothing undoes it"),
        ([echo("a", compensate="b"), {"id": "b", "type": "noop"}], [], 0, "no action"),
        ([{"id": "a", "type": "noop", "compensate": "b"}, echo("b")], [], 0, "nothing outside"),
        ([echo("a", compensate="b"), MAP, echo("b", inside="each")], [], 0, "same container"),
    ],
)
def test_what_cannot_undo_is_refused_with_its_place(
    nodes: list[dict[str, Any]], edges: list[str], place: int, message: str
) -> None:
    faults = compiled(nodes, *edges)
    assert isinstance(faults, list)
    assert [(fault.code, fault.pointer) for fault in faults] == [
        ("workflow.bad_undo", f"/nodes/{place}/compensate")
    ]
    assert message in faults[0].message


def test_what_undoes_a_broken_node_is_not_blamed_for_it() -> None:
    faults = compiled([echo("a", compensate="b"), {"id": "b", "type": 7}])
    assert isinstance(faults, list)
    assert {fault.code for fault in faults} == {"malformed"}
