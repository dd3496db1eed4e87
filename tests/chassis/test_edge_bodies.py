"""What a request's body may be."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from chassis.edge.bodies import BodyDecoder, Gone, read_body
from chassis.edge.choices import MOST
from chassis.edge.problems import Problem
from contracts.limits import API_BODY_BYTES, JSON_DEPTH, JSON_KEYS


class Inner(Struct, frozen=True, kw_only=True, tag_field="kind", tag="inner"):
    size: int = 0


class Command(Struct, frozen=True, kw_only=True):
    name: str
    config: dict[str, Any] = {}
    parts: tuple[Inner, ...] = ()
    input: Raw = Raw(b"null")


class Disc(Struct, frozen=True, kw_only=True, tag_field="kind", tag="disc"):
    colour: Literal["red", "blue"] = "red"


class Square(Struct, frozen=True, kw_only=True, tag_field="kind", tag="square"):
    colour: Literal["green", 7] = "green"
    corners: dict[str, Literal["round", "sharp"]] = {}


class Drawing(Struct, frozen=True, kw_only=True):
    shapes: list[Disc | Square] = []
    frame: Disc | Square | None = None


decode = BodyDecoder(Command)
drawn = BodyDecoder(Drawing)


def refusal(data: bytes) -> Problem:
    with pytest.raises(Problem) as raised:
        decode(data)
    assert raised.value.code == "malformed"
    assert raised.value.status == 400
    return raised.value


def pointer(data: bytes) -> str:
    problem = refusal(data)
    return problem.errors[0].pointer


def test_a_command_is_decoded_whole() -> None:
    command = decode(b'{"name":"a","config":{"x":[1,{"y":null}]},"parts":[{"kind":"inner","size":2}]}')
    assert command == Command(name="a", config={"x": [1, {"y": None}]}, parts=(Inner(size=2),))


def test_unknown_fields_are_refused_at_any_depth() -> None:
    assert pointer(b'{"name":"a","role":"admin"}') == "/role"
    assert pointer(b'{"name":"a","parts":[{"kind":"inner"},{"kind":"inner","is_admin":true}]}') == (
        "/parts/1/is_admin"
    )


def test_an_unknown_key_is_named_as_a_json_pointer() -> None:
    assert pointer(b'{"name":"a","a/b~c":1}') == "/a~1b~0c"


def test_free_maps_take_any_key() -> None:
    assert decode(b'{"name":"a","config":{"anything":1}}').config == {"anything": 1}


def test_nul_is_refused_in_texts_and_keys_but_not_in_what_is_opaque() -> None:
    assert pointer(rb'{"name":"a\u0000"}') == "/name"
    assert pointer(rb'{"name":"a","config":{"x":{"y":["\u0000"]}}}') == "/config/x/y/0"
    assert pointer(rb'{"name":"a","config":{"x\u0000":1}}') == "/config"
    assert decode(rb'{"name":"a","input":"\u0000"}').input == Raw(rb'"\u0000"')


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert decode(rb'{"name":"a\\u0000"}').name == r"a\u0000"


def test_numbers_beyond_64_bits_are_refused() -> None:
    assert pointer(b'{"name":"a","config":{"n":' + b"9" * 300 + b"}}") == "/config/n"
    assert decode(b'{"name":"a","config":{"n":9223372036854775807}}').config == {"n": 2**63 - 1}


@pytest.mark.parametrize("depth", [JSON_DEPTH + 1, 5_000, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    refusal(b'{"name":"a","input":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}")


def test_the_deepest_nesting_allowed_is_taken() -> None:
    opaque = b"[" * (JSON_DEPTH - 1) + b"]" * (JSON_DEPTH - 1)
    assert decode(b'{"name":"a","input":' + opaque + b"}").input == Raw(opaque)


def test_an_object_has_a_bounded_number_of_keys() -> None:
    def body(keys: int) -> bytes:
        return b'{"name":"a","config":{' + b",".join(b'"k%d":0' % n for n in range(keys)) + b"}}"

    assert len(decode(body(JSON_KEYS)).config) == JSON_KEYS
    assert pointer(body(JSON_KEYS + 1)) == "/config"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b'{"name":1}', b'{"name":"\xff"}', rb'{"name":"\ud800"}', b'{"name":"a"} x']
)
def test_what_is_not_the_command_is_malformed(data: bytes) -> None:
    refusal(data)


def test_a_complaint_does_not_quote_the_body() -> None:
    problem = refusal(b'{"name":{"secret":"hunter2"}}')
    assert "hunter2" not in str(problem.errors)
    assert problem.__cause__ is None


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_problem(data: bytes) -> None:
    try:
        decode(data)
    except Problem as problem:
        assert problem.status == 400  # noqa: PT017  # A whole value is right as well.


# --- Reading ----------------------------------------------------------------------------------


class Client:
    """Sends the parts it is given, then whatever it is told to end with."""

    def __init__(self, *parts: bytes, ending: str = "end") -> None:
        self._parts = self._say(parts, ending)

    async def _say(self, parts: tuple[bytes, ...], ending: str) -> AsyncIterator[MutableMapping[str, Any]]:
        for part in parts:
            yield {"type": "http.request", "body": part, "more_body": True}
        match ending:
            case "end":
                yield {"type": "http.request", "body": b"", "more_body": False}
            case "leave":
                yield {"type": "http.disconnect"}
            case "silence":
                await asyncio.Event().wait()

    async def __call__(self) -> MutableMapping[str, Any]:
        return await anext(self._parts)


async def test_a_body_comes_in_parts() -> None:
    assert await read_body(Client(b"a", b"b"), None) == b"ab"


async def test_a_length_that_is_too_large_is_refused_before_a_byte_is_read() -> None:
    with pytest.raises(Problem) as raised:
        await read_body(Client(ending="silence"), b"%d" % (API_BODY_BYTES + 1))
    assert (raised.value.code, raised.value.headers) == ("too_large", {"connection": "close"})


@pytest.mark.parametrize("size", [9, 10])
async def test_a_body_within_the_bound_is_taken(size: int) -> None:
    assert len(await read_body(Client(b"x" * size), b"%d" % size, limit=10)) == size


async def test_a_body_that_grows_beyond_the_bound_is_refused() -> None:
    with pytest.raises(Problem, match="10 bytes"):
        await read_body(Client(b"123456", b"78901"), None, limit=10)


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"+5", b"9" * 5_000, "٣".encode()])
async def test_a_length_that_is_no_number_is_malformed(length: bytes) -> None:
    with pytest.raises(Problem) as raised:
        await read_body(Client(), length)
    assert raised.value.code == "malformed"


async def test_a_body_that_does_not_end_in_time_is_refused() -> None:
    with pytest.raises(Problem) as raised:
        await read_body(Client(b"a", ending="silence"), None, seconds=0.01)
    assert (raised.value.status, raised.value.headers) == (408, {"connection": "close"})


async def test_a_client_that_leaves_is_not_answered() -> None:
    with pytest.raises(Gone):
        await read_body(Client(b"a", ending="leave"), None)


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ('{"frame":{"kind":"disc","colour":"pink"}}', "/frame/colour", "'pink'; it may be blue, red"),
        ('{"shapes":[{"kind":"disc"},{"kind":"square","colour":"red"}]}', "/shapes/1/colour", "'red'; it may be 7, green"),
        ('{"shapes":[{"kind":"ring"}]}', "/shapes/0/kind", "'ring'; it may be disc, square"),
        ('{"frame":{"kind":"square","corners":{"a":"odd"}}}', "/frame/corners/*", "'odd'; it may be round, sharp"),
        ('{"frame":{"kind":"disc","colour":"pink"},"shapes":[{"kind"', "/frame/colour", "'pink'"),
    ],
)  # fmt: skip
def test_who_sends_none_of_few_values_is_told_them(body: str, place: str, message: str) -> None:
    with pytest.raises(Problem) as raised:
        drawn(body.encode())
    complaint = raised.value.errors[0]
    assert (complaint.pointer, complaint.message.partition("value ")[2]) == (place, message)


def test_long_lists_are_not_told() -> None:
    many = msgspec.defstruct("Many", [("one", Literal[*map(str, range(MOST + 1))])])
    with pytest.raises(Problem) as raised:
        BodyDecoder(many)(b'{"one":"x"}')
    assert raised.value.errors[0].message == "Invalid enum value 'x'"
