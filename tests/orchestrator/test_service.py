"""What the orchestrator's shell promises about messages and commits."""

import asyncio
from itertools import pairwise

from msgspec import structs

from chassis.ids import digest
from chassis.ports import Proposal
from contracts.codec import Decoder, decode_answers, decode_commit, encode, encode_bundle
from contracts.limits import EVENTS_PER_COMMIT, EVENTS_PER_TURN
from contracts.messages import Answer, CancelAttempts, CancelRun, Look, Message
from contracts.payloads import Blob
from contracts.runs import RunEvent, StepReported
from contracts.subjects import CANCEL_ALL, call, partition
from contracts.subjects import run as run_subject
from contracts.subjects import task as task_subject
from orchestrator.history import state_at
from orchestrator.run import RULES
from orchestrator.stumbles import PATIENCE
from tests.orchestrator.rooms import Room, told
from tests.orchestrator.stories import TO, action, control, done, drawn, value

decode_cancel = Decoder[CancelAttempts](CancelAttempts)


def test_a_start_is_answered_when_its_commit_is_stored_and_its_task_emitted() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        [answer] = await room.say(room.start)
        assert (answer.result, answer.sequence, answer.receipt) == ("accepted", 1, "receipt-1")
        assert room.events == ["run.started", "attempt.scheduled"]
        assert len(room.tasks.tasks) == 1


def test_the_same_start_again_is_accepted_and_another_receipt_is_a_duplicate() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        [again] = await room.say(room.start)
        [other] = await room.say(structs.replace(room.start, receipt="receipt-2"))
        assert (again.result, other.result, other.receipt) == ("accepted", "duplicate", "receipt-1")
        assert room.events.count("run.started") == 1


def test_a_start_and_its_repeats_in_one_bundle_are_one_run() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        starts = [structs.replace(room.start, receipt=f"receipt-{number}") for number in range(1, 6)]
        answers = await room.say(*starts)
        assert [answer.result for answer in answers] == ["accepted", *["duplicate"] * 4]
        assert room.events.count("run.started") == 1


def test_outcomes_carry_the_run_to_its_end_and_say_so_twice_harmlessly() -> None:
    @told(drawn("a>b"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(done("a"))
        await room.say(done("b"))
        [again] = await room.say(done("b"))
        assert again.result == "nothing"
        assert room.events[-1] == "run.completed"
        assert room.events.count("step.reported") == 2


def test_a_bundle_that_says_the_same_twice_of_a_run_that_is_not_in_memory_is_acknowledged_at_once() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        room.service._memory.drop("run-1")
        number = partition("run-1")
        room.inbox.lay(number, encode_bundle([encode(Look(**TO)), encode(Look(**TO))]))
        [letter] = room.inbox.letters[number].values()
        await asyncio.sleep(2)
        assert not room.inbox.letters[number]
        assert letter.deliveries == 1


def test_a_look_emits_what_nobody_holds_and_nothing_that_somebody_does() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        before = dict(room.tasks.tasks)
        await room.say(Look(**TO))
        assert room.tasks.tasks == before
        room.tasks.tasks.clear()
        await room.say(Look(**TO))
        assert list(room.tasks.tasks) == list(before)


def test_a_run_of_control_nodes_is_one_commit_and_answers_in_its_answer() -> None:
    plan = drawn(
        "pick>answer",
        control("pick", "set", {"fields": {"n": 1}}),
        control("answer", "respond", {"status": 201, "body": {"ok": True}}),
    )

    @told(plan)
    async def story(room: Room) -> None:
        [answer] = await room.say(structs.replace(room.start, reply="reply.test.1"))
        assert len(room.log.messages) == 1
        assert room.events[-1] == "run.completed"
        assert answer.responded is not None
        assert answer.responded.status == 201


def test_a_start_on_which_code_raises_five_times_begins_a_parked_run_and_is_a_dead_letter() -> None:
    @told(drawn("bad"))
    async def story(room: Room) -> None:
        [poison] = await room.say(room.start)
        assert poison.result == "accepted", "its sender may have been told 202 long ago: it must not be lost"
        assert room.events == ["run.parked", "run.started"]
        [subject] = [subject for subject, _, _ in room.dead.stored]
        assert subject == "dlq.INBOX.org.run-1"
        assert room.service.counts["dead_letters"] == 1


def test_poison_in_the_middle_of_a_run_parks_it_and_loses_no_outcome() -> None:
    @told(drawn("a>bad"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        [answer] = await room.say(done("a"))
        assert answer.result == "accepted", "the executor acknowledges its task, so its work must be kept"
        assert room.events[-2:] == ["run.parked", "step.reported"]
        assert len(room.dead.stored) == 1
        assert PATIENCE == 5


def test_what_an_earlier_owner_never_emitted_is_emitted_when_a_message_comes_again() -> None:
    @told(drawn("a>c b>c"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        # Its owner died between its commit and the tasks; we take the run up and commit something else first.
        room.tasks.tasks.clear()
        room.service._memory.drop("run-1")
        await room.say(done("a"))
        assert not room.tasks.tasks
        await room.say(room.start)
        assert list(room.tasks.tasks) == [task_subject("default", "org", "run-1", "b", 1)]


def test_bytes_that_are_no_message_are_dead_letters_and_their_neighbours_go_on() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        body = encode_bundle([b'{"type":"nonsense"}', encode(room.start)])
        answers = decode_answers(await room.signals.request(call(partition("run-1")), body, 30))
        assert [answer.result for answer in answers] == ["refused", "accepted"]
        assert room.dead.stored[0][1] == body


def test_an_event_from_a_newer_release_parks_the_run_and_keeps_its_messages() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        subject = run_subject("org", "run-1")
        newest = room.log.subjects()[subject][-1]
        commit = decode_commit(newest.body)
        strange = encode(
            structs.replace(commit, id="c2", version=2, prev_hash=digest(newest.body), engine_version="9.4.0")
        ).replace(b'"attempt.scheduled"', b'"attempt.teleported"')
        await room.log.append([Proposal(subject, strange, newest.sequence)])
        [answer] = await room.say(done("a"))
        assert answer.result == "refused"
        assert answer.error is not None
        assert "9.4.0" in answer.error.message
        history = room.log.subjects()[subject]
        assert b"run.parked" in history[-1].body
        assert b'"needs_release":"9.4.0"' in history[-1].body
        [again] = await room.say(done("a"))
        assert again.result == "refused"
        assert len(room.log.subjects()[subject]) == len(history)
        assert len(room.dead.stored) == 2


def test_a_run_that_keeps_newer_rules_waits_for_the_release_that_knows_them() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        subject = run_subject("org", "run-1")
        first = room.log.subjects()[subject][0]
        commit = decode_commit(first.body)
        events = (structs.replace(commit.events[0], rules=RULES + 1), *commit.events[1:])
        strange = encode(structs.replace(commit, events=events, engine_version="9.4.0"))
        room.log._by_subject[subject] = [structs.replace(first, body=strange)]
        room.service._memory.drop("run-1")
        [answer] = await room.say(done("a"))
        assert answer.result == "refused"
        assert answer.error is not None
        assert "needs release ≥ 9.4.0" in answer.error.message
        history = room.log.subjects()[subject]
        assert b"run.parked" in history[-1].body
        assert b'"needs_release":"9.4.0"' in history[-1].body
        assert b"step.reported" not in history[-1].body
        [again] = await room.say(Look(**TO))
        assert again.result == "refused"
        assert len(room.log.subjects()[subject]) == 2
        assert room.dead.stored[0][0] == "dlq.INBOX.org.run-1"


def test_a_late_message_for_an_archived_run_changes_nothing() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(done("a"))
        subject = run_subject("org", "run-1")
        tombstone = room.log.subjects()[subject][-1]
        room.log._by_subject[subject] = [tombstone]
        room.service._memory.drop("run-1")
        [late] = await room.say(done("a"))
        [duplicate] = await room.say(structs.replace(room.start, receipt="months-later"))
        assert late.result == "nothing"
        assert (duplicate.result, duplicate.receipt) == ("duplicate", "receipt-1")
        assert room.log.subjects()[subject] == [tombstone]


def test_large_values_lie_in_the_object_store_before_the_commit_that_names_them() -> None:
    @told(drawn("a>b"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(structs.replace(done("a"), output=value("x" * 100_000)))
        commit = decode_commit(room.log.messages[-1].body)
        assert len(room.log.messages[-1].body) < 10_000
        blob = commit.events[0].output  # type: ignore[union-attr]  # An output.
        assert room.blobs.kept[blob.sha256] == encode("x" * 100_000)


def test_a_run_whose_plan_is_gone_fails_by_name() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(structs.replace(room.start, plan="0" * 64))
        assert room.events == ["run.started", "run.failed"]


def test_time_never_goes_back_within_a_history() -> None:
    @told(drawn("a>b"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        room.world.loop._now -= 0  # The loop's own time stays; the machine's clock jumps below.
        first = decode_commit(room.log.messages[-1].body).time
        await room.say(done("a"))
        assert decode_commit(room.log.messages[-1].body).time >= first


DELAYED = drawn("pause>a", control("pause", "delay", {"seconds": 10}))


def test_a_wake_up_before_its_time_by_our_clock_is_armed_again_for_what_is_left() -> None:
    @told(DELAYED)
    async def story(room: Room) -> None:
        await room.say(room.start)
        assert room.events[-1] == "wait.opened"
        room.clock.skew["orchestrator"] = -2.0
        before = room.service.counts["messages"]
        await asyncio.sleep(10.7)
        assert room.events[-1] == "wait.opened", "by our clock the moment has not come"
        await asyncio.sleep(2.5)
        assert room.events[-1] == "attempt.scheduled", "nobody had to look"
        assert room.service.counts["messages"] - before == 2, "and it was not woken over and over"


def test_a_wake_up_that_came_early_in_a_commit_of_its_run_is_armed_again_too() -> None:
    plan = drawn("pause>b a", control("pause", "delay", {"seconds": 10}))

    @told(plan)
    async def story(room: Room) -> None:
        await room.say(room.start)
        room.clock.skew["orchestrator"] = -2.0
        await asyncio.sleep(5)
        [wait] = list(room.inbox.timers.values())
        room.inbox.timers.clear()
        await room.say(done("a"), wait[2])
        assert room.events[-1] == "step.succeeded"
        await asyncio.sleep(30)
        assert room.events[-1] == "attempt.scheduled"


def test_of_two_waits_that_are_over_at_once_the_second_is_not_told_to_a_run_that_the_first_has_ended() -> (
    None
):
    failing = control("judge", "filter", {"condition": "neither true nor false"})
    pauses = [control(name, "delay", {"seconds": 10}) for name in ("p1", "p2")]
    plan = drawn("p1>judge p2>b", *pauses, failing)

    @told(plan)
    async def story(room: Room) -> None:
        await room.say(room.start)
        room.inbox.timers.clear()  # Nobody is woken; somebody looks when both are over.
        await asyncio.sleep(20)
        await room.say(Look(**TO))
        assert room.events[-1] == "run.failed"
        assert room.events.count("wait.ended") == 1
        assert room.events.count("wait.dropped") == 1


def test_who_did_not_hear_that_attempts_shall_end_hears_it_again_also_after_the_run_has_ended() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        heard: list[bytes] = []
        await room.say(room.start)
        await room.say(CancelRun(**TO, actor="key:1"))  # Nobody listens: every executor is reconnecting.
        await asyncio.sleep(2.6)
        assert room.events[-1] == "run.cancelled"
        async with room.signals.listen(CANCEL_ALL, lambda _subject, body, _answer: heard.append(body)):
            await asyncio.sleep(4.5)
        assert heard
        [told] = {decode_cancel(body) for body in heard}
        assert (told.run, told.attempts) == ("run-1", (("a", 1),))


def test_a_task_that_nobody_takes_leaves_when_its_run_was_cancelled_and_no_other_one_does() -> None:
    room = Room(drawn("a"))

    async def story(room: Room) -> None:
        await room.say(room.start)
        [ghost] = room.tasks.tasks
        room.tasks.emit("default", another := task_subject("gpu", "org", "run-2", "a", 1), b"another's")
        await room.say(CancelRun(**TO, actor="key:1"))
        await asyncio.sleep(20)
        assert ghost in room.tasks.tasks, "whoever has it may still be letting go"
        await asyncio.sleep(15)
        assert set(room.tasks.tasks) == {another}
        assert not room.service._letting_go._asked

    room.play(story)


def test_an_orchestrator_that_hands_over_does_not_stay_to_say_it_again() -> None:
    room = Room(drawn("a"))

    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(CancelRun(**TO, actor="key:1"))
        at = room.world.loop.time()
        await room.service._ownership.release()
        while room.service._letting_go._told:
            await asyncio.sleep(0.05)
        assert room.world.loop.time() - at < 1.0

    room.play(story)


MANY = drawn(
    "", control("each", "map", {"items": list(range(400)), "at_once": 200}), action("call", inside="each")
)


def histories(room: Room) -> list[tuple[RunEvent, ...]]:
    """The events of each commit of the run."""
    return [decode_commit(stored.body).events for stored in room.log.subjects()[run_subject("org", "run-1")]]


def outcomes(room: Room, first: int = 0) -> list[str]:
    return [
        event.step
        for events in histories(room)[first:]
        for event in events
        if isinstance(event, StepReported)
    ]


def test_more_outcomes_than_one_commit_has_room_for_are_all_taken_in_their_order_in_several() -> None:
    @told(MANY)
    async def story(room: Room) -> None:
        await room.say(room.start)
        before = len(histories(room))
        told = [done(f"each[{number}].call", output=number) for number in reversed(range(200))]
        answers = await room.say(*told)
        assert [answer.result for answer in answers] == ["accepted"] * 200
        assert outcomes(room) == [message.step for message in told]
        commits = histories(room)[before:]
        assert len(commits) > 1
        assert all(len(events) < EVENTS_PER_TURN + 10 for events in commits)
        assert [answer.sequence for answer in answers] == sorted(answer.sequence for answer in answers)
        [again] = await room.say(told[-1])
        assert again.result == "nothing"


def test_what_is_told_while_more_waits_than_a_commit_has_room_for_comes_behind_it() -> None:
    @told(MANY)
    async def story(room: Room) -> None:
        beside = next(
            name
            for name in (f"run-{number}" for number in range(2, 1_000))
            if partition(name) == partition("run-1")
        )
        await room.say(room.start, structs.replace(room.start, run=beside, receipt="receipt-2"))
        large = structs.replace(done("each[0].call", output="x" * 100_000), run=beside)
        first = [done(f"each[{number}].call") for number in range(150)]
        second = [done(f"each[{number}].call") for number in range(150, 200)]
        put, late = room.blobs.put, list[asyncio.Task[list[Answer]]]()
        async with asyncio.TaskGroup() as group:

            async def meanwhile(data: bytes, content_type: str = "application/json") -> Blob:
                if not late:
                    late.append(group.create_task(room.say(*second)))
                    await asyncio.sleep(0.2)  # Until they have arrived, and before the first are judged.
                return await put(data, content_type)

            room.blobs.put = meanwhile  # type: ignore[method-assign]  # In its place.
            answers = await room.say(large, *first)
        assert {answer.result for answer in (*answers, *late[0].result())} == {"accepted"}
        assert outcomes(room) == [message.step for message in (*first, *second)]


def test_no_commit_holds_more_events_than_one_may_however_many_outcomes_come_at_once() -> None:
    body = [control(f"n{number}", "noop", inside="each") for number in range(30)]
    plan = drawn(
        " ".join(f"{before}>{after}" for before, after in pairwise(["call", *(node.id for node in body)])),
        control("each", "map", {"items": list(range(200)), "at_once": 200}),
        action("call", inside="each"),
        *body,
    )

    @told(plan)
    async def story(room: Room) -> None:
        [started] = await room.say(room.start)
        assert started.result == "accepted"
        while wanted := waiting_outcomes(room):
            answers = await room.say(*wanted)
            assert {answer.result for answer in answers} == {"accepted"}
        assert room.events[-1] == "run.completed"
        assert room.events.count("item.done") == 200
        assert max(len(events) for events in histories(room)) <= EVENTS_PER_COMMIT


def waiting_outcomes(room: Room) -> list[Message]:
    commits = [decode_commit(stored.body) for stored in room.log.subjects()[run_subject("org", "run-1")]]
    return [done(attempt.step) for attempt in state_at("org", "run-1", commits).attempts.values()]


__all__ = ["action"]
