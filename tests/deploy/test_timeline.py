"""Every event is told on one line, whatever stands in it."""

import msgspec
import pytest
from msgspec import Raw, structs

from chassis.testing.examples import MOMENT, examples
from contracts.codec import encode
from contracts.commits import Commit
from contracts.payloads import Blob, Inline
from contracts.reference import event_types
from contracts.runs import RunCancelled, RunEvent, RunStarted, SignalReceived, StepSucceeded, WaitOpened
from deploy.operator.timeline import as_json, line, numbered, preview, tag, words

EVENTS = {str(kind.__struct_config__.tag) for kind in event_types(RunEvent)}


def commit(*events: RunEvent, version: int = 1) -> Commit[RunEvent]:
    return Commit[RunEvent](
        id="c",
        org="org_default",
        run="r",
        version=version,
        events=events,
        time=MOMENT,
        actor="system",
        causation_id="",
        correlation_id="",
        engine_version="0.1.0",
        key_id="",
        prev_hash="",
    )


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_of_a_run_has_its_line(name: str) -> None:
    event = examples()[name]
    told = line(next(numbered([commit(event)])), MOMENT)
    assert name in told
    assert "\n" not in told
    if hasattr(event, "step") and event.step:
        assert event.step in told


def test_events_are_numbered_through_all_commits() -> None:
    started, succeeded = examples()["run.started"], examples()["step.succeeded"]
    history = [commit(started, succeeded), commit(succeeded, version=2)]
    assert [each.number for each in numbered(history)] == [1, 2, 3]
    assert [each.number for each in numbered(history[1:], after=2)] == [3]


def test_a_consequence_stands_behind_the_margin_of_its_fact() -> None:
    fact, consequence = numbered([commit(examples()["run.started"], examples()["step.succeeded"])])
    assert "  run.started" in line(fact, MOMENT)
    assert "    step.succeeded" in line(consequence, MOMENT)


def test_a_hostile_value_cannot_break_a_line_or_move_the_cursor() -> None:
    event = RunCancelled(reason="first\nsecond\x1b[2J\x00")
    assert words(event) == "first second [2J "


def test_a_long_value_is_cut_and_a_stored_one_is_told_by_its_hash() -> None:
    assert preview(Inline(value=Raw(b'"' + b"x" * 500 + b'"'))).endswith("x…")
    assert preview(Blob(sha256="ab" * 32, size=70_000)).startswith(
        "70000 bytes of application/json, sha256 abababab"
    )
    assert preview(None) == ""


def test_ports_are_told_when_they_are_not_the_usual_one() -> None:
    assert words(StepSucceeded(step="branch", node="branch", ports=("true",))) == "branch by true"
    assert words(StepSucceeded(step="set", node="set")) == "set"


def test_a_signal_is_told_with_who_said_it_and_whom_it_was_for() -> None:
    said = SignalReceived(signal="paid", key="k", by="key:1", body=Inline(value=Raw(b"5")), step="ask")
    assert words(said) == "paid by key:1, for ask: 5"
    assert words(structs.replace(said, step=None)) == "paid by key:1, kept: 5"
    waits = WaitOpened(wait="signal:ask", kind="signal", step="ask", signal="paid")
    assert words(waits) == "signal:ask, signal of ask, for paid"
    assert words(structs.replace(waits, due=MOMENT)).endswith(f", for paid until {MOMENT.isoformat()}")


def test_programs_get_the_whole_event() -> None:
    started: RunStarted = examples()["run.started"]
    told = msgspec.json.decode(encode(as_json(next(numbered([commit(started)])))))
    assert told["number"] == 1
    assert told["event"]["type"] == tag(started)
    assert msgspec.json.decode(msgspec.json.encode(told["event"]), type=RunStarted) == started
