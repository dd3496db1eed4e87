"""Of two waits that are over at once the first may end the run, and with it the second. Its mutant survived every test."""

from datetime import timedelta

from contracts.messages import Look
from contracts.runs import RunFailed, WaitEnded
from orchestrator.consider import consider
from orchestrator.run import Graph, Run
from tests.orchestrator.stories import NOON, START, AsWritten, control, drawn


def test_a_wait_that_ended_with_its_run_is_not_told() -> None:
    plan = drawn(
        "a>c",
        control("a", "delay", {"seconds": 1}),
        control("b", "delay", {"seconds": 1}),
        control("c", "if", {"condition": "neither"}),
    )
    graph = Graph.of(plan)
    begun = consider(Run.new("org", "run-1"), graph, START, NOON, AsWritten(graph)).run
    assert len(begun.waits) == 2
    later = NOON + timedelta(seconds=10)
    events = consider(begun, graph, Look(org="org", run="run-1"), later, AsWritten(graph)).events
    assert isinstance(events[-1], RunFailed)
    assert sum(isinstance(event, WaitEnded) for event in events) == 1
