"""The traps of the engine stay closed: nulls, NULs, orders, errors, huge numbers."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from chassis.expressions import Context, Language
from chassis.expressions.budget import Room
from chassis.expressions.engine import Engine, Refused, run
from chassis.expressions.faults import Failed
from chassis.expressions.program import Program
from chassis.expressions.results import UNKNOWN, plain
from chassis.expressions.values import INT64, Value, has_secret
from chassis.expressions.wire import Malformed, read, write


def value(source: str, language: Language, **roots: Any) -> object:
    program = language.program(source)
    assert isinstance(program, Program), program
    return program.evaluate(Context.from_roots(**roots))


@pytest.fixture(scope="module")
def language() -> Language:
    return Language()


@pytest.mark.parametrize(
    ("source", "nulls"),
    [
        ("null", None),
        ("true ? null : 1", None),
        ("[trigger.a, null, 1, [null]]", [None, None, 1, [None]]),
        ("{'a': null, 'b': {'c': trigger.a}}", {"a": None, "b": {"c": None}}),
        ("trigger.list.map(x, x)", [None, None, {"n": None}]),
        ("trigger.list + []", [None, None, {"n": None}]),
    ],
)
def test_nulls_cost_no_references_to_none(source: str, nulls: object, language: Language) -> None:
    """The engine does not count the references to None that it hands out; 5,000 of them ended the interpreter."""
    trigger = {"a": None, "list": [None, None, {"n": None}]}
    value(source, language, trigger=trigger)  # What the first one imports keeps hundreds.
    before = sys.getrefcount(None)
    for _ in range(3_000):
        assert value(source, language, trigger=trigger) == nulls
    assert abs(sys.getrefcount(None) - before) < 500


def test_nulls_are_paid_back_also_when_the_result_is_refused(language: Language) -> None:
    before = sys.getrefcount(None)
    for _ in range(1_000):
        with pytest.raises(Failed):
            value("[null, null, null, 1.0 / 0.0, null]", language)
    assert abs(sys.getrefcount(None) - before) < 500


@pytest.mark.parametrize(
    "root", [Raw(rb'{"a": "admin\u0000x", "l": ["x\u0000y"]}'), {"a": "admin\0x", "l": ["x\0y"]}]
)
def test_a_text_does_not_end_at_a_nul(root: object, language: Language) -> None:
    """Else `admin` and NUL and anything would equal `admin`."""
    assert value("trigger.a == 'admin'", language, trigger=root) is False
    assert value("trigger.a + '!'", language, trigger=root) == "admin\0x!"
    assert value("trigger.l[0].size()", language, trigger=root) == 3
    assert value("trigger.l.map(x, x + x)", language, trigger=root) == ["x\0yx\0y"]
    assert value("[trigger]", language, trigger=root) == [{"a": "admin\0x", "l": ["x\0y"]}]


def test_a_name_does_not_end_at_a_nul(language: Language) -> None:
    root = Raw(rb'{"k": {"a\u0000b": 1, "a": 2}}')
    assert value("trigger.k.map(k, trigger.k[k])", language, trigger=root) == [2, 1]
    assert value(r"'a\u0000b' in trigger.k && trigger.k['a'] == 2", language, trigger=root) is True


@given(st.text(max_size=50))
def test_every_text_passes_the_engine_unchanged(text: str) -> None:
    if any("\ud800" <= one <= "\udfff" for one in text):
        return
    assert value("[trigger.t, trigger.t + '']", LANGUAGE, trigger={"t": text}) == [text, text]


LANGUAGE = Language()

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(_JSON.filter(lambda one: not has_secret(one)))
def test_every_json_value_passes_the_engine_unchanged(given_value: object) -> None:
    through = value("[trigger.v][0]", LANGUAGE, trigger={"v": given_value})
    assert through == given_value
    assert value("trigger.v", LANGUAGE, trigger={"v": given_value}) == given_value
    assert value("trigger.v == trigger.v", LANGUAGE, trigger={"v": given_value}) is True


@pytest.mark.parametrize(
    ("number", "becomes"),
    [
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"9223372036854775808", 9223372036854775808.0),
        (b"18446744073709551615", 18446744073709551615.0),
        (b"123456789012345678901234567890", 123456789012345678901234567890.0),
        (b"-9223372036854775809", -9223372036854775809.0),
    ],
)
def test_a_whole_number_beyond_64_bits_becomes_floating_point(
    number: bytes, becomes: float, language: Language
) -> None:
    root = Raw(b'{"n": %b, "l": [%b]}' % (number, number))
    for source in ("trigger.n", "[trigger.n][0]", "trigger.l[0]", "trigger.l.map(x, x)[0]"):
        result = value(source, language, trigger=root)
        assert (result, type(result)) == (becomes, type(becomes))


@pytest.mark.parametrize("text", [b"%d", b"[%d]", b"[1,%d]", b"[1, -%d]", b'{"a":%d}', b'{"a": \n%d}'])
def test_a_huge_number_is_found_wherever_one_may_stand(text: bytes) -> None:
    def leaf(value: Any) -> Any:
        parts = list(value.values()) if isinstance(value, dict) else value
        return leaf(parts[-1]) if isinstance(parts, list) else parts

    assert isinstance(leaf(Value(text % 2**64).decoded), float)
    assert Value(b'{"key":"%d"}' % 2**64).decoded == {"key": str(2**64)}


@given(st.recursive(st.integers(-(10**40), 10**40) | st.text("0123456789-,[: ", max_size=45), st.lists))
def test_only_a_number_is_taken_for_a_huge_one(given_value: object) -> None:
    def told(one: object) -> object:
        if isinstance(one, list):
            return [told(part) for part in one]
        return float(one) if isinstance(one, int) and one not in INT64 else one

    assert repr(Value(json.dumps(given_value).encode()).decoded) == repr(told(given_value))


def test_one_huge_number_does_not_spoil_the_rest(language: Language) -> None:
    root = Raw(b'{"n": 123456789012345678901234567890, "a": 1}')
    assert value("trigger.a == 1 && size(trigger) == 2", language, trigger=root) is True


_ORDERS = """
from chassis.expressions import Context, Language
language = Language()
context = Context.from_roots(trigger={"m": {c: c for c in "qwertyuiopasdfgh"}, "l": [{"z": 1, "b": 2, "q": 3}]})
for source in ("trigger.m.map(k, k)", "trigger.m.filter(k, k != 'q')", "[trigger.m, trigger.l][0]", "trigger.l.filter(x, true)",
               "'%s'.format([trigger.m])", "trigger.m.exists_one(k, k == 'q') ? trigger.m : {}"):
    print(language.program(source).evaluate(context))
"""


def test_results_have_one_order_in_every_process() -> None:
    """The engine's hash tables are seeded anew in each."""
    said = {
        subprocess.run([sys.executable, "-c", _ORDERS], capture_output=True, text=True, check=True).stdout
        for _ in range(4)
    }
    assert len(said) == 1


def test_the_engine_gives_an_error_as_a_value_and_we_do_not() -> None:
    engine = Engine()
    program = engine.load(engine.parse("1 / 0").root)
    raw = program.eval(data={})
    assert raw.type().name() == "ERROR"
    assert isinstance(raw.value(), str)
    with pytest.raises(Failed, match="division by zero"):
        run(program, {})


def test_results_come_as_json_has_them(language: Language) -> None:
    source = """[timestamp('2026-11-20T12:00:00.123456Z'), timestamp('0001-01-01T00:00:00Z'), duration('-1.5s'),
                 duration('1h'), b'\\xff\\x00', 7u, -0.0, 1e300]"""
    assert value(source, language) == [
        "2026-11-20T12:00:00.123456Z",
        "0001-01-01T00:00:00Z",
        "-1.5s",
        "3600s",
        "/wA=",
        7,
        -0.0,
        1e300,
    ]


def test_a_result_is_bounded_in_depth(language: Language) -> None:
    for depth, fits in ((62, True), (64, False)):
        nested: object = 1
        for _ in range(depth):
            nested = [nested]
        for source in ("[trigger.a]", "{'a': trigger.a}"):
            if fits:
                assert value(source, language, trigger={"a": nested})
            else:
                with pytest.raises(Failed, match="deeper"):
                    value(source, language, trigger={"a": nested})
        if not fits:
            with pytest.raises(Failed, match="deeper"):
                value("trigger", language, trigger={"a": [nested]})


def test_a_result_is_bounded_in_size() -> None:
    engine = Engine()
    result = engine.load(engine.parse("['abc', 'def', {'k': 'x'}]").root).eval(data={})
    assert plain(result, UNKNOWN, Room(100)) == ["abc", "def", {"k": "x"}]
    with pytest.raises(Failed, match="larger"):
        plain(result, UNKNOWN, Room(10))


def test_a_tree_survives_writing_and_reading() -> None:
    engine = Engine()
    sources = (
        "trigger.a.b['x'] + 1 - -2",
        "[1, 2].map(x, x > 1, x * 2u)",
        "has(trigger.a.b) ? {'a': [null, b'\\x00', 1.5, 'é😀']} : {}",
        "cel.bind(q, -9223372036854775808, [q].exists_one(x, x == q))",
        "!true || trigger.l.all(x, 'a' in x) && math.greatest([1, 2]) > 0",
    )
    for source in sources:
        tree = engine.parse(source)
        again = read(write(tree.root))
        assert again.root == tree.root


@given(st.binary(max_size=80))
def test_bytes_that_are_no_tree_are_refused(data: bytes) -> None:
    try:
        read(data)
    except Malformed:
        return
    assert read(write(read(data).root)).root == read(data).root


def test_the_engine_refuses_what_it_cannot_parse_with_flaws() -> None:
    with pytest.raises(Refused) as caught:
        Engine().parse("1 +\n +")
    assert caught.value.flaws[0].offset == 5
