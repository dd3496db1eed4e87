"""Takes some items from the beginning or the end of a list."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from contracts.limits import LIST_ITEMS
from contracts.nodes import NodeSpec
from executor.forms import form
from executor.lists import Items, read
from executor.node import Context, Result


class ListLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    count: Annotated[int, Meta(title="How many", ge=0, le=LIST_ITEMS)]
    skip: Annotated[int, Meta(title="Skip first", ge=0, le=LIST_ITEMS)] = 0
    end: Annotated[Literal["first", "last"], Meta(title="From the")] = "first"


class ListLimitNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="list.limit",
        title="Limit list",
        help="Takes the first or last items of a list, and leaves some out before them if asked.",
        icon="scissors",
        category="Data",
        repeat="yes",
        config=form(ListLimit),
        timeout_s=60,
    )
    config: ClassVar = ListLimit

    async def run(self, config: ListLimit, _context: Context) -> Result:
        raws = [item.raw for item in read(config.items)]
        if config.end == "first":
            return Result(output=raws[config.skip : config.skip + config.count])
        end = max(0, len(raws) - config.skip)
        return Result(output=raws[max(0, end - config.count) : end])


node = ListLimitNode()
