"""What the orchestrator looks at before it asks for an attempt again: nobody holds it, and nobody has said that it is over."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec import structs

from contracts.codec import encode, encode_bundle
from contracts.limits import PARTITIONS
from contracts.messages import Look
from contracts.subjects import partition
from tests.orchestrator.rooms import Room, told
from tests.orchestrator.stories import TO, done, drawn, signal


def slowly(act: Callable[..., Awaitable[Any]], seconds: float) -> Callable[..., Awaitable[Any]]:
    async def acting(*arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(seconds)
        return await act(*arguments, **named)

    return acting


def asked_for(room: Room) -> list[str]:
    """The subjects of the tasks that are emitted from here on."""
    emitted: list[str] = []
    vars(room.tasks)["emit"] = lambda _pool, subject, _body: emitted.append(subject)
    return emitted


@pytest.mark.parametrize("where", ["behind another append", "in its own append", "beside its history"])
def test_an_attempt_is_not_asked_for_again_while_its_outcome_waits_to_be_decided(where: str) -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        emitted = asked_for(room)
        room.tasks.tasks.clear()  # It is done: somebody is about to say so.
        vars(room.tasks)["waiting"] = slowly(room.tasks.waiting, 1.0)
        looks = [Look(**TO)]
        if where == "beside its history":
            vars(room.log)["history"] = slowly(room.log.history, 3.0)
        else:
            vars(room.log)["append"] = slowly(room.log.append, 3.0)
        async with asyncio.TaskGroup() as group:
            if where == "behind another append":
                group.create_task(room.say(*looks, structs.replace(room.start, run="run-2")))
            else:
                group.create_task(room.say(*looks))
            await asyncio.sleep(0.3)
            if where == "beside its history":
                room.service._memory.drop("run-1")
            group.create_task(room.say(done("a")))
        assert room.events[-1] == "run.completed"
        assert [subject for subject in emitted if "run-1" in subject] == []


def test_an_attempt_is_not_asked_for_again_when_it_was_done_while_somebody_looked() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        emitted, waiting, deliver = asked_for(room), room.tasks.waiting, room.inbox._deliver
        loop = room.world.loop
        vars(room.inbox)["_deliver"] = lambda number, letter: loop.call_in("", 1.0, deliver, number, letter)

        async def asking(subjects: Sequence[str]) -> set[str]:
            """An executor finds no owner, says it to INBOX, and acknowledges its task."""
            await room.inbox.put(partition("run-1"), encode_bundle([encode(done("a"))]))
            room.tasks.tasks.clear()
            return await waiting(subjects)

        vars(room.tasks)["waiting"] = asking
        await room.say(Look(**TO))
        await asyncio.sleep(2)
        assert room.events[-1] == "run.completed"
        assert emitted == []


def test_an_attempt_that_an_executor_holds_is_not_asked_for_again_though_it_ends_at_that_moment() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        emitted, waiting = asked_for(room), room.tasks.waiting
        await room.say(Look(**TO))
        assert emitted == []

        async def asking(subjects: Sequence[str]) -> set[str]:
            """It is done as soon as it was seen to lie there, and INBOX is slow."""
            lying = await waiting(subjects)
            room.tasks.tasks.clear()
            return lying

        vars(room.tasks)["waiting"] = asking
        await room.say(Look(**TO))
        assert emitted == []
        await room.say(done("a"))
        assert room.events[-1] == "run.completed"


def test_what_an_earlier_owner_never_emitted_is_emitted_also_when_a_start_comes_again_beside_something_new() -> (
    None
):
    @told(drawn("a>c b>c"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        room.tasks.tasks.clear()
        room.service._memory.drop("run-1")
        [outcome, again] = await room.say(done("a"), room.start)
        assert (outcome.result, again.result) == ("accepted", "accepted")
        assert room.events.count("step.reported") == 1
        assert [subject.split(".")[3] for subject in room.tasks.tasks] == ["run-1"]


def test_what_an_earlier_owner_never_emitted_is_emitted_also_when_its_cause_comes_again_beside_something_new() -> (
    None
):
    @told(drawn("a>b"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(done("a"))
        room.tasks.tasks.clear()
        room.service._memory.drop("run-1")
        [outcome, early] = await room.say(done("a"), signal("paid"))
        assert (outcome.result, early.result) == ("nothing", "accepted")
        assert room.events.count("step.reported") == 1
        assert room.events[-1] == "signal.received"
        assert [subject.split(".")[3] for subject in room.tasks.tasks] == ["run-1"]


def test_what_was_emitted_before_a_take_over_may_be_lost_with_the_servers_and_is_looked_for() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        emitted = asked_for(room)
        await room.say(room.start)
        assert emitted == [], "we emitted it ourselves, and nobody has taken over since"
        room.tasks.tasks.clear()  # TASKS is not synced.
        room.world.restart_servers(1.0)
        await asyncio.sleep(5)
        assert room.service.counts["taken_over"] == 2 * PARTITIONS
        [again] = await room.say(room.start)
        assert again.result == "accepted"
        assert len(emitted) == 1, "its sender did not hear the answer: nobody has to wait for a sweep"
