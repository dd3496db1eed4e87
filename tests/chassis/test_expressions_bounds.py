"""What an expression may cost: bounded before it runs, linear in loops, elsewhere when it is too much."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from msgspec import Raw

from chassis.expressions import (
    Apart,
    Context,
    Done,
    ExpressionError,
    Form,
    Job,
    Language,
    Undone,
    compile_config,
    compile_template,
)
from chassis.expressions.bounds import MEMORY, NANOSECONDS, Cost
from chassis.expressions.budget import Budget
from chassis.expressions.costs import Size
from chassis.expressions.program import Program


@pytest.fixture(scope="module")
def language() -> Language:
    return Language()


def program(source: str, language: Language) -> Program:
    found = language.program(source)
    assert isinstance(found, Program), found
    return found


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("'" + "a" * 4_095 + "'", "longer than 4096 bytes"),
        ("'" + "é" * 2_048 + "'", "longer than 4096 bytes"),
        ("+".join(["1"] * 20_000), "longer than 4096 bytes"),
        ("+".join(["1"] * 2_000), "too many terms"),
        ("(" * 2_000 + "1" + ")" * 2_000, "nested too deep"),
        ("[" * 2_000 + "]" * 2_000, "nested too deep"),
        ("true ? 1 : " * 300 + "2", "nested too deep"),
        ("trigger" + ".a" * 2_000, "nested too deep"),
        ("trigger" + "[0]" * 1_000, "nested too deep"),
        ("[" + ",".join(["1"] * 1_500) + "]", "more than 1000 parts"),
        ("&&".join(["[1].all(x, x > 0)"] * 11), "more than 10 loops"),
        ("[1].all(a, [1].all(b, [1].all(c, [1].all(d, [1].all(e, true)))))", "more than 4 deep"),
    ],
)
def test_an_expression_is_bounded_before_it_is_compiled(
    source: str, message: str, language: Language
) -> None:
    flaws = language.program(source)
    assert not isinstance(flaws, Program)
    assert flaws[0].code == "limit"
    assert message in flaws[0].message


def test_thirty_terms_in_a_row_are_fine(language: Language) -> None:
    assert program(" + ".join(["1"] * 30), language).evaluate(Context.from_roots()) == 30
    assert program(" && ".join(["true"] * 500), language).evaluate(Context.from_roots()) is True


def test_a_configuration_has_a_bounded_number_of_expressions(language: Language) -> None:
    compiled = compile_config([f"{{{{ {n} }}}}" for n in range(502)], language, node="n")
    assert [(fault.code, fault.field) for fault in compiled.faults] == [("limit", "/500"), ("limit", "/501")]


def test_a_configuration_is_bounded_in_depth(language: Language) -> None:
    config: object = "{{ 1 }}"
    for _ in range(2_000):
        config = [config]
    compiled = compile_config(config, language, node="n")
    assert [fault.code for fault in compiled.faults] == ["limit"]


def test_a_loop_over_the_most_items_stays_on_the_spot(language: Language) -> None:
    """By itself the engine copies 1.6 GB for this one."""
    context = Context.from_roots(trigger={"l": list(range(7_000))})
    assert program("trigger.l.map(x, x * 2).size()", language).evaluate(context) == 7_000
    assert program("trigger.l.filter(x, x % 2 == 0).size()", language).evaluate(context) == 3_500
    assert program("trigger.l.all(x, x >= 0)", language).evaluate(context) is True


def test_more_rounds_than_the_engine_allows_are_an_error(language: Language) -> None:
    context = Context.from_roots(trigger={"l": list(range(10_001))})
    compiled = compile_template("{{ trigger.l.all(x, x >= 0) }}", language, node="n", field="/t")
    with pytest.raises(ExpressionError, match="more than 10,000 rounds"):
        compiled.evaluate(context)


HEAVY: Mapping[str, object] = {
    # A megabyte, doubled eight times.
    "[trigger.s]" + ".map(v, v + v)" * 8 + "[0].size()": {"s": "a" * 1_000_000},
    # Every item against every other.
    "trigger.l.filter(x, x in trigger.l).size()": {"l": [f"item {n}" for n in range(5_000)]},
    "trigger.l.distinct().size()": {"l": [{"n": n} for n in range(5_000)]},
    "sets.contains(trigger.l, trigger.l)": {"l": list(range(5_000))},
    # One large text in every round.
    "trigger.l.all(x, !trigger.s.contains(x))": {"l": ["zz"] * 5_000, "s": "a" * 900_000},
    # Patterns that grow.
    "trigger.s.matches('" + "a{1,1000}" * 20 + "')": {"s": "a"},
    "trigger.s.matches(trigger.p)": {"s": "a" * 10_000, "p": "(a|b)*a(a|b){500}c"},
    # Texts that grow.
    "trigger.s.replace('a', trigger.s).size()": {"s": "a" * 5_000},
    "trigger.l.map(x, trigger.s).join(trigger.s).size()": {"l": [1] * 2_000, "s": "a" * 50_000},
    "trigger.s.split('').size()": {"s": "a" * 900_000},
    "trigger.s.split('').map(x, trigger.s.split(x)).size()": {"s": "a" * 5_000},
    "cel.bind(a, trigger.s + trigger.s, cel.bind(b, a + a, cel.bind(c, b + b, cel.bind(d, c + c, d + d)))).size()": {
        "s": "a" * 900_000
    },
    # A large value for nothing.
    "trigger.l == [1]": {"l": [{"a": {"b": [n]}} for n in range(40_000)]},
}


@pytest.mark.parametrize("source", HEAVY)
def test_what_may_cost_too_much_is_evaluated_apart(source: str, language: Language) -> None:
    heavy = program(source, language)
    context = Context.from_roots(trigger=HEAVY[source])
    with pytest.raises(Apart) as caught:
        heavy.evaluate(context)
    job = heavy.job(context)
    assert caught.value.jobs == (job,)
    assert job is not None
    assert job.source == source


@pytest.mark.parametrize(
    "source", [one for one in HEAVY if "a{1,1000}" not in one and "trigger.p" not in one]
)
def test_the_same_with_small_values_is_evaluated_on_the_spot(source: str, language: Language) -> None:
    small = {"s": "abc", "l": ["a", "b"]}
    assert program(source, language).evaluate(Context.from_roots(trigger=small)) is not None
    assert program(source, language).job(Context.from_roots(trigger=small)) is None


def test_an_answer_is_taken_for_the_question_that_was_asked(language: Language) -> None:
    source = "trigger.l.distinct().size()"
    compiled = compile_template("{{ " + source + " }}", language, node="n", field="/t")
    context = Context.from_roots(trigger={"l": [{"n": n} for n in range(5_000)]})
    with pytest.raises(Apart) as caught:
        compiled.evaluate(context)
    (job,) = caught.value.jobs
    assert compiled.evaluate(context, {job.name: Done(value=Raw(b"4711"))}) == 4711
    with pytest.raises(ExpressionError) as failed:
        compiled.evaluate(context, {job.name: Undone(message="it did not work", offset=10)})
    assert (failed.value.message, failed.value.position.offset) == ("it did not work", 12)
    other = Context.from_roots(trigger={"l": [{"n": n} for n in range(5_001)]})
    with pytest.raises(Apart):
        compiled.evaluate(other, {job.name: Done(value=Raw(b"4711"))})


def test_the_name_of_a_job_cannot_be_forged_by_moving_its_border() -> None:
    jobs = [Job(source="a", values=Raw(b"b{}")), Job(source="ab", values=Raw(b"{}"))]
    assert len({job.name for job in jobs}) == 2


def test_all_jobs_of_a_configuration_are_told_at_once(language: Language) -> None:
    heavy = "{{ trigger.l.distinct().size() }}"
    other = "{{ trigger.l.distinct()[0] }}"
    compiled = compile_config({"a": heavy, "b": "{{ trigger.x }}", "c": [other]}, language, node="n")
    context = Context.from_roots(trigger={"l": [{"n": n} for n in range(5_000)], "x": 1})
    with pytest.raises(Apart) as caught:
        compiled.evaluate(context)
    first, second = caught.value.jobs
    with pytest.raises(Apart) as caught:
        compiled.evaluate(context, {first.name: Done(value=Raw(b"1"))})
    assert caught.value.jobs == (second,)
    answers = {first.name: Done(value=Raw(b"1")), second.name: Done(value=Raw(b'"x"'))}
    assert compiled.evaluate(context, answers) == {"a": 1, "b": 1, "c": ["x"]}


def test_the_fields_of_a_configuration_share_one_budget(language: Language) -> None:
    """Each of them alone is cheap enough."""
    fields = [f"{{{{ trigger.l.map(x, x + {n}).size() }}}}" for n in range(8)]
    context = Context.from_roots(trigger={"l": list(range(5_000))})
    for field in fields:
        assert compile_template(field, language, node="n", field="/t").evaluate(context) == 5_000
    with pytest.raises(Apart) as caught:
        compile_config(fields, language, node="n").evaluate(context)
    assert 0 < len(caught.value.jobs) < len(fields)


def test_a_budget_is_spent_by_time_and_by_memory() -> None:
    for cost in (Cost(nanoseconds=0.6 * NANOSECONDS, memory=0), Cost(nanoseconds=0, memory=0.6 * MEMORY)):
        budget = Budget()
        assert budget.spend(cost)
        assert not budget.spend(cost)
        assert budget.spend(Cost(nanoseconds=0.3 * NANOSECONDS, memory=0.3 * MEMORY))


def test_the_fields_of_a_configuration_share_the_room_for_results(language: Language) -> None:
    context = Context.from_roots(trigger={"s": "a" * 400_000, "l": ["b" * 400_000]})
    for config in (["{{ trigger.s }}"] * 3, ["{{ trigger.l }}"] * 3, ["{{ trigger.s + '' }}"] * 3):
        with pytest.raises(ExpressionError, match="larger than 1024 KiB"):
            compile_config(config, language, node="n").evaluate(context)
        assert compile_config(config[:2], language, node="n").evaluate(context)


def test_a_text_is_bounded_too(language: Language) -> None:
    context = Context.from_roots(trigger={"l": ["b" * 600_000]})
    compiled = compile_template("{{ trigger.l }}{{ trigger.l[0] }}", language, node="n", field="/t")
    with pytest.raises(ExpressionError, match="larger than 1024 KiB"):
        compiled.evaluate(context)


def test_a_value_that_is_too_large_is_not_read(language: Language) -> None:
    context = Context.from_roots(
        trigger={"s": "a" * 1_100_000, "l": ["a" * 1_100_000], "ok": "fine", "o": {"x": 1}}
    )
    for source in (
        "trigger.s",
        "trigger.l",
        "trigger",
        "trigger.s == ''",
        "size(trigger.l) > 0",
        "size(trigger) > 0",
    ):
        with pytest.raises(ExpressionError, match="larger than"):
            compile_template("{{ " + source + " }}", language, node="n", field="/t").evaluate(context)
    for source in ("trigger.ok + '!'", "trigger.o.x", "trigger.o", "size(trigger.o)"):
        assert compile_template("{{ " + source + " }}", language, node="n", field="/t").evaluate(context)


def test_a_bound_grows_with_its_inputs(language: Language) -> None:
    sources = (
        "trigger.l.map(x, {'a': x, 'b': x.y})",
        "trigger.l + trigger.l",
        "trigger.l.filter(x, x == 'a')",
    )
    for source in sources:
        bounds = [program(source, language).bound({"@0": Size(2.0**n, 2.0 ** (n - 3))}) for n in range(3, 20)]
        for smaller, larger in pairwise(bounds):
            assert smaller.nanoseconds < larger.nanoseconds
            assert smaller.memory < larger.memory


def test_the_bound_of_doubling_doubles_with_each_step(language: Language) -> None:
    """`[s].map(v, v + v)` seventeen times took 1.27 GB."""
    memory = [
        program("[trigger.s]" + ".map(v, v + v)" * steps, language).bound({"@0": Size(5_000)}).memory
        for steps in range(1, 11)
    ]
    assert all(larger > 1.9 * smaller for smaller, larger in pairwise(memory[2:]))


def test_ordinary_expressions_are_far_from_the_bound(language: Language) -> None:
    kilobyte = {"@0": Size(1_000, 60), "@1": Size(1_000, 60)}
    for source in (
        "trigger.body.status == 'paid' && trigger.body.total > 10.0",
        "trigger.items.filter(i, i.price > 3).map(i, {'sku': i.sku, 'price': i.price * 1.19})",
        "trigger.items.exists(i, i.sku in trigger.wanted)",
        "trigger.name.split(' ').map(x, x.lowerAscii()).join('-')",
    ):
        bound = program(source, language).bound(kilobyte)
        assert bound.nanoseconds < NANOSECONDS / 10
        assert bound.memory < MEMORY / 10


def test_literal_parts_cost_nothing(language: Language) -> None:
    large = ["a" * 600_000] * 4
    assert compile_config({"raw": large, "a": "{{ 1 }}"}, language, node="n", form=Form()).evaluate(
        Context.from_roots()
    ) == {"raw": large, "a": 1}
