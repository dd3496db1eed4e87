"""Joins two lists by a field that both have, as a database would."""

from collections import defaultdict
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, Raw, Struct

from contracts.limits import LIST_ITEMS
from contracts.nodes import NodeSpec
from executor.errors import TooLarge
from executor.forms import form
from executor.lists import MISSING, FieldName, Item, Items, identity, look, read
from executor.node import Context, Result

NOBODY: Final = ""
"""The key of items that match nothing."""


class ListJoin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    left: Annotated[Items, Meta(title="Left list")]
    right: Annotated[Items, Meta(title="Right list")]
    left_field: Annotated[FieldName, Meta(title="Field of the left list")]
    right_field: Annotated[FieldName, Meta(title="Field of the right list")]
    keep: Annotated[
        Literal["matched", "left", "all", "unmatched"],
        Meta(
            title="Keep",
            description="Pairs only; every left item; every item of both; or only left items without a partner.",
        ),
    ] = "matched"
    output: Annotated[
        Literal["merged", "pairs"],
        Meta(title="Output", description="One object (the right one's fields win), or {left, right}."),
    ] = "merged"


class ListJoinNode:
    """Items that lack the field, or have null in it, match nothing. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="list.join",
        title="Join lists",
        help="Brings together the items of two lists that are equal in a field, as customers and their orders.",
        icon="combine",
        category="Data",
        repeat="yes",
        config=form(ListJoin),
        timeout_s=60,
    )
    config: ClassVar = ListJoin

    async def run(self, config: ListJoin, _context: Context) -> Result:
        rights = read(config.right, "/right")
        partners = defaultdict[str, list[Item]](list)
        for right in rights:
            partners[_key(right, config.right_field)].append(right)
        partners.pop(NOBODY, None)
        output: list[Any] = []
        met: set[str] = set()
        for left in read(config.left, "/left"):
            key = _key(left, config.left_field)
            found = partners.get(key, ())
            met.add(key)
            if found and config.keep != "unmatched":
                output += [_joined(left, right, config) for right in found]
            elif not found and config.keep != "matched":
                output.append(_joined(left, None, config))
            if len(output) > LIST_ITEMS:
                raise TooLarge(f"More than {LIST_ITEMS:,} items would come of it.", field="/left")
        if config.keep == "all":
            lonely = (right for right in rights if _key(right, config.right_field) not in met - {NOBODY})
            output += [_joined(None, right, config) for right in lonely]
        return Result(output=output)


def _key(item: Item, name: str) -> str:
    value = look(item.value, name)
    return NOBODY if value is MISSING or value is None else identity(value)


def _joined(left: Item | None, right: Item | None, config: ListJoin) -> Any:
    if config.output == "pairs":
        return {"left": _raw(left), "right": _raw(right)}
    merged: dict[str, Any] = {}
    for side, item in (("left", left), ("right", right)):
        if item is not None:
            merged |= item.value if isinstance(item.value, dict) else {side: item.value}
    return merged


def _raw(item: Item | None) -> Raw | None:
    return item.raw if item is not None else None


node = ListJoinNode()
