"""What a form asks is asked of everybody alike: of a page and of a program, to start a run and to decide."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert, inspect

from chassis.questions import complaints, flaws, from_json, from_page
from contracts.codec import encode
from contracts.forms import Question, Questions, questions_in
from contracts.limits import FORM_TEXT_CHARS, MAX_INTEGER
from orchestrator.asking import APPROVAL

ASKED: Final = Questions(
    properties={
        "name": Question(min_length=2, max_length=5),
        "lines": Question(format="multiline"),
        "count": Question(type="integer", minimum=1, maximum=9),
        "sum": Question(type="number"),
        "of": Question(enum=("a", "b")),
        "day": Question(format="date"),
        "mail": Question(format="email"),
        "site": Question(format="uri"),
        "sure": Question(type="boolean"),
    }
)
RECORDED: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "sum": {"type": "number", "maximum": 10},
        "why": {"type": "string"},
        "story": {"type": "string", "maxLength": 201},
        "sure": {"type": "boolean"},
    },
    "required": ["sum", "sure"],
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("name", " Ada ", "Ada"),
        ("lines", " one\r\ntwo ", " one\ntwo "),
        ("count", "+7", 7),
        ("sum", "5", 5),
        ("sum", "5.0", 5),
        ("sum", "-.5e1", -5),
        ("sum", "1.25", 1.25),
        ("sum", "1e300", 1e300),
        ("of", "b", "b"),
        ("day", "2026-12-31", "2026-12-31"),
        ("mail", "a@b.example", "a@b.example"),
        ("site", "https://b.example/x", "https://b.example/x"),
        ("sure", "yes", True),
        ("sure", "TRUE", True),
        ("sure", "false", False),
    ],
)
def test_a_page_says_it_as_a_program_would(name: str, text: str, value: object) -> None:
    checked = from_page(ASKED, {name: text})
    assert checked.errors == {}
    assert checked.values == {"sure": False, name: value}
    assert type(checked.values[name]) is type(value)
    assert from_json(ASKED, {name: value}).values == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "x"),
        ("name", "too long"),
        ("name", "a\0b"),
        ("name", 7),
        ("count", 0),
        ("count", 10),
        ("count", 1.5),
        ("count", True),
        ("sum", "5"),
        ("sum", float("nan")),
        ("sum", float("inf")),
        ("sum", 10**400),
        ("sum", MAX_INTEGER + 1),
        ("of", "c"),
        ("day", "2026-02-30"),
        ("day", "20261231"),
        ("mail", "nobody"),
        ("site", "javascript:alert(1)"),
        ("sure", "yes"),
        ("more", 1),
    ],
)
def test_what_does_not_fit_is_told_by_its_name(name: str, value: object) -> None:
    checked = from_json(ASKED, {name: value})
    assert checked.errors.keys() == {name}
    assert checked.values == {}


@pytest.mark.parametrize("text", ["1_000", "0x10", "1e5", "9" * 17])
def test_a_whole_number_has_digits_and_nothing_else(text: str) -> None:
    assert from_page(ASKED, {"count": text}).errors.keys() == {"count"}


def test_a_box_that_is_needed_is_consent_or_an_answer() -> None:
    asked = Questions(properties={"sure": Question(type="boolean")}, required=("sure",))
    for no in (from_page(asked, {}), from_json(asked, {"sure": False}), from_json(asked, {})):
        assert no.errors.keys() == {"sure"}
    assert from_page(asked, {}, may_deny=True).values == {"sure": False}
    assert from_json(asked, {"sure": False}, may_deny=True).values == {"sure": False}
    assert from_json(asked, {}, may_deny=True).errors.keys() == {"sure"}


def test_a_complaint_names_a_place_and_is_bounded() -> None:
    found = complaints(from_json(ASKED, {"a/b~": 1, "x" * 5_000: 1}), "/fields")
    assert found[0].pointer == "/fields/a~1b~0"
    assert len(found[1].pointer) < 250
    assert [each.pointer for each in complaints(from_json(ASKED, [1]), "/body")] == ["/body"]


VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*ASKED.properties, "more", ""]), VALUES) | VALUES)
def test_whatever_a_program_says_is_an_answer_or_has_its_fault(said: Any) -> None:
    checked = from_json(ASKED, said)
    assert not checked.values.keys() & checked.errors.keys()
    assert checked.values.keys() <= ASKED.properties.keys()
    assert from_json(ASKED, checked.values).values == checked.values
    encode(checked.values)


@given(st.dictionaries(st.sampled_from([*ASKED.properties, "more"]), st.text(max_size=12)))
def test_whatever_a_page_says_is_an_answer_or_has_its_fault(said: dict[str, str]) -> None:
    checked = from_page(ASKED, said)
    assert not checked.values.keys() & checked.errors.keys()
    assert from_json(ASKED, checked.values).values == checked.values


# --- Approvals --------------------------------------------------------------------------------


def test_an_approvals_form_keeps_its_meaning_where_it_names_no_bound() -> None:
    asked = questions_in(RECORDED)
    long = "x" * FORM_TEXT_CHARS
    good = {"sum": 10, "why": long, "sure": False}
    assert from_json(asked, good, may_deny=True).values == good
    wrong = {"sum": 11, "why": long + "x", "story": "x" * 202, "sure": None}
    assert from_json(asked, wrong, may_deny=True).errors.keys() == wrong.keys()
    assert from_json(asked, {"sum": -MAX_INTEGER, "sure": True}).errors == {}
    assert from_json(asked, {"sum": -1e300, "sure": True}).errors.keys() == {"sum"}
    assert asked.properties["story"].format == "multiline"
    assert asked.properties["why"].format == ""


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 0}}, "required": ["b c"]},
        {"type": "object", "properties": {"a": {"type": "number", "minimum": -(10**400), "maximum": 1e300}}},
    ],
)
def test_a_form_of_an_old_plan_stays_readable_though_nobody_could_write_it_now(form: dict[str, Any]) -> None:
    assert from_json(questions_in(form), {}).errors == {}
    assert from_json(questions_in(form), {"z": 1}).errors.keys() == {"z"}


def test_a_node_takes_the_forms_of_the_contract_and_no_others() -> None:
    words: Any = APPROVAL["form"]["properties"]["properties"]["additionalProperties"]["properties"]
    asked: Any = inspect.type_info(Question)
    assert words.keys() == {field.encode_name for field in asked.fields}
    formats = next(field.type for field in asked.fields if field.name == "format")
    assert {*words["format"]["enum"], ""} == set(formats.values)
    kinds = next(field.type for field in asked.fields if field.name == "type")
    assert set(words["type"]["enum"]) == set(kinds.values)
    widest = {
        "type": "number",
        "minimum": words["minimum"]["minimum"],
        "maximum": words["maximum"]["maximum"],
    }
    text = {"type": "string", "minLength": 0, "maxLength": words["maxLength"]["maximum"]}
    assert convert({"properties": {"a": widest, "b": text}}, Questions)


@pytest.mark.parametrize(
    ("form", "pointers"),
    [
        ({"properties": {"a": {"type": "string"}}, "required": ["a", "b"]}, ["/required/1"]),
        ({"properties": {"a": {"type": "integer", "enum": ["1"]}}}, ["/properties/a/enum"]),
        ({"properties": {"a": {"type": "integer", "maxLength": 300}}}, []),
        ({"properties": {"a": {"type": "boolean", "format": "date"}}}, ["/properties/a/format"]),
        ({"properties": {"a": {"type": "string", "minLength": 5_000}}}, []),
        ({"properties": {"a": {"type": "string", "minLength": 5, "maxLength": 4}}}, ["/properties/a/minLength"]),
        ({"properties": {"a": {"type": "number", "minimum": 5, "maximum": 4}}}, ["/properties/a/minimum"]),
    ],
)  # fmt: skip
def test_what_nobody_could_answer_is_told_by_its_place(form: dict[str, Any], pointers: list[str]) -> None:
    assert [pointer for pointer, _ in flaws(questions_in(form))] == pointers
