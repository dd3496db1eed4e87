"""How an attempt stands is read from the history alone."""

from typing import Literal

import pytest
from msgspec import Raw

from chassis.ports import Stored
from chassis.standing import standing_of
from contracts.codec import Malformed
from contracts.errors import Failure
from contracts.payloads import NULL, Inline
from contracts.runs import (
    AttemptDoubted,
    AttemptFailed,
    DoubtResolved,
    RunCancelled,
    RunContinued,
    RunEvent,
    RunReopened,
    RunStopping,
    StepReported,
    StepSucceeded,
    WaitOpened,
)
from contracts.subjects import run
from tests.executor.fakes import ORG, RUN, START, STEP, MemoryLog, scheduled, simulated, task

_WRONG = Failure(code="refused", message="")
_ELSEWHERE = StepReported(step="other", attempt=1, output=NULL)
_WAIT = WaitOpened(wait="retry:other", kind="retry", due=START)
_FAILED = AttemptFailed(step=STEP, attempt=1, error=_WRONG)


def _seam(attempts: dict[str, int], *, stopping: bool = False) -> RunContinued:
    """A new segment, before which these attempts were under way."""
    return RunContinued(
        segment=2, events=9, opening=1, stopping=stopping, attempts=attempts, state=Inline(value=Raw(b"{}"))
    )


@pytest.mark.parametrize(
    ("history", "attempt", "standing"),
    [
        ([], 1, "closed"),
        ([[_ELSEWHERE]], 1, "closed"),
        ([[scheduled()]], 1, "open"),
        ([[scheduled()], [_ELSEWHERE]], 1, "open"),
        ([[scheduled()]], 2, "closed"),
        ([[scheduled(), _WAIT], [_WAIT]], 1, "open"),
        ([[scheduled(), scheduled(step="other")], [_ELSEWHERE]], 1, "open"),
        ([[scheduled()], [_FAILED]], 1, "closed"),
        ([[scheduled()], [_FAILED, scheduled(2)]], 1, "closed"),
        ([[scheduled()], [_FAILED, scheduled(2)]], 2, "open"),
        ([[scheduled()], [_FAILED, scheduled(2)], [_ELSEWHERE]], 1, "closed"),
        (
            [
                [scheduled()],
                [StepReported(step=STEP, attempt=1, output=NULL), StepSucceeded(step=STEP, node="call")],
            ],
            1,
            "closed",
        ),
        ([[scheduled()], [AttemptDoubted(step=STEP, attempt=1, error=_WRONG)]], 1, "closed"),
        (
            [
                [scheduled()],
                [DoubtResolved(step=STEP, attempt=1, resolution="retry", by="key:1"), scheduled(2)],
            ],
            2,
            "open",
        ),
        ([[scheduled()], [RunStopping(outcome="cancelled")]], 1, "stopping"),
        ([[scheduled(), RunStopping(outcome="cancelled")]], 1, "stopping"),
        ([[scheduled()], [RunStopping(outcome="cancelled")], [RunCancelled()]], 1, "closed"),
        (
            [[scheduled()], [RunCancelled()], [RunReopened(by="key:1", steps=(STEP,)), scheduled(2)]],
            2,
            "open",
        ),
        ([[scheduled()], [_seam({STEP: 1}), _ELSEWHERE]], 1, "open"),
        ([[scheduled()], [_seam({STEP: 1}, stopping=True), _ELSEWHERE]], 1, "stopping"),
        ([[scheduled()], [_seam({STEP: 2}), _ELSEWHERE]], 1, "closed"),
        ([[scheduled()], [_seam({}), _ELSEWHERE]], 1, "closed"),
        ([[_seam({STEP: 1}), _ELSEWHERE], [_FAILED]], 1, "closed"),
    ],
)
def test_an_attempt_is_open_until_the_history_ends_it(
    history: list[list[RunEvent]], attempt: int, standing: Literal["open", "stopping", "closed"]
) -> None:
    log = MemoryLog()
    for events in history:
        log.commit(*events)

    assert simulated(standing_of(task(attempt=attempt), log)) == standing


def test_the_newest_commit_spares_the_reading_of_all_when_it_says_enough() -> None:
    log = MemoryLog()
    log.commit(_ELSEWHERE)
    log.commit(scheduled())

    assert simulated(standing_of(task(), log)) == "open"
    assert log.reads == 1


def test_a_long_history_is_read_from_its_newest_segment() -> None:
    log = MemoryLog()
    log.commit(scheduled())
    log.commit(_seam({STEP: 1}), _ELSEWHERE)
    log.commit(_ELSEWHERE)
    log.stored[0] = Stored(run(ORG, RUN), 1, b"not even read")
    log.stored[2] = Stored(run(ORG, RUN), 3, log.stored[2].body, {"Run-Seam": "1-2"})

    assert simulated(standing_of(task(), log)) == "open"


@pytest.mark.parametrize("hint", ["1-3", "2-2", "1-", "x", "1-1"])
def test_a_hint_that_leads_nowhere_is_not_believed(hint: str) -> None:
    log = MemoryLog()
    log.commit(scheduled())
    log.commit(_ELSEWHERE)
    log.commit(_ELSEWHERE)
    log.stored[2] = Stored(run(ORG, RUN), 3, log.stored[2].body, {"Run-Seam": hint})

    assert simulated(standing_of(task(), log)) == "open"


def test_a_history_of_which_only_its_end_is_left_is_closed() -> None:
    log = MemoryLog()
    log.stored.append(Stored(run(ORG, RUN), 9, b"whatever it says", {"Run-Ended": "1"}))

    assert simulated(standing_of(task(), log)) == "closed"


def test_events_of_a_newer_release_do_not_disturb() -> None:
    log = MemoryLog()
    log.commit(scheduled())
    body = log.stored[0].body.replace(
        b'"events":[', b'"events":[{"type":"step.dreamt","schema_version":3,"dream":[1]},'
    )
    log.stored[0] = Stored(log.stored[0].subject, 1, body)

    assert simulated(standing_of(task(), log)) == "open"


def test_a_damaged_history_is_told() -> None:
    log = MemoryLog()
    log.stored.append(Stored(run(ORG, RUN), 1, b'{"events": 7'))

    with pytest.raises(Malformed):
        simulated(standing_of(task(), log))
