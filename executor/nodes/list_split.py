"""Makes one list of the lists that lie in the items of another."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from contracts.limits import LIST_ITEMS
from contracts.nodes import NodeSpec
from executor.errors import TooLarge
from executor.forms import form
from executor.lists import MISSING, FieldName, Items, look, read
from executor.node import Context, Result


class ListSplit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    field: Annotated[
        FieldName, Meta(title="Field", description="Holds the inner list; empty: the item itself is one.")
    ] = ""
    keep: Annotated[
        tuple[FieldName, ...],
        Meta(
            title="Keep", description="Fields of the outer item that each inner item gets too.", max_length=50
        ),
    ] = ()


class ListSplitNode:
    """An item whose field is no list counts as a list of that one value, an item without it as none."""

    spec: ClassVar = NodeSpec(
        type="list.split",
        title="Split out",
        help="One item for each entry of a list inside the items, with fields of the outer item if asked: "
        "orders become order lines.",
        icon="split",
        category="Data",
        repeat="yes",
        config=form(ListSplit),
        timeout_s=60,
    )
    config: ClassVar = ListSplit

    async def run(self, config: ListSplit, _context: Context) -> Result:
        output: list[Any] = []
        for item in read(config.items):
            inner = look(item.value, config.field)
            if isinstance(inner, list):
                output += [_with(entry, item.value, config) for entry in inner]
            elif inner is not None and inner is not MISSING:
                output.append(_with(inner, item.value, config))
            if len(output) > LIST_ITEMS:
                raise TooLarge(f"More than {LIST_ITEMS:,} items would come of it.", field="/items")
        return Result(output=output)


def _with(entry: Any, outer: Any, config: ListSplit) -> Any:
    if not config.keep:
        return entry
    kept = {name.rpartition(".")[2]: look(outer, name) for name in config.keep}
    own = entry if isinstance(entry, dict) else {"value": entry}
    return {name: value for name, value in kept.items() if value is not MISSING} | own


node = ListSplitNode()
