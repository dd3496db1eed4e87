"""What is told of a node's ports: kinds and names of what came, for each port, and never a value."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import Raw

from chassis.archive import Lying
from contracts.codec import encode
from contracts.payloads import Inline, Payload
from contracts.runs import Cause, DoubtResolved, RunEvent, RunStarted, StepReported, StepSucceeded
from gateway.pages import Page
from gateway.ports.inference import NAMES, Shape
from gateway.ports.store import EVENTS_OF_A_RUN, VALUE_BYTES, VALUES_OF_A_PORT, Ports
from gateway.rejected import Rejected, absent
from tests.gateway.fakes import MemoryBlobs, commit_of


def schema_of(*values: Any) -> dict[str, Any]:
    shape = Shape()
    for value in values:
        shape.see(value)
    return shape.schema()


@pytest.mark.parametrize(
    ("values", "schema"),
    [
        ([], {}),
        ([None], {"type": "null"}),
        ([True, False], {"type": "boolean"}),
        ([1, 2], {"type": "integer"}),
        ([1, 2.5], {"type": "number"}),
        (["a", 1], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (["2026-11-21", "2026-01-01"], {"type": "string", "format": "date"}),
        (["2026-11-21T12:00:00Z"], {"type": "string", "format": "date-time"}),
        (["2026-11-21", "soon"], {"type": "string"}),
        (["ada@example.org"], {"type": "string", "format": "email"}),
        (["https://example.org/a"], {"type": "string", "format": "uri"}),
        (["x" * 5_000], {"type": "string"}),
        ([[]], {"type": "array"}),
        ([[1], ["a"]], {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}),
        ([{}], {"type": "object"}),
        (
            [{"a": 1, "b": None}, {"a": 2}],
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "null"}},
                "required": ["a"],
            },
        ),
        ([{"$sealed": "v1|…"}], {"type": "object", "x-sealed": True}),
        ([{"blob": {"sha256": "ab", "size": 5}}], {"type": "object", "x-file": True}),
    ],
)
def test_a_schema_fits_what_was_seen(values: Sequence[Any], schema: dict[str, Any]) -> None:
    assert schema_of(*values) == schema


def test_names_that_are_data_are_not_told() -> None:
    table = {f"person-{number}@example.org": number for number in range(NAMES + 1)}
    assert schema_of({"a": 1}, table) == {"type": "object", "additionalProperties": {"type": "integer"}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@given(st.lists(json_values, min_size=1, max_size=5))
def test_every_value_that_was_seen_fits_whatever_it_was(values: list[Any]) -> None:
    schema = schema_of(*values)
    Draft202012Validator.check_schema(schema)
    for value in values:
        Draft202012Validator(schema).validate(value)
    assert schema_of(*values) == schema


# --- Looking through runs ---------------------------------------------------------------------


class Row:
    def __init__(self, run: str) -> None:
        self.id = run


class Newest:
    """The runs of one workflow, and its history."""

    def __init__(self, *histories: Sequence[RunEvent]) -> None:
        self.histories = histories
        self.blobs = MemoryBlobs()
        self.asked = 0

    async def get(self, org: str, workflow: str) -> None:
        if (org, workflow) != ("org", "flow"):
            raise absent("workflow")

    async def list(self, org: str, wanted: Any, _cursor: None, limit: int) -> Page[Any]:
        assert (org, wanted.workflow) == ("org", "flow")
        return Page(items=[Row(str(number)) for number in range(len(self.histories))][:limit])

    async def pages(self, org: str, run: str) -> AsyncIterator[Sequence[Lying]]:
        self.asked += 1
        yield [Lying(1, 1, 1, encode(commit_of(org, run, self.histories[int(run)])), 0)]

    async def told(self, runs: int = 10, org: str = "org") -> Any:
        return await Ports(self, self, self, self.blobs).of(org, "flow", runs)  # type: ignore[arg-type]  # As much of them as it uses.


def value(of: Any) -> Inline:
    return Inline(value=Raw(encode(of)))


def begun(body: Any) -> RunStarted:
    return RunStarted(
        plan="ab" * 32,
        workflow="flow",
        version=1,
        receipt="r",
        cause=Cause(kind="api"),
        input=value({"body": body}),
    )


def done(path: str, output: Payload, *ports: str) -> list[RunEvent]:
    node = path.rpartition(".")[2]
    return [
        StepReported(step=path, attempt=1, output=output, ports=ports),
        StepSucceeded(step=path, node=node, ports=ports),
    ]


async def test_each_port_has_a_schema_of_what_came_by_it() -> None:
    newest = Newest(
        [
            begun({"n": 1}),
            *done("fetch", value({"rows": [1]}), "main"),
            StepSucceeded(step="check", node="check", ports=("true",), output=value({"ok": True})),
            *done("each[0].send", value("2026-11-21"), "main"),
            *done("each[1].send", value("2026-11-22"), "main"),
        ],
        [
            begun({"n": 2.5}),
            *done("fetch", value({"rows": [], "next": None}), "main", "other"),
            StepSucceeded(step="check", node="check", ports=("false",), output=value({"ok": False})),
            DoubtResolved(step="pay", attempt=1, resolution="done", output=value(7), by="key:1"),
            StepSucceeded(step="pay", node="pay"),
        ],
    )
    told = await newest.told()
    assert (told.runs, told.left_out) == (2, 0)
    assert told.trigger.schema["properties"]["body"]["properties"]["n"] == {"type": "number"}
    ports = {each.node: each.ports for each in told.nodes}
    assert {node: sorted(names) for node, names in ports.items()} == {
        "check": ["false", "true"],
        "fetch": ["main", "other"],
        "pay": ["main"],
        "send": ["main"],
    }
    assert ports["fetch"]["main"].seen == 2
    assert ports["fetch"]["main"].schema["required"] == ["rows"]
    assert ports["fetch"]["other"].schema["required"] == ["rows", "next"]
    assert (ports["send"]["main"].seen, ports["send"]["main"].schema["format"]) == (2, "date")
    assert "2026-11-2" not in json.dumps(str(told))


async def test_only_so_many_runs_values_and_bytes_are_looked_at() -> None:
    many = [
        event
        for number in range(VALUES_OF_A_PORT + 3)
        for event in done(f"each[{number}].a", value(1), "main")
    ]
    large = done("b", value("x" * VALUE_BYTES), "main")
    newest = Newest([begun(1), *many, *large], [begun(2)], [begun(3)])
    told = await newest.told(runs=2)
    assert (told.runs, newest.asked, told.left_out) == (2, 2, 4)
    ports = {each.node: each.ports["main"] for each in told.nodes}
    assert (ports["a"].seen, ports["b"].seen, ports["b"].schema) == (VALUES_OF_A_PORT, 0, {})
    assert len(many) < EVENTS_OF_A_RUN


async def test_a_value_that_is_gone_is_left_out() -> None:
    newest = Newest([begun(1), *done("a", await MemoryBlobs().put(b"[1]"), "main")])
    with pytest.raises(KeyError):
        await newest.blobs.get(await MemoryBlobs().put(b"[1]"))
    told = await newest.told()
    assert told.left_out == 1


async def test_another_orgs_workflow_is_nowhere() -> None:
    with pytest.raises(Rejected, match="no such workflow"):
        await Newest().told(org="other")
