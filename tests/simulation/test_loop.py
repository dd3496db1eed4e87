"""The rules of the simulated loop: what a process is, how it dies, and that one seed is one schedule."""

import asyncio
import random
from typing import Any

import pytest

from chassis.testing.lives import current
from chassis.testing.loop import Deadlock, SimulatedLoop, TooLong


def looped(seed: int = 1) -> SimulatedLoop:
    return SimulatedLoop(random.Random(seed))  # type: ignore[abstract]  # What asyncio never asks of it stays away.


def played(seed: int) -> list[tuple[str, int]]:
    """The order in which three processes of three tasks each did their steps; one of them dies on the way."""
    loop, said = looped(seed), list[tuple[str, int]]()

    async def step(number: int) -> None:
        for _ in range(5):
            await asyncio.sleep(0.01 * number)
            said.append((current().name, number))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.Event().wait()

    async def process() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(step(number))

    mains = [loop.spawn(f"p{number}", process()) for number in range(3)]
    loop.call_in("", 0.02, loop.kill, "p1")
    loop.run_until(lambda: mains[0].done() and mains[2].done(), steps=10_000, seconds=100)
    loop.close()
    return said


def test_one_seed_is_one_schedule_and_another_seed_is_another() -> None:
    assert played(1) == played(1)
    assert len({tuple(played(seed)) for seed in range(10)}) == 10


def test_time_passes_only_when_nobody_can_go_on_and_then_at_once() -> None:
    loop = looped()

    async def sleeper() -> None:
        await asyncio.sleep(3_600)

    main = loop.spawn("sleeper", sleeper())
    loop.run_until(main.done, steps=100, seconds=4_000)
    assert loop.time() == 3_600


def test_a_killed_process_runs_no_further_line_and_its_name_can_live_again() -> None:
    loop, said = looped(), list[str]()

    async def process(name: str) -> None:
        try:
            await asyncio.sleep(1)
            said.append(name)
        finally:
            said.append(f"{name} ends")

    loop.spawn("p", process("first"))
    loop.call_in("", 0.5, loop.kill, "p")
    loop.call_in("", 0.6, lambda: loop.spawn("p", process("second")))
    loop.run_until(lambda: loop.time() > 5 or len(said) == 2, steps=100, seconds=10)
    assert said == ["second", "second ends"]
    loop.close()
    assert said == ["second", "second ends", "first ends"], "only when all is over is it unwound"


def test_a_paused_process_goes_on_later_as_if_nothing_had_happened() -> None:
    loop, said = looped(), list[float]()
    happenings: list[str] = []

    async def process() -> None:
        current().watchers.append(happenings.append)
        for _ in range(3):
            await asyncio.sleep(1)
            said.append(loop.time())

    main = loop.spawn("p", process())
    loop.call_in("", 1.5, loop.pause, "p", 10.0)
    loop.run_until(main.done, steps=100, seconds=100)
    assert said == [1.0, 11.5, 12.5]
    assert happenings == ["paused", "resumed"]


def test_what_a_process_raises_ends_the_schedule() -> None:
    loop = looped()

    async def process() -> None:
        await asyncio.sleep(1)
        raise ValueError("a defect")

    loop.spawn("p", process())
    with pytest.raises(ValueError, match="a defect"):
        loop.run_until(lambda: False, steps=100, seconds=100)
    loop.close()


def test_a_callback_that_raises_ends_the_schedule() -> None:
    loop = looped()
    loop.call_in("", 1.0, [].pop)
    with pytest.raises(IndexError):
        loop.run_until(lambda: False, steps=100, seconds=100)


def test_bounds_are_kept() -> None:
    loop = looped()

    async def busy() -> None:
        while True:
            await asyncio.sleep(1)

    loop.spawn("p", busy())
    with pytest.raises(TooLong, match="steps"):
        loop.run_until(lambda: False, steps=50, seconds=10_000)
    with pytest.raises(TooLong):
        loop.run_until(lambda: False, steps=10_000, seconds=100)
    loop.close()


def test_nobody_to_go_on_and_no_timer_is_a_deadlock() -> None:
    loop = looped()

    async def stuck() -> Any:
        await asyncio.Event().wait()

    loop.spawn("p", stuck())
    with pytest.raises(Deadlock):
        loop.run_until(lambda: False, steps=50, seconds=10_000)
    loop.close()
