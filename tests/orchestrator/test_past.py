"""A run whose history and tombstone have left never starts again, whoever asks and whatever comes late."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import structs

from chassis.dispatch import QUEUED, Dispatch
from chassis.ids import receipt, received_at
from chassis.past import Horizon, PastRun, may_be_past
from chassis.testing.past import MemoryRunIds
from chassis.testing.stores import MemoryLog
from chassis.testing.world import SimulatedClock, World
from contracts.codec import encode, encode_bundle
from contracts.messages import CancelRun, Look, Message, RetryRun, StartRun, StepDone, Wake
from contracts.plans import Plan
from contracts.subjects import HORIZON, partition
from contracts.subjects import run as run_subject
from orchestrator.past import Past
from orchestrator.sources import Sources
from tests.orchestrator.rooms import Room
from tests.orchestrator.stories import START, TO, action, control, done, drawn, value

KEY = "ab" * 32


def made_at(seconds: float) -> str:
    """A receipt of this moment."""
    digits = f"{int(seconds * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


class LongAgo(Room):
    """A room whose archive remembers runs that the log has nothing of any more."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.remembered: dict[str, PastRun] = {}
        self.run_ids = MemoryRunIds(self.world, lambda _org: self.remembered)
        self.marks = MemoryLog(self.world)
        self.clock = SimulatedClock(self.world)
        self.horizon = Horizon(self.marks, self.clock)

    def sources(self, **more: Any) -> Sources:
        return super().sources(past=Past(self.run_ids, self.horizon, self.clock), **more)

    def mark(self) -> None:
        self.marks.put(HORIZON, b"passed")

    def forget_everything(self) -> None:
        """The history and the tombstone leave the log; the archive keeps the id, and for a while the bytes."""
        subject = run_subject("org", "run-1")
        history = self.log.subjects()[subject]
        self.archive.kept = [stored.body for stored in history]
        self.remembered["run-1"] = PastRun(
            run="run-1", receipt="receipt-1", request="cd" * 32, version=len(history), hash="ef" * 32
        )
        self.log._by_subject[subject] = []
        self.service._memory.drop("run-1")

    def keyed(self, **changes: Any) -> StartRun:
        return structs.replace(self.start, dedupe=KEY, **changes)

    @property
    def left(self) -> list[Any]:
        return self.log.subjects().get(run_subject("org", "run-1"), [])


def told(plan: Plan) -> Callable[[Callable[[LongAgo], Coroutine[Any, Any, None]]], None]:
    return lambda story: LongAgo(plan).play(story)


ONE_COMMIT = drawn("pick", control("pick", "set", {"fields": {"n": 1}}))


def test_a_duplicate_after_history_and_tombstone_left_starts_nothing() -> None:
    @told(ONE_COMMIT)
    async def story(room: LongAgo) -> None:
        room.mark()
        await room.horizon.look()
        [first] = await room.say(room.keyed())
        assert first.result == "accepted"
        room.forget_everything()
        [again] = await room.say(room.keyed(receipt="months-later"))
        assert (again.result, again.receipt, again.gone) == ("duplicate", "receipt-1", True)
        [same] = await room.say(room.keyed())
        assert same.result == "accepted"
        assert room.left == []


def test_below_the_horizon_a_start_with_a_key_asks_nobody() -> None:
    @told(ONE_COMMIT)
    async def story(room: LongAgo) -> None:
        await room.horizon.look()
        [first] = await room.say(room.keyed())
        assert first.result == "accepted"
        assert room.run_ids.asked == []


def test_a_horizon_that_nobody_could_look_up_for_long_counts_as_passed() -> None:
    @told(ONE_COMMIT)
    async def story(room: LongAgo) -> None:
        assert room.horizon.passed
        await room.horizon.look()
        assert not room.horizon.passed
        await asyncio.sleep(200)
        assert room.horizon.passed


def test_starts_that_wait_are_asked_about_in_one_question() -> None:
    @told(ONE_COMMIT)
    async def story(room: LongAgo) -> None:
        room.mark()
        others = [
            f"run-{number}" for number in range(2, 80) if partition(f"run-{number}") == partition("run-1")
        ]
        starts = [room.keyed(run=run) for run in ["run-1", *others]]
        answers = await room.say(*starts)
        assert {answer.result for answer in answers} == {"accepted"}
        assert len(room.run_ids.asked) == 2, (
            "the first one goes alone, all others wait for it and go together"
        )
        assert len(room.run_ids.asked[1]) == len(others)


def test_while_the_archive_is_away_a_start_waits_and_its_neighbours_do_not() -> None:
    @told(drawn("a"))
    async def story(room: LongAgo) -> None:
        room.mark()
        await room.horizon.look()
        room.run_ids.away = True
        other = next(f"run-{n}" for n in range(2, 99) if partition(f"run-{n}") == partition("run-1"))
        dispatch = Dispatch(room.signals, room.inbox)
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(dispatch.run())
            assert await dispatch.send(room.keyed()) is QUEUED, "INBOX has it: acceptance needs no archive"
            young = structs.replace(room.start, run=other, receipt=made_at(room.clock.now().timestamp()))
            answer = await dispatch.send(young)
            assert answer.result == "accepted"
            assert room.left == []
            room.run_ids.away = False
            await asyncio.sleep(2)
            carrying.cancel()
        assert room.events[0] == "run.started"
        assert room.events.count("run.started") == 1


def test_a_redelivered_start_without_a_key_does_not_start_its_run_twice() -> None:
    @told(ONE_COMMIT)
    async def story(room: LongAgo) -> None:
        [first] = await room.say(room.start)
        assert first.result == "accepted"
        room.forget_everything()
        number = partition("run-1")
        room.inbox.lay(number, encode_bundle([encode(room.start)]))
        await asyncio.sleep(2)
        assert room.left == []
        assert room.inbox.letters[number] == {}, "it was answered"
        [direct] = await room.say(room.start)
        assert (direct.result, direct.receipt) == ("accepted", "receipt-1")
        assert room.left == []


def test_a_young_receipt_asks_nobody() -> None:
    now = received_at(receipt())
    assert now is not None
    assert received_at(made_at(now)) == now
    old = structs.replace(START, receipt=made_at(now - 4000))
    horizon = Horizon(MemoryLog(World(1)), SimulatedClock(World(1)))
    assert may_be_past(old, horizon, now)
    assert not may_be_past(structs.replace(old, receipt=made_at(now - 3000)), horizon, now)
    assert received_at("receipt-1") is None
    assert received_at("zzzzzzzz-zzzz-7zzz-8000-000000000000") is None


def test_late_messages_for_a_run_of_which_nothing_is_left_end_harmlessly() -> None:
    late: list[Message] = [
        done("pick"),
        StepDone(**TO, step="gone", attempt=3, executor="executor:1", output=value(None)),
        Wake(**TO, wait="retry/pick/1"),
        Look(**TO),
    ]

    @told(ONE_COMMIT)
    async def story(room: LongAgo) -> None:
        await room.say(room.start)
        room.forget_everything()
        asked = len(room.run_ids.asked)
        answers = await room.say(*late)
        assert [answer.result for answer in answers] == ["nothing"] * len(late)
        assert room.left == []
        assert room.tasks.tasks == {}
        assert len(room.run_ids.asked) == asked, "what comes late needs no archive"


def test_a_start_on_which_code_raises_does_not_begin_a_run_that_was() -> None:
    @told(drawn("bad"))
    async def story(room: LongAgo) -> None:
        room.mark()
        await room.say(room.keyed())
        room.forget_everything()
        [again] = await room.say(room.keyed(receipt="months-later"))
        assert again.result == "duplicate"
        assert room.left == []


def test_the_same_key_with_another_request_is_told_also_when_only_the_tombstone_is_left() -> None:
    @told(ONE_COMMIT)
    async def story(room: LongAgo) -> None:
        room.mark()
        await room.say(room.keyed(request="cd" * 32))
        whole = list(room.left)
        room.forget_everything()
        [gone] = await room.say(room.keyed(receipt="later", request="00" * 32))
        assert (gone.result, gone.request) == ("duplicate", "cd" * 32)
        tombstone = structs.replace(
            whole[-1], body=whole[-1].body.replace(b'"version":1,', b'"version":2,', 1)
        )
        room.log._by_subject[run_subject("org", "run-1")] = [tombstone]
        room.service._memory.drop("run-1")
        [kept] = await room.say(room.keyed(receipt="later", request="00" * 32))
        assert (kept.result, kept.request) == ("duplicate", "cd" * 32)


def test_who_waits_for_an_answer_gets_it_from_the_archive_while_it_has_one() -> None:
    plan = drawn("answer", control("answer", "respond", {"status": 201, "body": {"ok": True}}))

    @told(plan)
    async def story(room: LongAgo) -> None:
        room.mark()
        await room.say(room.keyed())
        room.forget_everything()
        [again] = await room.say(room.keyed(receipt="later", reply="reply.test.1"))
        assert again.result == "duplicate"
        assert again.responded is not None
        assert again.responded.status == 201
        room.archive.kept = []
        room.service._memory.drop("run-1")
        [nothing] = await room.say(room.keyed(receipt="latest", reply="reply.test.2"))
        assert (nothing.result, nothing.responded, nothing.gone) == ("duplicate", None, True)
        assert room.left == []


def test_a_run_whose_history_left_whole_can_be_reopened_and_is_chained_to_its_past() -> None:
    @told(drawn("a", action("a", repeat="yes")))
    async def story(room: LongAgo) -> None:
        await room.say(room.start)
        await room.say(CancelRun(**TO, actor="key:1"))
        for name in list(room.tasks.tasks):
            del room.tasks.tasks[name]
        await asyncio.sleep(10)
        await room.say(Look(**TO))
        assert room.events[-1] == "run.cancelled"
        versions = len(room.left)
        room.forget_everything()
        [refused] = await room.say(CancelRun(**TO, actor="key:1"))
        assert refused.error is not None
        assert refused.error.code == "run.ended"
        [again] = await room.say(RetryRun(**TO, actor="key:1"))
        assert again.result == "accepted"
        assert room.events[:2] == ["run.reopened", "attempt.scheduled"]
        assert f'"version":{versions + 1}'.encode() in room.left[0].body
        room.service._memory.drop("run-1")
        step = structs.replace(done("a"), attempt=2)
        await room.say(step)
        assert room.events[-1] == "run.completed"
