"""Keeps, renames, removes and sets fields of every item of a list."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Raw, Struct, field

from contracts.limits import LIST_RULES, Name
from contracts.nodes import NodeSpec
from executor.forms import form
from executor.lists import MISSING, FieldName, Items, look, read
from executor.node import Context, Result

Names = Annotated[tuple[FieldName, ...], Meta(max_length=200)]


class ListEdit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    keep: Annotated[
        Names, Meta(title="Keep only", description="Fields, as `customer.city`; none: all of them stay.")
    ] = ()
    remove: Annotated[Names, Meta(title="Remove", description="Fields of the item itself.")] = ()
    rename: Annotated[
        dict[FieldName, Name], Meta(title="Rename", description="Old name to new one.", max_length=LIST_RULES)
    ] = field(default_factory=dict)
    set: Annotated[
        dict[Name, Raw], Meta(title="Set", description="The same value in every item.", max_length=LIST_RULES)
    ] = field(default_factory=dict)


class ListEditNode:
    """In this order: keep, remove, rename, set. An item that is no object becomes the field `value`."""

    spec: ClassVar = NodeSpec(
        type="list.edit",
        title="Edit fields",
        help="Keeps, removes, renames and sets fields of every item of a list.",
        icon="pencil",
        category="Data",
        repeat="yes",
        config=form(ListEdit),
        timeout_s=60,
    )
    config: ClassVar = ListEdit

    async def run(self, config: ListEdit, _context: Context) -> Result:
        return Result(output=[_edited(item.value, config) for item in read(config.items)])


def _edited(value: Any, config: ListEdit) -> dict[str, Any]:
    whole = value if isinstance(value, dict) else {"value": value}
    fields = {name: look(whole, name) for name in config.keep} if config.keep else whole
    edited = {
        config.rename.get(name, name.rpartition(".")[2] if config.keep else name): found
        for name, found in fields.items()
        if found is not MISSING and name not in config.remove
    }
    return edited | config.set


node = ListEditNode()
