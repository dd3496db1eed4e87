"""What the rows say of a run that was reopened is what the engine says of it; and a broken chain is told to the operator."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from chassis.clock import SystemClock
from chassis.telemetry import Metrics
from contracts.messages import StepLetGo
from orchestrator.state import Run
from projections import domain
from projections.arrived import read
from projections.figures import Figures, Progress, expose
from projections.rows import RunRow, StepRow
from projections.run_tables import RunTables
from projections.runs import Known, fold
from tests.integration.test_projections_tables import a_domain
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    RETRY,
    action,
    broken,
    done,
    doubted,
    drawn,
    let_go,
    resolve,
    started,
    wake,
)
from tests.projections.histories import Letterbox, Tables, Writer

ONCE = action("a", repeat="no")
AGAIN = action("a", repeat="yes")


def rows_of(story: Any) -> tuple[RunRow, dict[str, StepRow]]:
    """Every recorded event in a commit of its own, folded in batches of one."""
    writer = Writer("org")
    known = Known()
    for told in story.history:
        stored = writer.commit("run-1", told.event, time=told.at)
        changes = fold(known, [read(stored, 1)])
        known.runs |= changes.runs
        known.steps |= changes.steps
    return known.runs["org", "run-1"], {path: row for (_, _, path), row in known.steps.items()}


def cancelled(node: Any, *ends: Any) -> Any:
    """A run of one step with a deadline, cancelled while its attempt is under way, and tried again a minute later."""
    told = started(drawn("a", node, timeout_s=600)).later(30).when(CANCEL)
    for message in ends:
        told = told.later(1).when(message)
    return told.later(60).when(RETRY)


STORIES = {
    "nobody said how it ended": cancelled(ONCE, wake("grace:1"), LOOK),
    "it may have touched the world": cancelled(ONCE, let_go("a", effect="possible")),
    "it did touch the world": cancelled(ONCE, let_go("a", effect="done")),
    "it touched nothing": cancelled(ONCE, let_go("a", effect="none")),
    "it may be repeated": cancelled(AGAIN, let_go("a", effect="possible")),
    "it was in doubt": started(drawn("a", ONCE, timeout_s=600))
    .when(doubted("a"))
    .later(9)
    .when(CANCEL)
    .later(9)
    .when(RETRY),
    "the doubt was settled": cancelled(ONCE, let_go("a", effect="possible"))
    .later(5)
    .when(resolve("a", "retry")),
    "it failed": started(drawn("a", AGAIN, timeout_s=600)).later(7).when(broken("a")).later(7).when(RETRY),
    "twice reopened": cancelled(AGAIN, let_go("a"))
    .later(20)
    .when(CANCEL)
    .when(StepLetGo(**{**structs.asdict(let_go("a")), "attempt": 2}))
    .later(40)
    .when(RETRY),
    "it ended after all": cancelled(AGAIN, let_go("a")).later(3).when(done("a", attempt=2)),
}


@pytest.mark.parametrize("name", STORIES)
def test_the_rows_of_a_reopened_run_say_what_its_state_says(name: str) -> None:
    story = STORIES[name]
    state: Run = story.state
    run, steps = rows_of(story)
    assert state.opening >= 2
    assert (run.status, run.opening) == (state.status, state.opening)
    assert run.deadline == state.deadline
    assert run.opened == state.opened_at
    assert run.steps_in_doubt == len(state.doubts)
    assert {path: row.status for path, row in steps.items()} == {
        path: step.status for path, step in state.steps.items()
    }


def test_a_reopened_run_has_as_long_as_it_had_before() -> None:
    run, _ = rows_of(STORIES["twice reopened"])
    assert run.deadline is not None
    assert run.opened is not None
    assert run.deadline - run.opened == timedelta(seconds=600)


# --- Chains ---------------------------------------------------------------------------------------


def troubles(messages: list[Any]) -> list[tuple[str, str]]:
    """As the service folds them: in two batches, the second with the rows and heads of the first."""
    arrived = [domain.read(stored, 1) for stored in messages]
    half = len(arrived) // 2
    first = domain.fold({}, arrived[:half])
    second = domain.fold(first.rows, arrived[half:], first.heads)
    return [(letter.trouble, letter.run) for letter in (*first.letters, *second.letters)]


def test_a_history_of_domain_that_follows_from_itself_is_not_complained_about() -> None:
    assert troubles(a_domain().messages) == []


def test_a_commit_of_domain_that_does_not_follow_from_the_one_before_is_told() -> None:
    for place in (1, 5, 8):
        messages = list(a_domain().messages)
        changed = messages[place - 1].body.replace(b'"actor":"key:k1"', b'"actor":"key:k2"')
        assert changed != messages[place - 1].body
        messages[place - 1] = structs.replace(messages[place - 1], body=changed)
        following = messages[place - 1].subject
        told = [stored for stored in messages[place:] if stored.subject == following]
        expected = [("chain", following.split(".")[3])] if told else []
        assert troubles(messages) == expected
    missing = [stored for number, stored in enumerate(a_domain().messages) if number != 1]
    assert troubles(missing) == [("gap", "w1")]


def test_the_first_commit_of_domain_follows_from_nothing() -> None:
    [first, *_] = a_domain().messages
    forged = structs.replace(
        first, body=first.body.replace(b'"prev_hash":""', b'"prev_hash":"' + b"ab" * 32 + b'"')
    )
    assert troubles([forged, forged]) == [("chain", "w1")]


async def test_the_operator_reads_of_forked_and_garbled_histories_in_the_metrics() -> None:
    figures, metrics, tables = Figures(), Metrics("projections"), Tables()
    expose(metrics, figures, [Progress(name="runs", stream="RUNS")], SystemClock())
    writer = Writer()
    writer.three_steps("run1")
    writer.raw("run1", b"garbage", counts=False)
    forked = structs.replace(writer.messages[3], sequence=6, subject="run.org_default.run2")
    fork = structs.replace(
        forked,
        body=forked.body.replace(b'"run":"run1"', b'"run":"run2"').replace(b'"version":4', b'"version":1'),
    )
    projection = RunTables(tables, Letterbox(), figures)
    from projections.models import Step

    step = Step(before=tables.at, epoch=1, sequence=6, time=0.0)
    await projection.project([*writer.messages, fork], step)
    told = metrics.render().decode()
    assert 'projections_troubles_total{service="projections",trouble="chain"} 1.0' in told
    assert 'projections_troubles_total{service="projections",trouble="malformed"} 1.0' in told
