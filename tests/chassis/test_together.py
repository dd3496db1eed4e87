"""What is asked together: in one call, each with its own answer, and nobody waits for ever."""

import asyncio
from collections.abc import Sequence

import pytest

from chassis.ports import Ambiguous, Away
from chassis.together import Together


class Counter:
    """Doubles what it is given; a round that is held waits for its gate."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.held: dict[int, asyncio.Event] = {}
        self.away = False

    async def double(self, numbers: Sequence[int]) -> list[int]:
        self.rounds.append(list(numbers))
        gate = self.held.get(len(self.rounds))
        await (gate.wait() if gate is not None else asyncio.sleep(0.001))
        if self.away:
            raise Away("nobody is there")
        return [2 * number for number in numbers]


async def ask_all(together: Together[int, int], numbers: Sequence[int]) -> list[int | Exception]:
    async def one(number: int) -> int | Exception:
        try:
            return await together.ask(number)
        except Exception as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in numbers]
    return [task.result() for task in tasks]


async def test_what_comes_while_a_round_is_under_way_goes_in_the_next_one_together() -> None:
    counter = Counter()
    together = Together(counter.double, 4)
    assert await ask_all(together, range(10)) == [2 * number for number in range(10)]
    assert sum(map(len, counter.rounds)) == 10
    assert max(map(len, counter.rounds)) <= 4
    assert len(counter.rounds) <= 4


async def test_one_alone_waits_for_nobody() -> None:
    counter = Counter()
    assert await Together(counter.double, 4).ask(3) == 6
    assert counter.rounds == [[3]]


async def test_an_error_is_told_to_all_who_were_in_the_round_and_to_no_other() -> None:
    counter = Counter()
    together = Together(counter.double, 3)
    counter.away = True
    assert all(isinstance(answer, Away) for answer in await ask_all(together, range(3)))
    counter.away = False
    assert await ask_all(together, range(2)) == [0, 2]


async def test_who_is_cancelled_while_waiting_takes_nothing_from_the_others() -> None:
    counter = Counter()
    counter.held[1] = asyncio.Event()
    together = Together(counter.double, 10)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(together.ask(1))
        await asyncio.sleep(0.01)
        gone = group.create_task(together.ask(2))
        other = group.create_task(together.ask(3))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        counter.held[1].set()
    assert (first.result(), other.result()) == (2, 6)


async def test_whose_question_went_along_with_one_who_was_cancelled_is_told_that_nobody_knows() -> None:
    counter = Counter()
    counter.held = {1: asyncio.Event(), 2: asyncio.Event()}
    together = Together(counter.double, 10)
    async with asyncio.TaskGroup() as group:
        group.create_task(together.ask(0))
        await asyncio.sleep(0.01)
        leading = group.create_task(together.ask(1))
        along = group.create_task(ask_all(together, [2]))
        await asyncio.sleep(0.01)
        counter.held[1].set()
        await asyncio.sleep(0.01)
        assert counter.rounds == [[0], [1, 2]]
        leading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leading
        later = group.create_task(together.ask(3))
    [answer] = along.result()
    assert isinstance(answer, Ambiguous)
    assert later.result() == 6
