"""Thousands of runs that want something at one moment, as after a start: so much at a time, each thing once, and all of them are served."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from msgspec import structs

from chassis.ports import Away
from contracts.codec import encode, encode_bundle
from contracts.limits import PARTITIONS
from contracts.messages import Look
from contracts.subjects import partition
from orchestrator import put_off
from orchestrator.tray import A_CYCLE, AT_ONCE
from tests.orchestrator.rooms import Room
from tests.orchestrator.stories import drawn

RUNS = [f"run-{number}" for number in range(1_200)]


def herd(story: Callable[[Room], Coroutine[Any, Any, None]]) -> None:
    """A room in which nobody is held: every run asks for its step at once."""
    room = Room(drawn("a"))
    room.window = 2 * len(RUNS)
    room.play(story)


class Counted:
    """How many are in the middle of a slow act at the most, and how often it was begun."""

    def __init__(self, act: Callable[..., Awaitable[Any]], seconds: float) -> None:
        self.act, self.seconds = act, seconds
        self.now = self.most = self.times = 0

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.now, self.times = self.now + 1, self.times + 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            return await self.act(*arguments, **named)
        finally:
            self.now -= 1


def slowed(of: Any, name: str, seconds: float = 0.05) -> Counted:
    counted = Counted(getattr(of, name), seconds)
    vars(of)[name] = counted
    return counted


async def begun(room: Room) -> None:
    """All runs are in the middle of their only step."""
    for number in range(PARTITIONS):
        starts = [encode(structs.replace(room.start, run=run)) for run in RUNS if partition(run) == number]
        await room.inbox.put(number, encode_bundle(starts))
    await until(lambda: len(room.tasks.tasks) == len(RUNS))


async def until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.1)


async def looked_at(room: Room) -> None:
    """All of them are looked at, and every look is answered."""
    for number in range(PARTITIONS):
        looks = [encode(Look(org="org", run=run)) for run in RUNS if partition(run) == number]
        await room.inbox.put(number, encode_bundle(looks))
    await until(lambda: not any(room.inbox.letters))


def test_so_many_histories_are_read_at_a_time() -> None:
    @herd
    async def story(room: Room) -> None:
        await begun(room)
        for run in RUNS:
            room.service._memory.drop(run)
        read = slowed(room.log, "history")
        await looked_at(room)
        assert read.times == len(RUNS)
        assert 1 < read.most <= AT_ONCE


def test_so_many_runs_are_looked_after_at_a_time() -> None:
    @herd
    async def story(room: Room) -> None:
        await begun(room)
        asked = slowed(room.tasks, "waiting")
        room.tasks.tasks.clear()
        await looked_at(room)
        assert asked.times == len(RUNS)
        assert 1 < asked.most <= AT_ONCE
        await until(lambda: len(room.tasks.tasks) == len(RUNS))


def test_a_plan_that_all_of_them_need_is_fetched_once() -> None:
    @herd
    async def story(room: Room) -> None:
        fetched = slowed(room.blobs, "get", 0.5)
        await begun(room)
        assert fetched.times == 1


def test_a_plan_that_could_not_be_fetched_is_fetched_again() -> None:
    @herd
    async def story(room: Room) -> None:
        get, failures = room.blobs.get, iter([Away("in this test")] * 3)

        async def failing(*arguments: Any) -> Any:
            for failure in failures:
                raise failure
            return await get(*arguments)

        vars(room.blobs)["get"] = failing
        await begun(room)


def test_a_cycle_decides_on_so_many_and_the_next_one_on_the_others() -> None:
    @herd
    async def story(room: Room) -> None:
        sizes: list[int] = []
        append = room.log.append

        async def appending(proposals: Any) -> Any:
            sizes.append(len(proposals))
            return await append(proposals)

        vars(room.log)["append"] = appending
        blobs = slowed(room.blobs, "get", 5.0)  # Until all of them wait for the plan.
        await begun(room)
        assert blobs.times == 1
        assert max(sizes) == A_CYCLE
        assert sum(sizes) == len(RUNS)


def test_nobody_insists_on_what_came_before_a_partition_was_taken_over() -> None:
    """It comes again: else each take-over would have everything looked after once more beside what is under way."""

    @herd
    async def story(room: Room) -> None:
        await begun(room)
        asked: Counter[int] = Counter()
        waiting, away, term = room.tasks.waiting, True, 0

        async def failing(subjects: Any) -> Any:
            if away:
                asked[term] += 1
                raise Away("in this test")
            return await waiting(subjects)

        vars(room.tasks)["waiting"] = failing
        runs = [run for run in RUNS if partition(run) == partition("run-1")]
        looks = encode_bundle([encode(Look(org="org", run=run)) for run in runs])
        await room.inbox.put(partition("run-1"), looks)
        for number in range(4):
            term = number
            await asyncio.sleep(12)  # Longer than any pause: each was asked for at least twice.
            await room.ownership.forget()
        away = False
        await until(lambda: not any(room.inbox.letters))
        assert asked[0] >= 2 * len(runs)
        assert max(asked.values()) < 1.5 * asked[0], asked


def test_thousands_that_wait_for_one_server_are_told_in_one_line_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[dict[str, Any]] = []

    class Heard:
        def warning(self, event: str, **said: Any) -> None:
            lines.append({"event": event, **said})

    monkeypatch.setattr(put_off, "log", Heard())

    @herd
    async def story(room: Room) -> None:
        await begun(room)
        waiting = room.tasks.waiting
        failures = 0

        async def failing(_subjects: Any) -> Any:
            nonlocal failures
            failures += 1
            raise Away("in this test")

        vars(room.tasks)["waiting"] = failing
        put = asyncio.create_task(looked_at(room))
        await asyncio.sleep(8)
        vars(room.tasks)["waiting"] = waiting
        await put
        assert failures > len(RUNS)
        assert 2 <= len(lines) <= 12
        assert sum(1 + line["others"] for line in lines) <= failures
        assert {(line["event"], line["reason"]) for line in lines} == {("answer.postponed", "in this test")}
