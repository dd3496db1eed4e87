"""Lists as data nodes take them: items keep the bytes that they came as, their fields are looked up by name.

A field is named as people write it, `customer.city` or `lines.0.price`; the empty name is the item itself.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from contracts.limits import LIST_ITEMS
from executor.errors import BadConfig, TooLarge

FieldName: TypeAlias = Annotated[str, Meta(max_length=500)]
Items: TypeAlias = Annotated[
    Raw, Meta(title="Items", description="A list, as {{ steps.fetch.output.body.rows }}.")
]


Columns: TypeAlias = Annotated[
    tuple[FieldName, ...],
    Meta(
        title="Columns",
        description="As `customer.city`; none: all fields, as they appear.",
        max_length=500,
    ),
]


class _Missing:
    """What a field is that is not there; not the same as null."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = _Missing()


class Item(Struct, frozen=True):
    """One item of a list."""

    raw: Raw
    """Its JSON as it came, so that no number changes its digits on the way."""
    value: Any


_list: Final = msgspec.json.Decoder(list[Raw])
_any: Final = msgspec.json.Decoder()


def read(items: Raw, name: str = "/items") -> list[Item]:
    """The items of a list. Raises `BadConfig` when it is none, `TooLarge` when there are too many."""
    try:
        raws = _list.decode(items)
    except msgspec.DecodeError:
        raise BadConfig("This is not a list.", field=name) from None
    if len(raws) > LIST_ITEMS:
        raise TooLarge(f"The list has more than {LIST_ITEMS:,} items.", field=name)
    return [Item(raw, _any.decode(raw)) for raw in raws]


def look(value: Any, name: str) -> Any:
    """The field of a value, or `MISSING`."""
    for part in name.split(".") if name else ():
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and part.isascii() and part.isdigit():
            place = int(part[:9])
            value = value[place] if place < len(value) else MISSING
        else:
            return MISSING
    return value


def is_empty(value: Any) -> bool:
    """Missing, null, or a text, list or object with nothing in it."""
    return value is MISSING or value is None or (isinstance(value, str | list | dict) and not value)


_RANKS: Final[Sequence[tuple[type | tuple[type, ...], int]]] = ((bool, 2), ((int, float), 3), (str, 4))


def rank(value: Any, *, ignore_case: bool = False) -> tuple[Any, ...]:
    """A key by which all values can be sorted: missing, null, false, true, numbers, texts, lists, objects."""
    if value is MISSING:
        return (0,)
    if value is None:
        return (1,)
    for kinds, place in _RANKS:
        if isinstance(value, kinds):
            return (place, value.casefold() if ignore_case and isinstance(value, str) else value)
    if isinstance(value, list):
        return (5, tuple(rank(item, ignore_case=ignore_case) for item in value))
    return (6, identity(value))


def identity(value: Any) -> str:
    """Equal for equal values and for no others: 1 and 1.0 are equal, 1 and true are not."""
    return "?" if value is MISSING else msgspec.json.encode(_canonical(value), order="deterministic").decode()


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return value


def identities(item: Item, names: Iterable[str]) -> tuple[str, ...]:
    """What an item is told apart by: these fields of it, or all of it when none is named."""
    return tuple(identity(look(item.value, name)) for name in names) or (identity(item.value),)


def all_fields(items: Iterable[Item]) -> tuple[str, ...]:
    """The fields of all items in the order in which they appear; an item that is no object is a field without a name."""
    names: dict[str, None] = {}
    for item in items:
        names |= dict.fromkeys(item.value if isinstance(item.value, dict) else ("",))
    return tuple(names)
