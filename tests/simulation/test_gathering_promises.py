"""What is wrong where starts are gathered is found, and what is right is not."""

from typing import Any

from msgspec import Raw

from contracts.codec import encode
from contracts.gates import Batch, Debounce, GateLimit, SlotRefusal, SlotWanted
from contracts.payloads import Inline
from contracts.runs import RunCancelled, RunCompleted, RunEvent, SlotRefused, SlotTaken, WaitOpened
from orchestrator.standing_for import BatchInput
from tests.orchestrator.stories import STARTED, scheduled
from tests.promises.evidence import History
from tests.promises.gathering import every_start_is_done_once
from tests.simulation.test_gate_promises import history
from tests.simulation.test_promises import well

ROWS = SlotWanted(gate="gate", name="rows", bounds=GateLimit(batch=Batch(size=3, seconds=1)))
BURST = SlotWanted(gate="gate", name="burst", bounds=GateLimit(debounce=Debounce(seconds=1)))


def stood(run: str, *events: RunEvent, at: SlotWanted = ROWS) -> History:
    opened = WaitOpened(wait="slot:1:1", kind="slot", slot=at)
    return history(run, (0, (STARTED, opened)), (1, (*events, RunCompleted())))


def stands_for(*runs: str, body: bytes = b'{"n":1}') -> SlotTaken:
    batch = BatchInput(body=[Raw(body)] * len(runs), runs=list(runs))
    return SlotTaken(wait="slot:1:1", gate="gate", input=Inline(value=Raw(encode(batch))))


def replaced(why: SlotRefusal, by: str) -> tuple[Any, ...]:
    return SlotRefused(wait="slot:1:1", gate="gate", why=why, by=by), RunCancelled()


def found_in(*histories: History) -> list[str]:
    return [violation.what for violation in every_start_is_done_once(well(), histories)]


def test_a_batch_in_which_each_is_once_is_well() -> None:
    a, b = stood("a", stands_for("a", "b"), scheduled("a")), stood("b", *replaced("gathered", "a"))
    assert found_in(a, b) == []


def test_a_start_that_is_in_no_batch_or_in_two_is_found() -> None:
    lost = stood("b", *replaced("gathered", "a"))
    [what] = found_in(stood("a", stands_for("a")), lost)
    assert "does not have what started it" in what
    [what] = found_in(stood("a", stands_for("a", "b")), stood("c", stands_for("c", "b")), lost)
    assert "2 runs stand for it" in what


def test_a_start_that_is_in_a_batch_and_let_in_by_itself_is_found() -> None:
    found = found_in(stood("a", stands_for("a", "b")), stood("b", stands_for("b")))
    assert any("let in by itself" in what for what in found)


def test_a_batch_with_something_else_than_what_started_one_of_it_is_found() -> None:
    lost = stood("b", *replaced("gathered", "a"))
    found = found_in(stood("a", stands_for("a", "b", body=b'{"n":2}')), lost)
    assert found == [f"its batch has something else than what started run {run}" for run in ("a", "b")]


def test_a_run_that_stands_for_others_alone_is_found() -> None:
    [what] = found_in(stood("a", stands_for("b")))
    assert "not for itself" in what


def test_a_start_that_nobody_supersedes_is_found() -> None:
    a, b = stood("a", *replaced("superseded", "b"), at=BURST), stood("b", at=BURST)
    assert found_in(a, b) == []
    [what] = found_in(a)
    assert "never stood at gate" in what
    [what] = found_in(stood("c", *replaced("superseded", "b"), at=BURST), b)
    assert "is not newer" in what
