"""Leaves out the items of a list that are there already."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Raw, Struct

from contracts.nodes import NodeSpec
from executor.forms import form
from executor.lists import FieldName, Items, identities, read
from executor.node import Context, Result


class ListDedupe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    fields: Annotated[
        tuple[FieldName, ...],
        Meta(title="Fields", description="Items equal in these are one; none: in everything.", max_length=20),
    ] = ()
    keep: Annotated[Literal["first", "last"], Meta(title="Keep the")] = "first"


class ListDedupeNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="list.dedupe",
        title="Remove duplicates",
        help="Keeps one of several items that are equal in some fields, at its place in the list.",
        icon="copy-minus",
        category="Data",
        repeat="yes",
        config=form(ListDedupe),
        timeout_s=60,
    )
    config: ClassVar = ListDedupe

    async def run(self, config: ListDedupe, _context: Context) -> Result:
        items = read(config.items)
        kept: dict[tuple[str, ...], Raw] = {}
        for item in items if config.keep == "first" else reversed(items):
            kept.setdefault(identities(item, config.fields), item.raw)
        output = list(kept.values())
        return Result(output=output if config.keep == "first" else output[::-1])


node = ListDedupeNode()
