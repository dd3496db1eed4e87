"""What the codec promises about bytes from anywhere."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.testing.examples import commit as commit_of
from chassis.testing.examples import examples
from contracts.codec import (
    Decoder,
    Malformed,
    Unknown,
    decode_bundle,
    decode_commit,
    decode_domain_commit,
    decode_message,
    depth_exceeds,
    encode,
    encode_bundle,
)
from contracts.commits import Commit
from contracts.limits import JSON_DEPTH
from contracts.messages import Look, Message, Wake
from contracts.nodes import NodeSpec
from contracts.runs import RunEvent

LOOK = Look(org="acme", run="r1")
WAKE = Wake(org="acme", run="r1", wait="delay:pause")


def commit(*events: RunEvent) -> Commit[RunEvent]:
    return commit_of(*events, org="acme", run="r1", engine_version="7.1.0")


def test_a_commit_of_every_event_survives_the_way_there_and_back() -> None:
    every = commit(*(event for tag, event in examples().items() if hasattr(type(event), "is_fact")))
    assert decode_commit(encode(every)) == every


def test_an_event_from_a_newer_release_is_unknown_and_names_the_release() -> None:
    body = encode(commit(examples()["run.completed"])).replace(b'"run.completed"', b'"run.transcended"')
    with pytest.raises(Unknown, match=r"run.transcended 1 needs release ≥ 7.1.0"):
        decode_commit(body)


def test_a_newer_version_of_a_known_event_is_unknown() -> None:
    body = encode(commit(examples()["run.completed"])).replace(b'"schema_version":1', b'"schema_version":9')
    with pytest.raises(Unknown, match=r"run.completed 9"):
        decode_commit(body)


def test_an_aggregate_from_a_newer_release_is_unknown() -> None:
    body = b'{"id":"c","org":"o","version":1,"events":[],"engine_version":"9","prev_hash":""}'
    with pytest.raises(Unknown):
        decode_domain_commit(body, "galaxy")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"null", b"[]", b"[" * 100_000, b'{"id":1}', b'"\\ud800"'],
    ids=["empty", "cut", "utf8", "null", "list", "deep", "wrong", "surrogate"],
)
def test_bytes_that_are_no_commit_are_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_commit(body)
    with pytest.raises(Malformed):
        decode_message(body)


@given(st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_make_a_decoder_raise_anything_else(body: bytes) -> None:
    for message in decode_bundle(body):
        assert isinstance(message, Message | Malformed)
    with contextlib.suppress(Malformed, Unknown):
        decode_commit(body)


def test_a_bundle_keeps_the_order_and_says_which_message_is_bad() -> None:
    body = encode_bundle([encode(LOOK), b'{"type":"nonsense"}', encode(WAKE)])
    first, bad, last = decode_bundle(body)
    assert (first, last) == (LOOK, WAKE)
    assert isinstance(bad, Malformed)


def test_a_single_message_is_a_bundle_of_one() -> None:
    assert decode_bundle(encode(LOOK)) == [LOOK]


def test_a_malformed_message_names_the_place() -> None:
    with pytest.raises(Malformed) as malformed:
        decode_message(b'{"type":"wake","org":"acme","run":"r1","wait":7}')
    assert malformed.value.pointer == "/wait"
    with pytest.raises(Malformed) as nested:
        Decoder[NodeSpec](NodeSpec)(
            b'{"type":"a","title":"t","help":"","icon":"i","category":"c","config":{},"inputs":[{"name":"NO","title":"x"}]}'
        )
    assert nested.value.pointer == "/inputs/0/name"


@pytest.mark.parametrize("hostile", ["*", ">", "a.b", "a b", "", "x" * 65, "é", "a\r\nb"])
def test_an_id_that_could_be_more_than_one_token_of_a_subject_is_refused(hostile: str) -> None:
    with pytest.raises(Malformed):
        decode_message(encode({"type": "look", "org": "acme", "run": hostile}))
    with pytest.raises(Malformed):
        decode_message(encode({"type": "look", "org": hostile, "run": "r1"}))


@pytest.mark.parametrize(("depth", "too_deep"), [(JSON_DEPTH, False), (JSON_DEPTH + 1, True)])
def test_depth_is_told_without_decoding(depth: int, too_deep: bool) -> None:
    assert depth_exceeds(b"[" * depth + b"]" * depth) is too_deep
    assert depth_exceeds(b'{"a":' * depth + b"1" + b"}" * depth) is too_deep


@given(
    st.recursive(
        st.text() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=80,
    )
)
def test_brackets_inside_strings_do_not_count(value: object) -> None:
    def depth(inner: object) -> int:
        match inner:
            case list():
                return 1 + max(map(depth, inner), default=0)
            case dict():
                return 1 + max(map(depth, inner.values()), default=0)
            case _:
                return 0

    body = json.dumps(value).encode()
    for limit in (0, 1, 2, depth(value)):
        assert depth_exceeds(body, limit) is (depth(value) > limit)


def test_integers_beyond_what_json_and_bigint_hold_are_refused() -> None:
    body = encode(commit(examples()["step.reported"])).replace(b'"took_ms":1', b'"took_ms":' + b"9" * 300)
    with pytest.raises(Malformed):
        decode_commit(body)


def test_a_commit_without_a_time_zone_is_malformed() -> None:
    body = encode(commit(examples()["run.completed"])).replace(
        b'"time":"2026-11-21T12:00:00Z"', b'"time":"2026-11-21T12:00:00"'
    )
    with pytest.raises(Malformed):
        decode_commit(body)


def test_stored_raw_values_keep_their_bytes() -> None:
    odd = b'{"big":123456789012345678901234567890,"zero":-0.0,"nul":"\\u0000","twice":1,"twice":2}'
    event = examples()["step.reported"]
    changed = msgspec.structs.replace(
        event, output=msgspec.structs.replace(event.output, value=msgspec.Raw(odd))
    )
    stored = decode_commit(encode(commit(changed))).events[0]
    assert bytes(stored.output.value) == odd  # type: ignore[union-attr]  # It is inline.
