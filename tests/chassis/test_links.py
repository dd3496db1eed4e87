"""Resumption links: only who has one knows it, and only marks of the run's own stand for one."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.links import Links, Place, mark, marked, proof_of
from chassis.secret import Secret

LINKS = Links("https://hooks.example/", Secret(b"k" * 32))
PLAN = "ab" * 32
ASK = Place("org_default", "run-1", "ask")

steps = st.from_regex(r"[a-z][a-z0-9_]{0,10}(\[[0-9]{1,4}\]\.[a-z][a-z0-9_]{0,10}){0,3}", fullmatch=True)


def token(link: str) -> str:
    return link.removeprefix("https://hooks.example/resume/")


@given(steps)
def test_a_link_leads_to_its_step_and_is_the_same_each_time(step: str) -> None:
    place = Place("org_default", "run-1", step)
    link = LINKS.link(place)
    assert link.startswith("https://hooks.example/resume/")
    assert LINKS.link(place) == link
    assert LINKS.place(token(link)) == place


def test_nobody_makes_a_link_without_the_key() -> None:
    link = token(LINKS.link(ASK))
    named, _, proof = link.partition(".")
    other = Links("https://hooks.example", Secret(b"o" * 32))
    assert other.place(link) is None
    elsewhere = token(LINKS.link(Place("org_default", "run-2", "ask"))).partition(".")[0]
    assert LINKS.place(f"{elsewhere}.{proof}") is None
    assert LINKS.place(f"{named}.{'A' * 43}") is None


@pytest.mark.parametrize(
    "text", ["", ".", "a.b", "x" * 5_000, f"{'x' * 2_000}.{'A' * 43}", "é" * 60, f"e30.{'é' * 43}", "\0.\0"]
)
def test_what_is_no_link_is_none(text: str) -> None:
    assert LINKS.place(text) is None


@given(st.text(max_size=100))
def test_any_text_may_be_asked_for(text: str) -> None:
    assert LINKS.place(text) is None
    assert LINKS.place(f"{text}.{'A' * 43}") is None


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_link_with_one_letter_changed_is_none(at: int, by: int) -> None:
    link = token(LINKS.link(ASK))
    at %= len(link)
    changed = link[:at] + chr((ord(link[at]) + by) % 256) + link[at + 1 :]
    assert changed == link or LINKS.place(changed) is None


def test_what_proves_a_link_is_long_enough_not_to_be_guessed() -> None:
    proof = proof_of(LINKS.link(ASK))
    assert len(base64.urlsafe_b64decode(proof + "=")) == 32


@given(steps)
def test_a_mark_stands_for_the_link_of_its_step(step: str) -> None:
    place = Place("org_default", "run-1", step)
    made = mark(place, PLAN)
    assert marked(f"see {made}?decision=approved or {made}", "org_default", "run-1", PLAN) == {made: place}
    assert made.isascii()
    assert not set(made) - set("abcdefghijklmnopqrstuvwxyz0123456789-_.~"), "nothing writes it otherwise"


def test_a_mark_of_another_run_another_plan_or_nobody_is_a_text() -> None:
    made = mark(ASK, PLAN)
    assert marked(made, "org_default", "run-2", PLAN) == {}
    assert marked(made, "org_other", "run-1", PLAN) == {}
    assert marked(made, "org_default", "run-1", "cd" * 32) == {}
    assert marked(f"automateos-link~ask~{'0' * 32}", "org_default", "run-1", PLAN) == {}


def test_two_marks_stand_beside_each_other() -> None:
    first, second = mark(ASK, PLAN), mark(Place("org_default", "run-1", "each[3].ask"), PLAN)
    assert list(marked(first + second, "org_default", "run-1", PLAN)) == [first, second]
