"""Maps and loops as builders draw them: what the nodes inside read, when a loop ends, and what is refused."""

from typing import Any

import msgspec
import pytest

from chassis.ids import digest
from contracts.codec import encode
from contracts.payloads import Blob, Inline
from contracts.runs import ItemsBegan, ItemsOpened, RunFailed, StepFailed
from orchestrator.history import replay
from orchestrator.inputs import NotReady
from orchestrator.run import Graph, outstanding
from tests.orchestrator.stories import RETRY, broken, done
from tests.orchestrator.test_compiler import codes
from tests.orchestrator.test_evaluation import begin, config_of, echo, plan_of, story
from tests.orchestrator.test_history import commit


def given(told: Any, step: str) -> Any:
    payload = config_of(told, step)
    assert isinstance(payload, Inline)
    return msgspec.json.decode(payload.value)["value"]


def output(told: Any, step: str) -> Any:
    return msgspec.json.decode(told.state.step(step).output.value)


def inside(container: str, node: dict[str, Any]) -> dict[str, Any]:
    return {**node, "inside": container}


EACH = {"id": "each", "type": "map", "config": {"items": "{{ trigger.body.rows }}"}}


def test_the_nodes_inside_read_their_item_what_came_before_and_their_neighbours() -> None:
    plan = plan_of(
        echo("first", "F"),
        EACH,
        inside("each", echo("call", "{{ item.n }} {{ index }} {{ steps.first.output }}")),
        inside("each", echo("next", "{{ steps.call.output + '!' }}")),
        echo("last", "{{ steps.each.output.results }}"),
        edges="first>each call>next each>last",
    )
    told = story(plan).when(begin({"rows": [{"n": 7}, {"n": 8}]}), done("first", output="F"))
    assert given(told, "each[1].call") == "8 1 F"
    told = told.when(done("each[1].call", output="x"))
    assert given(told, "each[1].next") == "x!"
    told = told.when(
        done("each[1].next", output="b"), done("each[0].call", output="y"), done("each[0].next", output="a")
    )
    assert given(told, "last") == ["a", "b"]


def test_a_start_inside_that_passes_on_is_given_the_item() -> None:
    plan = plan_of(EACH, inside("each", {"id": "big", "type": "filter", "config": {"condition": "item > 1"}}))
    told = story(plan).when(begin({"rows": [1, 2]}))
    assert output(told, "each")["results"] == [1, 2]
    assert told.state.status == "completed"


def test_a_map_inside_a_map_reads_the_item_around_it() -> None:
    plan = plan_of(
        EACH,
        inside("each", {"id": "again", "type": "map", "config": {"items": "{{ item.parts }}"}}),
        inside("again", echo("call", "{{ item }}")),
    )
    told = story(plan).when(begin({"rows": [{"parts": ["a"]}, {"parts": ["b", "c"]}]}))
    assert [given(told, attempt.step) for attempt in outstanding(told.state).attempts] == ["a", "b", "c"]


def test_items_that_are_stored_apart_are_fetched_a_page_at_a_time() -> None:
    plan = plan_of(EACH, inside("each", echo("call", "{{ item }}")))
    rows = ["x" * 600] * 150
    told = story(plan).when(begin({"rows": rows}))
    body = encode(rows[:100])
    stored = Blob(sha256=digest(body), size=len(body))
    apart = [
        msgspec.structs.replace(event, items=stored) if getattr(event, "items", None) is not None else event
        for event in (entry.event for entry in told.history)
    ]
    run = story(plan).given(*apart)
    with pytest.raises(NotReady) as missing:
        run.when(done("each[0].call"))
    assert missing.value.values == {stored}
    read = story(plan, {stored.sha256: body}).given(*apart).when(done("each[0].call"))
    assert given(read, "each[10].call") == "x" * 600


COUNT = {"id": "again", "type": "loop", "config": {"until": "item.n >= 3", "most_rounds": 5}}


def test_a_loop_goes_on_with_what_the_last_round_gave_until_its_condition_holds() -> None:
    plan = plan_of(
        COUNT,
        inside("again", {"id": "add", "type": "set", "config": {"fields": {"n": "{{ item.n + 1 }}"}}}),
        echo("last", "{{ steps.again.output.n }} rounds"),
        edges="again>last",
    )
    told = story(plan).when(begin({"n": 0}))
    assert [event.first for event in told.said if isinstance(event, ItemsBegan)] == [0, 1, 2]
    assert given(told, "last") == "3 rounds"
    assert replay("org", "run-1", [commit(1, *(e.event for e in told.history))], Graph.of(plan)) is None


def test_a_loop_around_an_action_asks_for_one_round_at_a_time() -> None:
    plan = plan_of(COUNT, inside("again", echo("call", "{{ index }}")))
    told = story(plan).when(begin({"n": 0}))
    assert isinstance(told.said[1], ItemsOpened)
    told = told.when(done("again[0].call", output={"n": 1}))
    assert given(told, "again[1].call") == 1
    told = told.when(done("again[1].call", output={"n": 3}))
    assert told.state.status == "completed"


def test_a_loop_that_does_not_end_fails_after_as_many_rounds_as_it_may_have() -> None:
    plan = plan_of(COUNT, inside("again", {"id": "same", "type": "filter", "config": {"condition": "true"}}))
    told = story(plan).when(begin({"n": 0}))
    assert isinstance(told.said[-1], RunFailed)
    assert told.said[-1].error.code == "loop.exhausted"
    assert len([event for event in told.said if isinstance(event, ItemsBegan)]) == 5


def test_a_condition_that_fails_is_the_loops_and_is_looked_at_again_by_a_retry() -> None:
    plan = plan_of(COUNT, inside("again", echo("call", 1)))
    told = story(plan).when(begin({"n": 0}), done("again[0].call", output="no object"))
    failed = next(event for event in told.said if isinstance(event, StepFailed))
    assert (failed.step, failed.error.code, failed.error.field) == ("again", "expression", "/until")
    told = told.when(RETRY)
    assert [event.step for event in told.said if isinstance(event, StepFailed)] == ["again"]


def test_a_round_that_fails_fails_the_loop() -> None:
    plan = plan_of(COUNT, inside("again", echo("call", 1)))
    told = story(plan).when(begin({"n": 0}), broken("again[0].call"))
    assert told.state.status == "failed"
    assert told.state.failed == "again"


def test_an_expression_that_fails_for_one_item_fails_that_item() -> None:
    each = {**EACH, "config": {**EACH["config"], "on_item_error": "continue"}}  # type: ignore[dict-item]  # An object.
    plan = plan_of(each, inside("each", echo("call", "{{ 1 / item }}")))
    told = story(plan).when(begin({"rows": [0, 1]}), done("each[1].call", output="b"))
    assert output(told, "each")["results"] == [None, "b"]
    assert output(told, "each")["errors"][0]["error"]["code"] == "expression"


MAP = {"id": "each", "type": "map", "config": {"items": [1]}}


@pytest.mark.parametrize(
    ("nodes", "edges", "code", "pointer"),
    [
        ([MAP], [], "workflow.bad_inside", "/nodes/0"),
        ([inside("none", echo("a", 1))], [], "workflow.bad_inside", "/nodes/0/inside"),
        ([echo("a", 1), inside("a", echo("b", 1))], [], "workflow.bad_inside", "/nodes/1/inside"),
        ([inside("each", MAP)], [], "workflow.bad_inside", "/nodes/0/inside"),
        (
            [MAP, inside("each", echo("a", 1)), echo("b", 1)],
            [("a", "b")],
            "workflow.bad_inside",
            "/edges/0",
        ),
        ([MAP, inside("each", echo("a", 1))], [("each", "a")], "workflow.bad_inside", "/edges/0"),
        (
            [MAP, inside("each", echo("a", 1)), echo("b", "{{ steps.a.output }}")],
            [("each", "b")],
            "workflow.bad_expression",
            "/nodes/2/config/value",
        ),
        ([echo("a", "{{ item }}")], [], "workflow.bad_expression", "/nodes/0/config/value"),
        (
            [MAP, inside("each", echo("a", "{{ steps.each.output }}"))],
            [],
            "workflow.bad_expression",
            "/nodes/1/config/value",
        ),
        (
            [
                {**MAP, "config": {"items": [1], "at_once": 200}},
                *(inside("each", echo(f"a{n}", 1)) for n in range(3)),
            ],
            [],
            "workflow.limit",
            "/nodes",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(
    nodes: list[dict[str, Any]], edges: list[tuple[str, str]], code: str, pointer: str
) -> None:
    drawn = [{"source": source, "target": target} for source, target in edges]
    assert (code, pointer) in codes({"nodes": nodes, "edges": drawn})


def test_a_node_that_chooses_between_ports_cannot_go_on_after_a_failure() -> None:
    node = {"id": "ask", "type": "if", "config": {"condition": "true"}, "on_error": "continue"}
    assert codes({"nodes": [node], "edges": []}) == [("workflow.bad_config", "/nodes/0/on_error")]


def test_containers_lie_in_each_other_so_deep_and_no_deeper() -> None:
    chain: list[dict[str, Any]] = [{**MAP, "id": "m0"}]
    chain += [
        inside(f"m{n}", {**MAP, "id": f"m{n + 1}", "config": {"items": [1], "at_once": 1}}) for n in range(3)
    ]
    chain[0]["config"] = {"items": [1], "at_once": 1}
    deep = [*chain, inside("m3", echo("a", 1))]
    assert codes({"nodes": deep, "edges": []}) == [("workflow.bad_inside", "/nodes/4/inside")]
    plan_of(*chain[:3], inside("m2", echo("a", 1)))
