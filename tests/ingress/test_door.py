"""What ingress promises about a delivery."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw, structs

from chassis.edge.problems import Problem
from chassis.past import PastRun
from chassis.seals import is_sealed
from chassis.testing.examples import domain_commit
from contracts.codec import Decoder, encode
from contracts.errors import Failure
from contracts.gates import OrgLimit
from contracts.messages import Answer, Responded, StartRun
from contracts.payloads import Blob, Inline
from contracts.subjects import domain
from contracts.triggers import ExpressionKey, Github, HeaderKey, Hook, Preset, Slack, Webhook
from contracts.workflows import OrgLimitsSet, OrgVarsSet
from tests.ingress.doors import PLAN, TEST_TOKEN, Room, SealingKeys, responded, signed

json = Decoder[Any](Any)
GITHUB = Webhook(authentication=Github(secret="signing"), dedupe=Preset(preset="github"))


async def refusal(room: Room, *args: Any, **headers: str) -> Problem:
    with pytest.raises(Problem) as problem:
        await room.deliver(*args, **headers)
    return problem.value


def test_a_delivery_is_accepted_with_the_id_of_its_run() -> None:
    async def story(room: Room) -> None:
        reply = await room.deliver(b'{"n":1}')
        assert reply.status == 202
        [start] = room.starts
        assert json(reply.body) == {"run": start.run, "receipt": start.receipt, "deduplicated": False}
        assert (start.plan, start.workflow, start.version, start.trigger) == (PLAN, "flow1", 3, "trigger1")
        assert isinstance(start.input, Inline)
        assert json(start.input.value)["body"] == {"n": 1}

    Room(Webhook()).run(story)


def test_a_run_knows_what_its_org_says_of_all_its_runs() -> None:
    async def story(room: Room) -> None:
        says = OrgVarsSet(vars={"region": "eu"}), OrgLimitsSet(limits={"all-runs": OrgLimit(at_once=2)})
        commit = domain_commit("org", "org_default", *says, org="org_default")
        room.log.put(domain("org_default", "org", "org_default"), encode(commit))
        async with asyncio.TaskGroup() as group:
            following = group.create_task(room.directory.follow())
            while room.directory.says("org_default").limit is None:
                await asyncio.sleep(0.1)
            following.cancel()
        await room.deliver(b"{}")
        [start] = room.starts
        assert (start.org_vars, start.org_limit) == ({"region": "eu"}, OrgLimit(at_once=2))

    Room(Webhook()).run(story)


def test_the_same_key_is_the_same_run_and_says_so() -> None:
    async def story(room: Room) -> None:
        replies = [
            await room.deliver(b"{}", x_github_delivery="d-1", x_hub_signature_256=signed(b"{}"))
            for _ in range(3)
        ]
        assert [reply.status for reply in replies] == [202, 200, 200]
        runs = {json(reply.body)["run"] for reply in replies}
        assert runs == {room.starts[0].run}
        assert [json(reply.body)["deduplicated"] for reply in replies] == [False, True, True]
        await room.hooks.drained()
        assert room.kept == [("duplicate", ""), ("duplicate", "")]

    Room(GITHUB).run(story)


def test_deliveries_without_a_key_are_runs_of_their_own_even_when_their_bodies_are_equal() -> None:
    async def story(room: Room) -> None:
        first, second = await room.deliver(b"{}"), await room.deliver(b"{}")
        assert json(first.body)["run"] != json(second.body)["run"]

    Room(Webhook(dedupe=HeaderKey(header="X-Key"))).run(story)


@pytest.mark.parametrize("signature", ["", "sha256=00", "sha256=" + "0" * 64, signed(b"other")])
def test_a_delivery_with_a_bad_signature_starts_nothing_and_is_kept(signature: str) -> None:
    async def story(room: Room) -> None:
        problem = await refusal(room, b"{}", x_github_delivery="d", x_hub_signature_256=signature)
        assert problem.status == 401
        assert room.starts == []
        await room.hooks.drained()
        assert room.kept[0][0] == "refused"

    Room(GITHUB).run(story)


def test_every_failed_authentication_looks_the_same() -> None:
    async def story(room: Room) -> None:
        problems = [
            await refusal(room, b"{}", x_hub_signature_256="sha256=zz"),
            await refusal(room, b"{}", x_hub_signature_256=signed(b"x")),
            await refusal(room, b"{}"),
        ]
        assert len({(problem.code, problem.detail) for problem in problems}) == 1

    Room(GITHUB).run(story)


def test_without_the_vault_nothing_is_accepted() -> None:
    async def story(room: Room) -> None:
        room.keys.away = True
        problem = await refusal(room, b"{}", x_hub_signature_256=signed(b"{}"))
        assert problem.status == 503
        assert "retry-after" in problem.headers

    Room(GITHUB).run(story)


@pytest.mark.parametrize(
    ("changes", "token"),
    [({}, "nobody's"), ({"enabled": False}, None), ({"plan": ""}, None)],
    ids=["unknown", "disabled", "unpublished"],
)
def test_unknown_disabled_and_unpublished_addresses_look_the_same(
    changes: dict[str, Any], token: str | None
) -> None:
    async def story(room: Room) -> None:
        problem = await (refusal(room, b"{}", token) if token else refusal(room, b"{}"))
        assert (problem.status, problem.detail) == (404, "There is no webhook at this address.")
        await room.hooks.drained()
        assert room.kept[0][0] == "unmatched"

    Room(Webhook(), **changes).run(story)


def test_another_method_is_told_which_one_is_taken() -> None:
    async def story(room: Room) -> None:
        problem = await refusal(room, b"", method="GET")
        assert problem.status == 405
        assert problem.headers == {"allow": "POST"}

    Room(Webhook()).run(story)


@pytest.mark.parametrize(
    "body", [b"{", b'{"a":\xff}', b"[" * 5_000, b'"\\ud800"'], ids=["cut", "utf8", "deep", "surrogate"]
)
def test_a_body_that_is_not_json_is_refused_and_kept(body: bytes) -> None:
    async def story(room: Room) -> None:
        assert (await refusal(room, body)).status == 400
        await room.hooks.drained()
        assert room.kept[0][1].startswith("malformed")

    Room(Webhook()).run(story)


def test_hostile_values_inside_json_pass_as_they_are() -> None:
    body = b'{"nul":"\\u0000","big":' + b"9" * 300 + b',"zero":-0.0,"twice":1,"twice":2}'

    async def story(room: Room) -> None:
        assert (await room.deliver(body)).status == 202
        payload = room.starts[0].input
        assert isinstance(payload, Inline)
        assert body in bytes(payload.value)

    Room(Webhook()).run(story)


def test_a_large_body_lies_in_the_object_store_before_it_is_accepted() -> None:
    async def story(room: Room) -> None:
        await room.deliver(b'"' + b"x" * 100_000 + b'"')
        payload = room.starts[0].input
        assert isinstance(payload, Blob)
        assert payload.sha256 in room.blobs.kept

    Room(Webhook()).run(story)


def test_bytes_are_kept_whatever_they_are() -> None:
    async def story(room: Room) -> None:
        await room.deliver(b"\x00\xff\x01", content_type="application/octet-stream")
        payload = room.starts[0].input
        assert isinstance(payload, Inline)
        raw = json(payload.value)["raw"]
        assert room.blobs.kept[raw["sha256"]] == b"\x00\xff\x01"
        assert json(payload.value)["body"] == {"blob": raw}

    Room(Webhook()).run(story)


def test_credentials_never_reach_the_run() -> None:
    async def story(room: Room) -> None:
        await room.deliver(b"{}", authorization="Bearer s3cret", cookie="s3cret", x_request_id="7")
        payload = room.starts[0].input
        assert isinstance(payload, Inline)
        assert b"s3cret" not in bytes(payload.value)
        assert json(payload.value)["headers"]["x-request-id"] == "7"

    Room(Webhook()).run(story)


def test_the_test_address_captures_a_sample_and_starts_nothing() -> None:
    async def story(room: Room) -> None:
        reply = await room.deliver(b'{"sample":1}', TEST_TOKEN)
        assert json(reply.body) == {"captured": True}
        assert room.starts == []
        await room.hooks.drained()
        assert room.kept == [("captured", "")]

    Room(Webhook(), plan="").run(story)


def test_a_full_disk_and_a_spent_limit_say_when_to_come_again() -> None:
    async def story(room: Room) -> None:
        room.full = True
        full = await refusal(room)
        room.full, room.limit.left = False, 0
        spent = await refusal(room)
        assert (full.status, spent.status) == (503, 429)
        assert spent.headers == {"retry-after": "42"}
        assert "retry-after" in full.headers
        assert room.starts == []

    Room(Webhook()).run(story)


def test_an_org_of_which_too_much_is_held_begins_nothing_more_and_others_do() -> None:
    async def story(room: Room) -> None:
        room.crowded = "org_default"
        crowded = await refusal(room)
        assert (crowded.status, crowded.code, crowded.headers) == (429, "held.too_many", {"retry-after": "5"})
        assert (room.starts, room.door.crowded) == ([], 1)
        room.crowded = "another"
        assert (await room.deliver(b"{}")).status == 202

    Room(Webhook()).run(story)


def test_slack_is_answered_its_challenge() -> None:
    async def story(room: Room) -> None:
        import hashlib
        import hmac

        body = b'{"type":"url_verification","challenge":"abc"}'
        now = str(int(room.door._clock.now().timestamp()))
        mac = hmac.new(b"whsec-of-the-tests", f"v0:{now}:".encode() + body, hashlib.sha256).hexdigest()
        reply = await room.deliver(body, x_slack_signature=f"v0={mac}", x_slack_request_timestamp=now)
        assert (reply.status, reply.body) == (200, b"abc")
        assert room.starts == []

    Room(Webhook(authentication=Slack(secret="signing"))).run(story)


def test_without_an_owner_the_inbox_accepts() -> None:
    async def story(room: Room) -> None:
        room.owner_is_there = False
        assert (await room.deliver()).status == 202
        assert sum(map(len, room.inbox.letters)) == 1

    Room(Webhook()).run(story)


@pytest.mark.parametrize("mode", ["accept", "respond"])
def test_a_start_that_its_owner_refused_is_not_accepted(mode: str) -> None:
    def refused(start: StartRun) -> Answer:
        """An owner of another release cannot read it, or its code raises on it."""
        return Answer(run=start.run, result="refused", error=Failure(code="poison", message="unreadable"))

    async def story(room: Room) -> None:
        room.answers = refused
        problem = await refusal(room)
        assert (problem.status, problem.headers["retry-after"]) == (503, "1")
        assert (room.door.accepted, room.door.duplicates) == (0, 0)

    Room(structs.replace(Webhook(), mode=mode)).run(story)


def test_a_disk_that_fills_up_takes_no_large_bodies_and_every_small_one() -> None:
    async def story(room: Room) -> None:
        room.narrow = True
        problem = await refusal(room, b'"' + b"x" * 65_536 + b'"')
        assert (problem.status, problem.headers["retry-after"]) == (503, "5")
        assert room.blobs.kept == {}
        assert (await room.deliver(b'"' + b"x" * 65_000 + b'"')).status == 202
        room.narrow = False
        assert (await room.deliver(b'"' + b"x" * 65_536 + b'"')).status == 202

    Room(Webhook()).run(story)


KEYED = Webhook(dedupe=HeaderKey(header="x-key"))


def past_run(run: str) -> PastRun:
    return PastRun(run=run, receipt="the-first", request=None, version=3, hash="ab" * 32)


def test_with_no_owner_there_a_delivery_of_a_run_long_gone_is_told_its_original_run() -> None:
    async def story(room: Room) -> None:
        room.owner_is_there = False
        first = await room.deliver(x_key="k1")
        run = json(first.body)["run"]
        assert first.status == 202
        room.remembered[run] = past_run(run)
        again = await room.deliver(x_key="k1")
        assert again.status == 200
        assert json(again.body) == {"run": run, "receipt": "the-first", "deduplicated": True}

    Room(KEYED).run(story)


def test_with_no_owner_and_no_archive_there_it_is_accepted_under_the_same_id() -> None:
    async def story(room: Room) -> None:
        room.owner_is_there = False
        room.run_ids.away = True
        first = await room.deliver(x_key="k1")
        again = await room.deliver(x_key="k1")
        assert (first.status, again.status) == (202, 202)
        assert json(first.body)["run"] == json(again.body)["run"]

    Room(KEYED).run(story)


def test_a_delivery_without_a_key_asks_no_archive() -> None:
    async def story(room: Room) -> None:
        room.owner_is_there = False
        assert (await room.deliver()).status == 202
        assert room.run_ids.asked == []

    Room(Webhook()).run(story)


def test_who_waits_for_the_answer_of_a_run_long_gone_is_not_kept_waiting() -> None:
    async def story(room: Room) -> None:
        room.answers = lambda start: Answer(run=start.run, result="duplicate", receipt="the-first", gone=True)
        before = room.world.loop.time()
        again = await room.deliver(x_key="k1")
        assert again.status == 200
        assert json(again.body)["deduplicated"] is True
        assert room.world.loop.time() - before < 5

    Room(structs.replace(KEYED, mode="respond", respond_timeout_s=60)).run(story)


RESPOND = Webhook(mode="respond", respond_timeout_s=5)


def test_the_run_answers_in_the_owners_answer() -> None:
    async def story(room: Room) -> None:
        room.answers = lambda start: Answer(
            run=start.run,
            result="accepted",
            receipt=start.receipt,
            responded=Responded(
                run=start.run,
                state="responded",
                status=201,
                headers={"X-Own": "1", "Set-Cookie": "no", "Content-Length": "7", "Bad\r\n": "x"},
                body=Inline(value=Raw(b'{"ok":true}')),
            ),
        )
        reply = await room.deliver()
        assert (reply.status, reply.body) == (201, b'{"ok":true}')
        assert reply.headers["x-own"] == "1"
        assert reply.headers["content-security-policy"] == "sandbox"
        assert not {"set-cookie", "content-length", "bad\r\n"} & reply.headers.keys()

    Room(RESPOND).run(story)


def test_the_run_answers_later_on_the_subject_of_its_delivery() -> None:
    async def story(room: Room) -> None:
        def accepted(start: StartRun) -> Answer:
            from contracts.codec import encode

            room.world.loop.call_in(
                "", 2.0, room.signals.publish, start.reply, encode(responded(start.run, 207))
            )
            return Answer(run=start.run, result="accepted", receipt=start.receipt)

        room.answers = accepted
        assert (await room.deliver()).status == 207

    Room(RESPOND).run(story)


def test_a_run_that_does_not_answer_in_time_goes_on() -> None:
    async def story(room: Room) -> None:
        problem = await refusal(room)
        assert problem.status == 504
        assert problem.headers == {"automateos-run": room.starts[0].run}

    Room(RESPOND).run(story)


def test_whoever_waits_when_the_process_ends_is_told_that_the_run_goes_on() -> None:
    async def story(room: Room) -> None:
        began = room.world.loop.time()
        room.world.loop.call_in("", 1.0, room.waiting.let_go)
        for _ in range(2):  # The second comes when nobody waits any longer.
            problem = await refusal(room)
            assert problem.status == 504
            assert problem.headers == {"automateos-run": room.starts[-1].run}
        assert room.world.loop.time() - began < 4.0
        assert len(room.waiting) == 0

    Room(structs.replace(RESPOND, respond_timeout_s=60)).run(story)


BY_EXPRESSION = Webhook(dedupe=ExpressionKey(expression="trigger.body.order.id"))


def test_a_key_may_be_an_expression_over_the_delivery() -> None:
    async def story(room: Room) -> None:
        replies = [await room.deliver(b'{"order":{"id":%d}}' % number) for number in (7, 7, 8)]
        assert [reply.status for reply in replies] == [202, 200, 202]

    Room(BY_EXPRESSION).run(story)


def test_a_delivery_whose_key_cannot_be_evaluated_is_refused_and_kept() -> None:
    async def story(room: Room) -> None:
        assert (await refusal(room, b'{"order":{}}')).status == 400
        assert (await refusal(room, b'{"order":{"id":[1]}}')).status == 400
        await room.hooks.drained()
        assert [result for result, _ in room.kept] == ["refused", "refused"]

    Room(BY_EXPRESSION).run(story)


def test_what_is_sensitive_in_a_sample_is_sealed_for_its_receipt() -> None:
    async def story(room: Room) -> None:
        room.door._keys = keys = SealingKeys()
        await room.deliver(b'{"card":"4111 CANARY","n":1}', TEST_TOKEN)
        await room.hooks.drained()
        [(_, stored, _)] = room.letters.stored
        assert b"CANARY" not in stored
        hook = Decoder[Hook](Hook)(stored)
        assert (hook.key_id, keys.sealed_for) == ("salt-1", [hook.receipt])
        assert isinstance(hook.body, Inline)
        document = json(bytes(hook.body.value))
        assert is_sealed(document["body"]["card"])
        assert document["body"]["n"] == 1

    Room(Webhook(sensitive=("/card",))).run(story)
