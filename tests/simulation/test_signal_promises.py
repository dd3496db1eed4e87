"""What is wrong about signals in a history is found, and what is right is not."""

from datetime import UTC, datetime

import pytest
from msgspec import Raw, structs

from chassis.ports import Stored
from contracts.codec import encode
from contracts.commits import Commit
from contracts.payloads import Inline
from contracts.runs import (
    RunEvent,
    RunParked,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepSucceeded,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from tests.orchestrator.stories import REFUSED, STARTED
from tests.promises.evidence import Evidence, History, Said
from tests.promises.signals import what_was_said_counts_once, what_was_said_is_heard
from tests.simulation.test_promises import well

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FIVE, SIX = Inline(value=Raw(b"5")), Inline(value=Raw(b"6"))
ASKS = WaitOpened(wait="signal:ask", kind="signal", step="ask", signal="paid")
PAID = SignalReceived(signal="paid", key="a", by="key:1", body=FIVE, step="ask")
EARLY = structs.replace(PAID, step=None)
ASKS_INSIDE = structs.replace(ASKS, wait="signal:each[0].ask", step="each[0].ask")
FAILED_BESIDE = StepFailed(step="each[1].a", node="a", error=REFUSED, handled=False)
WENT_ON = StepSucceeded(step="ask", node="ask", output=FIVE)


def told(*events: RunEvent) -> History:
    commit = Commit[RunEvent](
        id="c",
        org="org",
        run="run-1",
        version=1,
        events=(STARTED, *events),
        time=NOON,
        actor="system",
        causation_id="",
        correlation_id="",
        engine_version="",
        key_id="",
        prev_hash="",
    )
    stored = Stored(sequence=1, subject="run.org.run-1", body=encode(commit), headers={}, time=0.0)
    return History("org", "run-1", [stored])


def found(*events: RunEvent) -> list[str]:
    return [violation.what for violation in what_was_said_is_heard(well(), [told(*events)])]


@pytest.mark.parametrize(
    "events",
    [
        (ASKS, PAID, WENT_ON),
        (EARLY, ASKS, WENT_ON),
        (ASKS, PAID, RunParked(reason="no code")),
        (ASKS, PAID, StepCancelled(step="ask", node="ask")),
        (ASKS, WaitDropped(wait="signal:ask"), StepCancelled(step="ask", node="ask"), EARLY),
        (ASKS, WaitEnded(wait="signal:ask"), structs.replace(WENT_ON, ports=("timeout",)), EARLY),
        (structs.replace(EARLY, signal="other"), ASKS, PAID, WENT_ON),
        (ASKS_INSIDE, FAILED_BESIDE, EARLY, WaitDropped(wait="signal:each[0].ask")),
    ],
)
def test_what_is_right_is_not_found(events: tuple[RunEvent, ...]) -> None:
    assert found(*events) == []


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((ASKS, EARLY), "paid was for nobody, not for ask"),
        ((ASKS, FAILED_BESIDE, EARLY), "paid was for nobody, not for ask"),
        ((ASKS_INSIDE, EARLY), "paid was for nobody, not for each[0].ask"),
        (
            (ASKS_INSIDE, structs.replace(FAILED_BESIDE, handled=True), EARLY),
            "paid was for nobody, not for each[0].ask",
        ),
        ((PAID,), "paid was for ask, not for nobody"),
        ((ASKS, structs.replace(PAID, signal="other"), WENT_ON), "other was for ask, not for nobody"),
        ((EARLY, ASKS), "ask was told paid, and nothing followed"),
        ((ASKS, PAID, WaitEnded(wait="signal:ask"), WENT_ON), "ran out of time after it had been heard"),
        ((ASKS, PAID, structs.replace(WENT_ON, ports=("timeout",))), "went on with something else"),
        ((ASKS, PAID, structs.replace(WENT_ON, output=SIX)), "went on with something else"),
        ((ASKS, WENT_ON), "nobody had said what it waits for"),
    ],
)
def test_what_is_wrong_is_found(events: tuple[RunEvent, ...], words: str) -> None:
    assert any(words in each for each in found(*events)), found(*events)


def test_a_signal_that_counts_twice_or_is_not_there_is_found() -> None:
    def judged(evidence: Evidence, *events: RunEvent) -> list[str]:
        return [violation.what for violation in what_was_said_counts_once(evidence, [told(*events)])]

    assert judged(well(), ASKS, PAID, WENT_ON) == []
    assert judged(well(), PAID, PAID) == ["signal a was recorded 2 times"]
    said = structs.replace(well(), said=[Said(run="run-1", key="a", result="accepted")])
    assert judged(said, ASKS, PAID, WENT_ON) == []
    assert judged(said) == ["signal a was accepted, and is not there"]
