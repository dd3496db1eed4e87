"""However much follows at once, a commit is one that everybody can read, and a run remembers what is under way only."""

import asyncio

from contracts.codec import decode_commit
from contracts.limits import EVENTS_PER_COMMIT
from contracts.messages import Look
from contracts.subjects import run as run_subject
from tests.orchestrator.rooms import Room, told
from tests.orchestrator.stories import TO, action, broken, control, done, drawn, started
from tests.orchestrator.test_maps import asked, finished


def events_of(room: Room) -> list[int]:
    """How many events each commit holds. Raises where one cannot be read."""
    return [
        len(decode_commit(stored.body).events) for stored in room.log.subjects()[run_subject("org", "run-1")]
    ]


def test_many_waits_that_are_over_at_once_do_not_end_in_one_commit_that_nobody_can_read() -> None:
    plan = drawn(
        "nap>inner",
        control("each", "map", {"items": list(range(200)), "at_once": 200}),
        control("nap", "delay", {"seconds": 10}, inside="each"),
        control("inner", "map", {"items": list(range(50)), "at_once": 1}, inside="each"),
        control("light", "noop", inside="inner"),
    )

    @told(plan)
    async def story(room: Room) -> None:
        await room.say(room.start)
        room.inbox.timers.clear()  # The servers were away when the moment came.
        await asyncio.sleep(20)
        for _ in range(200):
            await room.say(Look(**TO))
            if b'"run.completed"' in room.log.messages[-1].body:
                break
        assert room.events[-1] == "run.completed"
        assert max(events_of(room)) <= EVENTS_PER_COMMIT


def test_maps_that_open_together_with_many_pages_each_take_turns() -> None:
    plan = drawn(
        "",
        control("each", "map", {"items": list(range(120)), "at_once": 120}),
        control("inner", "map", {"items": [0] * 2_500, "at_once": 1}, inside="each"),
        control("nap", "delay", {"seconds": 3_600}, inside="inner"),
    )
    told = started(plan)
    assert len(told.said) <= EVENTS_PER_COMMIT
    assert "turn:each" in told.state.waits


def test_the_error_path_of_a_map_leaves_no_map_inside_of_it_behind() -> None:
    plan = drawn(
        "each>after each.error>mend",
        control("each", "map", {"items": [1, 2]}),
        control("inner", "map", {"items": [1]}, inside="each"),
        action("call", inside="inner"),
    )
    told = started(plan).when(broken("each[0].inner[0].call"), done("each[1].inner[0].call"))
    assert asked(told) == ["mend"]
    told = finished(told)
    assert told.state.status == "completed"
    assert not told.state.items
