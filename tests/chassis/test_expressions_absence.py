"""What may be absent: asked with `?`, answered with what is there or with something else."""

from typing import Any

import pytest

from chassis.expressions import Context, Language
from chassis.expressions.absence import LONGEST
from chassis.expressions.faults import Failed
from chassis.expressions.program import Program
from chassis.expressions.references import Scope, beyond, reads

LANGUAGE = Language()
TRIGGER: dict[str, Any] = {
    "body": {"city": "Ulm", "none": None, "list": [{"n": 1}, {}], "a b": {"c": 2}, "text": "x", "empty": []}
}


def program(source: str) -> Program:
    found = LANGUAGE.program(source)
    assert isinstance(found, Program), found
    return found


def value(source: str, **more: Any) -> object:
    return program(source).evaluate(Context.from_roots(trigger=TRIGGER, **more))


@pytest.mark.parametrize(
    ("source", "gives"),
    [
        ("trigger.body.?city.orValue('nowhere')", "Ulm"),
        ("trigger.body.?town.orValue('nowhere')", "nowhere"),
        ("trigger.?nothing.at.all.orValue(1)", 1),
        ("trigger.?body.town.orValue(trigger.body.city)", "Ulm"),
        ("trigger.body.?town.orValue(trigger.body.?village.orValue('nowhere'))", "nowhere"),
        ("trigger.body.?none.orValue('not null')", None),
        ("trigger.body[?'a b'].c.orValue(0)", 2),
        ("trigger.body[?'b a'].c.orValue(0)", 0),
        ("trigger.body.list[?0].n.orValue(0)", 1),
        ("trigger.body.list[?1].n.orValue(0)", 0),
        ("trigger.body.list[?2].n.orValue(0)", 0),
        ("trigger.body.?empty[0].orValue('first')", "first"),
        ("trigger.body.list.map(o, o.?n.orValue(-1))", [1, -1]),
        ("[trigger.body.?city.hasValue(), trigger.body.?town.hasValue()]", [True, False]),
        ("trigger.body.?city.hasValue() ? trigger.body.city.upper() : ''", "ULM"),
        ("trigger.body.?text.orValue('').size() + trigger.body.?texts.orValue('ab').size()", 3),
        ("trigger.body.?town.orValue(1 / 0 > 1 || true)", True),
        ("trigger.body.?city.orValue(1 / 0)", "Ulm"),
    ],
)
def test_what_is_there_is_given_and_else_what_stands_behind(source: str, gives: object) -> None:
    assert value(source) == gives


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("trigger.body.text.?more.orValue(1)", "text"),
        ("trigger.nothing.?more.orValue(1)", "trigger.nothing"),
        ("trigger.body.?none.orValue('').upper()", "upper"),
        ("trigger.body.?town.orValue(trigger.body.village)", "village"),
    ],
)
def test_what_may_not_be_absent_is_told_when_it_is(source: str, says: str) -> None:
    with pytest.raises(Failed, match=says):
        value(source)


@pytest.mark.parametrize(
    "source",
    [
        "trigger.body.?city",
        "trigger.body.city.orValue('x')",
        "trigger.body.?city.orValue()",
        "trigger.body.?city.orValue(1, 2)",
        "trigger.body.?city.hasValue(1)",
        "trigger.body.list.filter(o, true)[?0].orValue(1)",
        "trigger[?trigger.body.city].orValue(1)",
        "trigger.body.list[?-1].orValue(1)",
        "trigger" + ".?a" * (LONGEST + 1) + ".orValue(1)",
        "has(trigger.?a)",
    ],
)
def test_a_question_of_another_kind_is_refused_with_what_to_write(source: str) -> None:
    found = LANGUAGE.program(source)
    assert not isinstance(found, Program)
    assert any("orValue" in flaw.message or "has" in flaw.message for flaw in found), found


def test_the_longest_way_that_may_be_absent_is_a_program() -> None:
    assert value("trigger" + ".?a" * LONGEST + ".orValue(1)") == 1


def test_a_step_that_was_not_run_is_absent_and_one_that_does_not_come_before_is_a_mistake() -> None:
    made = program("steps.fetch.?output.rows.orValue([])")
    assert made.evaluate(Context.from_roots(steps={})) == []
    assert reads(made.references).nodes == {"fetch"}
    flaws = list(beyond(made.references, Scope(nodes=frozenset())))
    assert flaws
    assert all("fetch" in flaw.message for flaw in flaws)
    assert made.evaluate(Context.from_roots().with_step("fetch", {"rows": [1]})) == [1]


def test_a_fault_behind_a_question_is_where_it_stands_in_the_source() -> None:
    source = "trigger.body.?town.orValue('x') + string(1 / (trigger.body.list.size() - 2))"
    with pytest.raises(Failed) as failed:
        value(source)
    assert source[failed.value.offset :].startswith("/")
