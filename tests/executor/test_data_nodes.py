"""What the data nodes make of lists, told by what goes in and what comes out."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some
from msgspec import Raw
from selectolax.lexbor import LexborHTMLParser

from contracts.codec import decode_json
from contracts.limits import LIST_ITEMS
from executor.errors import BadConfig, TooLarge
from executor.lists import MISSING, identity, look, rank
from executor.node import Context
from executor.outputs import pack
from executor.registry import registry
from tests.executor.fakes import simulated

NODES = registry(()).nodes
PEOPLE = [
    {"name": "Ada", "age": 36, "city": {"name": "London"}, "tags": ["a", "b"]},
    {"name": "bob", "age": 9, "city": {"name": "Paris"}, "tags": []},
    {"name": "Cyd", "age": 36.5, "city": None},
]


class NoContext:
    """Data nodes look at nothing but their configuration."""


def output(kind: str, **config: Any) -> Any:
    """The output of a data node, by way of JSON in both directions."""
    found = NODES[kind]
    decoded = found.decode(msgspec.json.encode(config))
    context: Context = NoContext()  # type: ignore[assignment]  # Whoever touches it fails.
    return decode_json(pack(simulated(found.node.run(decoded, context)).output).body)


def names(people: list[dict[str, Any]]) -> list[str]:
    return [person["name"] for person in people]


# --- Fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("", PEOPLE[0]),
        ("name", "Ada"),
        ("city.name", "London"),
        ("tags.1", "b"),
        ("tags.2", MISSING),
        ("tags.-1", MISSING),
        ("tags.x", MISSING),
        ("name.x", MISSING),
        ("nothing", MISSING),
    ],
)
def test_a_field_is_found_by_its_path(field: str, found: Any) -> None:
    assert look(PEOPLE[0], field) == found


def test_one_is_one_and_not_true() -> None:
    assert identity(1) == identity(1.0)
    assert identity(1) != identity(True)
    assert identity("1") != identity(1)
    assert identity({"a": 1, "b": 2}) == identity({"b": 2.0, "a": 1})


json = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(), inner, max_size=3),
    max_leaves=8,
)


@given(some.lists(json))
def test_any_values_can_be_sorted(values: list[Any]) -> None:
    ranked = sorted(values, key=rank)
    assert sorted(ranked, key=rank) == ranked


# --- Nodes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"field": "age", "test": "equals", "value": 36.0}, ["Ada"]),
        ({"field": "age", "test": "not_equals", "value": 36}, ["bob", "Cyd"]),
        ({"field": "age", "test": "greater", "value": 36}, ["Cyd"]),
        ({"field": "age", "test": "at_least", "value": 36}, ["Ada", "Cyd"]),
        ({"field": "age", "test": "less", "value": "40"}, []),
        ({"field": "name", "test": "at_most", "value": "Cx"}, ["Ada"]),
        ({"field": "tags", "test": "contains", "value": "b"}, ["Ada"]),
        ({"field": "name", "test": "contains", "value": "o"}, ["bob"]),
        ({"field": "city", "test": "contains", "value": "name"}, ["Ada", "bob"]),
        ({"field": "tags", "test": "not_contains", "value": "b"}, ["bob", "Cyd"]),
        ({"field": "name", "test": "starts_with", "value": "A"}, ["Ada"]),
        ({"field": "name", "test": "ends_with", "value": "d"}, ["Cyd"]),
        ({"field": "city.name", "test": "one_of", "value": ["Paris", "Rome"]}, ["bob"]),
        ({"field": "tags", "test": "is_empty"}, ["bob", "Cyd"]),
        ({"field": "city", "test": "is_not_empty"}, ["Ada", "bob"]),
    ],
)
def test_a_filter_keeps_what_fits(rule: dict[str, Any], kept: list[str]) -> None:
    assert names(output("list.filter", items=PEOPLE, rules=[rule])) == kept


def test_one_rule_or_all_of_them() -> None:
    rules = [
        {"field": "age", "test": "less", "value": 10},
        {"field": "name", "test": "equals", "value": "ada"},
    ]

    assert output("list.filter", items=PEOPLE, rules=rules) == []
    assert names(output("list.filter", items=PEOPLE, rules=rules, match="any")) == ["bob"]
    kept = output("list.filter", items=PEOPLE, rules=rules, match="any", ignore_case=True)
    assert names(kept) == ["Ada", "bob"]


def test_items_keep_their_digits() -> None:
    config = NODES["list.filter"].decode(
        b'{"items":[1.10,-0.0,12345678901234567890123],"rules":[{"field":"","test":"is_not_empty"}]}'
    )
    context: Context = NoContext()  # type: ignore[assignment]  # Whoever touches it fails.
    kept = simulated(NODES["list.filter"].node.run(config, context)).output
    assert kept == [Raw(b"1.10"), Raw(b"-0.0"), Raw(b"12345678901234567890123")]


def test_a_list_is_sorted_by_several_fields_and_stays_stable() -> None:
    rows = [
        {"a": 2, "b": "x", "n": 0},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "X"},
        {"b": "z"},
        {"a": 2, "b": "x", "n": 1},
    ]

    by = [{"field": "a", "direction": "descending"}, {"field": "b"}]
    assert [row["b"] for row in output("list.sort", items=rows, by=by)] == ["X", "x", "x", "y", "z"]
    blind = output("list.sort", items=rows, by=by, ignore_case=True)
    assert [row.get("n") for row in blind][:3] == [0, None, 1]
    assert output("list.sort", items=[3, "a", None, True, 1.5]) == [None, True, 1.5, 3, "a"]


@pytest.mark.parametrize(
    ("config", "taken"),
    [
        ({"count": 2}, [0, 1]),
        ({"count": 2, "skip": 1}, [1, 2]),
        ({"count": 9, "skip": 9}, []),
        ({"count": 2, "end": "last"}, [3, 4]),
        ({"count": 2, "skip": 1, "end": "last"}, [2, 3]),
        ({"count": 9, "end": "last"}, [0, 1, 2, 3, 4]),
        ({"count": 0, "end": "last"}, []),
    ],
)
def test_a_limit_takes_from_either_end(config: dict[str, Any], taken: list[int]) -> None:
    assert output("list.limit", items=list(range(5)), **config) == taken


def test_duplicates_are_left_out() -> None:
    rows = [{"id": 1, "v": "a"}, {"id": 1.0, "v": "b"}, {"id": "1", "v": "c"}, {"id": 1, "v": "a"}]

    assert [row["v"] for row in output("list.dedupe", items=rows)] == ["a", "b", "c"]
    assert [row["v"] for row in output("list.dedupe", items=rows, fields=["id"])] == ["a", "c"]
    assert [row["v"] for row in output("list.dedupe", items=rows, fields=["id"], keep="last")] == ["c", "a"]


def test_groups_have_their_figures() -> None:
    rows = [
        {"city": "Rome", "sum": 1, "who": "a"},
        {"city": "Oslo", "sum": 2.5, "who": "b"},
        {"city": "Rome", "sum": 4, "who": "a"},
        {"city": "Rome", "who": "c"},
    ]
    figures = [
        {"name": "n"},
        {"name": "total", "compute": "sum", "field": "sum"},
        {"name": "mean", "compute": "mean", "field": "sum"},
        {"name": "least", "compute": "smallest", "field": "sum"},
        {"name": "most", "compute": "largest", "field": "sum"},
        {"name": "first", "compute": "first", "field": "who"},
        {"name": "last", "compute": "last", "field": "who"},
        {"name": "all", "compute": "list", "field": "who"},
        {"name": "who", "compute": "distinct", "field": "who"},
    ]

    rome, oslo = output("list.group", items=rows, by=["city"], figures=figures)
    assert rome == {
        "city": "Rome", "n": 3, "total": 5, "mean": 2.5, "least": 1, "most": 4,
        "first": "a", "last": "c", "all": ["a", "a", "c"], "who": ["a", "c"],
    }  # fmt: skip
    assert (oslo["total"], oslo["n"]) == (2.5, 1)
    assert output("list.group", items=rows) == [{"count": 4}]
    assert output("list.group", items=[]) == []


def test_two_figures_cannot_have_one_name() -> None:
    with pytest.raises(BadConfig) as told:
        output("list.group", items=[], by=["n"], figures=[{"name": "n"}])
    assert told.value.field == "/figures"


def test_orders_become_order_lines() -> None:
    orders = [{"id": 1, "lines": [{"sku": "a"}, {"sku": "b", "id": 7}]}, {"id": 2, "lines": []}, {"id": 3}]

    split = output("list.split", items=orders, field="lines", keep=["id"])
    assert split == [{"id": 1, "sku": "a"}, {"id": 7, "sku": "b"}]
    assert output("list.split", items=[[1, 2], 3, None]) == [1, 2, 3]
    assert output("list.split", items=[{"t": ["x"], "n": 1}], field="t", keep=["n"]) == [
        {"n": 1, "value": "x"}
    ]


CUSTOMERS = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}, {"name": "nobody"}]
ORDERS = [
    {"customer": 1, "sku": "a"},
    {"customer": 1.0, "sku": "b"},
    {"customer": 9, "sku": "c"},
    {"sku": "d"},
]


@pytest.mark.parametrize(
    ("keep", "rows"),
    [
        ("matched", [("Ada", "a"), ("Ada", "b")]),
        ("left", [("Ada", "a"), ("Ada", "b"), ("Bob", None), ("nobody", None)]),
        ("unmatched", [("Bob", None), ("nobody", None)]),
        (
            "all",
            [("Ada", "a"), ("Ada", "b"), ("Bob", None), ("nobody", None), (None, "c"), (None, "d")],
        ),
    ],
)
def test_lists_are_joined_by_a_field(keep: str, rows: list[tuple[str | None, str | None]]) -> None:
    joined = output(
        "list.join", left=CUSTOMERS, right=ORDERS, left_field="id", right_field="customer", keep=keep
    )
    assert [(row.get("name"), row.get("sku")) for row in joined] == rows


def test_a_join_can_keep_both_sides_apart() -> None:
    [pair] = output(
        "list.join", left=[{"a": 1}], right=[{"b": 1}], left_field="a", right_field="b", output="pairs"
    )
    assert pair == {"left": {"a": 1}, "right": {"b": 1}}


def test_fields_are_kept_removed_renamed_and_set() -> None:
    edited = output(
        "list.edit",
        items=[PEOPLE[0], "x"],
        keep=["name", "city.name", "age"],
        remove=["age"],
        rename={"city.name": "town"},
        set={"seen": True},
    )
    assert edited == [{"name": "Ada", "town": "London", "seen": True}, {"seen": True}]
    assert output("list.edit", items=["x"]) == [{"value": "x"}]


def test_a_list_becomes_a_table_in_html() -> None:
    table = output(
        "html.build",
        items=PEOPLE,
        columns=["name", "city.name", "tags"],
        titles={"city.name": "City"},
        caption="P",
    )
    assert table == (
        "<table>\n<caption>P</caption>\n<thead><tr><th>name</th><th>City</th><th>tags</th></tr></thead>\n<tbody>\n"
        "<tr><td>Ada</td><td>London</td><td>[&quot;a&quot;,&quot;b&quot;]</td></tr>\n"
        "<tr><td>bob</td><td>Paris</td><td>[]</td></tr>\n"
        "<tr><td>Cyd</td><td></td><td></td></tr>\n</tbody>\n</table>\n"
    )
    assert "<th>value</th>" in output("html.build", items=[1])
    assert output("html.build", items=[{"a": 1}], output="file")["file"]["blob"]["content_type"].startswith(
        "text/html"
    )


def test_no_value_adds_anything_to_a_table() -> None:
    evil = "</td><script>alert('x')</script>\"onload=\"'&lt;"
    for config in (
        {"caption": evil},
        {"titles": {"a": evil}},
        {"items": [{"a": evil}]},
        {"items": [{evil: [evil]}]},
    ):
        settings: dict[str, Any] = {"items": [{"a": 1}], **config}
        page = LexborHTMLParser(output("html.build", **settings))
        assert page.css("script, [onload]") == []
        assert len(page.css("td")) == 1
    assert page.css("th")[0].text() == evil


@given(some.lists(some.dictionaries(some.text(max_size=5), json, max_size=3), max_size=3))
def test_any_list_becomes_a_table(rows: list[dict[str, Any]]) -> None:
    page = LexborHTMLParser(output("html.build", items=rows))
    assert len(page.css("tbody tr")) == len(rows)


# --- What does not fit ------------------------------------------------------------------------


def test_what_is_no_list_is_refused_with_its_field() -> None:
    with pytest.raises(BadConfig) as told:
        output("list.limit", items={"a": 1}, count=1)
    assert told.value.field == "/items"


def test_lists_are_bounded() -> None:
    with pytest.raises(TooLarge):
        output("list.limit", items=[0] * (LIST_ITEMS + 1), count=1)
    with pytest.raises(TooLarge):
        output("list.join", left=[0] * 400, right=[0] * 400, left_field="", right_field="")
    with pytest.raises(TooLarge):
        output("html.build", items=["'" * 1_000_000] * 2)
