"""Maps: each item once, several at a time, their results in order, whatever fails."""

from typing import Any

import msgspec
import pytest

from chassis.testing.scenario import Scenario
from contracts.errors import Failure
from contracts.limits import EVENTS_PER_COMMIT, EVENTS_PER_TURN, ITEMS, ITEMS_PER_PAGE
from contracts.messages import Message
from contracts.payloads import Inline
from contracts.plans import Plan
from contracts.runs import (
    AttemptFailed,
    AttemptScheduled,
    ItemDone,
    ItemFailed,
    ItemsBegan,
    ItemsKept,
    ItemsOpened,
    ItemsPaged,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunReopened,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSkipped,
    StepSucceeded,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from orchestrator.history import replay
from orchestrator.run import Graph, Run, outstanding
from tests.orchestrator.stories import (
    CANCEL,
    PATIENT,
    REFUSED,
    RETRY,
    TRY_AGAIN,
    action,
    broken,
    control,
    done,
    doubted,
    drawn,
    let_go,
    resolve,
    signal,
    started,
    wake,
)
from tests.orchestrator.test_history import commit

Told = Scenario[Run, Message, RunEvent]


def each(items: list[Any], *inside: Any, arrows: str = "each>after", **config: Any) -> Plan:
    """A map over these items, an action behind it; inside of it one action, when nothing else is named."""
    body = inside or (action("call", inside="each"),)
    return drawn(arrows, control("each", "map", {"items": items, **config}), *body)


def asked(told: Told) -> list[str]:
    """The steps that executors are asked for now."""
    return [attempt.step for attempt in outstanding(told.state).attempts]


def output(told: Told, step: str = "each") -> Any:
    payload = told.state.step(step).output
    assert isinstance(payload, Inline)
    return msgspec.json.decode(payload.value)


def finished(told: Told, **outputs: Any) -> Told:
    """Every attempt that is under way succeeds, with its own path as its output, until nothing is under way."""
    while attempts := outstanding(told.state).attempts:
        told = told.when(
            done(attempts[0].step, attempts[0].attempt, outputs.get(attempts[0].step, attempts[0].step))
        )
    return told


def replays(told: Told, plan: Plan) -> bool:
    """Whether the history, one commit for each fact, is decided again as it was."""
    starts = [number for number, entry in enumerate(told.history) if entry.fact]
    commits = [
        commit(version, *(entry.event for entry in told.history[start:end]))
        for version, (start, end) in enumerate(zip(starts, [*starts[1:], None], strict=True), 1)
    ]
    return replay("org", "run-1", commits, Graph.of(plan)) is None


def test_the_nodes_inside_are_done_once_for_each_item_and_results_are_in_order() -> None:
    plan = each(["a", "b", "c"])
    told = started(plan)
    told.then_kinds(
        type(told.said[0]),
        ItemsOpened,
        ItemsPaged,
        ItemsBegan,
        AttemptScheduled,
        AttemptScheduled,
        AttemptScheduled,
    )
    assert asked(told) == ["each[0].call", "each[1].call", "each[2].call"]
    assert outstanding(told.state).attempts[0].key == "run-1/each[0].call"
    told = told.when(done("each[2].call", output=3), done("each[0].call", output=1))
    assert told.state.step("each").status == "running"
    told = told.when(done("each[1].call", output=2))
    told.then_kinds(StepReported, StepSucceeded, ItemDone, ItemsKept, StepSucceeded, AttemptScheduled)
    assert output(told) == {"results": [1, 2, 3], "errors": []}
    assert asked(told) == ["after"]
    told = told.when(done("after"))
    assert told.state.status == "completed"
    assert replays(told, plan)


def test_an_empty_list_is_done_at_once() -> None:
    told = started(each([]))
    assert output(told) == {"results": [], "errors": []}
    assert asked(told) == ["after"]


def test_what_is_no_list_fails_the_step() -> None:
    told = started(drawn("", control("each", "map", {"items": "abc"}), action("call", inside="each")))
    assert told.state.status == "failed"
    assert told.state.error is not None
    assert (told.state.error.code, told.state.error.field) == ("expression", "/items")


def test_more_items_than_a_map_may_have_are_refused() -> None:
    told = started(each([0] * (ITEMS + 1)))
    assert told.state.error is not None
    assert "at most" in told.state.error.message


def test_so_many_at_once_and_no_more() -> None:
    told = started(each([0, 1, 2, 3], at_once=2))
    assert asked(told) == ["each[0].call", "each[1].call"]
    told = told.when(done("each[1].call"))
    assert told.said[-2:][0] == ItemsBegan(step="each", first=2)
    assert asked(told) == ["each[0].call", "each[2].call"]


def test_batches_are_lists_of_items() -> None:
    plan = each([1, 2, 3], control("call", "noop", inside="each"), batch_size=2)
    told = started(plan)
    assert output(told) == {"results": [[1, 2], [3]], "errors": []}


def test_a_body_of_several_nodes_runs_in_its_own_order_for_each_item() -> None:
    plan = each(
        ["a", "b"],
        action("one", inside="each"),
        control("two", "noop", inside="each"),
        action("three", inside="each"),
        arrows="one>two two>three each>after",
    )
    told = started(plan)
    assert asked(told) == ["each[0].one", "each[1].one"]
    told = told.when(done("each[1].one"))
    assert asked(told) == ["each[0].one", "each[1].three"]
    told = finished(told)
    assert output(told)["results"] == ["each[0].three", "each[1].three"]
    assert replays(told, plan)


def test_an_item_with_several_ends_gives_an_object_of_them() -> None:
    plan = each([1], action("one", inside="each"), action("two", inside="each"), arrows="each>after")
    told = finished(started(plan))
    assert output(told)["results"] == [{"one": "each[0].one", "two": "each[0].two"}]
    assert replays(told, plan)


def test_branches_inside_are_taken_and_skipped_for_each_item_alone() -> None:
    plan = each(
        [1],
        control("ask", "if", {"condition": False}, inside="each"),
        action("yes", inside="each"),
        action("no", inside="each"),
        arrows="ask.true>yes ask.false>no each>after",
    )
    told = started(plan)
    assert StepSkipped(step="each[0].yes", node="yes") in told.said
    assert asked(told) == ["each[0].no"]


def test_each_item_is_tried_again_on_its_own() -> None:
    plan = each([1, 2], action("call", inside="each", retry=PATIENT))
    told = started(plan).when(broken("each[0].call", error=TRY_AGAIN), done("each[1].call", output="b"))
    assert [wait.wait for wait in outstanding(told.state).waits] == ["retry:each[0].call:2"]
    told = told.later(10).when(wake("retry:each[0].call:2"), done("each[0].call", 2, "a"))
    assert output(told)["results"] == ["a", "b"]
    assert replays(finished(told), plan)


def test_an_item_that_fails_fails_the_map_and_the_run() -> None:
    plan = each([1, 2, 3])
    told = started(plan).when(broken("each[1].call"))
    assert [type(event) for event in told.said[:4]] == [
        AttemptFailed,
        StepFailed,
        StepFailed,
        type(told.said[3]),
    ]
    assert told.state.failed == "each"
    assert told.state.status == "stopping"
    told = told.when(let_go("each[0].call"), let_go("each[2].call"))
    assert isinstance(told.said[-1], RunFailed)
    assert told.said[-1].error == REFUSED
    assert replays(told, plan)


def test_with_continue_the_others_go_on_and_the_error_is_listed() -> None:
    plan = each([1, 2], on_item_error="continue", at_once=1)
    told = started(plan).when(broken("each[0].call"))
    assert ItemFailed(step="each", item=0, error=REFUSED) in told.said
    assert asked(told) == ["each[1].call"]
    told = told.when(done("each[1].call", output="b"))
    results = output(told)
    assert results["results"] == [None, "b"]
    assert [(error["index"], error["error"]["code"]) for error in results["errors"]] == [(0, "refused")]
    assert replays(finished(told), plan)


def test_an_error_path_inside_takes_the_failure_of_its_item() -> None:
    plan = each(
        [1],
        action("call", inside="each"),
        action("mend", inside="each"),
        arrows="call.error>mend each>after",
    )
    told = started(plan).when(broken("each[0].call"))
    assert asked(told) == ["each[0].mend"]
    told = finished(told)
    assert output(told)["results"] == ["each[0].mend"]


def test_an_error_path_of_the_map_waits_for_what_is_under_way_and_begins_nothing_more() -> None:
    plan = each([1, 2, 3], at_once=2, arrows="each>after each.error>mend")
    told = started(plan).when(broken("each[0].call"))
    assert asked(told) == ["each[1].call"]
    assert told.state.step("each").status == "running"
    told = told.when(done("each[1].call"))
    assert StepFailed(step="each", node="each", error=REFUSED, handled=True) in told.said
    assert asked(told) == ["mend"]
    assert not told.state.items
    assert not [path for path in told.state.steps if path.startswith("each[")]
    assert replays(finished(told), plan)


def test_what_waits_in_an_item_that_failed_is_dropped() -> None:
    plan = each(
        [1],
        action("call", inside="each"),
        control("nap", "delay", {"seconds": 60}, inside="each"),
        on_item_error="continue",
    )
    told = started(plan).when(broken("each[0].call"))
    assert WaitDropped(wait="delay:each[0].nap") in told.said
    assert StepCancelled(step="each[0].nap", node="nap") in told.said
    assert output(told)["results"] == [None]
    late = told.later(60).when(wake("delay:each[0].nap"))
    assert not late.said


def test_a_step_in_doubt_holds_the_item_that_failed_until_somebody_decides() -> None:
    plan = each([1], action("one", inside="each"), action("two", inside="each"), on_item_error="continue")
    told = started(plan).when(doubted("each[0].one"), broken("each[0].two"))
    assert told.state.doubts == {"each[0].one": 1}
    assert told.state.step("each").status == "running"
    told = told.when(resolve("each[0].one", "done", "a"))
    assert output(told)["results"] == [None]
    assert replays(finished(told), plan)


def test_the_outcome_of_an_item_that_is_over_changes_nothing() -> None:
    told = started(each([1, 2])).when(done("each[0].call"))
    assert not told.when(done("each[0].call")).said
    assert not told.when(broken("each[0].call")).said


def test_a_map_in_a_map_gives_lists_of_lists() -> None:
    plan = each(
        [[1, 2], [3]],
        control("again", "map", {"items": ["x", "y"]}, inside="each"),
        action("call", inside="again"),
    )
    told = started(plan)
    assert asked(told)[:2] == ["each[0].again[0].call", "each[0].again[1].call"]
    told = finished(told)
    assert [each["results"] for each in output(told)["results"]] == [
        ["each[0].again[0].call", "each[0].again[1].call"],
        ["each[1].again[0].call", "each[1].again[1].call"],
    ]
    assert replays(told, plan)


def test_a_failure_far_inside_ends_where_it_is_taken() -> None:
    plan = each(
        [1, 2],
        control("again", "map", {"items": [1, 2]}, inside="each"),
        action("call", inside="again"),
        on_item_error="continue",
    )
    told = started(plan).when(broken("each[0].again[0].call"))
    assert told.state.step("each[0].again").status == "failed"
    assert told.state.step("each").status == "running"
    told = told.when(done("each[0].again[1].call"))
    assert ItemFailed(step="each", item=0, error=REFUSED) in told.said
    assert not [path for path in told.state.items if path.startswith("each[0]")]
    told = finished(told)
    assert output(told)["results"][0] is None
    assert told.state.status == "completed"
    assert replays(told, plan)


def test_a_failure_far_inside_that_nothing_takes_fails_the_run() -> None:
    plan = each([1], control("again", "map", {"items": [1]}, inside="each"), action("call", inside="again"))
    told = started(plan).when(broken("each[0].again[0].call"))
    assert [event.step for event in told.said if isinstance(event, StepFailed)] == [
        "each[0].again[0].call",
        "each[0].again",
        "each",
    ]
    assert told.state.status == "failed"


def test_a_retry_of_the_run_goes_on_with_the_items_that_are_not_done() -> None:
    plan = each([1, 2, 3], at_once=2)
    told = started(plan).when(
        done("each[0].call", output="a"), broken("each[1].call"), let_go("each[2].call")
    )
    assert told.state.status == "failed"
    told = told.when(RETRY)
    assert isinstance(told.said[0], RunReopened)
    assert told.said[0].steps == ("each[1].call", "each[2].call", "each", "after")
    assert asked(told) == ["each[1].call", "each[2].call"]
    told = told.when(done("each[1].call", 2, "b"), done("each[2].call", 2, "c"))
    assert output(told)["results"] == ["a", "b", "c"]
    assert finished(told).state.status == "completed"
    assert replays(finished(told), plan)


def test_a_cancelled_run_lists_what_its_items_may_have_done() -> None:
    plan = each([1, 2])
    told = started(plan).when(CANCEL, let_go("each[0].call", effect="possible"), let_go("each[1].call"))
    assert isinstance(told.said[-1], RunCancelled)
    assert [(each.step, each.effect) for each in told.said[-1].unfinished] == [
        ("each[0].call", "possible"),
        ("each[1].call", "none"),
    ]
    assert told.state.step("each").status == "cancelled"
    again = told.when(RETRY)
    assert again.state.doubts == {"each[0].call": 1}
    assert asked(again) == ["each[1].call"]


def test_a_cancellation_while_nothing_is_under_way_ends_at_once() -> None:
    told = started(each([1], control("nap", "delay", {"seconds": 60}, inside="each"))).when(CANCEL)
    assert told.state.status == "cancelled"
    assert StepCancelled(step="each[0].nap", node="nap") in told.said
    assert StepCancelled(step="each", node="each") in told.said


def test_a_map_of_light_nodes_takes_turns_so_that_no_commit_grows_without_bound() -> None:
    plan = each(list(range(1_000)), control("call", "noop", inside="each"))
    told = started(plan)
    while told.state.waits:
        assert len(told.said) < 2 * EVENTS_PER_TURN
        assert isinstance(told.said[-1], WaitOpened)
        assert told.said[-1].kind == "turn"
        assert not told.when(wake("turn:other")).said
        told = told.when(wake("turn:each"))
        assert isinstance(told.said[0], WaitEnded)
    assert output(told)["results"] == list(range(1_000))
    assert replays(told, plan)


def test_a_map_that_waits_for_its_turn_can_be_cancelled() -> None:
    told = started(each(list(range(1_000)), control("call", "noop", inside="each"))).when(CANCEL)
    assert told.state.status == "cancelled"
    assert not told.when(wake("turn:each")).said


def test_pages_are_kept_as_their_items_end_and_remembered_no_longer_one_by_one() -> None:
    plan = each(list(range(ITEMS_PER_PAGE + 1)), at_once=200)
    told = started(plan)
    for number in reversed(range(ITEMS_PER_PAGE)):
        told = told.when(done(f"each[{number}].call", output=number))
    items = told.state.items["each"]
    assert list(items.kept) == [0]
    assert not items.results
    assert set(items.open) == {ITEMS_PER_PAGE}
    assert [path for path in told.state.steps if path.startswith("each[")] == [f"each[{ITEMS_PER_PAGE}].call"]
    told = told.when(done(f"each[{ITEMS_PER_PAGE}].call", output="last"))
    assert output(told)["results"] == [*range(ITEMS_PER_PAGE), "last"]


@pytest.mark.parametrize("failing", [None, 0, 1])
def test_a_run_that_completes_remembers_no_item(failing: int | None) -> None:
    told = started(each([1, 2], on_item_error="continue"))
    if failing is not None:
        told = told.when(broken(f"each[{failing}].call"))
    told = finished(told)
    assert isinstance(told.said[-1], RunCompleted)
    assert not told.state.items
    assert set(told.state.steps) == {"each", "after"}


def test_a_configuration_that_fails_inside_fails_its_item_only() -> None:
    plan = each([1, 2], on_item_error="continue")
    told = started(plan, call=Failure(code="expression", message="No."))
    assert [error["index"] for error in output(told)["errors"]] == [0, 1]
    assert asked(told) == ["after"]


def test_many_maps_that_begin_together_do_not_share_one_commit() -> None:
    inner = control("inner", "map", {"items": list(range(10_000)), "at_once": 1}, inside="each")
    plan = each(list(range(40)), inner, action("call", inside="inner"), at_once=40)
    told = started(plan)
    assert len(told.said) <= EVENTS_PER_COMMIT
    while told.state.waits:
        told = told.when(wake("turn:each"))
        assert len(told.said) <= EVENTS_PER_COMMIT
    assert len(told.state.items) == 41


def test_a_map_that_fails_on_its_error_path_leaves_nothing_of_what_was_inside() -> None:
    again = control("again", "map", {"items": [1]}, inside="each")
    plan = each(
        [1], again, control("end", "stop", {"message": "No."}, inside="again"), arrows="each.error>mend"
    )
    told = finished(started(plan))
    assert told.state.status == "completed"
    assert not told.state.items


def test_what_waits_in_an_item_that_fails_hears_nothing_any_more() -> None:
    plan = each(
        [1],
        control("ask", "wait.signal", {"signal": "paid"}, inside="each"),
        action("call", inside="each"),
        action("slow", inside="each"),
        control("later", "wait.signal", {"signal": "paid"}),
        arrows="each.error>later",
    )
    told = started(plan).when(broken("each[0].call"), signal("paid", body="yes"))
    assert told.state.waits["signal:each[0].ask"]
    told = told.when(done("each[0].slow"))
    assert output(told, "later") == "yes"
