"""Where the addresses of waiting steps are known: before, beside and behind them, as marks and never as links."""

import json
from typing import Any

import pytest

from chassis.links import Place, mark
from contracts.workflows import Fault
from orchestrator.compiler import compile_workflow
from tests.orchestrator.stories import PLAN_HASH, done, value
from tests.orchestrator.test_compiler import LANGUAGE, SPECS
from tests.orchestrator.test_evaluation import begin, config_of, echo, plan_of, story

ASK: dict[str, Any] = {
    "id": "ask",
    "type": "wait.approval",
    "config": {"question": "Pay {{ trigger.body }} €?"},
}
CALL: dict[str, Any] = {"id": "ask", "type": "wait.webhook"}
ADDRESS = "See {{ steps.ask.resume_url }}?decision=approved"


def address(step: str) -> str:
    return mark(Place("org", "run-1", step), PLAN_HASH)


@pytest.mark.parametrize("wait", [ASK, CALL], ids=lambda node: str(node["type"]))
@pytest.mark.parametrize("edges", ["", "mail>ask"])
def test_a_node_beside_or_before_knows_the_address(wait: dict[str, Any], edges: str) -> None:
    told = story(plan_of(echo("mail", ADDRESS), wait, edges=edges)).when(begin(5))
    assert config_of(told, "mail") == value({"value": f"See {address('ask')}?decision=approved"})


def test_the_question_is_what_its_expressions_gave() -> None:
    told = story(plan_of(ASK)).when(begin(5))
    (wait,) = told.state.waits.values()
    assert wait.approval is not None
    assert wait.approval.question == "Pay 5 €?"


def test_each_item_has_an_address_of_its_own() -> None:
    plan = plan_of(
        {"id": "each", "type": "map", "config": {"items": "{{ trigger.body }}"}},
        echo("mail", ADDRESS) | {"inside": "each"},
        ASK | {"inside": "each", "config": {"question": "Well?"}},
    )
    told = story(plan).when(begin([1, 2]))
    for item in (0, 1):
        config = config_of(told, f"each[{item}].mail")
        assert config == value({"value": f"See {address(f'each[{item}].ask')}?decision=approved"})


def test_an_address_goes_on_through_the_run_like_any_text() -> None:
    text = {"id": "text", "type": "set", "config": {"fields": {"to": "{{ steps.ask.resume_url }}"}}}
    plan = plan_of(text, echo("mail", "{{ steps.text.output.to }}"), ASK, edges="text>mail")
    told = story(plan).when(begin(5))
    assert config_of(told, "mail") == value({"value": address("ask")})
    assert told.when(done("mail")).state.status == "waiting"


@pytest.mark.parametrize(
    "nodes",
    [
        [echo("a", "{{ steps.b.resume_url }}"), echo("b", 1)],
        [echo("a", "{{ steps.nobody.resume_url }}")],
        [
            echo("a", "{{ steps.ask.resume_url }}"),
            {"id": "each", "type": "map", "config": {"items": [1]}},
            ASK | {"inside": "each"},
        ],
    ],
    ids=["not-a-wait", "nobody", "inside-of-a-map"],
)
def test_only_a_wait_in_reach_has_an_address(nodes: list[dict[str, Any]]) -> None:
    faults = compile_workflow(
        json.dumps({"nodes": nodes, "edges": []}).encode(),
        SPECS,
        org="org",
        workflow="flow",
        version=3,
        language=LANGUAGE,
    )
    assert isinstance(faults, list)
    assert [(fault.code, fault.pointer) for fault in faults] == [
        ("workflow.bad_expression", "/nodes/0/config/value")
    ]
    assert isinstance(faults[0], Fault)


@pytest.mark.parametrize(
    ("config", "pointer"),
    [
        ({}, "/question"),
        ({"question": "?", "form": {"type": "object"}}, "/form/properties"),
        (
            {"question": "?", "form": {"type": "object", "properties": {"a": {"type": "array"}}}},
            "/form/properties/a/type",
        ),
        (
            {"question": "?", "form": {"type": "object", "properties": {"A b": {"type": "string"}}}},
            "/form/properties",
        ),
        (
            {"question": "?", "form": {"type": "object", "properties": {}, "required": ["sum"]}},
            "/form/required/0",
        ),
        (
            {
                "question": "?",
                "form": {"type": "object", "properties": {"a": {"type": "number", "format": "uri"}}},
            },
            "/form/properties/a/format",
        ),
        ({"question": "?", "by_link": "yes"}, "/by_link"),
        ({"question": "?", "timeout_seconds": -1}, "/timeout_seconds"),
        ({"question": "?", "until": 1}, "/until"),
    ],
)
def test_an_approval_that_cannot_be_asked_is_refused_by_its_place(
    config: dict[str, Any], pointer: str
) -> None:
    assert faults_of(ASK | {"config": config}) == [f"/nodes/0/config{pointer}"]


@pytest.mark.parametrize(
    ("config", "pointer"),
    [
        ({"methods": []}, "/methods"),
        ({"methods": ["HEAD"]}, "/methods/0"),
        ({"status": 404}, "/status"),
        ({"body_bytes": 2**30}, "/body_bytes"),
        ({"authentication": {"scheme": "github", "secret": "text"}}, "/authentication/secret"),
    ],
)
def test_a_call_that_cannot_be_awaited_is_refused_by_its_place(config: dict[str, Any], pointer: str) -> None:
    assert faults_of(CALL | {"config": config}) == [f"/nodes/0/config{pointer}"]


def faults_of(node: dict[str, Any]) -> list[str]:
    faults = compile_workflow(
        json.dumps({"nodes": [node], "edges": []}).encode(),
        SPECS,
        org="org",
        workflow="flow",
        version=3,
        language=LANGUAGE,
    )
    assert isinstance(faults, list), faults
    return [fault.pointer for fault in faults]
