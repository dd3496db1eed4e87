"""What the orchestrator promises about control nodes, whatever their expressions gave."""

from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import Raw

from contracts.errors import Failure
from contracts.limits import NodeId
from contracts.payloads import Payload
from orchestrator.catalogue import SPECS
from orchestrator.control import Answered, Delayed, Outcome, Passed
from orchestrator.performing import perform
from tests.orchestrator.stories import NOON, control, value

INPUT = value({"n": 1})


class Input:
    """One predecessor that gave an object."""

    def payload(self) -> Payload:
        return INPUT

    def members(self) -> dict[str, Raw]:
        return {"n": Raw(b"1")}

    def by_node(self) -> dict[NodeId, Raw]:
        return {"a": Raw(b"1"), "b": Raw(b'"two"')}


def outcome(kind: str, config: dict[str, Any]) -> Outcome | Failure:
    return perform(control("it", kind, config), config, Input(), NOON)


def passed(by: str | None = "main", output: Any = None) -> Passed:
    return Passed(output=INPUT if output is None else value(output), ports=(by,) if by else ())


CASES = [{"name": "low", "when": False}, {"name": "mid", "when": True}, {"name": "high", "when": True}]


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("filter", {"condition": True}, passed()),
        ("filter", {"condition": False}, passed(None)),
        ("if", {"condition": True}, passed("true")),
        ("if", {"condition": False}, passed("false")),
        ("switch", {"cases": CASES}, passed("mid")),
        ("switch", {"cases": CASES[:1]}, passed("default")),
        ("set", {"fields": {"a": [1, None]}}, passed(output={"a": [1, None]})),
        ("set", {"fields": {"a": 1}, "keep_input": True}, passed(output={"n": 1, "a": 1})),
        ("set", {"fields": {"n": 2}, "keep_input": True}, passed(output={"n": 2})),
        ("merge", {}, passed(output={"a": 1, "b": "two"})),
        ("merge", {"output": "list"}, passed(output=[1, "two"])),
        ("delay", {"seconds": 0}, passed()),
        ("delay", {"seconds": 1.5}, Delayed(due=NOON + timedelta(seconds=1.5))),
        ("delay", {"until": "2026-11-20T14:00:00+01:00"}, Delayed(due=NOON + timedelta(hours=1))),
        ("delay", {"until": "2020-01-01T00:00:00Z"}, passed()),
        ("respond", {}, Answered(status=200, headers={}, body=INPUT)),
        (
            "respond",
            {"status": 202, "headers": {"X-Run": "1"}, "body": [1]},
            Answered(status=202, headers={"X-Run": "1"}, body=value([1])),
        ),
        ("respond", {"status": 204.0, "body": None}, Answered(status=204, headers={}, body=value(None))),
    ],
)
def test_a_control_node_does_what_its_page_says(kind: str, config: dict[str, Any], expected: Outcome) -> None:
    assert outcome(kind, config) == expected


@pytest.mark.parametrize(
    ("kind", "config", "field"),
    [
        ("filter", {"condition": 1}, "/condition"),
        ("if", {"condition": None}, "/condition"),
        ("switch", {"cases": [{"name": "a", "when": False}, {"name": "b", "when": "x"}]}, "/cases/1/when"),
        ("delay", {"seconds": "soon"}, "/seconds"),
        ("delay", {"seconds": True}, "/seconds"),
        ("delay", {"seconds": -1}, "/seconds"),
        ("delay", {"seconds": 1e300}, "/seconds"),
        ("delay", {"seconds": float("nan")}, "/seconds"),
        ("delay", {"until": 5}, "/until"),
        ("delay", {"until": "tomorrow"}, "/until"),
        ("delay", {"until": "2026-11-20T12:00:00"}, "/until"),
        ("delay", {"until": "2999-01-01T00:00:00Z"}, "/until"),
        ("delay", {"until": "0001-01-01T00:00:00+14:00"}, "/until"),
        ("respond", {"status": 99}, "/status"),
        ("respond", {"status": "200"}, "/status"),
        ("respond", {"headers": ["a"]}, "/headers"),
        ("respond", {"headers": {"X": "a\r\nSet-Cookie: b"}}, "/headers/X"),
        ("respond", {"headers": {"X Y": "a"}}, "/headers"),
        ("respond", {"headers": {"X": 1}}, "/headers/X"),
        ("respond", {"headers": {"Content-Length": "1"}}, "/headers/Content-Length"),
    ],
)
def test_a_value_that_does_not_fit_names_node_and_field(
    kind: str, config: dict[str, Any], field: str
) -> None:
    failure = outcome(kind, config)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.node, failure.field) == ("expression", "it", field)
    assert not failure.retryable


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.type)
def test_every_control_node_has_a_form_that_is_a_schema(spec: Any) -> None:
    Draft202012Validator.check_schema(spec.config)
    assert spec.place == "orchestrator"
    assert spec.config["additionalProperties"] is False
