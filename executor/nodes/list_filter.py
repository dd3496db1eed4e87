"""Keeps the items of a list that fit its rules."""

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from contracts.limits import LIST_RULES
from contracts.nodes import NodeSpec
from executor.forms import form
from executor.lists import MISSING, FieldName, Items, identity, is_empty, look, rank, read
from executor.node import Context, Result

Test: TypeAlias = Literal[
    "equals",
    "not_equals",
    "greater",
    "at_least",
    "less",
    "at_most",
    "contains",
    "not_contains",
    "starts_with",
    "ends_with",
    "one_of",
    "is_empty",
    "is_not_empty",
]


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    field: Annotated[FieldName, Meta(title="Field", description="As `customer.city`; empty: the whole item.")]
    test: Annotated[Test, Meta(title="Test")]
    value: Annotated[Raw, Meta(title="Value")] = msgspec.field(default_factory=lambda: Raw(b"null"))


class ListFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    rules: Annotated[tuple[Rule, ...], Meta(title="Rules", min_length=1, max_length=LIST_RULES)]
    match: Annotated[Literal["all", "any"], Meta(title="Keep items that fit")] = "all"
    ignore_case: Annotated[bool, Meta(title="Ignore case")] = False


def _contains(found: Any, wanted: Any) -> bool:
    if isinstance(found, str):
        return isinstance(wanted, str) and wanted in found
    if isinstance(found, list):
        return identity(wanted) in {identity(item) for item in found}
    return isinstance(found, dict) and isinstance(wanted, str) and wanted in found


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Only a number is greater than a number, only a text comes after a text."""
    return lambda found, wanted: rank(found)[0] == rank(wanted)[0] in (3, 4) and compare(found, wanted)


def _text(compare: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda found, wanted: isinstance(found, str) and isinstance(wanted, str) and compare(found, wanted)


_TESTS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "equals": lambda found, wanted: identity(found) == identity(wanted),
    "not_equals": lambda found, wanted: identity(found) != identity(wanted),
    "greater": _ordered(operator.gt),
    "at_least": _ordered(operator.ge),
    "less": _ordered(operator.lt),
    "at_most": _ordered(operator.le),
    "contains": _contains,
    "not_contains": lambda found, wanted: not _contains(found, wanted),
    "starts_with": _text(str.startswith),
    "ends_with": _text(str.endswith),
    "one_of": lambda found, wanted: (
        isinstance(wanted, list) and found is not MISSING and _contains(wanted, found)
    ),
    "is_empty": lambda found, _wanted: is_empty(found),
    "is_not_empty": lambda found, _wanted: not is_empty(found),
}


def _folded(value: Any) -> Any:
    if isinstance(value, list):
        return [_folded(item) for item in value]
    return value.casefold() if isinstance(value, str) else value


class ListFilterNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="list.filter",
        title="Filter list",
        help="Keeps the items of a list that fit its rules; the output is the shorter list.",
        icon="filter",
        category="Data",
        repeat="yes",
        config=form(ListFilter),
        timeout_s=60,
    )
    config: ClassVar = ListFilter

    async def run(self, config: ListFilter, _context: Context) -> Result:
        alike = _folded if config.ignore_case else lambda value: value
        rules = [
            (rule.field, _TESTS[rule.test], alike(msgspec.json.decode(rule.value))) for rule in config.rules
        ]
        enough = all if config.match == "all" else any
        kept = [
            item.raw
            for item in read(config.items)
            if enough(test(alike(look(item.value, name)), wanted) for name, test, wanted in rules)
        ]
        return Result(output=kept)


node = ListFilterNode()
