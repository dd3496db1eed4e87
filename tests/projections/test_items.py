"""What the rows of maps and loops, and of the steps inside of them, promise."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from chassis.ports import Stored
from chassis.testing.scenario import Scenario
from contracts.messages import Message
from contracts.plans import Plan
from contracts.runs import RunEvent
from orchestrator.run import Run, outstanding
from projections.arrived import read
from projections.rows import RunRow, StepRow
from projections.runs import Known, fold, touched
from tests.orchestrator.stories import (
    CANCEL,
    REFUSED,
    RETRY,
    action,
    broken,
    control,
    done,
    drawn,
    let_go,
    started,
    wake,
)
from tests.projections.histories import ORG, Tables, Writer

Told = Scenario[Run, Message, RunEvent]


def each(*items: Any, arrows: str = "each>after", **config: Any) -> Plan:
    return drawn(
        arrows, control("each", "map", {"items": list(items), **config}), action("call", inside="each")
    )


def commits(told: Told) -> list[Stored]:
    """A history as it lies in RUNS: one commit for each fact and what followed from it."""
    writer, starts = Writer(), [number for number, entry in enumerate(told.history) if entry.fact]
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        writer.commit("run1", *(entry.event for entry in told.history[start:end]))
    return writer.messages


def project(batches: Sequence[Sequence[Stored]], tables: Tables | None = None) -> Tables:
    """The rows after these batches, each of which knows of the ones before nothing but their rows."""
    tables = tables or Tables()
    for batch in batches:
        arrived = [read(stored, 1) for stored in batch]
        paths = touched(arrived)
        known = Known(
            runs={key: tables.runs[key] for key in paths if key in tables.runs},
            steps={
                (*key, path): tables.steps[*key, path]
                for key, of_run in paths.items()
                for path in of_run
                if (*key, path) in tables.steps
            },
        )
        changes = fold(known, arrived)
        assert not changes.letters
        tables.runs |= changes.runs
        tables.steps |= changes.steps
        tables.ended |= changes.ended
    return tables


def rows(told: Told) -> tuple[RunRow, dict[str, StepRow]]:
    tables = project([commits(told)])
    return tables.runs[ORG, "run1"], {path: row for (_, _, path), row in tables.steps.items()}


def progress(row: StepRow) -> tuple[str, int | None, int | None, int | None]:
    return row.status, row.items_total, row.items_done, row.items_failed


def test_a_map_under_way_is_running_and_says_how_many_of_its_items_are_over() -> None:
    told = started(each("a", "b", "c", at_once=2))
    run, steps = rows(told)
    assert progress(steps["each"]) == ("running", 3, 0, 0)
    assert (steps["each"].node, steps["each"].ended) == ("each", None)
    assert steps["each"].scheduled is not None
    assert (run.status, run.steps_running, run.steps_done) == ("running", 2, 0)
    run, steps = rows(told.when(done("each[1].call", output="b")))
    assert progress(steps["each"]) == ("running", 3, 1, 0)
    assert (run.steps_running, run.steps_done) == (2, 1)


def test_a_map_that_is_done_shows_its_results_and_keeps_its_figures() -> None:
    told = started(each("a", "b"))
    told = told.when(done("each[1].call", output=2), done("each[0].call", output=1), done("after"))
    run, steps = rows(told)
    assert progress(steps["each"]) == ("succeeded", 2, 2, 0)
    assert steps["each"].output_preview == '{"results":[1,2],"errors":[]}'
    assert (run.status, run.steps_running, run.steps_done) == ("completed", 0, 4)


def test_the_steps_inside_have_rows_of_their_own_that_stay_when_their_item_is_over() -> None:
    told = started(each("a", "b")).when(done("each[0].call", output=1))
    _, steps = rows(told)
    assert set(steps) == {"each", "each[0].call", "each[1].call"}
    assert (steps["each[0].call"].status, steps["each[0].call"].node) == ("succeeded", "call")
    assert steps["each[0].call"].output_preview == "1"
    assert (steps["each[1].call"].status, steps["each[1].call"].items_done) == ("scheduled", None)
    assert not [path for path in told.state.steps if path.startswith("each[0]")]


def test_items_that_failed_count_as_over_and_as_failed() -> None:
    told = started(each("a", "b", on_item_error="continue")).when(broken("each[0].call"))
    run, steps = rows(told)
    assert progress(steps["each"]) == ("running", 2, 1, 1)
    assert (steps["each[0].call"].status, steps["each[0].call"].error_code) == ("failed", REFUSED.code)
    assert run.error_code is None
    run, steps = rows(told.when(done("each[1].call"), done("after")))
    assert progress(steps["each"]) == ("succeeded", 2, 2, 1)
    assert run.status == "completed"


def test_what_is_cleared_in_an_item_that_failed_does_not_look_as_if_it_went_on() -> None:
    plan = drawn(
        "",
        control("each", "map", {"items": [1], "on_item_error": "continue"}),
        action("call", inside="each"),
        control("nap", "delay", {"seconds": 60}, inside="each"),
    )
    run, steps = rows(started(plan).when(broken("each[0].call")))
    assert steps["each[0].nap"].status == "cancelled"
    assert (run.status, run.waits, run.next_due) == ("completed", "[]", None)


def test_a_map_that_is_tried_again_is_running_and_goes_on_counting() -> None:
    told = started(each("a", "b", "c")).when(
        done("each[0].call", output=1), broken("each[1].call"), let_go("each[2].call")
    )
    run, steps = rows(told)
    assert (run.status, run.error_step, run.steps_running) == ("failed", "each", 0)
    assert progress(steps["each"]) == ("failed", 3, 1, 0)
    told = told.when(RETRY)
    run, steps = rows(told)
    assert (run.status, run.opening, run.steps_running) == ("running", 2, 2)
    assert progress(steps["each"]) == ("running", 3, 1, 0)
    assert [steps[f"each[{number}].call"].status for number in range(3)] == [
        "succeeded",
        "scheduled",
        "scheduled",
    ]
    told = told.when(done("each[1].call", 2, 2), done("each[2].call", 2, 3), done("after"))
    run, steps = rows(told)
    assert progress(steps["each"]) == ("succeeded", 3, 3, 0)
    assert steps["each"].error is None
    assert (run.status, run.steps_running, run.steps_done) == ("completed", 0, 5)


def test_a_cancelled_map_is_cancelled_and_shows_what_was_over() -> None:
    told = started(each("a", "b")).when(done("each[0].call"), CANCEL, let_go("each[1].call"))
    run, steps = rows(told)
    assert progress(steps["each"]) == ("cancelled", 2, 1, 0)
    assert (run.status, run.steps_running) == ("cancelled", 0)


def test_a_loop_does_not_know_how_many_rounds_it_will_have() -> None:
    plan = drawn("", control("again", "loop", {"until": 2}), action("call", inside="again"))
    told = started(plan).when(done("again[0].call"))
    _, steps = rows(told)
    assert progress(steps["again"]) == ("running", None, 1, 0)
    _, steps = rows(told.when(done("again[1].call")))
    assert progress(steps["again"]) == ("succeeded", None, 2, 0)


def test_a_map_that_waits_for_its_turn_is_looked_at_when_nobody_wakes_it() -> None:
    plan = drawn("", control("each", "map", {"items": [0] * 600}), control("light", "noop", inside="each"))
    told = started(plan)
    run, steps = rows(told)
    assert (run.status, steps["each"].status) == ("waiting", "running")
    assert run.next_due is not None
    assert run.look_at is not None
    while outstanding(told.state).waits:
        told = told.when(wake("turn:each"))
    run, steps = rows(told)
    assert (run.status, run.waits, run.steps_done) == ("completed", "[]", 601)
    assert progress(steps["each"]) == ("succeeded", 600, 600, 0)


def eventful() -> list[Stored]:
    """A map in a map, failures that are taken and one that is not, a pause, and a second try."""
    plan = drawn(
        "call>nap inner.error>mend each>after",
        control("each", "map", {"items": [1, 2, 3], "at_once": 2, "on_item_error": "continue"}),
        control("inner", "map", {"items": ["x", "y"]}, inside="each"),
        action("mend", inside="each"),
        action("call", inside="inner"),
        control("nap", "delay", {"seconds": 5}, inside="inner"),
    )
    told = started(plan).when(done("each[0].inner[0].call"), broken("each[1].inner[1].call"))
    told = told.when(done("each[1].inner[0].call"), broken("each[1].mend"), done("each[0].inner[1].call"))
    told = told.later(5).when(wake("delay:each[0].inner[0].nap"), wake("delay:each[0].inner[1].nap"))
    told = told.when(done("each[2].inner[0].call"), CANCEL, let_go("each[2].inner[1].call"))
    told = told.when(RETRY, done("each[2].inner[1].call", 2))
    while waits := outstanding(told.state).waits:
        told = told.later(5).when(*(wake(wait.wait) for wait in waits))
    told = told.when(broken("after"))
    assert told.state.status == "failed"
    return commits(told.when(RETRY, done("after", 2)))


def content(tables: Tables) -> list[Any]:
    return [
        {key: structs.asdict(row) for key, row in table.items()}
        for table in (tables.runs, tables.steps, tables.ended)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_rows_of_items_do_not_depend_on_how_the_log_was_cut(seed: int) -> None:
    messages, chance = eventful(), random.Random(seed)
    whole = project([messages])
    assert whole.runs[ORG, "run1"].status == "completed"
    assert content(project([[message] for message in messages])) == content(whole)
    cuts = sorted(chance.sample(range(1, len(messages)), chance.randrange(1, 6)))
    batches = [messages[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
    assert content(project(batches)) == content(whole)


def test_the_rows_say_what_the_history_says() -> None:
    steps = {path: row for (_, _, path), row in project([eventful()]).steps.items()}
    assert progress(steps["each"]) == ("succeeded", 3, 3, 1)
    assert progress(steps["each[0].inner"]) == ("succeeded", 2, 2, 0)
    assert progress(steps["each[1].inner"]) == ("failed", 2, 0, 0)
    assert (steps["each[1].mend"].status, steps["each[0].mend"].status) == ("failed", "skipped")
    assert (steps["each[2].inner[1].call"].status, steps["each[2].inner[1].call"].attempt) == ("succeeded", 2)
