"""What a poll has found starts its runs, each once for ever, and only then the cursor moves."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from chassis.ids import run_id
from contracts.codec import Decoder, encode
from contracts.errors import Failure
from contracts.limits import POLL_ITEMS
from contracts.messages import Answer, StartRun
from contracts.occasions import Cursor
from contracts.payloads import Inline
from contracts.runs import Cause, RunCancelled, RunCompleted, RunFailed
from contracts.schedules import Cron, Schedule
from contracts.subjects import cursor
from contracts.triggers import Poll, PollChanged, PollCreated, RunEnd, TriggerBound
from tests.projections.test_following import PLAN, Room, after, started

cursor_of = Decoder[Cursor](Cursor)
POLL = Poll(
    schedule=Schedule(when=Cron(expression="* * * * *")),
    request={"url": "https://example.com"},
    items="steps.fetch.output.body",
    key="entry.id",
)
EVERY = "2026-11-21T12:{:02}:00+00:00"


def polling(room: Room) -> None:
    room.trigger(
        PollCreated(name="p", workflow="flow", on=POLL, plan="cd" * 32), TriggerBound(version=3, plan=PLAN)
    )


def found(*keys: str, cursor: Any = None) -> RunCompleted:
    items = [{"key": key, "item": {"id": key}} for key in keys]
    return RunCompleted(output=Inline(value=Raw(encode({"items": items, "cursor": cursor}))))


def looked(room: Room, name: str, end: Any, minute: int = 0) -> None:
    """A run that looks has begun and ended."""
    cause = Cause(kind="schedule", id=EVERY.format(minute))
    room.happened(name, started(workflow="t1", trigger="t1", cause=cause))
    room.happened(name, end)


async def marked(room: Room) -> Any:
    stored = (await room.marks.last([cursor("org", "t1")])).get(cursor("org", "t1"))
    return None if stored is None else Decoder[Any](Any)(cursor_of(stored.body).cursor)


def test_each_key_starts_one_run_however_often_it_is_found_and_the_cursor_goes_on() -> None:
    async def story(room: Room) -> None:
        polling(room)
        await asyncio.sleep(1)
        looked(room, "r1", found("a", "b", "b", cursor={"after": 2}))
        looked(room, "r2", found("b", "c", cursor={"after": 3}), minute=1)
        await room.until_read()
        assert [start.run for start in room.starts].count(run_id("org", "t1", "item:b")) == 2
        assert {start.run for start in room.starts} == {run_id("org", "t1", f"item:{key}") for key in "abc"}
        start = room.starts[0]
        assert (start.workflow, start.version, start.plan, start.trigger) == ("flow", 3, PLAN, "t1")
        assert start.cause == Cause(kind="run", id="r1", depth=1)
        given = room.given()
        assert (given["body"], given["method"]) == ({"id": "a"}, "POLL")
        assert await marked(room) == {"after": 3}

    Room().play(story)


def test_the_cursor_stays_until_all_that_was_found_has_started() -> None:
    async def story(room: Room) -> None:
        polling(room)
        await asyncio.sleep(1)
        room.away = 3
        looked(room, "r1", found("a", "b", cursor=7))
        await asyncio.sleep(0.15)
        assert await marked(room) is None
        await room.until_read()
        assert {start.run for start in room.starts} == {run_id("org", "t1", f"item:{key}") for key in "ab"}
        assert await marked(room) == 7

    Room().play(story)


def test_a_poll_that_ends_behind_a_later_one_does_not_move_the_cursor_back() -> None:
    async def story(room: Room) -> None:
        polling(room)
        await asyncio.sleep(1)
        looked(room, "r2", found("b", cursor=2), minute=2)
        await room.until_read()
        looked(room, "r1", found("a", cursor=1), minute=1)
        looked(room, "r3", found("c"), minute=3)
        await room.until_read()
        assert len(room.starts) == 3
        assert await marked(room) == 2, "a poll without a cursor leaves it where it is"

    Room().play(story)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (
            RunFailed(error=Failure(code="unreachable", message="nobody")),
            "the poll failed: unreachable: nobody",
        ),
        (RunCancelled(), "the poll was cancelled"),
        (RunCompleted(), "something else than items"),
        (
            RunCompleted(output=Inline(value=Raw(b'{"items":[{"item":1}],"cursor":1}'))),
            "something else than items",
        ),
        (found("", cursor=1), "something else than items"),
        (found("x" * 600, cursor=1), "something else than items"),
        (found(*map(str, range(POLL_ITEMS + 1)), cursor=1), "something else than items"),
    ],
)
def test_a_poll_that_fails_is_told_and_the_next_one_goes_on(end: Any, says: str) -> None:
    async def story(room: Room) -> None:
        polling(room)
        await asyncio.sleep(1)
        looked(room, "r1", end)
        await room.until_read()
        assert room.starts == []
        [told] = room.told
        assert (told.result, told.method, says in told.reason) == ("refused", "POLL", True)
        assert await marked(room) is None
        assert room.counts["polls_failed"] == 1
        looked(room, "r2", found("a", cursor=1), minute=1)
        await room.until_read()
        assert (len(room.starts), await marked(room)) == (1, 1)

    Room().play(story)


def test_what_is_refused_for_good_is_told_and_the_rest_goes_on() -> None:
    async def story(room: Room) -> None:
        def answers(start: StartRun) -> Answer:
            if start.run == run_id("org", "t1", "item:a"):
                error = Failure(code="conflict", message="no")
                return Answer(run=start.run, result="refused", error=error)
            return Answer(run=start.run, result="accepted")

        room.answers = answers
        polling(room)
        await asyncio.sleep(1)
        looked(room, "r1", found("a", "b", cursor=5))
        await room.until_read()
        [told] = room.told
        assert told.reason.endswith("1 items were refused: a: conflict: no")
        assert await marked(room) == 5

    Room().play(story)


def test_a_run_that_looks_is_nobodys_end_but_its_triggers() -> None:
    async def story(room: Room) -> None:
        polling(room)
        room.trigger(*after(RunEnd()), id_="t2")
        await asyncio.sleep(1)
        looked(room, "r1", found("a"))
        room.ended("other", trigger="t1")
        room.trigger(PollChanged(name="p", on=POLL, plan="ef" * 32))
        await room.until_read()
        assert {(start.trigger, start.cause.id) for start in room.starts} == {("t1", "r1"), ("t2", "other")}

    Room().play(story)
