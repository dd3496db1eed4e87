"""What ingress promises to whoever holds the link of a waiting step, and to whoever does not."""

import asyncio
import html
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from msgspec import structs

from chassis.edge.problems import Problem
from chassis.seals import is_sealed
from contracts.limits import ANSWERS_PER_MINUTE, COMMENT_CHARS
from contracts.payloads import Inline
from contracts.plans import PlanNode
from contracts.runs import ApprovalDecided, CallReceived
from ingress.replies import Reply
from tests.ingress.desks import Hall, link_of, proof
from tests.ingress.doors import SealingKeys, signed
from tests.orchestrator.stories import CANCEL, control, done, drawn

FORM = {
    "type": "object",
    "properties": {
        "sum": {"type": "number", "title": "Sum", "minimum": 1, "maximum": 100},
        "reason": {"type": "string", "enum": ["travel", "books"], "description": "What for?"},
        "until": {"type": "string", "format": "date"},
        "sure": {"type": "boolean"},
    },
    "required": ["sum"],
}
ARROWS = "ask.approved>pay ask.rejected>tell ask.timeout>remind"
BROWSER: dict[str, Any] = {"content_type": "application/x-www-form-urlencoded"}
HTML: dict[str, Any] = {"accept": "text/html,*/*"}


def approving(**config: Any) -> Hall:
    return Hall(drawn(ARROWS, control("ask", "wait.approval", {"question": "Pay <b>5</b>?"} | config)))


def calling(**config: Any) -> Hall:
    return Hall(drawn("ask>go", control("ask", "wait.webhook", config)))


def sent(**fields: str) -> bytes:
    return urlencode({name.replace("the_", "the-"): value for name, value in fields.items()}).encode()


async def no(hall: Hall, *args: Any, **given: Any) -> Problem:
    with pytest.raises(Problem) as problem:
        await hall.ask(*args, **given)
    return problem.value


def told(reply: Reply) -> Any:
    return json.loads(reply.body)


# --- People -----------------------------------------------------------------------------------


def test_looking_decides_nothing_however_often() -> None:
    async def story(hall: Hall) -> None:
        for query in ("", "decision=approved", "the-decision=approved"):
            page = await hall.ask("GET", query=query, **HTML)
            assert page.status == 200
        assert hall.state.status == "waiting"
        assert (await no(hall, "HEAD")).code == "method_not_allowed"
        assert hall.state.status == "waiting"

    approving().run(story)


def test_the_page_asks_the_question_and_runs_nothing() -> None:
    async def story(hall: Hall) -> None:
        page = await hall.ask("GET", query="decision=rejected", **HTML)
        text = page.body.decode()
        assert "Pay &lt;b&gt;5&lt;/b&gt;?" in text
        assert "<b>" not in text
        assert "<script" not in text
        assert 'value="rejected" required checked' in text
        assert (
            'id="the-name" name="the-name" aria-describedby="the-name-hint" required aria-required="true"'
            in text
        )
        for name in ("sum", "reason", "until", "sure"):
            assert f'for="f-{name}"' in text
            assert f'id="f-{name}"' in text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "form-action 'self'; frame-ancestors 'none'; base-uri 'none'" in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert page.content_type == "text/html; charset=utf-8"

    approving(form=FORM, details="One\nTwo", timeout_seconds=60).run(story)


def test_a_person_decides_on_the_page() -> None:
    async def story(hall: Hall) -> None:
        body = sent(
            the_decision="approved",
            the_name=" Ada ",
            the_comment="Fine.",
            sum="5",
            reason="books",
            until="",
            sure="true",
        )
        page = await hall.ask(body=body, **BROWSER)
        assert (page.status, "You approved this." in page.body.decode()) == (200, True)
        assert hall.state.attempts.keys() == {"pay"}
        decided = next(event for event in hall.events if isinstance(event, ApprovalDecided))
        assert (decided.by, decided.name, decided.comment) == ("link", "Ada", "Fine.")
        assert isinstance(decided.fields, Inline)
        assert json.loads(bytes(decided.fields.value)) == {"sum": 5, "reason": "books", "sure": True}
        again = await hall.ask(body=body, **BROWSER)
        assert again.status == 200
        other = await hall.ask(body=sent(the_decision="rejected", the_name="Bob", sum="5"), **BROWSER)
        assert (other.status, "This was approved at" in other.body.decode()) == (409, True)
        late = await hall.ask("GET", **HTML)
        assert "This was approved at" in late.body.decode()
        assert hall.state.attempts.keys() == {"pay"}
        somebody = await hall.ask(body=body.replace(b"Ada", b"Bob"), **BROWSER)
        assert somebody.status == 409, "who says the same under another name is told that it was decided"

    approving(form=FORM).run(story)


@pytest.mark.parametrize("name", ["", "   ", "a" * 101, "Ada\nBob", "Ada\x07"])
def test_whoever_has_the_link_says_who_they_are(name: str) -> None:
    async def story(hall: Hall) -> None:
        page = await hall.ask(body=sent(the_decision="approved", the_name=name, sum="5"), **BROWSER)
        text = page.body.decode()
        assert page.status == 422
        says = "Say who you are, in a line of 100 characters at the most."
        assert f'<a href="#the-name">Your name: {says}</a>' in text
        assert f'<p class="error" id="the-name-error">Error: {says}</p>' in text
        assert 'aria-describedby="the-name-hint the-name-error" aria-invalid="true" required' in text
        assert "<title>Error: " in text
        wrong = await hall.ask(body=json.dumps({"decision": "approved", "name": name}).encode())
        assert {"pointer": "/name", "message": says} in told(wrong)["errors"]
        assert hall.state.status == "waiting"

    approving(form=FORM).run(story)


def test_what_somebody_says_of_themselves_is_shown_as_text() -> None:
    async def story(hall: Hall) -> None:
        page = await hall.ask(body=sent(the_name='"><script>x</script>', sum="5"), **BROWSER)
        text = page.body.decode()
        assert "<script" not in text
        assert 'value="&quot;&gt;&lt;script&gt;x&lt;/script&gt;" autocomplete="name"' in text
        assert '<label for="the-name">Your name</label>' in text

    approving(form=FORM).run(story)


def test_what_does_not_fit_the_form_is_said_beside_its_field_and_nothing_is_lost() -> None:
    async def story(hall: Hall) -> None:
        body = sent(
            the_decision="approved", the_name="Ada", the_comment="<i>", sum="1000", reason="war", until="soon"
        )
        page = await hall.ask(body=body, **BROWSER)
        text = page.body.decode()
        assert page.status == 422
        assert 'role="alert"' in text
        for name, message in (
            ("sum", "This must be 100 or less."),
            ("reason", "This is none of the choices."),
            ("until", "This is not a date, like 2026-12-31."),
        ):
            assert f'id="f-{name}-error">Error: {html.escape(message)}</p>' in text
            assert f'aria-describedby="f-{name}-error" aria-invalid="true"' in text.replace(
                "f-reason-hint ", ""
            )
            assert f'<a href="#f-{name}">' in text
        assert 'value="1000"' in text
        assert "&lt;i&gt;" in text
        assert 'value="approved" required checked' in text
        assert hall.state.status == "waiting"
        nothing = await hall.ask(body=sent(sum="5", the_name="Ada"), **BROWSER)
        assert (nothing.status, "Approve or reject." in nothing.body.decode()) == (422, True)
        assert " checked>" not in nothing.body.decode(), "nobody is led to an answer"

    approving(form=FORM).run(story)


def test_a_program_decides_with_json_and_is_told_places() -> None:
    async def story(hall: Hall) -> None:
        look = told(await hall.ask("GET"))
        assert (look["state"], look["question"], look["form"]) == ("open", "Pay <b>5</b>?", FORM)
        wrong = await hall.ask(body=b'{"decision":"approved","name":"Ada","fields":{"sum":"5","more":1}}')
        assert wrong.status == 422
        assert told(wrong)["code"] == "approval.bad_fields"
        assert {error["pointer"] for error in told(wrong)["errors"]} == {"/fields/sum", "/fields/more"}
        missing = await hall.ask(body=b'{"decision":"approved","name":"Ada"}')
        assert [error["pointer"] for error in told(missing)["errors"]] == ["/fields/sum"]
        for body in (b"", b"{", b'{"decision":"maybe"}', b'{"decision":"approved","other":1}', b"[" * 200):
            assert (await no(hall, body=body)).code == "malformed"
        good = b'{"decision":"rejected","name":"Ada","fields":{"sum":5}}'
        assert told(await hall.ask(body=good)) == {"decision": "rejected", "status": "accepted"}
        assert told(await hall.ask(body=good)) == {"decision": "rejected", "status": "unchanged"}
        assert (
            await no(hall, body=b'{"decision":"approved","name":"Ada","fields":{"sum":5}}')
        ).code == "wait.over"
        assert told(await hall.ask("GET"))["decision"] == "rejected"

    approving(form=FORM).run(story)


def test_a_decision_is_bounded() -> None:
    async def story(hall: Hall) -> None:
        assert (await no(hall, body=b"x" * 200_000)).code == "too_large"
        comment = json.dumps(
            {"decision": "approved", "name": "Ada", "comment": "x" * (COMMENT_CHARS + 1)}
        ).encode()
        assert (await hall.ask(body=comment)).status == 422
        many = "&".join(f"f{number}=1" for number in range(2_000)).encode()
        assert (await no(hall, body=many, **BROWSER)).code == "malformed"
        hall.limit.left = 0
        refused = await no(hall, "GET")
        assert (refused.code, refused.headers["retry-after"]) == ("rate_limited", "42")
        assert ANSWERS_PER_MINUTE < 1_000

    approving().run(story)


def test_a_decision_behind_its_time_is_refused_also_when_nobody_woke_the_run() -> None:
    async def story(hall: Hall) -> None:
        await asyncio.sleep(61)
        assert (await no(hall, body=b'{"decision":"approved","name":"Ada"}')).code == "wait.over"
        page = await hall.ask(body=sent(the_decision="approved", the_name="Ada"), **BROWSER)
        assert (page.status, "too late" in page.body.decode()) == (409, True)
        assert not any(isinstance(event, ApprovalDecided) for event in hall.events)

    approving(timeout_seconds=60).run(story)


def test_a_link_decides_nothing_where_only_named_people_may() -> None:
    async def story(hall: Hall) -> None:
        for method in ("GET", "POST"):
            assert (await no(hall, method, body=b'{"decision":"approved"}')).code == "approval.not_yours"
        assert hall.state.status == "waiting"

    approving(deciders=["key:ada"], by_link=False).run(story)


def test_a_decision_for_a_run_whose_owner_is_away_is_kept() -> None:
    async def story(hall: Hall) -> None:
        hall.owner_is_there = False
        reply = await hall.ask(body=b'{"decision":"approved","name":"Ada"}')
        assert (reply.status, told(reply)["status"]) == (202, "queued")

    approving().run(story)


def marked(kind: str, marks: tuple[str, ...], **config: Any) -> PlanNode:
    return structs.replace(control("ask", kind, config), sensitive=marks)


SECRETIVE = {
    "type": "object",
    "properties": {"iban": {"type": "string"}, "sum": {"type": "number"}},
    "required": ["iban"],
}
IBAN = "DE02-CANARY"
YES = {"decision": "approved", "name": "Ada"}


@pytest.mark.parametrize("by_page", [True, False])
def test_what_an_approval_marks_is_sealed_before_it_is_said(by_page: bool) -> None:  # A case.
    keys = SealingKeys()
    body = json.dumps({**YES, "fields": {"iban": IBAN, "sum": 5}, "comment": f"to {IBAN}"})
    page = sent(the_decision="approved", the_name="Ada", the_comment=f"to {IBAN}", iban=IBAN, sum="5")

    async def decide(hall: Hall) -> Reply:
        return await (hall.ask(body=page, **BROWSER) if by_page else hall.ask(body=body.encode()))

    async def story(hall: Hall) -> None:
        assert (await decide(hall)).status == 200
        decided = next(event for event in hall.events if isinstance(event, ApprovalDecided))
        assert isinstance(decided.fields, Inline)
        fields = json.loads(bytes(decided.fields.value))
        assert (is_sealed(fields["iban"]), fields["sum"]) == (True, 5)
        assert keys.opened([fields, decided.comment], "run-1") == [{"iban": IBAN, "sum": 5}, f"to {IBAN}"]
        assert (await decide(hall)).status == 200, "said again it is the same decision"
        other = json.dumps({**YES, "fields": {"iban": "another"}}).encode()
        assert (await no(hall, body=other)).code == "wait.over"
        assert IBAN.encode() not in hall.stored

    question = {"question": "Where to?", "form": SECRETIVE}
    plan = drawn(ARROWS, marked("wait.approval", ("/fields/iban", "/comment"), **question))
    Hall(plan, keys).run(story)


def test_the_longest_comment_can_be_sealed_and_none_stays_none() -> None:
    async def story(hall: Hall) -> None:
        comment = json.dumps({**YES, "comment": "\x01" * COMMENT_CHARS}).encode()
        assert (await hall.ask(body=comment)).status == 200
        decided = next(event for event in hall.events if isinstance(event, ApprovalDecided))
        assert keys.opened(decided.comment, "run-1") == "\x01" * COMMENT_CHARS

    keys = SealingKeys()
    Hall(drawn(ARROWS, marked("wait.approval", ("/comment",), question="?")), keys).run(story)

    async def silent(hall: Hall) -> None:
        assert (await hall.ask(body=json.dumps(YES).encode())).status == 200
        assert next(event for event in hall.events if isinstance(event, ApprovalDecided)).comment == ""

    Hall(drawn(ARROWS, marked("wait.approval", ("/comment",), question="?")), keys).run(silent)


def test_what_is_marked_is_kept_sealed_for_an_owner_who_is_away_and_not_taken_without_the_vault() -> None:
    plan = drawn(ARROWS, marked("wait.approval", ("/fields",), question="?", form=SECRETIVE))
    body = json.dumps({**YES, "fields": {"iban": IBAN}}).encode()

    async def away(hall: Hall) -> None:
        hall.owner_is_there = False
        assert (await hall.ask(body=body)).status == 202
        assert b"$sealed" in hall.stored
        assert IBAN.encode() not in hall.stored

    Hall(plan, SealingKeys()).run(away)

    async def no_vault(hall: Hall) -> None:
        assert (await no(hall, body=body)).code == "unavailable"
        assert not any(isinstance(event, ApprovalDecided) for event in hall.events)

    Hall(plan).run(no_vault)


# --- Who has no link --------------------------------------------------------------------------


def test_a_wrong_link_is_told_like_one_that_never_was() -> None:
    async def story(hall: Hall) -> None:
        right = link_of().rpartition("/")[2]
        named, _, good = right.partition(".")
        other = link_of("other").rpartition("/")[2].partition(".")[0]
        wrong = [f"{named}.{'A' * 43}", f"{other}.{good}", named, good, "", "x.y", f"{right}x", right[:-1]]
        answers = {(str(problem), problem.code) for problem in [await no(hall, token=each) for each in wrong]}
        assert answers == {("There is nothing under this address.", "not_found")}
        assert not hall.limit.left < 10_000

    approving().run(story)


def test_a_link_of_a_run_that_is_over_says_so() -> None:
    async def story(hall: Hall) -> None:
        hall.say(CANCEL)
        assert (await no(hall, body=b'{"decision":"approved","name":"Ada"}')).code == "wait.over"
        page = await hall.ask("GET", **HTML)
        assert "too late" in page.body.decode()

    approving().run(story)


# --- Programs ---------------------------------------------------------------------------------


def test_a_call_lets_the_run_go_on_with_what_came() -> None:
    async def story(hall: Hall) -> None:
        reply = await hall.ask(body=b'{"sum": 1.10}', content_type="application/json", x_id="7", query="a=1")
        assert (reply.status, reply.body) == (200, b'{"received":true}')
        received = next(event for event in hall.events if isinstance(event, CallReceived))
        assert isinstance(received.body, Inline)
        given = json.loads(bytes(received.body.value))
        assert (given["body"], given["query"], given["method"]) == ({"sum": 1.1}, {"a": "1"}, "POST")
        assert given["headers"]["x-id"] == "7"
        assert hall.state.attempts.keys() == {"go"}
        assert (await hall.ask(body=b'{"sum": 1.10}', query="a=1")).status == 200
        assert (await no(hall, body=b'{"sum": 2}')).code == "wait.over"

    calling().run(story)


def test_the_caller_is_answered_as_the_workflow_says() -> None:
    async def story(hall: Hall) -> None:
        assert (await no(hall, "POST")).headers["allow"] == "PUT, GET"
        assert (await no(hall, "PUT", body=b"x" * 11)).code == "too_large"
        reply = await hall.ask("PUT", body=b"[1]")
        assert (reply.status, told(reply)) == (201, {"thanks": True})

    calling(methods=["PUT", "GET"], status=201, body={"thanks": True}, body_bytes=10).run(story)


def test_a_call_proves_who_it_is_where_the_workflow_asks_for_it() -> None:
    async def story(hall: Hall) -> None:
        assert (await no(hall, body=b"{}")).code == "bad_signature"
        assert (await no(hall, body=b"{}", x_hub_signature_256=signed(b"other"))).code == "bad_signature"
        assert not any(isinstance(event, CallReceived) for event in hall.events)
        assert (await hall.ask(body=b"{}", x_hub_signature_256=signed(b"{}"))).status == 200

    calling(authentication={"scheme": "github", "secret": {"$secret": "signing"}}).run(story)


def test_a_call_that_comes_before_its_run_waits_is_held_until_it_does() -> None:
    async def story(hall: Hall) -> None:
        async def soon() -> None:
            await asyncio.sleep(1)
            hall.say(done("call"))

        async with asyncio.TaskGroup() as group:
            group.create_task(soon())
            reply = await hall.ask(body=b"5")
        assert reply.status == 200
        assert hall.state.attempts.keys() == {"go"}

    Hall(drawn("call>ask ask>go", control("ask", "wait.webhook"))).run(story)


def test_a_call_that_comes_far_too_early_is_told_to_come_again() -> None:
    async def story(hall: Hall) -> None:
        refused = await no(hall, body=b"5")
        assert (refused.code, refused.headers["retry-after"]) == ("wait.not_open", "5")
        page = await hall.ask("GET", **HTML)
        assert (page.status, "Nothing is asked yet" in page.body.decode()) == (409, True)
        assert hall.state.attempts.keys() == {"call"}

    Hall(drawn("call>ask ask>go", control("ask", "wait.webhook"))).run(story)


def test_what_proves_a_link_is_stored_nowhere_whoever_sends_it_along() -> None:
    async def story(hall: Hall) -> None:
        link = link_of()
        await hall.ask(
            body=json.dumps({"callback": link}).encode(),
            query=urlencode({"from": link}),
            content_type="application/json",
            referer=link,
            x_original_url=link,
        )
        assert hall.state.attempts.keys() == {"go"}
        assert proof() not in hall.stored
        assert b"[redacted]" in hall.stored

    calling().run(story)


def test_what_a_call_marks_is_sealed_in_all_that_came() -> None:
    keys = SealingKeys()

    async def story(hall: Hall) -> None:
        call: dict[str, Any] = {
            "body": json.dumps({"card": "4111-CANARY", "sum": 5}).encode(),
            "content_type": "application/json",
            "x_code": "CANARY-2",
            "query": "pin=CANARY-3&a=1",
        }
        assert (await hall.ask(**call)).status == 200
        received = next(event for event in hall.events if isinstance(event, CallReceived))
        assert isinstance(received.body, Inline)
        given = json.loads(bytes(received.body.value))
        assert (given["body"]["sum"], given["query"]["a"]) == (5, "1")
        opened = keys.opened(given, "run-1")
        assert (opened["body"]["card"], opened["headers"]["x-code"]) == ("4111-CANARY", "CANARY-2")
        assert opened["query"]["pin"] == "CANARY-3"
        assert (await hall.ask(**call)).status == 200, "said again it is the same call"
        assert b"CANARY" not in hall.stored

    Hall(drawn("ask>go", marked("wait.webhook", ("/body/card", "/headers/x-code", "/query/pin"))), keys).run(
        story
    )


@pytest.mark.parametrize(
    ("marks", "taken"), [(("/files",), False), (("",), False), (("/body/fields/a",), True)]
)
def test_a_file_that_came_with_a_call_cannot_be_sealed(marks: tuple[str, ...], *, taken: bool) -> None:
    body = (
        b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nCANARY\r\n'
        b'--x\r\ncontent-disposition: form-data; name="f"; filename="f.txt"\r\n\r\nscan\r\n--x--\r\n'
    )
    kind: dict[str, Any] = {"content_type": "multipart/form-data; boundary=x"}

    async def story(hall: Hall) -> None:
        if taken:
            assert (await hall.ask(body=body, **kind)).status == 200
        else:
            assert (await no(hall, body=body, **kind)).code == "malformed"
        assert b"CANARY" not in hall.stored

    Hall(drawn("ask>go", marked("wait.webhook", marks)), SealingKeys()).run(story)


def test_an_item_of_a_map_has_a_link_of_its_own() -> None:
    plan = drawn("", control("each", "map", {"items": [1, 2]}), control("ask", "wait.webhook", inside="each"))

    async def story(hall: Hall) -> None:
        assert (await hall.ask(body=b"1", step="each[1].ask")).status == 200
        assert hall.state.waits.keys() == {"call:each[0].ask"}
        assert (await hall.ask(body=b"0", step="each[0].ask")).status == 200
        assert hall.state.status == "completed"
        # The item is forgotten by its run, but not by its history.
        assert (await hall.ask(body=b"1", step="each[1].ask")).status == 200
        assert (await no(hall, body=b"2", step="each[1].ask")).code == "wait.over"

    Hall(plan).run(story)
