"""What the sweeper promises: nobody who should have moved is forgotten, and nobody is pestered."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from chassis.ports import Away
from chassis.testing.clock import HandClock
from contracts.messages import Answer, CancelRun, Look, Said, ScheduleLook
from projections.figures import Figures
from projections.sweeper import AHEAD_AT_FIRST, PAGE, Key, Straggler, Sweeper, look_at_run, look_at_schedule
from tests.projections.histories import NOON, ORG


class Standing:
    """Runs that stand still, until they are told to have moved."""

    def __init__(self, *runs: Straggler) -> None:
        self.runs = sorted(runs, key=lambda each: (each.org, each.run))
        self.asked_for: list[datetime] = []

    async def due(
        self, at: datetime, after: Key | None, most: int, ahead: timedelta = timedelta()
    ) -> Sequence[Straggler]:
        self.asked_for.append(at)
        behind = [each for each in self.runs if (each.org, each.run) > (after or ("", ""))]
        return behind[:most]


class Owners:
    def __init__(self) -> None:
        self.looks: list[str] = []
        self.away = False
        self.kind: type[Said] = Look

    async def send(self, message: Said) -> Answer:
        if self.away:
            raise Away("nobody took it")
        assert isinstance(message, self.kind)
        self.looks.append(message.run)
        return Answer(run=message.run, result="nothing")

    async def run(self) -> None:
        raise NotImplementedError


def still(run: str, sequence: int = 1) -> Straggler:
    return Straggler(ORG, run, sequence)


def test_a_run_that_nobody_waits_for_is_stopped_in_its_first_opening() -> None:
    wanted, unwanted = look_at_run(still("run1")), look_at_run(structs.replace(still("run1"), unwanted=True))
    assert wanted == Look(org=ORG, run="run1")
    assert isinstance(unwanted, CancelRun)
    assert (unwanted.run, unwanted.opening, unwanted.actor) == ("run1", 1, "sweeper")


async def test_a_run_that_stands_still_is_looked_at_less_and_less_often() -> None:
    clock, owners = HandClock(NOON), Owners()
    sweeper = Sweeper(Standing(still("run1")), owners, clock, Figures())
    looked_at: list[float] = []
    for second in range(0, 1_300, 5):
        clock.moved = second
        looked_at += [second] * await sweeper.sweep()
    assert looked_at == [0, 30, 90, 210, 450, 750, 1_050]


async def test_a_run_that_moved_and_stands_again_is_looked_at_at_once() -> None:
    clock, owners, standing = HandClock(NOON), Owners(), Standing(still("run1", 1))
    sweeper = Sweeper(standing, owners, clock, Figures())
    assert await sweeper.sweep() == 1
    standing.runs = [still("run1", 2)]
    assert await sweeper.sweep() == 1
    standing.runs = []
    assert await sweeper.sweep() == 0
    standing.runs = [still("run1", 2)]
    assert await sweeper.sweep() == 1


async def test_a_look_ahead_of_a_run_s_time_is_none_for_when_its_time_has_come() -> None:
    clock, owners = HandClock(NOON), Owners()
    sweeper = Sweeper(Standing(still("run1")), owners, clock, Figures())
    assert await sweeper.sweep(ahead=AHEAD_AT_FIRST) == 1
    assert await sweeper.sweep(ahead=AHEAD_AT_FIRST) == 0
    assert await sweeper.sweep() == 1
    assert await sweeper.sweep() == 0


async def test_everybody_is_found_however_many_there_are() -> None:
    runs = [still(f"run{number:05}") for number in range(PAGE * 2 + 7)]
    clock, owners, figures = HandClock(NOON), Owners(), Figures()
    sweeper = Sweeper(Standing(*runs), owners, clock, figures)
    assert await sweeper.sweep() == len(runs)
    assert sorted(owners.looks) == [each.run for each in runs]
    assert figures.looks == len(runs)


async def test_looks_that_nobody_took_are_sent_again() -> None:
    clock, owners = HandClock(NOON), Owners()
    sweeper = Sweeper(Standing(still("run1")), owners, clock, Figures())
    owners.away = True
    with pytest.raises(Away):
        await sweeper.sweep()
    owners.away = False
    assert await sweeper.sweep() == 1


async def test_while_the_rows_are_behind_the_log_they_are_judged_by_their_own_time() -> None:
    clock, standing = HandClock(NOON), Standing()
    await Sweeper(standing, Owners(), clock, Figures(), lag=lambda: 45.0).sweep()
    assert standing.asked_for == [NOON - timedelta(seconds=45)]


async def test_a_schedule_that_is_overdue_is_looked_at_as_one() -> None:
    owners = Owners()
    owners.kind = ScheduleLook
    sweeper = Sweeper(Standing(still("trigger1")), owners, HandClock(NOON), Figures(), look=look_at_schedule)
    assert await sweeper.sweep() == 1
    assert owners.looks == ["trigger1"]
