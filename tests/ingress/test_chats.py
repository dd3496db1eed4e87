"""What a chat promises: a message of a session starts one run, and is answered by it."""

from typing import Any

import pytest

from chassis.edge.problems import Problem
from chassis.seals import is_sealed
from contracts.codec import Decoder
from contracts.messages import Answer, StartRun
from contracts.payloads import Inline
from contracts.triggers import Chat, ChatChanged, ChatCreated, TriggerBound
from ingress.directory import evolve
from tests.ingress.doors import PLAN, Room, SealingKeys, responded

json = Decoder[Any](Any)


def talking(chat: Chat) -> Room:
    made = evolve(
        None,
        ChatCreated(name="c", workflow="flow1", on=chat, token="a" * 64, test_token="b" * 64),
        "org_default",
        "trigger1",
    )
    bound = evolve(made, TriggerBound(version=3, plan=PLAN), "org_default", "trigger1")
    assert bound is not None
    return Room(bound.webhook, chat=bound.chat)


def answering(room: Room) -> None:
    def answers(start: StartRun) -> Answer:
        said = responded(start.run)
        return Answer(run=start.run, result="accepted", receipt=start.receipt, responded=said)

    room.answers = answers


def test_a_message_starts_a_run_that_answers_it() -> None:
    async def story(room: Room) -> None:
        answering(room)
        reply = await room.deliver(b'{"session":"s-1","message":"hello","id":"m1"}')
        assert (reply.status, reply.body) == (200, b"null")
        [start] = room.starts
        assert start.reply, "somebody waits"
        assert isinstance(start.input, Inline)
        assert json(start.input.value)["body"] == {"session": "s-1", "message": "hello", "id": "m1"}

    talking(Chat()).run(story)


def test_a_message_that_is_sensitive_is_sealed_with_the_bytes_that_brought_it() -> None:
    async def story(room: Room) -> None:
        answering(room)
        room.door._keys = SealingKeys()
        await room.deliver(b'{"session":"s-1","message":"my pin is 4711","id":"m1"}')
        [start] = room.starts
        assert isinstance(start.input, Inline)
        assert start.key_id == "salt-1"
        assert b"4711" not in repr((start, room.blobs.__dict__)).encode()
        body = json(bytes(start.input.value))["body"]
        assert (body["session"], is_sealed(body["message"])) == ("s-1", True)

    talking(Chat(sensitive=("/message",))).run(story)


def test_the_same_message_sent_again_is_the_same_run_and_another_session_is_another() -> None:
    async def story(room: Room) -> None:
        answering(room)
        for body in (
            b'{"session":"s-1","message":"hello","id":"m1"}',
            b'{"session":"s-1","message":"hello","id":"m1"}',
            b'{"session":"s-2","message":"hello","id":"m1"}',
            b'{"session":"s-1","message":"hello"}',
            b'{"session":"s-1","message":"hello"}',
        ):
            await room.deliver(body)
        runs = [start.run for start in room.starts]
        assert runs[0] == runs[1]
        assert len(set(runs)) == 4

    talking(Chat()).run(story)


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"{}",
        b'{"session":"s"}',
        b'{"session":"s 1","message":"x"}',
        b'{"session":"s","message":""}',
        b'{"session":"s","message":"12345678901"}',
        b'{"session":"s","message":"x","more":1}',
        b'{"session":"s","message":"x","id":"a b"}',
    ],
)
def test_what_is_no_message_starts_nothing(body: bytes) -> None:
    async def story(room: Room) -> None:
        with pytest.raises(Problem) as problem:
            await room.deliver(body)
        assert problem.value.code == "malformed"
        assert room.starts == []

    talking(Chat(message_chars=10)).run(story)


def test_a_form_of_other_content_types_is_no_message() -> None:
    async def story(room: Room) -> None:
        with pytest.raises(Problem) as problem:
            await room.deliver(b"session=s&message=x", content_type="application/x-www-form-urlencoded")
        assert problem.value.code == "malformed"

    talking(Chat()).run(story)


def test_a_change_counts_for_the_next_message() -> None:
    made = evolve(
        None,
        ChatCreated(name="c", workflow="w", on=Chat(), token="a" * 64, test_token="b" * 64),
        "org_default",
        "t",
    )
    changed = evolve(made, ChatChanged(name="c", on=Chat(respond_timeout_s=5.0)), "org_default", "t")
    assert changed is not None
    assert (changed.webhook.mode, changed.webhook.respond_timeout_s) == ("respond", 5.0)
