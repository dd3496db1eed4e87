"""Puts the items of a list in order."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from contracts.nodes import NodeSpec
from executor.forms import form
from executor.lists import FieldName, Items, look, rank, read
from executor.node import Context, Result


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    field: Annotated[FieldName, Meta(title="Field", description="Empty: the item itself.")] = ""
    direction: Annotated[Literal["ascending", "descending"], Meta(title="Direction")] = "ascending"


class ListSort(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    by: Annotated[
        tuple[Order, ...],
        Meta(title="By", description="The first field decides, then the next.", min_length=1, max_length=10),
    ] = (Order(),)
    ignore_case: Annotated[bool, Meta(title="Ignore case")] = False


class ListSortNode:
    """Stable: items that are equal stay in the order in which they came. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="list.sort",
        title="Sort list",
        help="Sorts a list by fields. Items without the field come first, then null, then values by their kind.",
        icon="arrow-up-down",
        category="Data",
        repeat="yes",
        config=form(ListSort),
        timeout_s=60,
    )
    config: ClassVar = ListSort

    async def run(self, config: ListSort, _context: Context) -> Result:
        items = read(config.items)
        for order in reversed(config.by):
            items.sort(
                key=lambda item, name=order.field: rank(  # type: ignore[misc]  # A default binds the name.
                    look(item.value, name), ignore_case=config.ignore_case
                ),
                reverse=order.direction == "descending",
            )
        return Result(output=[item.raw for item in items])


node = ListSortNode()
