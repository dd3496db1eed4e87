"""What a node returns is made fit for every store, or refused."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from contracts.codec import decode_json
from contracts.limits import BLOB_BYTES
from executor.errors import StepError
from executor.outputs import Binary, pack


class Thing(Struct):
    size: float


@pytest.mark.parametrize(
    ("output", "body"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, True, None, "ä"]}, '{"a":[1,2.5,true,null,"ä"]}'.encode()),
        (
            Raw(b'{ "a" : 1.10, "b": 12345678901234567890123 }'),
            b'{ "a" : 1.10, "b": 12345678901234567890123 }',
        ),
        ({"a": Raw(b"1.10")}, b'{"a":1.10}'),
        (10**300, str(10**300).encode()),
        (Thing(1.5), b'{"size":1.5}'),
        (datetime(2026, 1, 1, tzinfo=UTC), b'"2026-01-01T00:00:00Z"'),
        (Decimal("1.10"), b'"1.10"'),
        ({"a": "x\ud800y"}, '{"a":"x\ufffdy"}'.encode()),
        ("\ud83d\ude00", '"😀"'.encode()),
        ({"\udfff": ["\ud800"]}, '{"\ufffd":["\ufffd"]}'.encode()),
        ([{"a": None, "b": Thing(0.0)}], b'[{"a":null,"b":{"size":0.0}}]'),
    ],
)
def test_what_json_can_say_is_kept(output: Any, body: bytes) -> None:
    assert pack(output).body == body


@pytest.mark.parametrize(
    "output",
    [
        float("nan"),
        {"a": [float("inf")]},
        {"a": None, "b": Thing(float("-inf"))},
        object(),
        {"a": object()},
        {1: object()},
        Raw(b""),
        Raw(b"{"),
        Raw(b"nan"),
        Raw(b'"\xff"'),
        Raw(b'"\\ud800"'),
        {"a": Raw(b"1,2")},
    ],
)
def test_what_json_cannot_say_is_refused(output: Any) -> None:
    with pytest.raises(StepError) as refused:
        pack(output)

    assert refused.value.code == "attempt.crashed"
    assert not refused.value.retryable


@pytest.mark.parametrize("depth", [65, 5_000, 100_000])
def test_depth_is_bounded(depth: int) -> None:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]

    for output in (deep, Raw(b"[" * depth + b"]" * depth)):
        with pytest.raises(StepError) as refused:
            pack(output)
        assert refused.value.code == "attempt.crashed"


@pytest.mark.parametrize("output", ["x" * BLOB_BYTES, {"file": Binary(b"x" * (BLOB_BYTES + 1))}])
def test_size_is_bounded(output: Any) -> None:
    with pytest.raises(StepError) as refused:
        pack(output)

    assert refused.value.code == "payload.too_large"


def test_bytes_are_named_by_their_hash() -> None:
    packed = pack({"files": [Binary(b"one", "text/plain"), Binary(b"one")]})

    assert [binary.data for binary in packed.binaries] == [b"one", b"one"]
    first, _ = decode_json(packed.body)["files"]
    assert first == {
        "blob": {
            "in": "blob",
            "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
            "size": 3,
            "content_type": "text/plain",
        }
    }


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=20,
)


@given(_json)
def test_whatever_a_node_returns_is_stored_as_readable_json_or_refused(output: Any) -> None:
    try:
        body = pack(output).body
    except StepError:
        return
    decode_json(body)
