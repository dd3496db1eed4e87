"""What is left of a plan when a workflow is tried out: what runs, what stands for the rest, and which wishes make no sense."""

from typing import Any

import pytest
from msgspec import structs

from contracts.cases import Given, Part, Pin, Selection
from contracts.errors import Failure
from contracts.payloads import NULL
from contracts.plans import Plan, PlanNode, Reads
from contracts.runs import (
    RunCompleted,
    RunEvent,
    RunFailed,
    StepFailed,
    StepPinned,
    StepSkipped,
    StepSucceeded,
)
from contracts.workflows import Fault
from orchestrator.compiler import encoded
from orchestrator.narrowing import Narrowed, narrowed
from orchestrator.readiness import Graph
from tests.orchestrator.stories import START, action, control, done, drawn, scheduled, started, story, value
from tests.simulation.workflows import Drawn
from tests.simulation.workflows import story as drawings

CHAIN = drawn("a>b b>c c>d")
PINNED = Pin(output=value({"n": 1}))
REFUSED = Failure(code="refused", message="No.")


def narrow(
    plan: Plan,
    part: Part = "whole",
    node: str | None = None,
    **given: Any,
) -> Narrowed | list[Fault]:
    return narrowed(plan, Selection(part=part, node=node), Given(**given))


def made(*wish: Any, **given: Any) -> Narrowed:
    outcome = narrow(*wish, **given)
    assert isinstance(outcome, Narrowed), outcome
    return outcome


def faults(*wish: Any, **given: Any) -> list[tuple[str, str]]:
    outcome = narrow(*wish, **given)
    assert isinstance(outcome, list), outcome
    return [(fault.code, fault.pointer) for fault in outcome]


def sides(outcome: Narrowed) -> tuple[str, str, str, str]:
    """What acts, is decided, is pinned and is left out, each as one text."""
    told = outcome.outline
    acts = " ".join(act.node for act in told.acts)
    return acts, " ".join(told.decides), " ".join(told.pinned), " ".join(told.left_out)


def reading(name: str, *read: str, **more: Any) -> PlanNode:
    return action(name, reads=Reads(nodes=read), **more)


@pytest.mark.parametrize(
    ("part", "node", "pins", "expected"),
    [
        ("whole", None, "", ("a b c d", "", "", "")),
        ("whole", None, "b", ("a c d", "", "b", "")),
        ("until", "c", "", ("a b c", "", "", "d")),
        ("until", "c", "b", ("c", "", "b", "a d")),
        ("until", "a", "", ("a", "", "", "b c d")),
        ("node", "b", "a", ("b", "", "a", "c d")),
        ("node", "a", "", ("a", "", "", "b c d")),
        ("node", "c", "a b", ("c", "", "b", "a d")),
        ("from", "c", "b", ("c d", "", "b", "a")),
        ("from", "a", "", ("a b c d", "", "", "")),
        ("from", "b", "a d", ("b c", "", "a d", "")),
    ],
)
def test_a_part_of_a_chain(part: Part, node: str | None, pins: str, expected: tuple[str, ...]) -> None:
    assert sides(made(CHAIN, part, node, pins=dict.fromkeys(pins.split(), PINNED))) == expected


def test_a_node_that_starts_a_run_acts() -> None:
    plan = drawn("a>call call>b", control("call", "workflow.run", {"workflow": "child"}))
    assert sides(made(plan, "whole", None)) == ("a call b", "", "", "")
    assert sides(made(plan, "whole", None, pins={"call": PINNED})) == ("a b", "", "call", "")
    assert sides(made(plan, "whole", None, recorded={"call": PINNED, "a": PINNED})) == ("b", "", "a call", "")


def test_edges_lead_only_between_what_is_there() -> None:
    plan = made(CHAIN, "until", "c", pins={"b": PINNED}).plan
    assert [(edge.source, edge.target) for edge in plan.edges] == [("b", "c")]


def test_the_node_that_a_part_is_named_by_runs_whatever_is_pinned() -> None:
    assert sides(made(CHAIN, "until", "b", pins={"b": PINNED}))[0] == "a b"


def test_the_same_workflow_whole_and_without_pins_has_the_same_plan() -> None:
    assert encoded(made(CHAIN).plan) == encoded(CHAIN)


def test_what_an_expression_reads_is_needed_too_and_is_there_in_time() -> None:
    plan = drawn("a>b b>c c>d", reading("d", "a"))
    assert sides(made(plan, "until", "d", pins={"c": PINNED})) == ("a b d", "", "c", "")
    assert sides(made(plan, "until", "d", pins={"a": PINNED, "c": PINNED})) == ("d", "", "a c", "b")


def test_what_is_read_inside_of_a_map_is_needed_for_the_map() -> None:
    plan = drawn(
        "a>b b>each each>end", control("each", "map", {}), reading("inner", "a", "other", inside="each"), action("other", inside="each")
    )  # fmt: skip
    assert faults(plan, "node", "each", pins={"b": PINNED}) == [("test.unpinned", "/pins/a")]
    outcome = made(plan, "node", "each", pins={"a": PINNED, "b": PINNED})
    assert sides(outcome) == ("inner other", "each", "a b", "end")
    assert {act.inside for act in outcome.outline.acts} == {"each"}


def test_of_a_pinned_map_nothing_inside_is_left() -> None:
    plan = drawn("each>end", control("each", "map", {}), action("inner", inside="each"))
    outcome = made(plan, pins={"each": PINNED, "inner": PINNED})
    assert sides(outcome) == ("end", "", "each", "inner")
    assert not outcome.plan.nodes[0].contains


def test_a_pin_inside_of_a_map_stands_for_the_node_in_every_item() -> None:
    plan = drawn("each", control("each", "map", {}), action("inner", inside="each"))
    assert sides(made(plan, pins={"inner": PINNED})) == ("", "each", "inner", "")


def test_what_a_run_recorded_stands_for_what_acts_while_the_rest_is_decided_anew() -> None:
    plan = drawn(
        "call>choose choose.true>each each>end",
        control("choose", "if", {}),
        control("each", "map", {}),
        action("inner", inside="each"),
        control("end", "noop"),
    )
    recorded = dict.fromkeys(("call", "choose", "each", "end", "gone"), PINNED)
    outcome = made(plan, recorded=recorded)
    assert sides(outcome) == ("", "choose end", "call each", "inner")
    assert [node.pin.evaluated for node in outcome.plan.nodes if node.pin] == [True, False]


def test_what_waited_for_the_world_is_not_done_anew() -> None:
    plan = drawn("ask>end", control("ask", "wait.signal", {"signal": "paid"}), control("end", "noop"))
    waited = Pin(output=value("yes"), ports=("main",), waited=True)
    assert sides(made(plan, recorded={"ask": waited, "end": PINNED})) == ("", "end", "ask", "")


@pytest.mark.parametrize("part", ["until", "node", "from"])
def test_what_a_run_recorded_stands_for_all_that_comes_before_a_part(part: Part) -> None:
    recorded = dict.fromkeys("abcd", PINNED)
    outcome = made(CHAIN, part, "c", recorded=recorded)
    assert sides(outcome)[0] == ("c d" if part == "from" else "c")
    assert sides(outcome)[2] == "b"


def test_a_pin_counts_more_than_what_was_recorded() -> None:
    outcome = made(CHAIN, "node", "b", pins={"a": PINNED}, recorded={"a": Pin()})
    assert outcome.plan.nodes[0].pin == Pin(output=PINNED.output, ports=("main",))


# --- The input of one node ----------------------------------------------------------------------


def test_an_input_is_what_the_node_before_gave_by_the_way_that_leads_on() -> None:
    plan = drawn("choose.true>b", control("choose", "if", {}))
    [choose, _] = made(plan, "node", "b", input=value(5)).plan.nodes
    assert choose.pin == Pin(output=value(5), ports=("true",))


def test_several_nodes_before_it_give_a_member_each() -> None:
    plan = drawn("a>c b>c")
    first, second, _ = made(plan, "node", "c", input=value({"a": 1, "b": [2]})).plan.nodes
    assert (first.pin, second.pin) == (
        Pin(output=value(1), ports=("main",)),
        Pin(output=value([2]), ports=("main",)),
    )
    assert faults(plan, "node", "c", input=value({"a": 1})) == [
        ("test.bad_pin", "/input"),
        ("test.unpinned", "/pins/b"),
    ]
    assert ("test.bad_pin", "/input") in faults(plan, "node", "c", input=value([1]))


def test_one_that_is_pinned_besides_needs_no_member() -> None:
    outcome = made(drawn("a>c b>c"), "node", "c", input=value(7), pins={"a": PINNED})
    assert outcome.plan.nodes[1].pin == Pin(output=value(7), ports=("main",))


def test_a_node_with_nothing_before_it_takes_no_pins_from_an_input() -> None:
    assert sides(made(CHAIN, "node", "a", input=value(1)))[2] == ""


# --- Wishes that make no sense --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "given", "expected"),
    [
        (("node", "b"), {}, [("test.unpinned", "/pins/a")]),
        (("from", "c"), {}, [("test.unpinned", "/pins/b")]),
        (("node", "x"), {}, [("test.unknown_node", "/selection/node")]),
        (("node", None), {}, [("test.unknown_node", "/selection/node")]),
        (("whole", "a"), {}, [("test.unknown_node", "/selection/node")]),
        ((), {"pins": {"x": PINNED}}, [("test.unknown_node", "/pins/x")]),
        ((), {"input": NULL}, [("test.bad_pin", "/input")]),
        ((), {"pins": {"a": Pin(ports=("left",))}}, [("test.bad_pin", "/pins/a/ports")]),
    ],
)
def test_every_reason_has_its_place(wish: Any, given: Any, expected: list[tuple[str, str]]) -> None:
    assert faults(CHAIN, *wish, **given) == expected


def test_a_node_inside_of_a_map_is_tested_with_its_map() -> None:
    plan = drawn("each", control("each", "map", {}), action("inner", inside="each"))
    [fault] = narrow(plan, "node", "inner")  # type: ignore[misc]  # A list of faults.
    assert "test each" in fault.message  # type: ignore[union-attr]  # As before.


def test_a_node_that_chooses_is_pinned_with_its_choice() -> None:
    plan = drawn("choose.true>b choose.false>c", control("choose", "if", {}))
    assert faults(plan, pins={"choose": PINNED}) == [("test.bad_pin", "/pins/choose/ports")]
    chosen = Pin(output=PINNED.output, ports=("false",))
    assert made(plan, pins={"choose": chosen}).plan.nodes[0].pin == chosen


# --- Whatever is drawn ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_of_any_workflow_any_part_can_be_tried_with_what_a_run_recorded(seed: int) -> None:
    for plan in map(compilable, drawings(seed).workflows):
        recorded = {node.id: Pin(ports=node.outputs[:1]) for node in plan.nodes}
        assert made(plan).plan == plan
        for name in Graph.of(plan).order:
            for part in ("until", "node", "from"):
                outcome = made(plan, part, name, recorded=recorded)
                hold(outcome, plan, part, name)
        hold(made(plan, recorded=recorded), plan, "whole", "")


def compilable(drawn_: Drawn) -> Plan:
    """The plan as a compiler would have made it: without pins, and no edge crosses the border of a container."""
    nodes = tuple(structs.replace(node, pin=None) for node in drawn_.plan.nodes)
    inside = {node.id: node.inside for node in nodes}
    edges = tuple(edge for edge in drawn_.plan.edges if inside[edge.source] == inside[edge.target])
    return structs.replace(drawn_.plan, nodes=nodes, edges=edges)


def hold(outcome: Narrowed, plan: Plan, part: str, name: str) -> None:
    """What is so of every test: it is about its node, nothing hangs in the air, and what is before a part does not act."""
    left = {node.id: node for node in outcome.plan.nodes}
    assert not name or left[name].pin is None
    for node in left.values():
        assert not node.inside or (node.inside in left and left[node.inside].pin is None)
        sources = {edge.source for edge in plan.edges if edge.target == node.id}
        assert node.pin is not None or sources <= left.keys(), f"{node.id} has lost a way into it"
    for edge in outcome.plan.edges:
        assert {edge.source, edge.target} <= left.keys()
    assert part != "whole" or not outcome.outline.acts
    inner = {act.node for act in outcome.outline.acts if not act.inside}
    undo = {node.compensate for node in plan.nodes if node.id == name}
    assert part not in ("until", "node") or inner <= {name, *undo}
    told = outcome.outline
    every = [*(act.node for act in told.acts), *told.decides, *told.pinned, *told.left_out]
    assert sorted(every) == sorted(node.id for node in plan.nodes)


def test_what_undoes_a_node_is_there_with_it_and_so_is_what_it_reads() -> None:
    plan = drawn("a>b b>c", action("b", compensate="undo"), reading("undo", "a", undoes="b"))
    outcome = made(plan, "until", "b", pins={"a": PINNED})
    assert sides(outcome) == ("undo b", "", "a", "c")
    assert faults(plan, "node", "b") == [("test.unpinned", "/pins/a")]
    assert faults(plan, "node", "undo") == [("test.unknown_node", "/selection/node")]


def test_what_is_pinned_has_nothing_to_be_undone() -> None:
    plan = drawn("a>b", action("a", compensate="undo"), action("undo", undoes="a"))
    outcome = made(plan, pins={"a": PINNED})
    assert sides(outcome) == ("b", "", "a", "undo")
    assert outcome.plan.nodes[0].compensate == ""


# --- What a run makes of pins -----------------------------------------------------------------------


def succeeded(step: str, output: Any, **more: Any) -> RunEvent:
    return StepSucceeded(step=step, node=step, output=value(output), **more)


def test_a_pinned_step_succeeds_at_once_and_nobody_attempts_it() -> None:
    plan = made(CHAIN, "node", "b", pins={"a": PINNED}).plan
    told = started(plan)
    assert told.said[1:] == (succeeded("a", {"n": 1}), scheduled("b"))
    over = told.when(done("b", output="x"))
    assert isinstance(over.said[-1], RunCompleted)
    assert over.said[-1].output == value("x")
    over.then_redelivery_is_harmless()


def test_what_would_have_been_sent_is_told_where_a_run_is_tried_again() -> None:
    plan = drawn("a>b", action("a", config={"to": "Ada"}))
    told = started(made(plan, recorded={"a": PINNED, "b": Pin(error=REFUSED)}).plan)
    assert told.said[1:5] == (
        StepPinned(step="a", node="a", config=value({"to": "Ada"})),
        succeeded("a", {"n": 1}),
        StepPinned(step="b", node="b", config=value({})),
        StepFailed(step="b", node="b", error=REFUSED),
    )


def test_what_cannot_be_sent_fails_as_in_earnest() -> None:
    fault = Failure(code="expression", message="No such field.")
    told = started(made(CHAIN, recorded={"a": PINNED}).plan, a=fault)
    assert told.state.error == fault


def test_what_follows_takes_the_port_of_the_pin() -> None:
    plan = drawn("choose.true>b choose.false>c", control("choose", "if", {}))
    pinned = made(plan, pins={"choose": Pin(ports=("false",))}).plan
    assert started(pinned).said[1:] == (
        succeeded("choose", None, ports=("false",)),
        StepSkipped(step="b", node="b"),
        scheduled("c"),
    )


def test_a_pinned_failure_takes_the_error_path_or_ends_the_run() -> None:
    failure = Pin(error=REFUSED)
    taken = made(drawn("a>b a.error>c"), pins={"a": failure}).plan
    assert started(taken).said[1:] == (
        StepFailed(step="a", node="a", error=REFUSED, handled=True),
        StepSkipped(step="b", node="b"),
        scheduled("c"),
    )
    ended = started(made(CHAIN, pins={"a": failure}).plan)
    assert isinstance(ended.said[-1], RunFailed)
    assert ended.state.error == REFUSED


def test_a_step_that_was_not_reached_is_skipped_again() -> None:
    plan = made(CHAIN, pins={"a": Pin(skipped=True)}).plan
    assert started(plan).said[1:5] == tuple(StepSkipped(step=name, node=name) for name in "abcd")


def test_no_executor_is_asked_for_a_pinned_node_by_a_release_that_knows_no_pins() -> None:
    [node, *_] = made(CHAIN, pins={"a": PINNED}).plan.nodes
    assert (node.place, node.config, node.secrets) == ("orchestrator", {}, ())


def test_a_run_knows_from_its_first_event_that_it_is_a_test() -> None:
    told = story(CHAIN).when(structs.replace(START, mode="test"))
    assert told.said[0].mode == "test"  # type: ignore[union-attr]  # It has started.
    assert told.state.mode == "test"
