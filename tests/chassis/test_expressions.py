"""What a builder can write in the fields of a node, and what it gives."""

from typing import Any

import pytest
from msgspec import Raw

from chassis.expressions import (
    Context,
    ExpressionError,
    Form,
    Language,
    Reads,
    Scope,
    Settled,
    Value,
    compile_condition,
    compile_config,
    compile_template,
)

BODY = b"""{"body": {"status": "paid", "total": 100, "note": null, "big": true, "customer": {"name": "Zo\xc3\xab", "id": 7},
 "items": [{"sku": "a", "price": 2.5}, {"sku": "b", "price": 4}], "headers": {"z": 1, "a": 2, "m": 3}}}"""


@pytest.fixture(scope="module")
def language() -> Language:
    return Language()


@pytest.fixture(scope="module")
def context() -> Context:
    return Context.from_roots(
        trigger=Raw(BODY),
        run={"id": "run-1"},
        vars={"vat": 1.19, "half": 0.5},
        item="it",
        steps={
            "fetch": Settled(output=Raw(b'{"rows": [1, 2, 3]}'), status="succeeded"),
            "lost": Settled(status="failed", error={"code": "unreachable"}),
        },
    )


TEMPLATES = Form()


def given(config: object, language: Language, context: Context, form: Form = TEMPLATES) -> Any:
    compiled = compile_config(config, language, node="n", form=form)
    assert compiled.faults == ()
    return compiled.evaluate(context)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ trigger.body.total }}", 100),
        ("{{trigger.body.total}}", 100),
        ("{{ vars.vat }}", 1.19),
        ("{{ trigger.body.big }}", True),
        ("{{ trigger.body.note }}", None),
        ("{{ trigger.body.status }}", "paid"),
        ("{{ trigger.body.items }}", [{"sku": "a", "price": 2.5}, {"sku": "b", "price": 4}]),
        ("{{ steps.fetch.output.rows[1] }}", 2),
        ("{{ steps['fetch'].output['rows'] }}", [1, 2, 3]),
        ("{{ steps.lost.error.code }} {{ steps.lost.status }}", "unreachable failed"),
        ("{{ run.id }}", "run-1"),
        ("{{ item }}", "it"),
        ("{{ 1 + 2 }}", 3),
    ],
)
def test_a_field_that_is_one_expression_keeps_the_type(
    text: str, value: object, language: Language, context: Context
) -> None:
    result = given(text, language, context)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "Hello {{ trigger.body.customer.name }}, {{ trigger.body.total }} please.",
            "Hello Zoë, 100 please.",
        ),
        ("{{ 1 }}{{ 2 }}", "12"),
        (" {{ 1 }}", " 1"),
        ("[{{ trigger.body.note }}]", "[]"),
        ("{{ trigger.body.big }}!", "true!"),
        ("{{ trigger.body.items[0] }}!", '{"sku":"a","price":2.5}!'),
        ("{{ [1, 'a', null] }}!", '[1,"a",null]!'),
        (
            "{{ 100.0 }} {{ 0.5 }} {{ 1e21 }} {{ 1e-7 }} {{ 0.00001 }} {{ -0.0 }}",
            "100 0.5 1e+21 1e-7 0.00001 0",
        ),
        ("{{ 123456789012345680000.0 }} {{ 1.5e300 }}", "123456789012345680000 1.5e+300"),
        ("{{ b'abc' }} {{ duration('90s') }} {{ timestamp(0) }}", "YWJj 90s 1970-01-01T00:00:00Z"),
        ("no expression", "no expression"),
        ("", ""),
        ("}} { { }}", "}} { { }}"),
    ],
)
def test_text_around_expressions_makes_a_text(
    text: str, value: str, language: Language, context: Context
) -> None:
    assert given(text, language, context) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\{{ x }}", "{{ x }}"),
        (r"\{{ x }} {{ 1 }}", "{{ x }} 1"),
        (r"\\{{ 1 }}", "\\1"),
        (r"\\\{{ x }}", "\\{{ x }}"),
        (r"C:\temp\{file} {{ 1 }}", r"C:\temp\{file} 1"),
    ],
)
def test_a_backslash_makes_braces_ordinary(
    text: str, value: str, language: Language, context: Context
) -> None:
    assert given(text, language, context) == value
    assert given({"a": [text]}, language, context) == {"a": [value]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{{ {"a": {"b": 1}} }}', {"a": {"b": 1}}),
        ('{{{"a": {"b": 1}}}}', {"a": {"b": 1}}),
        ('{{ "}}" }}', "}}"),
        ("{{ '{{' + \"}}\" }}", "{{}}"),
        (r'{{ "\"}}" }}', '"}}'),
        (r"{{ r'\d}}' + '}}' }}", r"\d}}}}"),
        ('{{ """a"}}""" }}', 'a"}}'),
        ("{{ 1 // }}\n + 2 }}", 3),
        ('{{ b"}}".size() }}', 2),
        ('{{ {"}}": "{{"} }}', {"}}": "{{"}),
    ],
)
def test_braces_in_strings_maps_and_comments_belong_to_the_expression(
    text: str, value: object, language: Language, context: Context
) -> None:
    assert given(text, language, context) == value


def test_every_text_in_a_configuration_is_a_template(language: Language, context: Context) -> None:
    config = {
        "url": "https://example.com/{{ trigger.body.customer.id }}",
        "query": {"{{ not a template }}": ["{{ run.id }}", 1, None, True, {"deep": "{{ item }}"}]},
    }
    assert given(config, language, context) == {
        "url": "https://example.com/7",
        "query": {"{{ not a template }}": ["run-1", 1, None, True, {"deep": "it"}]},
    }


def test_a_condition_is_bare(language: Language, context: Context) -> None:
    form = Form(conditions=("/cases/*/when",), literal=("/cases/*/name",))
    config = {
        "cases": [{"name": "{{ a }}", "when": "trigger.body.total > 10 && trigger.body.status == 'paid'"}]
    }
    assert given(config, language, context, form) == {"cases": [{"name": "{{ a }}", "when": True}]}


def test_a_literal_field_and_all_in_it_stays_as_it_is(language: Language, context: Context) -> None:
    config = {"raw": {"a": "{{ 1 }}"}, "b": "{{ 1 }}"}
    assert given(config, language, context, Form(literal=("/raw",))) == {"raw": {"a": "{{ 1 }}"}, "b": 1}


def test_a_secret_reference_is_never_looked_into(language: Language, context: Context) -> None:
    config = {"token": {"$secret": "{{ vars.id }} {{"}, "a": "{{ 1 }}"}
    compiled = compile_config(config, language, node="n")
    assert compiled.faults == ()
    assert compiled.evaluate(context) == {"token": {"$secret": "{{ vars.id }} {{"}, "a": 1}
    assert compiled.reads == Reads()


@pytest.mark.parametrize(
    "text",
    [
        "{{ trigger.body }}",
        "{{ [trigger.body] }}",
        "{{ {'$secret': 'prod'} }}",
        "{{ {'$' + 'secret': 'prod'} }}",
        "{{ trigger.list.map(x, {'a': x}) }}",
    ],
)
@pytest.mark.parametrize("written", [b'{"$secret": "prod"}', rb'{"\u0024s\u0065cret": "prod"}'])
def test_no_expression_gives_a_secret_reference(text: str, written: bytes, language: Language) -> None:
    """What a stranger sends can never choose a secret of ours."""
    context = Context.from_roots(trigger=Raw(b'{"body": %b, "list": [%b]}' % (written, written)))
    with pytest.raises(ExpressionError, match="secret"):
        given(text, language, context)


def test_a_field_of_a_reference_shaped_object_is_still_plain_data(language: Language) -> None:
    context = Context.from_roots(trigger=Raw(b'{"body": {"$secret": "prod"}}'))
    assert given("{{ trigger.body['$secret'] }}", language, context) == "prod"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("trigger.body.total * vars.vat", 119.0),
        ("vars.half + trigger.body.total", 100.5),
        ("trigger.body.total - vars.half", 99.5),
        ("trigger.body.total / vars.half", 200.0),
        ("vars.half / trigger.body.total", 0.005),
        ("1 + 1.5", 2.5),
        ("size(trigger.body.items) * 1.5", 3.0),
        ("trigger.body.total / 30", 3),
        ("trigger.body.total % 30", 10),
        ("2 < 2.5 && 2.5 <= 3 && trigger.body.total > 99.5", True),
        ("trigger.body.total == 100.0", True),
    ],
)
def test_whole_and_floating_point_numbers_mix(
    source: str, value: object, language: Language, context: Context
) -> None:
    """JSON does not tell 100 from 100.0."""
    result = compile_condition(source, language, node="n", field="/c").evaluate(context)
    assert (result, type(result)) == (value, type(value))


def test_a_quotient_by_zero_is_no_number_for_json(language: Language, context: Context) -> None:
    for source in ("1 / 0.0", "-1.5 / 0", "0 / 0.0"):
        with pytest.raises(ExpressionError, match="finite"):
            given("{{ " + source + " }}", language, context)
    assert given("{{ [1 / 0.0 > 1e300, -1 / 0.0 < -1e300, math.isNaN(0 / 0.0)] }}", language, context) == [
        True,
        True,
        True,
    ]


def test_the_order_of_names_is_the_sources_or_the_inputs(language: Language, context: Context) -> None:
    literal = given('{{ {"z": 1, "a": {"y": 2, "b": 3}, "k": 4 + 0} }}', language, context)
    assert (list(literal), list(literal["a"])) == (["z", "a", "k"], ["y", "b"])
    assert list(given("{{ trigger.body.headers }}", language, context)) == ["z", "a", "m"]
    mapped = given('{{ [1, 2].map(x, {"z": x, "a": x}) }}', language, context)
    assert [list(one) for one in mapped] == [["z", "a"], ["z", "a"]]


def test_where_nothing_says_an_order_names_are_sorted(language: Language, context: Context) -> None:
    assert given("{{ trigger.body.headers.map(k, k) }}", language, context) == ["a", "m", "z"]
    kept = given("{{ trigger.body.headers.filter(k, trigger.body.headers[k] > 1) }}", language, context)
    assert kept == ["a", "m"]
    chosen = given("{{ true ? trigger.body.headers : {} }}", language, context)
    assert list(chosen) == ["a", "m", "z"]


def test_names_that_json_cannot_hold_become_texts(language: Language, context: Context) -> None:
    assert given("{{ {1: 'a', 2u: 'c'} }}", language, context) == {"1": "a", "2": "c"}
    assert given("{{ {trigger.body.big: 'a'} }}", language, context) == {"true": "a"}
    with pytest.raises(ExpressionError, match="same text"):
        given("{{ {1: 'a', '1': 'b'} }}", language, context)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("has(trigger.body.total)", True),
        ("has(trigger.body.nope)", False),
        ("has(trigger.body.note)", True),
        ("has(steps.fetch.output)", True),
        ("has(steps.fetch.output.nope)", False),
        ("has(steps.lost.output)", False),
        ("has(steps.skipped.output)", False),
        ("has(steps.skipped.output) ? steps.skipped.output : steps.fetch.output.rows[0]", 1),
        ("trigger.body.items.exists(i, has(i.sku))", True),
    ],
)
def test_has_tells_whether_a_field_is_there(
    source: str, value: object, language: Language, context: Context
) -> None:
    assert given("{{ " + source + " }}", language, context) == value


def test_what_is_not_evaluated_may_be_absent(language: Language, context: Context) -> None:
    assert given("{{ true || trigger.nope }}", language, context) is True
    assert given("{{ trigger.nope || true }}", language, context) is True
    assert given("{{ true ? 1 : trigger.nope.x }}", language, context) == 1


def test_the_sides_of_a_choice_may_differ(language: Language, context: Context) -> None:
    assert given("{{ trigger.body.total > 10 ? 'many' : 0 }}", language, context) == "many"
    assert given("{{ false ? 1 : null }}", language, context) is None


def test_a_name_with_special_characters_is_quoted(language: Language) -> None:
    context = Context.from_roots(trigger=Raw(b'{"headers": {"content-type": "text", "x y": 1}}'))
    assert given("{{ trigger.headers.`content-type` }}", language, context) == "text"
    assert given("{{ trigger.headers['x y'] }}", language, context) == 1


def test_a_configuration_says_what_it_reads(language: Language) -> None:
    config = {"a": "{{ trigger.x }} {{ steps.b.output }}", "b": ["{{ vars.v }}"], "c": "{{ steps.c.status }}"}
    compiled = compile_config(config, language, node="n")
    assert compiled.reads == Reads(nodes=frozenset({"b", "c"}), trigger=True, vars=True)
    assert compiled.expressions == 4
    assert compile_config({"a": 1}, language, node="n").reads == Reads()


def test_a_variable_of_a_loop_is_no_reference(language: Language) -> None:
    source = "[1].map(x, cel.bind(y, x, [y].filter(z, z > 0 && has(run.id))))"
    compiled = compile_condition(source, language, node="n", field="/c", scope=Scope(nodes=frozenset()))
    assert compiled.faults == ()
    assert compiled.reads == Reads(run=True)


def test_a_context_grows_by_steps_and_shares_what_is_decoded(language: Language) -> None:
    trigger = Value(Raw(b'{"a": 1}'))
    before = Context.from_roots(trigger=trigger)
    after = before.with_step("one", Raw(b"[5]")).with_item({"n": 2})
    template = compile_template(
        "{{ trigger.a }} {{ steps.one.output[0] }} {{ item.n }}", language, node="n", field="/t"
    )
    assert template.evaluate(after) == "1 5 2"
    assert before.find(("trigger",)) is after.find(("trigger",)) is trigger.decoded
    with pytest.raises(ExpressionError, match=r"`steps\.one\.output` is not there"):
        template.evaluate(before)


def test_values_come_as_json_text_or_as_objects(language: Language) -> None:
    for trigger in (Raw(b'{"a": [1]}'), b'{"a": [1]}', {"a": [1]}, Value({"a": (1,)})):
        assert given("{{ trigger.a + [2] }}", language, Context.from_roots(trigger=trigger)) == [1, 2]


def test_a_program_is_made_once(language: Language) -> None:
    assert language.program("1 + 41") is language.program("1 + 41")
    small = Language(kept=2)
    first = small.program("1")
    small.program("2")
    assert small.program("1") is first
    third = small.program("3")
    assert small.program("1") is first
    assert small.program("3") is third
