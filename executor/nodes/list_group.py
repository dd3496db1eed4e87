"""Groups the items of a list and computes figures of each group."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, Struct

from contracts.limits import Name
from contracts.nodes import NodeSpec
from executor.errors import BadConfig
from executor.forms import form
from executor.lists import MISSING, FieldName, Item, Items, identities, identity, look, rank, read
from executor.node import Context, Result


class Figure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[Name, Meta(title="Name", description="Of the figure in the output.")]
    compute: Annotated[
        Literal["count", "sum", "mean", "smallest", "largest", "first", "last", "list", "distinct"],
        Meta(title="Compute"),
    ] = "count"
    field: Annotated[FieldName, Meta(title="Of field", description="Empty: the item itself.")] = ""


class ListGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    by: Annotated[
        tuple[FieldName, ...],
        Meta(title="Group by", description="Fields; none: all items are one group.", max_length=10),
    ] = ()
    figures: Annotated[tuple[Figure, ...], Meta(title="Figures", min_length=1, max_length=50)] = (
        Figure(name="count"),
    )


def _sum(values: Sequence[Any]) -> int | float:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return sum(numbers) if all(isinstance(number, int) for number in numbers) else math.fsum(numbers)


def _mean(values: Sequence[Any]) -> float | None:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return math.fsum(numbers) / len(numbers) if numbers else None


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({identity(value): value for value in reversed(values)}.values())[::-1]


_COMPUTE: Final[Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    "count": len,
    "sum": _sum,
    "mean": _mean,
    "smallest": lambda values: min(values, key=rank, default=None),
    "largest": lambda values: max(values, key=rank, default=None),
    "first": lambda values: values[0] if values else None,
    "last": lambda values: values[-1] if values else None,
    "list": list,
    "distinct": _distinct,
}


class ListGroupNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="list.group",
        title="Group list",
        help="One item per group, in the order in which the groups appear, with figures such as count, sum or list. "
        "Where an item does not have the field, it does not count.",
        icon="group",
        category="Data",
        repeat="yes",
        config=form(ListGroup),
        timeout_s=60,
    )
    config: ClassVar = ListGroup

    async def run(self, config: ListGroup, _context: Context) -> Result:
        names = [figure.name for figure in config.figures]
        if len({*config.by, *names}) < len(config.by) + len(names):
            raise BadConfig("Two fields of the output would have the same name.", field="/figures")
        groups: dict[tuple[str, ...], list[Item]] = {}
        for item in read(config.items):
            groups.setdefault(identities(item, config.by) if config.by else (), []).append(item)
        return Result(output=[_figures(config, members) for members in groups.values()])


def _figures(config: ListGroup, members: Sequence[Item]) -> dict[str, Any]:
    group = {name: look(members[0].value, name) for name in config.by}
    told: dict[str, Any] = {name: None if value is MISSING else value for name, value in group.items()}
    for figure in config.figures:
        found = (look(member.value, figure.field) for member in members)
        told[figure.name] = _COMPUTE[figure.compute]([value for value in found if value is not MISSING])
    return told


node = ListGroupNode()
