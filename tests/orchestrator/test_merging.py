"""How branches become one value: by node, in a list, one behind the other, by place, by a field."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from contracts.codec import encode
from contracts.limits import LIST_ITEMS
from orchestrator.merging import Unmergeable, merged
from tests.orchestrator.test_compiler import codes, plan_of


def of(how: str, key: str = "", **outputs: Any) -> Any:
    raw = {node: Raw(encode(output)) for node, output in outputs.items()}
    return msgspec.json.decode(encode(merged(raw, how, key)))


@pytest.mark.parametrize(
    ("how", "key", "a", "b", "expected"),
    [
        ("object", "", 1, "two", {"a": 1, "b": "two"}),
        ("list", "", 1, "two", [1, "two"]),
        ("append", "", [1, 2], [3], [1, 2, 3]),
        ("append", "", [], [], []),
        ("by_position", "", [{"x": 1}, {"x": 2}], [{"y": 3}], [{"x": 1, "y": 3}, {"x": 2}]),
        ("by_position", "", [{"x": 1}], [{"x": 2}], [{"x": 2}]),
        (
            "by_key",
            "id",
            [{"id": 1, "x": "a"}, {"id": 2, "x": "b"}],
            [{"id": 2, "y": "c"}, {"id": 3, "y": "d"}],
            [{"id": 1, "x": "a"}, {"id": 2, "x": "b", "y": "c"}, {"id": 3, "y": "d"}],
        ),
        ("by_key", "id", [{"id": 1.0}], [{"id": 1, "y": 2}], [{"id": 1, "y": 2}]),
        (
            "by_key",
            "id",
            [{"id": {"a": 1, "b": 2}}],
            [{"id": {"b": 2, "a": 1}, "y": 2}],
            [{"id": {"b": 2, "a": 1}, "y": 2}],
        ),
        ("by_key", "id", [{"id": "1"}], [{"id": 1}], [{"id": "1"}, {"id": 1}]),
    ],
)
def test_branches_become_one_value(how: str, key: str, a: Any, b: Any, expected: Any) -> None:
    assert of(how, key, a=a, b=b) == expected


@pytest.mark.parametrize(
    ("how", "a", "words"),
    [
        ("append", {"n": 1}, "What a gave is no list."),
        ("append", [0] * (LIST_ITEMS + 1), "more than"),
        ("by_position", [1], "An item of a list is no object."),
        ("by_key", ["x"], "An item of a list is no object."),
        ("by_key", [{"other": 1}], "An item has no field id."),
    ],
)
def test_what_does_not_fit_is_told(how: str, a: Any, words: str) -> None:
    with pytest.raises(Unmergeable, match=words):
        of(how, "id", a=a, b=[])


def test_a_field_that_cannot_be_read_is_told() -> None:
    with pytest.raises(Unmergeable, match="cannot be read"):
        merged({"a": Raw(b'[{"id": 1e400}]')}, "by_key", "id")


def test_joining_by_a_field_needs_its_name() -> None:
    nodes = [{"id": "start", "type": "noop"}, {"id": "join", "type": "merge", "config": {"output": "by_key"}}]
    edges = [{"source": "start", "target": "join"}]
    assert codes({"nodes": nodes, "edges": edges}) == [("workflow.bad_config", "/nodes/1/config/key")]
    nodes[1]["config"] = {"output": "by_key", "key": "id"}  # type: ignore[assignment]  # An object among texts.
    plan_of({"nodes": nodes, "edges": edges})
