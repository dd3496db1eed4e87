"""What a form promises: a page that everybody can fill in, one run for each page, and little room for spam."""

import asyncio
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from msgspec import structs

from chassis.edge.problems import Problem
from chassis.ids import digest
from chassis.seals import is_sealed
from contracts.codec import Decoder
from contracts.forms import Question, Questions
from contracts.messages import Answer
from contracts.payloads import Inline
from contracts.triggers import Form, Hook, Webhook
from ingress.question_page import STAMP, TRAP
from tests.ingress.doors import PLAN, TEST_TOKEN, TOKEN, Room, SealingKeys

json = Decoder[Any](Any)
QUESTIONS = Questions(
    properties={
        "email": Question(title="Your e-mail", description="We answer there.", format="email"),
        "seats": Question(type="integer", title="Seats", minimum=1, maximum=9),
        "meal": Question(title="Meal", enum=("meat", "none of it")),
        "why": Question(title="Why", format="multiline", max_length=20),
        "agreed": Question(type="boolean", title="I agree"),
    },
    required=("email", "agreed"),
)
FORM = Form(title="Sign up <now>", questions=QUESTIONS, thanks="See you & yours.", lang="de")
GOOD = {"email": "a@b.example", "seats": "3", "meal": "meat", "why": "x\r\ny", "agreed": "yes"}


class Page(HTMLParser):
    """A page as far as it matters here: its controls, labels, links and texts."""

    def __init__(self, reply: Any) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(reply.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def control(self, name: str) -> dict[str, str]:
        return next(a for _, a in self.tags if a.get("name") == name)

    @property
    def stamp(self) -> str:
        return self.control(STAMP)["value"]


def room(form: Form | None = FORM, **trigger: Any) -> Room:
    return Room(Webhook(), form=form, **trigger)


def sent(page: Page, **changes: str) -> bytes:
    return urlencode(GOOD | {STAMP: page.stamp, TRAP: ""} | changes).encode()


async def read(room: Room, seconds: float = 5.0) -> Page:
    """Open the page, and read it."""
    page = Page(room.opened())
    await asyncio.sleep(seconds)
    return page


def test_every_field_has_a_label_and_its_page_loads_nothing() -> None:
    async def story(room: Room) -> None:
        reply = room.opened()
        page = Page(reply)
        labels = {label["for"] for label in page.all("label")}
        controls = [
            a for tag, a in page.tags if tag in ("input", "select", "textarea") and a["name"] != STAMP
        ]
        assert {control["id"] for control in controls} == labels
        assert page.all("html") == [{"lang": "de"}]
        assert page.control("email")["aria-describedby"] == "f-email-hint"
        assert page.control("email")["type"] == "email"
        assert page.control("email")["aria-required"] == "true"
        assert [option["value"] for option in page.all("option")] == ["", "meat", "none of it"]
        assert not page.all("script")
        assert not [a for _, a in page.tags if "src" in a or a.get("href", "#")[0] != "#" or "style" in a]
        assert "Sign up <now>" in page.text, "a text stays one"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert room.starts == []

    room().run(story)


def test_an_answer_starts_a_run_with_values_of_the_kinds_that_were_asked_for() -> None:
    async def story(room: Room) -> None:
        reply = await room.filled(sent(await read(room)))
        assert (reply.status, reply.content_type) == (200, "text/html; charset=utf-8")
        assert "See you & yours." in Page(reply).text
        [start] = room.starts
        assert (start.plan, start.workflow, start.trigger) == (PLAN, "flow1", "trigger1")
        assert isinstance(start.input, Inline)
        given = json(start.input.value)
        assert given["body"] == {
            "email": "a@b.example",
            "seats": 3,
            "meal": "meat",
            "why": "x\ny",
            "agreed": True,
        }
        assert given["method"] == "FORM"

    room().run(story)


def test_a_double_click_is_one_run_and_another_page_is_another() -> None:
    async def story(room: Room) -> None:
        page, other = await read(room), await read(room)
        replies = [await room.filled(sent(page)) for _ in range(2)]
        assert {reply.status for reply in replies} == {200}
        assert len({start.run for start in room.starts}) == 1
        await room.filled(sent(other))
        assert len({start.run for start in room.starts}) == 2
        await room.hooks.drained()
        assert room.kept == [("duplicate", "")]

    room().run(story)


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"email": ""}, "email", "needed"),
        ({"email": "nobody"}, "email", "e-mail address"),
        ({"seats": "many"}, "seats", "whole number"),
        ({"seats": "2.5"}, "seats", "whole number"),
        ({"seats": "12"}, "seats", "9 or less"),
        ({"meal": "fish"}, "meal", "choices"),
        ({"why": "w" * 21}, "why", "20 characters"),
        ({"agreed": ""}, "agreed", "needed"),
    ],
)
def test_what_is_wrong_is_said_at_the_top_and_beside_its_field_and_nothing_is_lost(
    changes: dict[str, str], field: str, says: str
) -> None:
    async def story(room: Room) -> None:
        page = await read(room)
        reply = await room.filled(sent(page, **changes))
        again = Page(reply)
        assert reply.status == 422
        assert again.control(field)["aria-invalid"] == "true"
        assert f"f-{field}-error" in again.control(field)["aria-describedby"].split()
        assert f"f-{field}-error" in [p.get("id") for p in again.all("p")]
        assert [link["href"] for link in again.all("a")] == [f"#f-{field}"]
        assert again.text.count(says) == 2
        assert again.text.startswith("Error: ") or "Error: Sign up" in again.text
        if field != "email":
            assert again.control("email")["value"] == "a@b.example"
        assert room.starts == []
        assert again.stamp == page.stamp
        assert (await room.filled(sent(again))).status == 200
        assert len(room.starts) == 1

    room().run(story)


def test_what_somebody_wrote_comes_back_as_a_text() -> None:
    async def story(room: Room) -> None:
        wicked = '"><script>alert(1)</script>'
        reply = await room.filled(sent(await read(room), email=wicked, why="</textarea><b>"))
        assert not Page(reply).all("script")
        assert not Page(reply).all("b")
        assert Page(reply).control("email")["value"] == wicked

    room().run(story)


def test_a_program_that_fills_in_everything_learns_nothing_and_starts_nothing() -> None:
    async def story(room: Room) -> None:
        reply = await room.filled(sent(await read(room), **{TRAP: "https://spam.example"}))
        assert reply.status == 200
        assert "See you" in Page(reply).text
        assert room.starts == []
        await room.hooks.drained()
        assert room.kept == [("refused", "spam: a field was filled in that people do not see")]

    room().run(story)


def test_whoever_is_faster_than_a_reader_is_asked_once_more() -> None:
    async def story(room: Room) -> None:
        page = await read(room, seconds=0.5)
        reply = await room.filled(sent(page))
        assert reply.status == 422
        assert "very fast" in Page(reply).text
        assert room.starts == []
        await asyncio.sleep(3)
        assert (await room.filled(sent(Page(reply)))).status == 200
        assert len(room.starts) == 1

    room().run(story)


@pytest.mark.parametrize(
    "how", ["none", "forged", "altered", "of the same form with other addresses", "old", "garbage"]
)
def test_only_a_page_of_ours_is_taken_and_only_while_it_is_fresh(how: str) -> None:
    async def story(room: Room) -> None:
        page = await read(room)
        match how:
            case "none":
                stamp = ""
            case "forged":
                stamp = re.sub(r"[0-9a-f]{64}$", "0" * 64, page.stamp)
            case "altered":
                stamp = "1" + page.stamp
            case "garbage":
                stamp = "\udcff.é" * 300
            case "of the same form with other addresses":
                stamp = page.stamp
                rotated = room.directory.find(digest(TOKEN.encode()))
                assert rotated is not None
                room.directory.put(structs.replace(rotated[0], test_token=digest(b"another")))
            case _:
                room.clock.skew["story"] = 25 * 3600
                stamp = page.stamp
        reply = await room.filled(sent(page, **{STAMP: stamp.encode("utf-8", "replace").decode()}))
        again = Page(reply)
        assert reply.status == 422
        assert "open for too long" in again.text
        assert room.starts == []
        assert again.stamp != page.stamp
        await asyncio.sleep(3)
        assert (await room.filled(sent(again))).status == 200

    room().run(story)


def test_an_address_that_sends_too_much_is_told_to_wait() -> None:
    async def story(room: Room) -> None:
        page = await read(room)
        room.limit.left = 0
        reply = await room.filled(sent(page))
        assert (reply.status, reply.headers["retry-after"]) == (429, "42")
        assert "Nothing was sent" in Page(reply).text
        assert room.starts == []

    room().run(story)


@pytest.mark.parametrize("trouble", ["disk", "owner"])
def test_who_cannot_be_served_is_told_that_nothing_was_sent(trouble: str) -> None:
    async def story(room: Room) -> None:
        page = await read(room)
        if trouble == "disk":
            room.full = True
        else:
            room.answers = lambda start: Answer(run=start.run, result="refused")
        reply = await room.filled(sent(page))
        assert reply.status == 503
        assert "Nothing was sent" in Page(reply).text

    room().run(story)


def test_a_program_may_send_json_and_hears_every_mistake_with_its_place() -> None:
    async def story(room: Room) -> None:
        kind = "application/json"
        with pytest.raises(Problem) as problem:
            await room.filled(b'{"seats":true,"meal":7,"more":1}', kind)
        told = {each.pointer: each.message for each in problem.value.errors}
        assert set(told) == {"/email", "/seats", "/meal", "/more", "/agreed"}
        with pytest.raises(Problem) as problem:
            await room.filled(b"[1]", kind)
        assert [each.pointer for each in problem.value.errors] == [""]
        for body in (b"{", b'{"a":' * 100 + b"1" + b"}" * 100):
            with pytest.raises(Problem) as problem:
                await room.filled(body, kind)
            assert problem.value.code == "malformed"
        assert room.starts == []
        good = b'{"email":"a@b.example","agreed":true,"seats":2}'
        first = await room.filled(good, kind, idempotency_key="k1")
        again = await room.filled(good, kind, idempotency_key="k1")
        other = await room.filled(good, kind)
        assert [reply.status for reply in (first, again, other)] == [202, 200, 202]
        assert json(first.body)["run"] == json(again.body)["run"] != json(other.body)["run"]

    room().run(story)


def test_a_test_address_keeps_a_sample_and_starts_nothing() -> None:
    async def story(room: Room) -> None:
        page = Page(room.opened(TEST_TOKEN))
        assert "This is a test" in page.text
        await asyncio.sleep(5)
        assert (await room.filled(sent(page), token=TEST_TOKEN)).status == 200
        reply = await room.filled(b'{"email":"a@b.example","agreed":true}', "application/json", TEST_TOKEN)
        assert json(reply.body) == {"captured": True}
        assert room.starts == []
        await room.hooks.drained()
        assert room.kept == [("captured", "")] * 2

    room(plan="").run(story)


def test_what_is_sensitive_in_an_answer_is_sealed_for_its_run_and_nothing_else_is() -> None:
    async def story(room: Room) -> None:
        room.forms._keys = keys = SealingKeys()
        await room.filled(sent(await read(room)))
        await room.filled(b'{"email":"a@b.example","agreed":true}', "application/json")
        for start, run in zip(room.starts, keys.sealed_for, strict=True):
            assert (start.run, start.key_id) == (run, "salt-1")
            assert isinstance(start.input, Inline)
            assert b"a@b.example" not in bytes(start.input.value)
            body = json(start.input.value)["body"]
            assert is_sealed(body["email"])
            assert body["agreed"] is True

    room(structs.replace(FORM, sensitive=("/email",))).run(story)


def test_what_is_sensitive_in_a_sample_of_a_form_is_sealed_for_its_receipt() -> None:
    async def story(room: Room) -> None:
        room.forms._keys = keys = SealingKeys()
        await room.filled(b'{"email":"a@b.example","agreed":true}', "application/json", TEST_TOKEN)
        await room.hooks.drained()
        [(_, stored, _)] = room.letters.stored
        hook = Decoder[Hook](Hook)(stored)
        assert b"a@b.example" not in stored
        assert (hook.key_id, keys.sealed_for) == ("salt-1", [hook.receipt])

    room(structs.replace(FORM, sensitive=("/email",))).run(story)


def test_with_the_vault_away_nothing_sensitive_is_taken_and_nobody_else_asks_it() -> None:
    async def story(room: Room) -> None:
        reply = await room.filled(sent(await read(room)))
        assert (reply.status, "Nothing was sent" in Page(reply).text) == (503, True)
        with pytest.raises(Problem) as problem:
            await room.filled(b'{"email":"a@b.example","agreed":true}', "application/json")
        assert problem.value.code == "unavailable"
        assert room.starts == []

    room(structs.replace(FORM, sensitive=("/email",))).run(story)

    async def unmarked(room: Room) -> None:
        assert (await room.filled(sent(await read(room)))).status == 200

    room().run(unmarked)


@pytest.mark.parametrize("changes", [{"enabled": False}, {"plan": ""}, {"form": None}])
def test_what_is_closed_looks_like_what_is_not_there(changes: dict[str, Any]) -> None:
    async def story(room: Room) -> None:
        for token in (TOKEN, "nothing"):
            with pytest.raises(Problem) as problem:
                room.opened(token)
            assert (problem.value.code, problem.value.detail) == (
                "not_found",
                "There is no form at this address.",
            )

    room(**changes).run(story)


def test_a_form_is_no_webhook() -> None:
    async def story(room: Room) -> None:
        with pytest.raises(Problem) as problem:
            await room.deliver(b"{}")
        assert problem.value.code == "not_found"
        with pytest.raises(Problem) as problem:
            room.forms.open(TOKEN, "DELETE")
        assert problem.value.code == "method_not_allowed"
        with pytest.raises(Problem) as problem:
            await room.filled(b"x", "text/plain")
        assert problem.value.code == "unsupported_media_type"
        with pytest.raises(Problem) as problem:
            await room.filled(b"&".join(b"a=1" for _ in range(2_000)))
        assert problem.value.code == "malformed"

    room().run(story)
