"""Which values may stand at a place in a body: what is told to whoever has sent another one."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from msgspec import inspect

MOST: Final = 40
"""Longer lists are in the documentation."""


def choices(kind: Any, plain: Any, pointer: str) -> tuple[str, ...]:
    """The values that a field of few may have, or the tags of the objects that may stand there; none where that is not said.

    `plain` is the JSON as it came: it says which of several kinds of objects lie on the way.
    """
    places = _known(kind)
    for part in pointer.split("/")[1:]:
        places = [inner for place in places for inner in _inside(place, plain, part)]
        plain = _item(plain, part)
    found: list[Any] = []
    for place in places:
        if isinstance(place, inspect.LiteralType):
            found += place.values
        elif isinstance(place, inspect.EnumType):
            found += (each.value for each in place.cls)
    told = tuple(dict.fromkeys(map(str, found)))
    return told if len(told) <= MOST else ()


@cache
def _known(kind: Any) -> Sequence[inspect.Type]:
    return tuple(_each(inspect.type_info(kind)))


def _inside(place: inspect.Type, plain: Any, part: str) -> Iterator[inspect.Type]:
    match place:
        case inspect.StructType():
            if part == place.tag_field:
                yield inspect.LiteralType((place.tag,))
            elif isinstance(plain, dict) and plain.get(place.tag_field or "", place.tag) != place.tag:
                return  # Another kind of object.
            for each in place.fields:
                if each.encode_name == part:
                    yield from _each(each.type)
        case inspect.DictType():
            yield from _each(place.value_type)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            yield from _each(place.item_type)
        case _:
            return


def _each(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _each(member)
    elif isinstance(kind, inspect.Metadata):
        yield from _each(kind.type)
    else:
        yield kind


def _item(plain: Any, part: str) -> Any:
    if isinstance(plain, dict):
        return plain.get(part)
    if isinstance(plain, list) and part.isdecimal() and int(part) < len(plain):
        return plain[int(part)]
    return None
