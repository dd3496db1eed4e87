"""Every event type ever released decodes for ever."""

import json
from pathlib import Path

import msgspec
import pytest

from chassis.testing.examples import MOMENT, examples
from contracts.codec import (
    decode_commit,
    decode_domain_commit,
    decode_gate_commit,
    decode_schedule_commit,
    encode,
)
from contracts.reference import every_event
from contracts.upcasts import CURRENT

GOLDEN = Path(__file__).parent / "golden"
FRAME = {
    "id": "c0ffee00-0000-5000-8000-000000000001",
    "org": "org_default",
    "version": 1,
    "time": MOMENT.isoformat(),
    "actor": "system",
    "causation_id": "cause",
    "correlation_id": "receipt",
    "engine_version": "0.1.0",
    "key_id": "",
    "prev_hash": "",
}
AGGREGATE_OF = {
    str(kind.__struct_config__.tag): aggregate for aggregate, kinds in every_event().items() for kind in kinds
}


def decode_one(aggregate: str, event: bytes) -> object:
    if aggregate == "schedule":
        frame = dict(FRAME) | {"schedule": "s1", "state": {}}
        return decode_schedule_commit(encode(frame | {"events": [msgspec.Raw(event)]})).events[0]
    if aggregate == "gate":
        frame = dict(FRAME) | {"gate": "g1", "state": {}}
        return decode_gate_commit(encode(frame | {"events": [msgspec.Raw(event)]})).events[0]
    frame = dict(FRAME) | (
        {"run": "r1"} if aggregate == "run" else {"aggregate": aggregate, "aggregate_id": "a1"}
    )
    body = encode(frame | {"events": [msgspec.Raw(event)]})
    commit = decode_commit(body) if aggregate == "run" else decode_domain_commit(body, aggregate)
    return commit.events[0]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_golden_event_decodes_and_keeps_every_value(path: Path) -> None:
    stored = path.read_bytes()
    kind = json.loads(stored)["type"]
    event = decode_one(AGGREGATE_OF[kind], stored)
    again = json.loads(encode(event))
    if json.loads(stored)["schema_version"] == CURRENT.get(kind, 1):
        assert {name: again[name] for name in json.loads(stored)} == json.loads(stored)
    assert again["schema_version"] == CURRENT.get(kind, 1)


@pytest.mark.parametrize("kind", sorted(AGGREGATE_OF))
def test_every_version_of_every_event_type_has_a_golden_file(kind: str) -> None:
    for version in range(1, CURRENT.get(kind, 1) + 1):
        path = GOLDEN / f"{kind}.{version}.json"
        assert path.exists(), f"write {path.name} once: {encode(examples()[kind]).decode()}"


def test_no_golden_file_is_of_an_event_type_that_was_taken_away() -> None:
    assert {path.name.rsplit(".", 2)[0] for path in GOLDEN.glob("*.json")} == set(AGGREGATE_OF)
