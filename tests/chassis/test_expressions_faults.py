"""How an expression fails: before any run with every fault in its place, in a run with a sentence and a place."""

import pytest
from msgspec import Raw

from chassis.expressions import (
    Apart,
    Context,
    ExpressionError,
    Form,
    Language,
    Position,
    Scope,
    Settled,
    compile_condition,
    compile_config,
    compile_template,
)

SCOPE = Scope(nodes=frozenset({"fetch"}), known=frozenset({"fetch", "later"}))


@pytest.fixture(scope="module")
def language() -> Language:
    return Language()


@pytest.fixture(scope="module")
def context() -> Context:
    return Context.from_roots(
        trigger=Raw(b'{"body": {"total": 100, "name": "Ann", "items": [1, 2], "none": null, "m": {"a": 1}}}'),
        steps={"fetch": Settled(output=Raw(b"{}"))},
    )


@pytest.mark.parametrize(
    ("source", "code", "offset", "message"),
    [
        ("nope.x", "reference", 0, "`nope` is unknown; there are trigger, steps, run, vars, item, index"),
        ("1 + nope", "reference", 4, "`nope` is unknown; there are trigger, steps, run, vars, item, index"),
        (
            "secrets.x",
            "reference",
            0,
            "`secrets` is unknown; there are trigger, steps, run, vars, item, index",
        ),
        (
            "[1].map(x, y)",
            "reference",
            11,
            "`y` is unknown; there are trigger, steps, run, vars, item, index",
        ),
        (
            "x == 1 && [1].all(x, x > 0)",
            "reference",
            0,
            "`x` is unknown; there are trigger, steps, run, vars, item, index",
        ),
        ("1 + steps.later.output", "reference", 4, "`later` does not come before this node"),
        ("steps.nobody.output", "reference", 0, "there is no node `nobody`"),
        (
            "steps.fetch.result",
            "reference",
            0,
            "`steps.fetch` has output, status, error, resume_url, nothing else",
        ),
        ("steps.fetch", "reference", 0, "`steps.fetch` has output, status, error, resume_url, nothing else"),
        ("size(steps) > 0", "reference", 5, "`steps` needs the id of a node: `steps.<node>.output`"),
        ("steps[trigger.x]", "reference", 0, "`steps` needs the id of a node: `steps.<node>.output`"),
        ("steps.map(s, s)", "reference", 0, "`steps` needs the id of a node: `steps.<node>.output`"),
        (
            "has(steps.fetch)",
            "reference",
            4,
            "`steps.fetch` has output, status, error, resume_url, nothing else",
        ),
        ("item.x", "reference", 0, "`item` is there only inside a map or a loop"),
        (
            "[1].map(trigger, trigger)",
            "reference",
            7,
            "`trigger` has a meaning of its own; call the variable something else",
        ),
        (
            "cel.bind(steps, 1, steps)",
            "reference",
            8,
            "`steps` has a meaning of its own; call the variable something else",
        ),
        ("foo(1)", "reference", 3, "there is no function `foo`"),
        ("trigger.x.foo()", "reference", 13, "there is no function `foo`"),
        ("now()", "reference", 3, "there is no function `now`"),
        ("math.random()", "reference", 11, "there is no function `math.random`"),
        (
            "lists.range(3)",
            "reference",
            0,
            "`lists` is unknown; there are trigger, steps, run, vars, item, index",
        ),
        ("Account{name: 'x'}", "reference", 0, "`Account` cannot be built here; maps are written {…}"),
        (
            "google.protobuf.Duration{seconds: 1}",
            "reference",
            0,
            "`google.protobuf.Duration` cannot be built here; maps are written {…}",
        ),
        ("1 + 'a'", "type", 2, "`+` cannot take a whole number and a text"),
        ("1 == 'a'", "type", 2, "`==` cannot take a whole number and a text"),
        ("'abc'.contains(1)", "type", 14, "`contains` cannot take a text and a whole number"),
        ("1 ? 1 : 'a'", "type", 2, "`? :` cannot take a whole number and a whole number and a text"),
        ("-'a'", "type", 0, "`-` cannot take a text"),
        ("size(1)", "type", 4, "`size` cannot take a whole number"),
        ("", "syntax", 0, "the expression is empty"),
        ("  ", "syntax", 0, "the expression is empty"),
        ("1 +", "syntax", 3, "the expression ends too early"),
        ("(1", "syntax", 2, "`)` is missing here"),
        ("{true: 1}", "type", 1, "a name in a map is a text or a whole number"),
        ("1 2", "syntax", 2, "`2` does not belong here"),
        ("if", "syntax", 0, "reserved identifier: if"),
        ("'a\0b'", "syntax", 2, "the text has a NUL character"),
        ("'\ud800'", "syntax", 1, "the text has half a character"),
        (
            "trigger.?a",
            "reference",
            7,
            "`?` stands behind names, fields and numbers, at most ten from there on, and needs an end: "
            "`a.?b.orValue(c)` or `a.?b.hasValue()`",
        ),
        (" {{ trigger.n > 1 }}", "syntax", 0, "this is an expression already: write it without {{ }}"),
        ("'é' + nope", "reference", 6, "`nope` is unknown; there are trigger, steps, run, vars, item, index"),
        (
            "'😀' + nope",
            "reference",
            6,
            "`nope` is unknown; there are trigger, steps, run, vars, item, index",
        ),
    ],
)
def test_a_fault_has_a_code_a_place_and_a_sentence(
    source: str, code: str, offset: int, message: str, language: Language
) -> None:
    compiled = compile_condition(source, language, node="n", field="/when", scope=SCOPE)
    assert [(fault.code, fault.position.offset, fault.message) for fault in compiled.faults][:1] == [
        (code, offset, message)
    ]
    assert (compiled.faults[0].node, compiled.faults[0].field, compiled.faults[0].source) == (
        "n",
        "/when",
        source,
    )


def test_all_faults_are_told_at_once(language: Language) -> None:
    config = {
        "a": "{{ nope }} and {{ steps.later.output + other }}",
        "b/c~": ["fine", "{{ 1 + }}", {"d": "{{ open"}],
        "when": "steps.fetch.nope",
    }
    compiled = compile_config(config, language, node="n", form=Form(conditions=("/when",)), scope=SCOPE)
    assert [(fault.field, fault.position.offset, fault.code) for fault in compiled.faults] == [
        ("/a", 3, "reference"),
        ("/a", 39, "reference"),
        ("/b~1c~0/1", 7, "syntax"),
        ("/b~1c~0/2/d", 0, "syntax"),
        ("/when", 0, "reference"),
    ]


def test_a_position_counts_lines_and_columns(language: Language) -> None:
    compiled = compile_template("line one\n  {{ 1 +\n nope }}", language, node="n", field="/t")
    assert compiled.faults[0].position == Position(offset=19, line=3, column=2)


def test_a_configuration_without_a_scope_is_taken_as_checked(language: Language) -> None:
    assert compile_template("{{ steps.any.output }} {{ item }}", language, node="n", field="/t").faults == ()


@pytest.mark.parametrize(
    ("source", "offset", "message"),
    [
        ("trigger.body.nope", 0, "`trigger.body.nope` is not there"),
        ("1 + trigger.body.nope.x", 4, "`trigger.body.nope` is not there"),
        ("steps.fetch.output.total", 0, "`steps.fetch.output.total` is not there"),
        ("steps.later.output", 0, "`steps.later.output` is not there"),
        ("vars.x", 0, "`vars` is not there"),
        (
            "trigger.body.name.first",
            0,
            "`trigger.body.name` is a text, so there is no `trigger.body.name.first`",
        ),
        ("trigger.body.none.x", 0, "`trigger.body.none` is null, so there is no `trigger.body.none.x`"),
        (
            "trigger.body.items[2]",
            0,
            "`trigger.body.items` has 2 items, so there is no `trigger.body.items[2]`",
        ),
        (
            "trigger.body.items[-1]",
            0,
            "`trigger.body.items` has 2 items, so there is no `trigger.body.items[-1]`",
        ),
        ("has(trigger.nope.x)", 4, "`trigger.nope` is not there"),
        ("1 / 0", 2, "division by zero"),
        ("1 + (trigger.body.total % 0)", 24, "division by zero"),
        ("true ? 1 / 0 : 2", 9, "division by zero"),
        ("trigger.body.total > 1 && 1 / 0 > 1", 28, "division by zero"),
        ("[1].map(x, x / 0)", 7, "division by zero"),
        ("trigger.body.m.map(k, trigger.body.m[k] / 0)", 18, "division by zero"),
        ("trigger.body.m[trigger.body.name]", 14, "`Ann` is not there"),
        ("[{'a': 1}][0].b", 13, "`b` is not there"),
        ("trigger.body.name + 1", 18, "`+` cannot take a text and a whole number"),
        ("9223372036854775807 + trigger.body.total", 20, "the whole number does not fit into 64 bits"),
        ("trigger.body.total.startsWith('a')", 29, "`startsWith` cannot take a whole number and a text"),
        ("int(trigger.body.name)", 3, "cannot convert string to int"),
        ("type(1)", 4, "the result is a type, which JSON cannot hold"),
        ("double('NaN')", 6, "the result is no finite number"),
        ("18446744073709551615u", 0, "the result is a whole number beyond 64 bits"),
    ],
)
def test_an_error_names_the_field_the_place_and_the_reason(
    source: str, offset: int, message: str, language: Language, context: Context
) -> None:
    compiled = compile_template("a: {{" + source + "}}", language, node="pick", field="/fields/x")
    assert compiled.faults == ()
    with pytest.raises(ExpressionError) as caught:
        compiled.evaluate(context)
    error = caught.value
    assert (error.message, error.position.offset) == (message, offset + 5)
    assert (error.node, error.field, error.source) == ("pick", "/fields/x", "a: {{" + source + "}}")
    assert str(error) == message


def test_the_first_field_that_fails_is_named(language: Language, context: Context) -> None:
    compiled = compile_config({"a": "{{ 1 }}", "b": ["{{ 1 / 0 }}"], "c": "{{ nope }}"}, language, node="n")
    with pytest.raises(ExpressionError) as caught:
        compiled.evaluate(context)
    assert caught.value.field == "/b/0"


def test_an_error_value_is_never_a_true_condition(language: Language, context: Context) -> None:
    """The engine gives errors as values, and their text is a true value in Python."""
    for source in ("1 / 0 > 0", "trigger.nope", "trigger.body.nope == 1", "[1][5] == 1", "1 / 0"):
        with pytest.raises(ExpressionError):
            compile_condition(source, language, node="n", field="/when").evaluate(context)


@pytest.mark.parametrize(
    "text",
    [
        'No value with name "@99" found in Activation',
        'NOT_FOUND: No value with name "@99" found in Activation',
        "divide by zero",
        "\0",
        '"',
        "`",
    ],
)
def test_a_strangers_text_is_never_taken_for_what_the_engine_says(text: str, language: Language) -> None:
    context = Context.from_roots(trigger={"m": {}, "k": text})
    for source in (
        "trigger.m[trigger.k]",
        "int(trigger.k)",
        "timestamp(trigger.k)",
        "trigger.k.matches('(' + trigger.k)",
    ):
        compiled = compile_template("{{ " + source + " }}", language, node="n", field="/t")
        with pytest.raises((ExpressionError, Apart)) as caught:
            compiled.evaluate(context)
        assert "@99" not in str(caught.value) or "`" in str(caught.value)
        assert "division" not in str(caught.value)


def test_a_message_is_short_whatever_it_quotes(language: Language) -> None:
    context = Context.from_roots(trigger={"m": {}, "k": "x" * 100_000})
    with pytest.raises(ExpressionError) as caught:
        compile_template("{{ trigger.m[trigger.k] }}", language, node="n", field="/t").evaluate(context)
    assert len(caught.value.message) == 500
    faults = compile_template("{{ " + "x" * 4_000 + " }}", language, node="n", field="/t").faults
    assert [len(fault.message) for fault in faults] == [500]


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (Raw(b"{"), "the value is no JSON"),
        (Raw(b'{"a": "\xff"}'), "the value is no JSON"),
        (Raw(b'{"a": "\\ud800"}'), "the value is no JSON"),
        (Raw(b"[" * 5_000 + b"]" * 5_000), "the value is no JSON"),
        (Raw(b'{"a": 1e999}'), "the value is no JSON"),
        (Raw(b'{"a": ' + b"9" * 5_000 + b"}"), "the value is no JSON"),
        (Raw(b'{"a": ' + b"9" * 1_000 + b"}"), "a number is too large"),
        ({"a": "\ud800"}, "the value cannot be JSON"),
        ({"a": object()}, "the value cannot be JSON"),
        ({None: 1}, "the value cannot be JSON"),
    ],
)
def test_a_value_that_is_no_json_is_an_error(trigger: object, message: str, language: Language) -> None:
    for text in ("{{ trigger.a }}", "{{ trigger.a == 1 }}"):
        with pytest.raises(ExpressionError, match=message):
            compile_template(text, language, node="n", field="/t").evaluate(
                Context.from_roots(trigger=trigger)
            )
