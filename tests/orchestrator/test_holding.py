"""What the shell promises about attempts that are held."""

import asyncio
from typing import Any

import pytest
from msgspec import structs

from chassis.ports import Away, Lying, Stored
from contracts.messages import Look, StartRun
from contracts.subjects import partition
from contracts.workflows import Flow
from orchestrator.lanes import FIRST
from tests.orchestrator.rooms import Room, told
from tests.orchestrator.stories import CANCEL, action, done, drawn

MORE = 5


def runs(count: int) -> list[str]:
    """Of the partition that `Room.say` speaks to."""
    names = (f"run-{number}" for number in range(1, 100_000))
    mine = (name for name in names if partition(name) == partition("run-1"))
    return [next(mine) for _ in range(count)]


def starts(room: Room, count: int) -> list[StartRun]:
    return [structs.replace(room.start, run=run, receipt=f"of-{run}") for run in runs(count)]


def lying(room: Room) -> set[str]:
    """The runs that have a task in TASKS."""
    return {subject.split(".")[3] for subject in room.tasks.tasks}


async def crowded(room: Room) -> list[str]:
    """More runs than there is room for: those that are held, in their order. Executors are at work on nearly all of the others."""

    async def lying_there(_pool: str, _org: str) -> Lying:
        return Lying(unread=5, leased=len(room.tasks.tasks) - 5)

    vars(room.tasks)["lying"] = lying_there
    every = starts(room, FIRST + MORE)
    for first in range(0, len(every), 50):
        await room.say(*every[first : first + 50])
    [lane] = room.service.holding.lanes.lanes()
    held = [ticket.wanted.run for ticket in sorted(lane.ready)]
    assert set(held) == {start.run for start in every} - lying(room)
    assert len(held) == MORE
    return held


async def end(room: Room, run: str) -> None:
    """An executor takes the run's task, and says that it is done."""
    for subject in [subject for subject in room.tasks.tasks if f".{run}." in subject]:
        del room.tasks.tasks[subject]
    await room.say(structs.replace(done("a"), run=run))


def test_what_is_held_is_asked_for_as_others_end() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        for number, run in enumerate(sorted(lying(room))[:3]):
            await end(room, run)
            await asyncio.sleep(0.5)
            assert set(held[: number + 1]) <= lying(room)


def test_what_is_held_is_no_longer_asked_for_when_its_run_was_cancelled() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        await room.say(structs.replace(CANCEL, run=held[0]))
        for run in sorted(lying(room))[:MORE]:
            await end(room, run)
        await asyncio.sleep(4)
        assert held[0] not in lying(room)
        assert set(held[1:]) <= lying(room)
        assert room.service.holding.lanes.names == 0


def test_a_look_does_not_ask_for_what_is_held() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        await room.say(*(Look(org="org", run=run) for run in held))
        assert not set(held) & lying(room)


def test_what_was_committed_by_another_owner_meanwhile_is_read_before_it_is_asked_for() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        loads, load = [], room.service._sources.load

        async def counted(org: str, run: str, **more: Any) -> Any:
            loads.append(run)
            return await load(org, run, **more)

        vars(room.service._sources)["load"] = counted
        last = room.log.last

        async def later(subjects: Any) -> dict[str, Stored]:
            """Somebody has added to it."""
            return {
                name: structs.replace(found, sequence=found.sequence + 1)
                for name, found in (await last(subjects)).items()
            }

        vars(room.log)["last"] = later
        for run in sorted(lying(room))[:1]:
            await end(room, run)
        await asyncio.sleep(0.5)
        assert held[0] in loads
        assert held[0] in lying(room)


def test_what_is_not_remembered_any_more_is_read_and_asked_for() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        for run in held:
            room.service._memory.drop(run)
        for run in sorted(lying(room))[:MORE]:
            await end(room, run)
        await asyncio.sleep(0.5)
        assert set(held) <= lying(room)


def test_while_the_log_cannot_be_asked_nothing_is_sent_and_nothing_is_lost() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        last = room.log.last

        async def away(_subjects: Any) -> dict[str, Stored]:
            raise Away("for a while")

        vars(room.log)["last"] = away
        await end(room, min(lying(room)))
        await asyncio.sleep(1)
        assert not set(held) & lying(room)
        vars(room.log)["last"] = last
        await asyncio.sleep(1)
        assert held[0] in lying(room)


def test_a_history_that_nobody_can_read_holds_nobody_else_up() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        room.service._memory.drop(held[0])
        load = room.service._sources.load

        async def broken(org: str, run: str, **more: Any) -> Any:
            if run == held[0]:
                raise RuntimeError("a defect of ours")
            return await load(org, run, **more)

        vars(room.service._sources)["load"] = broken
        for run in sorted(lying(room))[:2]:
            await end(room, run)
        await asyncio.sleep(1)
        assert held[0] not in lying(room)
        assert held[1] in lying(room)


def test_what_is_paused_is_held_and_goes_on_when_it_is_taken_up() -> None:
    @told(drawn("a>b"))
    async def story(room: Room) -> None:
        holding = room.service.holding
        holding.lanes.pause("org", frozenset({("workflow", "flow")}))
        [answer] = await room.say(room.start)
        assert answer.result == "accepted"
        assert (room.events, lying(room)) == (["run.started", "attempt.scheduled"], set())
        holding.lanes.pause("org", frozenset())
        holding.stir()
        await asyncio.sleep(0.5)
        assert lying(room) == {"run-1"}
        holding.lanes.pause("org", frozenset({("workflow", "flow")}))
        await end(room, "run-1")
        assert room.events[-1] == "attempt.scheduled", "what was under way counts, and what follows is held"
        assert lying(room) == set()


def test_an_owner_that_hands_over_says_what_it_held() -> None:
    room = Room(drawn("a"))

    async def story(room: Room) -> None:
        held = await crowded(room)
        before = {letter.number for letter in room.inbox.letters[partition("run-1")].values()}
        await room.service._ownership.release()
        await asyncio.sleep(1)
        bodies = [
            letter.body
            for letter in room.inbox.letters[partition("run-1")].values()
            if letter.number not in before
        ]
        assert all(any(run.encode() in body for body in bodies) for run in held)

    room.play(story)


def test_what_was_held_before_a_take_over_is_found_again_by_who_takes_over() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        room.tasks.tasks.clear()  # TASKS is not synced.
        room.world.restart_servers(0.5)
        await asyncio.sleep(10)
        assert set(held) <= lying(room), "their owner was told to look at them"


def test_the_held_lanes_are_told() -> None:
    @told(drawn("a", action("a", pool="gpu")))
    async def story(room: Room) -> None:
        await crowded(room)
        [lane] = room.service.holding.told()
        assert (lane.org, lane.pool, lane.waiting, lane.paused, lane.out) == ("org", "gpu", MORE, 0, FIRST)


@pytest.mark.parametrize(
    ("flow", "rank"),
    [
        (None, 4),
        (Flow(), 4),
        (Flow(priority=9), 0),
        (Flow(priority=0), 9),
        (Flow(priority="an expression"), 2),
    ],
)
def test_a_run_has_the_priority_of_its_version_or_its_own(flow: Flow | None, rank: int) -> None:
    @told(structs.replace(drawn("a"), flow=flow))
    async def story(room: Room) -> None:
        await crowded(room)
        [lane] = room.service.holding.lanes.lanes()
        assert {ticket.wanted.rank for ticket in lane.ready} == {rank}


def test_a_task_says_which_attempt_it_is_however_long_it_was_held() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        held = await crowded(room)
        await end(room, min(lying(room)))
        await asyncio.sleep(0.5)
        [task] = [task for name, task in room.tasks.tasks.items() if held[0] in name]
        assert b'"attempt":1' in task.body
