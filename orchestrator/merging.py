"""How the outputs of several branches become one value."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from contracts.limits import LIST_ITEMS, NodeId

Outputs = Mapping[NodeId, Raw]


class Unmergeable(Exception):
    """An output that does not fit the way in which it is to be merged."""


def merged(outputs: Outputs, how: str, key: str = "") -> Any:
    """One value from the outputs of the branches that were taken, in the order of their nodes. Raises `Unmergeable`."""
    return _WAYS[how](outputs, key)


def _items(outputs: Outputs) -> list[list[Raw]]:
    lists = [_list(node, output) for node, output in outputs.items()]
    if sum(map(len, lists)) > LIST_ITEMS:
        raise Unmergeable(f"All lists together have more than {LIST_ITEMS} items.")
    return lists


def _list(node: NodeId, output: Raw) -> list[Raw]:
    try:
        return msgspec.json.decode(output, type=list[Raw])
    except msgspec.ValidationError:
        raise Unmergeable(f"What {node} gave is no list.") from None


def _appended(outputs: Outputs, _key: str) -> list[Raw]:
    return [item for items in _items(outputs) for item in items]


def _by_position(outputs: Outputs, _key: str) -> list[dict[str, Raw]]:
    """The first items of all lists make the first object, and so on; of two fields of one name the later branch's stays."""
    lists = _items(outputs)
    longest = max(map(len, lists), default=0)
    return [_together([items[place] for items in lists if place < len(items)]) for place in range(longest)]


def _by_key(outputs: Outputs, key: str) -> list[dict[str, Raw]]:
    """Objects with the same value in the field make one, in the order in which the values first come."""
    groups: dict[bytes, list[Raw]] = {}
    for items in _items(outputs):
        for item in items:
            value = _object(item).get(key)
            if value is None:
                raise Unmergeable(f"An item has no field {key}.")
            groups.setdefault(_spelt(value), []).append(item)
    return [_together(items) for items in groups.values()]


def _spelt(value: Raw) -> bytes:
    """Equal values, however they are spelt, in one spelling."""
    try:
        decoded = msgspec.json.decode(value)
    except msgspec.DecodeError:
        raise Unmergeable("The value of a field by which objects are joined cannot be read.") from None
    if isinstance(decoded, float) and decoded.is_integer():
        decoded = int(decoded)
    return msgspec.json.encode(decoded, order="sorted")


def _together(items: Sequence[Raw]) -> dict[str, Raw]:
    joined: dict[str, Raw] = {}
    for item in items:
        joined |= _object(item)
    return joined


def _object(item: Raw) -> dict[str, Raw]:
    try:
        return msgspec.json.decode(item, type=dict[str, Raw])
    except msgspec.ValidationError:
        raise Unmergeable("An item of a list is no object.") from None


_WAYS: Final[Mapping[str, Callable[[Outputs, str], Any]]] = {
    "object": lambda outputs, _: outputs,
    "list": lambda outputs, _: list(outputs.values()),
    "append": _appended,
    "by_position": _by_position,
    "by_key": _by_key,
}
