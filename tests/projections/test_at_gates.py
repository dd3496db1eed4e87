"""At which gates a run is, as its row tells it."""

import json
from datetime import timedelta
from typing import Any

from contracts.errors import Failure
from contracts.gates import GateLimit, Rate, SlotWanted
from contracts.runs import (
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunReopened,
    SlotRefused,
    SlotTaken,
    WaitDropped,
    WaitOpened,
)
from projections.rows import RunRow
from tests.projections.histories import NOON, started
from tests.projections.test_runs import told

ONE, RATE = GateLimit(at_once=1), GateLimit(rate=Rate(count=1, seconds=5))


def stands(number: int = 1, bounds: GateLimit = ONE, opening: int = 1) -> WaitOpened:
    slot = SlotWanted(gate=f"gate-{number}", name=f"limit-{number}", key="ada", bounds=bounds, rank=4)
    return WaitOpened(wait=f"slot:{opening}:{number}", kind="slot", slot=slot)


def taken(number: int = 1) -> SlotTaken:
    return SlotTaken(wait=f"slot:1:{number}", gate=f"gate-{number}")


def places(run: RunRow) -> list[tuple[Any, ...]]:
    found = json.loads(run.gates) if run.gates else []
    return [(each["gate"], each["inside"], each["since"]) for each in found]


def at(seconds: int) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def test_it_waits_and_then_it_is_inside() -> None:
    run, _ = await told((started(), stands()))
    assert places(run) == [("gate-1", False, at(0))]
    [place] = json.loads(run.gates)
    assert (place["name"], place["key"], place["rank"], place["bounds"]) == (
        "limit-1",
        "ada",
        4,
        {"at_once": 1},
    )
    run, _ = await told((started(), stands()), (taken(), stands(2)))
    assert places(run) == [("gate-1", True, at(1)), ("gate-2", False, at(1))]
    run, _ = await told((started(), stands()), (taken(), stands(2)), (taken(2),))
    assert places(run) == [("gate-1", True, at(1)), ("gate-2", True, at(2))]


async def test_nobody_stays_behind_a_gate_that_has_a_rate_alone() -> None:
    run, _ = await told((started(), stands(1, RATE)), (taken(), stands(2)))
    assert places(run) == [("gate-2", False, at(1))]


async def test_its_end_is_the_end_of_all_its_places() -> None:
    failed = RunFailed(error=Failure(code="no", message="No."))
    for end in (RunCompleted(), failed, RunCancelled()):
        run, _ = await told((started(), stands()), (taken(), stands(2)), (end,))
        assert run.gates == ""
    run, _ = await told(
        (started(), stands()), (failed,), (RunReopened(by="key:1", steps=()), stands(1, opening=2))
    )
    assert places(run) == [("gate-1", False, at(2))]


async def test_who_is_turned_away_or_gives_up_waits_no_longer() -> None:
    refused = SlotRefused(wait="slot:1:2", gate="gate-2", why="full")
    for gone in (refused, WaitDropped(wait="slot:1:2")):
        run, _ = await told((started(), stands()), (taken(), stands(2)), (gone,))
        assert places(run) == [("gate-1", True, at(1))]
        assert run.waits == "[]"
