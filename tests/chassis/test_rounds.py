"""One round serves all who asked before it began, and nobody who came later."""

import asyncio

import pytest

from chassis.ports import Away
from chassis.rounds import Rounds


class Slow:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.end = asyncio.Event()
        self.failing = False

    async def work(self) -> None:
        self.begun += 1
        await self.end.wait()
        if self.failing:
            raise Away("in this test")


async def test_thousands_who_ask_at_once_cost_two_rounds() -> None:
    slow = Slow()
    rounds = Rounds(slow.work)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(rounds.one())
        await asyncio.sleep(0)
        asked = [group.create_task(rounds.one()) for _ in range(2_000)]
        await asyncio.sleep(0)
        assert (slow.begun, first.done()) == (1, False)
        slow.end.set()
    assert all(task.done() for task in asked)
    assert slow.begun == 2, "the round that had begun before they came says nothing to them"


async def test_who_comes_after_a_round_has_begun_waits_for_the_next() -> None:
    slow = Slow()
    rounds = Rounds(slow.work)
    slow.end.set()
    await rounds.one()
    await rounds.one()
    assert slow.begun == 2


async def test_a_round_that_failed_has_failed_for_all_that_it_was_for_and_the_next_is_a_new_one() -> None:
    slow = Slow()
    rounds = Rounds(slow.work)
    asked = [asyncio.create_task(rounds.one()) for _ in range(3)]
    await asyncio.sleep(0)
    asked += [asyncio.create_task(rounds.one()) for _ in range(50)]
    await asyncio.sleep(0)
    slow.failing = True
    slow.end.set()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(each, Away) for each in told)
    assert slow.begun <= 3
    slow.failing = False
    await rounds.one()


async def test_who_gives_up_in_the_middle_of_a_round_leaves_it_to_the_others() -> None:
    slow = Slow()
    rounds = Rounds(slow.work)
    leads, follows = asyncio.create_task(rounds.one()), asyncio.create_task(rounds.one())
    await asyncio.sleep(0)
    leads.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leads
    slow.end.set()
    async with asyncio.timeout(10):
        await follows
    assert slow.begun == 2
