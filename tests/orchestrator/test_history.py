"""What replay promises: it finds the first place where a history is not what was decided, and nothing else."""

from typing import Any

import pytest
from msgspec import structs

from chassis.ids import digest
from contracts.codec import decode_commit, encode
from contracts.commits import Commit
from contracts.errors import Failure
from contracts.messages import Message
from contracts.payloads import Blob, Inline, Payload
from contracts.plans import Plan, PlanNode
from contracts.runs import (
    AttemptScheduled,
    RunCompleted,
    RunEvent,
    RunStarted,
    StepReported,
    StepSkipped,
    StepSucceeded,
)
from orchestrator.history import replay, state_at
from orchestrator.readiness import Graph
from orchestrator.run import Run
from tests.orchestrator.stories import (
    NOON,
    AsWritten,
    broken,
    control,
    done,
    drawn,
    scheduled,
    started,
    value,
    wake,
)

PLAN = drawn(
    "fetch>check check.true>nap nap>send check.false>never",
    control("check", "if", {"condition": True}),
    control("nap", "delay", {"seconds": 60}),
)


def commit(version: int, *events: RunEvent) -> Commit[RunEvent]:
    """Through bytes and back, as a history is read."""
    made = Commit[RunEvent](
        id=f"c{version}",
        org="org",
        run="run-1",
        version=version,
        events=events,
        time=NOON,
        actor="system",
        causation_id="",
        correlation_id="",
        engine_version="",
        key_id="",
        prev_hash="",
    )
    return decode_commit(encode(made))


def told(plan: Plan, *messages: Message) -> list[Commit[RunEvent]]:
    """One commit per message, as the shell would have written them."""
    scenario, commits = started(plan), []
    commits.append(commit(1, *scenario.said))
    for message in messages:
        scenario = scenario.when(message)
        commits.append(commit(len(commits) + 1, *scenario.said))
    return commits


def whole_story() -> list[Commit[RunEvent]]:
    """Time stands still in these commits, so the delay is ended by what `wait.ended` says."""
    awake = started(PLAN).when(done("fetch", output={"a": 1})).later(60).when(wake("delay:nap"))
    first = told(PLAN, done("fetch", output={"a": 1}))
    return [*first, commit(3, *awake.said), commit(4, *awake.when(done("send", output=7)).said)]


def changed(commits: list[Commit[RunEvent]], number: int, event: RunEvent | None) -> list[Commit[RunEvent]]:
    """The same history with event `number` (from 1) replaced, or left out."""
    left = number - 1
    again: list[Commit[RunEvent]] = []
    for one in commits:
        length = len(one.events)
        if 0 <= left < length:
            put = () if event is None else (event,)
            one = structs.replace(one, events=(*one.events[:left], *put, *one.events[left + 1 :]))  # noqa: PLW2901  # The same one, with more in it.
        left -= length
        again.append(one)
    return again


GRAPH = Graph.of(PLAN)


def test_a_history_replays_to_itself() -> None:
    assert replay("org", "run-1", whole_story(), GRAPH) is None


def test_the_state_after_an_event_is_the_fold_up_to_it() -> None:
    commits = whole_story()
    events = [event for one in commits for event in one.events]
    assert state_at("org", "run-1", commits, 0) == Run.new("org", "run-1")
    scheduled_at = 1 + next(
        place for place, event in enumerate(events) if isinstance(event, AttemptScheduled)
    )
    assert list(state_at("org", "run-1", commits, scheduled_at - 1).attempts) == []
    assert list(state_at("org", "run-1", commits, scheduled_at).attempts) == ["fetch"]
    assert state_at("org", "run-1", commits).status == "completed"
    assert state_at("org", "run-1", commits, 10_000) == state_at("org", "run-1", commits)


def test_an_event_that_was_not_decided_is_found() -> None:
    commits = whole_story()
    forged = changed(commits, 2, scheduled("send"))
    divergence = replay("org", "run-1", forged, GRAPH)
    assert divergence is not None
    assert (divergence.event, divergence.version) == (2, 1)
    assert isinstance(divergence.fact, RunStarted)
    assert divergence.recorded == scheduled("send")
    assert isinstance(divergence.recomputed, AttemptScheduled)
    assert divergence.recomputed.step == "fetch"


def test_an_event_that_is_missing_is_found() -> None:
    commits = whole_story()
    events = [event for one in commits for event in one.events]
    skipped = 1 + next(place for place, event in enumerate(events) if isinstance(event, StepSkipped))
    divergence = replay("org", "run-1", changed(commits, skipped, None), GRAPH)
    assert divergence is not None
    assert divergence.event == skipped
    assert divergence.recomputed == StepSkipped(step="never", node="never")


def test_the_end_that_is_missing_is_found() -> None:
    commits = whole_story()
    number = sum(len(one.events) for one in commits)
    divergence = replay("org", "run-1", changed(commits, number, None), GRAPH)
    assert divergence is not None
    assert (divergence.event, divergence.recorded) == (number, None)
    assert isinstance(divergence.recomputed, RunCompleted)


def test_an_end_too_many_is_found() -> None:
    commits = whole_story()
    extra = structs.replace(commits[-1], events=(*commits[-1].events, RunCompleted()))
    divergence = replay("org", "run-1", [*commits[:-1], extra], GRAPH)
    assert divergence is not None
    assert (divergence.recorded, divergence.recomputed) == (RunCompleted(), None)


def test_a_consequence_of_nothing_is_found() -> None:
    commits = [*whole_story()[:1], commit(2, StepSucceeded(step="fetch", node="fetch"))]
    divergence = replay("org", "run-1", commits, GRAPH)
    assert divergence is not None
    assert (divergence.event, divergence.version, divergence.fact) == (3, 2, None)


def test_a_fact_is_taken_as_it_stands() -> None:
    other = StepReported(step="fetch", attempt=1, output=value({"a": 2}))
    commits = changed(whole_story(), 3, other)
    divergence = replay("org", "run-1", commits, GRAPH)
    assert divergence is None, "what an executor reported is nothing that a decision could know better"


def test_a_step_that_the_recomputed_run_begins_and_the_record_does_not_know_diverges() -> None:
    wider = Graph.of(drawn("fetch>check check.true>nap nap>send check.false>never other", *PLAN.nodes[:2]))
    divergence = replay("org", "run-1", whole_story(), wider)
    assert divergence is not None
    assert divergence.recomputed is not None


# --- Values -----------------------------------------------------------------------------------


def offloaded(payload: Payload) -> Blob:
    assert isinstance(payload, Inline)
    return Blob(sha256=digest(bytes(payload.value)), size=len(payload.value))


def test_values_that_were_moved_to_the_object_store_are_the_same_values() -> None:
    plan = drawn(
        "one>two",
        control("one", "set", {"fields": {"a": "x" * 100}}),
        control("two", "filter", {"condition": True}),
    )
    commits = told(plan)
    moved: list[Any] = [
        structs.replace(event, output=offloaded(event.output))
        if isinstance(event, StepSucceeded | RunCompleted) and event.output is not None
        else event
        for event in commits[0].events
    ]
    assert replay("org", "run-1", [commit(1, *moved)], Graph.of(plan)) is None
    graph = Graph.of(plan)
    assert replay("org", "run-1", [commit(1, *moved)], graph, AsWritten(graph)) is None


def test_without_expressions_recorded_results_are_believed_and_with_them_they_are_not() -> None:
    plan = drawn("a>b", control("a", "set", {"fields": {"n": 1}}))
    graph = Graph.of(plan)
    forged = structs.replace(told(plan)[0].events[1], output=value({"n": 2}))
    commits = changed(told(plan), 2, forged)
    assert replay("org", "run-1", commits, graph) is None
    divergence = replay("org", "run-1", commits, graph, AsWritten(graph))
    assert divergence is not None
    assert divergence.event == 2


class Spelt(AsWritten):
    """Writes the same configuration with other spaces and another order of keys."""

    def config(self, _run: Run, _path: str, _node: PlanNode) -> Payload | Failure:
        return Inline(value=type(value(1).value)(b'{ "b" : 2 , "a" : 1.0 }'))


def test_json_is_compared_by_what_it_means() -> None:
    plan = drawn("a")
    graph = Graph.of(structs.replace(plan, nodes=(structs.replace(plan.nodes[0], config={"a": 1, "b": 2}),)))
    commits = [commit(1, *started(graph.plan).said)]
    assert replay("org", "run-1", commits, graph, Spelt(graph)) is None


@pytest.mark.parametrize("messages", [[broken("fetch")], [done("fetch", ports=())]])
def test_every_kind_of_ending_replays(messages: list[Message]) -> None:
    assert replay("org", "run-1", told(PLAN, *messages), GRAPH) is None


def test_a_run_without_a_plan_replays() -> None:
    assert replay("org", "run-1", [commit(1, *started(None).said)], None) is None
