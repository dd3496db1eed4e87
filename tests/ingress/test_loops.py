"""What our own runs send to our own addresses: it goes on behind them, and a workflow that calls itself is stopped and named."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import pytest

from chassis.chains import Chains
from chassis.edge.problems import Problem
from chassis.secret import Secret
from contracts.codec import Decoder
from contracts.forms import Question, Questions
from contracts.limits import CAUSE_SECONDS, CAUSES_ALIKE
from contracts.payloads import Inline
from contracts.runs import Cause
from contracts.triggers import Chat, ExpressionKey, Form, Hook, Webhook
from ingress.question_page import STAMP, TRAP
from tests.chassis.test_chains import At
from tests.ingress.doors import TEST_TOKEN, Room
from tests.ingress.test_chats import answering, talking
from tests.ingress.test_forms import Page

json = Decoder[Any](Any)
hook = Decoder[Hook](Hook)
FORM = Form(title="Sign up", questions=Questions(properties={"seats": Question(type="integer")}), seconds=0)
ROUND: Sequence[str] = ("flow1",) * CAUSES_ALIKE


def said(room: Room, *chain: str, org: str = "org_default") -> dict[str, str]:
    return {"automateos_cause": room.chains.said(org, "run-9", len(chain), chain)}


def hooks(room: Room) -> list[Hook]:
    return [hook(body) for _, body, _ in room.letters.stored]


def headers_of(value: Any) -> dict[str, str]:
    assert isinstance(value, Inline)
    found: dict[str, str] = json(value.value)["headers"]
    return found


def test_a_delivery_of_a_run_stands_behind_it_and_its_proof_is_not_kept() -> None:
    async def story(room: Room) -> None:
        await room.deliver(b"{}", **said(room, "other"))
        [start] = room.starts
        assert start.cause == Cause(kind="webhook", id=start.receipt, depth=1, chain=("other",), run="run-9")
        assert headers_of(start.input) == {"content-type": "application/json"}
        assert room.trails.counts["followed"] == 1

    Room(Webhook()).run(story)


def test_a_captured_sample_has_no_proof_in_it_either() -> None:
    async def story(room: Room) -> None:
        await room.deliver(b"{}", TEST_TOKEN, **said(room, "other"))
        await room.hooks.drained()
        [kept] = hooks(room)
        assert "automateos-cause" not in kept.headers
        assert "automateos-cause" not in headers_of(kept.body)

    Room(Webhook()).run(story)


def test_what_strangers_say_starts_their_run_as_if_they_had_said_nothing() -> None:
    async def story(room: Room) -> None:
        forged = Chains(Secret(b"o" * 32), At()).said("org_default", "run-9", 4, tuple(ROUND))
        now = room.clock.now()
        old = At((now - At().now()).total_seconds() - CAUSE_SECONDS - 1)
        late = Chains(Secret(b"k" * 32), old).said("org_default", "run-9", 4, tuple(ROUND))
        foreign = said(room, *ROUND, org="org_other")["automateos_cause"]
        twice = ", ".join([said(room, *ROUND)["automateos_cause"]] * 2)
        texts = ["", "nonsense", forged, late, foreign, twice, "x" * 9_000]
        for text in texts:
            assert (await room.deliver(b"{}", automateos_cause=text)).status == 202
        assert [start.cause for start in room.starts] == [
            Cause(kind="webhook", id=start.receipt) for start in room.starts
        ]
        assert room.trails.counts == {"followed": 0, "ignored": len(texts), "stopped": 0}

    Room(Webhook()).run(story)


def test_a_workflow_that_calls_its_own_webhook_is_stopped_and_its_owner_is_told_by_name() -> None:
    async def story(room: Room) -> None:
        await room.deliver(b"{}", **said(room, *ROUND[1:]))
        with pytest.raises(Problem) as stopped:
            await room.deliver(b"{}", **said(room, *ROUND))
        assert (stopped.value.code, stopped.value.status) == ("cause.too_deep", 409)
        assert "flow1 → flow1" in stopped.value.detail
        assert len(room.starts) == 1
        await room.hooks.drained()
        [kept] = hooks(room)
        assert (kept.result, kept.trigger) == ("refused", "trigger1")
        assert kept.reason == f"a loop: {stopped.value.detail}"
        assert "automateos-cause" not in kept.headers
        assert (room.door.refused, room.trails.counts["stopped"]) == (1, 1)

    Room(Webhook()).run(story)


def test_a_delivery_whose_run_is_there_stays_a_duplicate() -> None:
    async def story(room: Room) -> None:
        first = await room.deliver(b'{"id":7}', **said(room, "flow1"))
        again = await room.deliver(b'{"id":7}', **said(room, "flow1"))
        assert (first.status, again.status) == (202, 200)

    Room(Webhook(dedupe=ExpressionKey(expression="string(trigger.body.id)"))).run(story)


def test_a_talk_that_a_workflow_has_with_itself_ends() -> None:
    async def story(room: Room) -> None:
        answering(room)
        body = b'{"session":"s-1","message":"hello"}'
        await room.deliver(body, **said(room, *ROUND[1:]))
        assert room.starts[0].cause.depth == CAUSES_ALIKE - 1
        with pytest.raises(Problem):
            await room.deliver(body, **said(room, *ROUND))
        assert len(room.starts) == 1

    talking(Chat()).run(story)


def test_a_form_that_its_own_workflow_fills_in_is_closed_to_it() -> None:
    async def story(room: Room) -> None:
        kind = "application/json"
        assert (await room.filled(b'{"seats":1}', kind, **said(room, *ROUND[1:]))).status == 202
        [start] = room.starts
        assert (start.cause.depth, start.cause.run) == (CAUSES_ALIKE - 1, "run-9")
        assert headers_of(start.input) == {"content-type": kind}
        with pytest.raises(Problem) as stopped:
            await room.filled(b'{"seats":1}', kind, **said(room, *ROUND))
        assert stopped.value.code == "cause.too_deep"
        assert len(room.starts) == 1
        await room.hooks.drained()
        assert [(kept.result, kept.reason) for kept in hooks(room)] == [
            ("refused", f"a loop: {stopped.value.detail}")
        ]

    Room(Webhook(), form=FORM).run(story)


def test_a_page_that_a_run_fills_in_is_refused_as_to_a_program() -> None:
    async def story(room: Room) -> None:
        stamp = Page(room.opened()).stamp
        with pytest.raises(Problem) as stopped:
            await room.filled(
                urlencode({"seats": "1", STAMP: stamp, TRAP: ""}).encode(), **said(room, *ROUND)
            )
        assert stopped.value.code == "cause.too_deep"
        assert room.starts == []

    Room(Webhook(), form=FORM).run(story)
