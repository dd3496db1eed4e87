"""Functions that the engine does not have: texts in all alphabets, JSON in a text, sums, and what they may cost."""

import sys
from html import unescape
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from chassis.expressions import Apart, Context, Language
from chassis.expressions.bounds import _visit
from chassis.expressions.costs import Size
from chassis.expressions.faults import Failed
from chassis.expressions.own import PADDED
from chassis.expressions.program import Program
from contracts.limits import JSON_DEPTH

LANGUAGE = Language()
texts = some.text(some.characters(exclude_categories=["Cs"]), max_size=60)


def program(source: str) -> Program:
    found = LANGUAGE.program(source)
    assert isinstance(found, Program), found
    return found


def value(source: str, **trigger: Any) -> object:
    return program(source).evaluate(Context.from_roots(trigger=trigger))


@given(texts)
def test_every_text_goes_through_whole(text: str) -> None:
    assert value("trigger.t.upper()", t=text) == text.upper()
    assert value("trigger.t.lower()", t=text) == text.lower()
    assert value("trigger.t.urlEncode().urlDecode()", t=text) == text
    assert unescape(str(value("trigger.t.htmlEscape()", t=text.replace("&", "")))) == text.replace("&", "")
    assert value("trigger.t.padStart(5, '\\u0000')", t=text) == text.rjust(5, "\0")
    assert value("trigger.t.padEnd(70)", t=text) == text.ljust(70)


@given(
    some.recursive(
        some.none() | some.booleans() | some.integers(-(2**63), 2**63 - 1) | texts,
        lambda inner: some.lists(inner, max_size=4) | some.dictionaries(texts, inner, max_size=3),
        max_leaves=10,
    )
)
def test_json_in_a_text_is_read_whole(given_value: Any) -> None:

    text = msgspec.json.encode(given_value).decode()
    assert value("trigger.t.parseJson()", t=text) == given_value


@given(
    some.recursive(
        some.none() | some.booleans() | some.integers(-(2**63), 2**63 - 1) | texts,
        lambda inner: some.lists(inner, max_size=4) | some.dictionaries(texts, inner, max_size=3),
        max_leaves=10,
    )
)
def test_every_value_is_written_as_json_from_which_it_is_read_again(given_value: Any) -> None:
    told = value("trigger.v.toJson()", v=given_value)
    assert isinstance(told, str)
    assert msgspec.json.decode(told) == given_value
    assert told == msgspec.json.encode(given_value, order="deterministic").decode()


def test_nulls_that_are_written_as_json_cost_no_references_to_none() -> None:
    before = sys.getrefcount(None)
    for _ in range(1_000):
        assert value("trigger.l.toJson()", l=[None] * 10) == "[" + ",".join(["null"] * 10) + "]"
    assert abs(sys.getrefcount(None) - before) < 500


def test_what_json_has_no_form_for_is_written_as_in_a_result() -> None:
    source = "[timestamp('2026-11-20T12:00:00Z'), duration('90s'), bytes('abc')]"
    assert value(f"{source}.toJson()") == '["2026-11-20T12:00:00Z","90s","YWJj"]'


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("'{'.parseJson()", "no JSON"),
        ("trigger.deep.parseJson()", "nested deeper"),
        ("'%ff'.urlDecode()", "not UTF-8"),
        ("'a'.padStart(2, 'ab')", "one character"),
        ("'a'.padEnd(2, '')", "one character"),
        (f"'a'.padEnd({PADDED + 1})", "at most"),
        ("(0.0 / 0.0).toJson()", "no finite number"),
        ("math.sum([1, null])", "numbers only"),
        ("math.sum(['1'])", "numbers only"),
        ("math.sum([true])", "numbers only"),
        ("math.sum([9223372036854775807, 1])", "64 bits"),
        ("math.sum([1.0 / 0.0])", "no finite number"),
        ("regex.replace('a', '(', 'b')", "regular expression"),
        ("regex.extractAll('a', '(a)(b)')", "one capturing group"),
        ("trigger.n.upper()", "`upper` cannot take"),
        ("trigger.n.startOf('day')", "`startOf` cannot take"),
    ],
)
def test_what_does_not_work_is_told(source: str, says: str) -> None:
    with pytest.raises(Failed, match=says):
        value(source, deep="[" * (JSON_DEPTH + 1) + "]" * (JSON_DEPTH + 1), n=1)


@pytest.mark.parametrize("source", ["trigger.?a", "[?trigger.a]", "trigger[?'a']", "optional.of(1)", "optional.none()", "trigger.?a.or(trigger.?b).orValue(1)", "[1].first()", "regex.extract('a', 'a')"])  # fmt: skip
def test_what_comes_along_with_the_engines_extensions_does_not_exist(source: str) -> None:
    assert not isinstance(LANGUAGE.program(source), Program)


def test_sums_keep_whole_numbers_whole() -> None:
    assert value("math.sum(trigger.l)", l=[2**62, 2**61]) == 2**62 + 2**61
    assert value("math.sum(trigger.l)", l=[0.1] * 10) == 1.0
    assert value("math.sum(trigger.orders.map(o, o.sum))", orders=[{"sum": 1}, {"sum": 2.5}]) == 3.5


def test_nulls_in_a_sum_cost_no_references_to_none() -> None:
    before = sys.getrefcount(None)
    for _ in range(1_000):
        with pytest.raises(Failed):
            value("math.sum(trigger.l)", l=[None] * 10)
    assert abs(sys.getrefcount(None) - before) < 500


HEAVY: dict[str, dict[str, Any]] = {
    "trigger.s.parseJson()": {"s": "[" + "[]," * 200_000 + "[]]"},
    "trigger.s.upper()": {"s": "ß" * 400_000},
    "trigger.l.toJson()": {"l": [[]] * 200_000},
    "trigger.s.urlEncode()": {"s": "ü" * 100_000},
    "trigger.s.htmlEscape()": {"s": "'" * 400_000},
    "regex.replace(trigger.s, 'a.*b|a', 'x')": {"s": "a" * 50_000},
    "regex.replace(trigger.s, '', trigger.s)": {"s": "a" * 3_000},
    "regex.replace(trigger.s, '(a+)', '" + r"\\1" * 100 + "')": {"s": "a" * 30_000},
    "regex.extractAll(trigger.s, 'a.*b|a')": {"s": "a" * 50_000},
    "trigger.l.map(x, x.padStart(1000, 'ü')).size()": {"l": ["a"] * 9_000},
    "trigger.l.map(x, timestamp(x).formatDate('yyyy-MM-dd')).size()": {"l": ["2026-11-20T12:00:00Z"] * 5_000},
    "trigger.l.map(x, timestamp(x).getHours('Europe/Berlin')).size()": {"l": ["2026-11-20T12:00:00Z"] * 5_000},
    "math.sum(trigger.l.map(x, math.sum(trigger.l)))": {"l": [1] * 2_000},
}  # fmt: skip


@pytest.mark.parametrize("source", HEAVY)
def test_what_may_cost_too_much_is_evaluated_apart(source: str) -> None:
    with pytest.raises(Apart):
        value(source, **HEAVY[source])


@pytest.mark.parametrize(
    ("source", "trigger"),
    [
        ("trigger.s.parseJson()", {"s": '{"a":[1e15,1e15,"x"]}' + " " * 20}),
        ("trigger.s.upper()", {"s": "ΐ" * 200}),
        ("trigger.s.urlEncode()", {"s": "ü" * 200}),
        ("trigger.s.toJson()", {"s": "\\\"" * 200}),
        ("trigger.s.toJson()", {"s": "\x01" * 200}),
        ("trigger.s.htmlEscape()", {"s": "'" * 200}),
        ("trigger.s.urlDecode()", {"s": "%41" * 200}),
        ("trigger.s.padStart(1000, 'ü')", {"s": "x"}),
        ("regex.replace(trigger.s, 'a', 'bcd')", {"s": "a" * 50}),
        ("regex.extractAll(trigger.s, 'a')", {"s": "a" * 50}),
        ("timestamp(trigger.s).formatDate('EEEE MMMM z z z z', 'America/Argentina/Buenos_Aires')", {"s": "2026-09-20T12:00:00Z"}),
    ],
)  # fmt: skip
def test_what_is_given_is_not_larger_than_its_bound(source: str, trigger: dict[str, Any]) -> None:
    made = program(source)
    sizes = {"@0": Size(len(trigger["s"].encode()), text=True)}
    result = made.evaluate(Context.from_roots(trigger=trigger))
    assert len(msgspec.json.encode(result)) <= _visit(made._root, sizes)[2].bytes
