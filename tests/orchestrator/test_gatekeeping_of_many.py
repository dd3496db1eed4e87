"""Gates that gather starts, among real shells: nothing is lost and nothing done twice, whatever gets lost and whoever is killed."""

import asyncio
import json
from typing import Any

import pytest
from msgspec import Raw, structs

from contracts.gates import Batch, Debounce, FlowLimit
from contracts.messages import AskSlot, FreeSlot, GiveSlot, Look, RefuseSlot, RetryRun
from contracts.payloads import Blob, Inline
from tests.orchestrator.stories import CANCEL, broken
from tests.orchestrator.test_gatekeeping import NAMES, Hall, hall

QUIET = FlowLimit(name="burst", debounce=Debounce(seconds=4, at_most=30))
THREE = FlowLimit(name="rows", batch=Batch(size=3, seconds=20))


async def begin(room: Hall, *names: str) -> None:
    """Each with a body of its own: its place among them."""
    for name in names:
        given = Inline(value=Raw(b'{"body":{"n":%d}}' % NAMES.index(name)))
        assert await room.tell(structs.replace(room.start, run=name, input=given)) == "accepted"


def bodies(room: Hall, name: str) -> list[Any]:
    """What a run has as its body, whoever it stands for."""
    started_with = room.state(name).input
    raw = room.blobs.kept[started_with.sha256] if isinstance(started_with, Blob) else started_with.value
    found: list[Any] = [each["n"] for each in json.loads(bytes(raw))["body"]]
    return found


def replaced(room: Hall, name: str) -> bool:
    return room.state(name).status == "cancelled"


def test_of_a_burst_the_newest_goes_on() -> None:
    @hall(QUIET)
    async def story(room: Hall) -> None:
        await begin(room, *NAMES[:3])
        assert room.inside == []
        await asyncio.sleep(5)
        assert room.inside == [NAMES[2]]
        assert [room.state(name).status for name in NAMES[:2]] == ["cancelled"] * 2
        assert NAMES[1] in room.state(NAMES[0]).cancel.reason  # type: ignore[union-attr]  # It was.
        await asyncio.sleep(5)
        await begin(room, NAMES[3])
        await asyncio.sleep(5)
        assert room.inside == [NAMES[2], NAMES[3]]


def test_a_burst_goes_on_after_a_kill() -> None:
    @hall(FlowLimit(name="burst", debounce=Debounce(seconds=10)))
    async def story(room: Hall) -> None:
        await begin(room, *NAMES[:3])
        room.world.loop.kill("orchestrator")
        await asyncio.sleep(3)
        room.world.loop.spawn("orchestrator", room.orchestrator())
        await asyncio.sleep(13)
        assert room.inside == [NAMES[2]], "INBOX has its wake-up, and GATES its name"
        for name in NAMES[:2]:
            assert replaced(room, name)


def test_the_words_of_a_burst_may_get_lost() -> None:
    @hall(QUIET)
    async def story(room: Hall) -> None:
        room.dispatch.lose = (RefuseSlot, GiveSlot)
        await begin(room, *NAMES[:2])
        await asyncio.sleep(6)
        room.dispatch.lose = ()
        await asyncio.sleep(6)
        assert room.inside == [NAMES[1]]
        assert replaced(room, NAMES[0])
        assert room.granted == 1


def test_a_run_that_was_superseded_may_be_opened_again_and_passes() -> None:
    @hall(QUIET)
    async def story(room: Hall) -> None:
        await begin(room, *NAMES[:2])
        await asyncio.sleep(5)
        await room.tell(RetryRun(org="org", run=NAMES[0], actor="key:1"))
        assert room.inside == NAMES[:2]


def test_one_run_stands_for_its_batch() -> None:
    @hall(THREE)
    async def story(room: Hall) -> None:
        await begin(room, *NAMES[:3])
        await asyncio.sleep(1)
        assert room.inside == NAMES[:1]
        assert bodies(room, NAMES[0]) == [0, 1, 2]
        assert replaced(room, NAMES[1])
        assert replaced(room, NAMES[2])
        await asyncio.sleep(6)
        assert room.keeper.names == 0
        await begin(room, *NAMES[3:5])
        await asyncio.sleep(21)
        assert room.inside == [NAMES[0], NAMES[3]]
        assert bodies(room, NAMES[3]) == [3, 4]


def test_alone_it_stands_for_itself_in_a_list() -> None:
    @hall(THREE)
    async def story(room: Hall) -> None:
        await begin(room, NAMES[0])
        await asyncio.sleep(21)
        assert bodies(room, NAMES[0]) == [0]


def test_a_large_batch_lies_apart() -> None:
    @hall(THREE)
    async def story(room: Hall) -> None:
        for number, name in enumerate(NAMES[:3]):
            given = Inline(value=Raw(b'{"body":{"n":%d,"x":"%s"}}' % (number, b"y" * 40_000)))
            await room.tell(structs.replace(room.start, run=name, input=given))
        await asyncio.sleep(1)
        assert isinstance(room.state(NAMES[0]).input, Blob)
        assert bodies(room, NAMES[0]) == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 40_000])
def test_a_question_that_comes_late_takes_nobody_along(size: int) -> None:
    """It is of a run that stands for a batch already, whether what that has lies in its history or apart."""

    @hall(THREE)
    async def story(room: Hall) -> None:
        for number, name in enumerate(NAMES[:3]):
            given = Inline(value=Raw(b'{"body":{"n":%d,"x":"%s"}}' % (number, b"y" * size)))
            await room.tell(structs.replace(room.start, run=name, input=given))
        await asyncio.sleep(7)
        late = next(each for each in room.dispatch.said if isinstance(each, AskSlot))
        assert (late.holder, room.keeper.names) == (NAMES[0], 0)
        assert await room.tell(late) == "accepted"
        await begin(room, *NAMES[3:5])
        await asyncio.sleep(45)
        assert room.inside == [NAMES[0], NAMES[3]]
        assert (bodies(room, NAMES[0]), bodies(room, NAMES[3])) == ([0, 1, 2], [3, 4])


def test_the_words_of_a_batch_may_get_lost() -> None:
    for lost in ((GiveSlot,), (RefuseSlot,), (FreeSlot,), (GiveSlot, RefuseSlot, FreeSlot)):

        @hall(THREE)
        async def story(room: Hall, lost: tuple[type, ...] = lost) -> None:
            room.dispatch.lose = lost
            await begin(room, *NAMES[:3])
            await asyncio.sleep(7)
            room.dispatch.lose = ()
            await asyncio.sleep(14)
            assert room.inside == NAMES[:1]
            assert bodies(room, NAMES[0]) == [0, 1, 2]
            assert replaced(room, NAMES[1])
            assert replaced(room, NAMES[2])


def test_a_batch_goes_on_after_a_kill_at_any_moment() -> None:
    for moment in (0.01, 0.3, 0.6, 1.0, 1.5, 3.0):

        @hall(THREE)
        async def story(room: Hall, moment: float = moment) -> None:
            await begin(room, *NAMES[:2])
            room.world.loop.spawn("last", begin(room, NAMES[2]))
            await asyncio.sleep(moment)
            room.world.loop.kill("orchestrator")
            await asyncio.sleep(3)
            room.world.loop.spawn("orchestrator", room.orchestrator())
            await asyncio.sleep(3)
            for name in NAMES[:3]:  # As the sweeper does.
                await room.tell(Look(org="org", run=name))
            await asyncio.sleep(30)
            begun = [name for name in NAMES[:3] if room.state(name).opening]
            inside = [name for name in begun if room.state(name).attempts]
            stand_for = [n for name in inside for n in bodies(room, name)]
            assert sorted(stand_for) == list(range(len(begun))), "each once"
            assert sum(replaced(room, name) for name in begun) == len(begun) - len(inside)


def test_if_the_one_that_should_stand_for_them_is_cancelled_another_does() -> None:
    @hall(THREE)
    async def story(room: Hall) -> None:
        room.dispatch.lose = (GiveSlot,)
        await begin(room, *NAMES[:3])
        await room.tell(structs.replace(CANCEL, run=NAMES[0]))
        room.dispatch.lose = ()
        await asyncio.sleep(30)
        assert room.inside == [NAMES[1]]
        assert bodies(room, NAMES[1]) == [1, 2]


def test_whoever_was_cancelled_meanwhile_is_not_in_the_batch() -> None:
    @hall(THREE)
    async def story(room: Hall) -> None:
        room.dispatch.lose = (GiveSlot,)
        await begin(room, *NAMES[:3])
        await room.tell(structs.replace(CANCEL, run=NAMES[1]))
        room.dispatch.lose = ()
        await asyncio.sleep(10)
        assert bodies(room, NAMES[0]) == [0, 2]
        await asyncio.sleep(6)
        assert room.keeper.names == 0


def test_a_run_that_stood_for_others_does_so_when_it_is_opened_again() -> None:
    @hall(THREE)
    async def story(room: Hall) -> None:
        await begin(room, *NAMES[:3])
        await asyncio.sleep(1)
        await room.tell(structs.replace(broken("a"), run=NAMES[0]))
        assert room.state(NAMES[0]).status == "failed"
        await room.tell(RetryRun(org="org", run=NAMES[0], actor="key:1"))
        assert room.inside == NAMES[:1]
        assert bodies(room, NAMES[0]) == [0, 1, 2]
