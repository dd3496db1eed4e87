"""What the orchestrator promises about edges and joins."""

from itertools import product

import pytest
from msgspec import structs

from contracts.runs import StepStatus
from orchestrator.readiness import Graph, readiness, taken_from
from orchestrator.run import Run, Step
from tests.orchestrator.stories import action, drawn

TAKEN = Step(status="succeeded", ports=("main",))
ELSEWHERE = Step(status="succeeded", ports=("other",))
SKIPPED = Step(status="skipped")
FAILED = Step(status="failed", ports=("error",))
OPEN: tuple[StepStatus, ...] = ("pending", "scheduled", "waiting", "in_doubt", "cancelled")


def run_with(**steps: Step) -> Run:
    return structs.replace(Run.new("org", "run-1"), steps=steps)


def joined(join: str, a: Step, b: Step) -> str:
    plan = drawn("a>last b>last", action("last", join=join))
    return readiness(Graph.of(plan), run_with(a=a, b=b), "last")


def test_a_node_without_edges_is_ready_at_once() -> None:
    assert readiness(Graph.of(drawn("a")), run_with(), "a") == "ready"


@pytest.mark.parametrize("dead", [ELSEWHERE, SKIPPED, FAILED])
def test_a_node_that_no_edge_reaches_is_dead(dead: Step) -> None:
    assert joined("all", dead, dead) == "dead"
    assert joined("any", dead, dead) == "dead"


@pytest.mark.parametrize("dead", [ELSEWHERE, SKIPPED, FAILED])
def test_one_taken_edge_is_enough_when_no_other_is_open(dead: Step) -> None:
    assert joined("all", TAKEN, dead) == joined("any", dead, TAKEN) == "ready"


@pytest.mark.parametrize(("status", "other"), list(product(OPEN, [TAKEN, SKIPPED])))
def test_a_join_of_all_waits_while_an_edge_is_open(status: StepStatus, other: Step) -> None:
    assert joined("all", Step(status=status), other) == "open"


@pytest.mark.parametrize("status", OPEN)
def test_a_join_of_any_does_not_wait(status: StepStatus) -> None:
    assert joined("any", Step(status=status), TAKEN) == "ready"
    assert joined("any", Step(status=status), SKIPPED) == "open"


def test_an_edge_by_the_error_port_is_taken_by_a_failure_alone() -> None:
    graph = Graph.of(drawn("a.error>mend"))
    assert readiness(graph, run_with(a=FAILED), "mend") == "ready"
    assert readiness(graph, run_with(a=TAKEN), "mend") == "dead"


def test_two_edges_between_the_same_nodes_are_two_ways() -> None:
    graph = Graph.of(drawn("a.yes>b a.no>b"))
    assert readiness(graph, run_with(a=Step(status="succeeded", ports=("no",))), "b") == "ready"
    assert taken_from(graph, run_with(a=Step(status="succeeded", ports=("no",))), "b") == ("a",)


def test_what_was_taken_comes_in_the_order_of_the_plan() -> None:
    graph = Graph.of(drawn("a>last b>last c>last"))
    assert taken_from(graph, run_with(c=TAKEN, a=TAKEN, b=SKIPPED), "last") == ("a", "c")


def test_the_last_nodes_are_those_from_which_no_edge_leaves() -> None:
    assert set(Graph.of(drawn("a>b a>c c.error>d e")).leaves[""]) == {"b", "d", "e"}
