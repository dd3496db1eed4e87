"""What comes out of the engine, as JSON can hold it, in an order that does not depend on chance."""

import base64
import ctypes
from collections.abc import Mapping
from datetime import datetime, timedelta
from math import isfinite
from typing import Any, Final

from msgspec import Struct

from chassis.expressions.budget import Room
from chassis.expressions.faults import Failed
from chassis.expressions.tree import (
    Comprehension,
    Const,
    Expr,
    ListLiteral,
    MapLiteral,
    appended,
    builds_list,
)
from contracts.limits import JSON_DEPTH


class Outline(Struct, frozen=True, kw_only=True):
    """The order of names that a source says for the maps in its result."""

    names: tuple[str, ...] = ()
    members: Mapping[str, "Outline"] = {}
    item: "Outline | None" = None


UNKNOWN: Final = Outline()


def outline(expr: Expr) -> Outline:
    """What a source says about the order of its result: only literals say anything."""
    match expr:
        case MapLiteral():
            entries = [(_name(entry.key), entry.value) for entry in expr.entries]
            members = {name: outline(value) for name, value in entries if name is not None}
            return Outline(names=tuple(members), members=members)
        case ListLiteral(elements=(only,)):
            return Outline(item=outline(only))
        case Comprehension() if builds_list(expr):
            return Outline(item=outline(appended(expr.step)[0]))
        case _:
            return UNKNOWN


def _name(key: Expr) -> str | None:
    return key.value if isinstance(key, Const) and isinstance(key.value, str) else None


def plain(result: Any, shape: Outline, room: Room) -> Any:
    """The engine's result as JSON can hold it. Raises `Failed` for what JSON cannot hold and for what is too large."""
    value = result.plain_value()
    _repay_nulls(value)
    return _plain(value, shape, room, 0)


def in_json(value: Any) -> Any:
    """A value of an expression as JSON can hold it, its names sorted. Raises `Failed`."""
    return _plain(value, UNKNOWN, Room(), 0)


_keep_none: Final = ctypes.pythonapi.Py_IncRef
_keep_none.argtypes = [ctypes.py_object]
_keep_none.restype = None


def _repay_nulls(value: object) -> None:
    """Give `None` back the references that the engine did not take, but will let go with `value`."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if one is None:
            _keep_none(None)
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())


def _plain(value: Any, shape: Outline, room: Room, depth: int) -> Any:
    room.take(2)
    match value:
        case None | bool():
            return value
        case str():
            room.take(len(value) if value.isascii() else len(value.encode()))
            return value
        case int():
            if value >= 2**63:
                raise Failed("the result is a whole number beyond 64 bits")
            return value
        case float():
            if not isfinite(value):
                raise Failed("the result is no finite number")
            return value
        case list() | dict() if depth == JSON_DEPTH:
            raise Failed(f"the result is nested deeper than {JSON_DEPTH}")
        case list():
            item = shape.item or UNKNOWN
            return [_plain(one, item, room, depth + 1) for one in value]
        case dict():
            return _object(value, shape, room, depth)
        case _:
            text = _in_words(value)
            room.take(len(text))
            return text


def _object(value: dict[Any, Any], shape: Outline, room: Room, depth: int) -> dict[str, Any]:
    named = {_key(key): one for key, one in value.items()}
    if len(named) < len(value):
        raise Failed("two names of the object become the same text")
    order = [name for name in shape.names if name in named]
    order += sorted(named.keys() - shape.members.keys())
    room.take(sum(map(len, order)))
    return {name: _plain(named[name], shape.members.get(name, UNKNOWN), room, depth + 1) for name in order}


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _in_words(value: Any) -> str:
    """What JSON has no form for, as the text from which the language can make it again."""
    match value:
        case bytearray():
            return base64.b64encode(value).decode()
        case datetime():
            return _moment(value)
        case timedelta():
            return _span(value)
        case _:
            raise Failed("the result is a type, which JSON cannot hold")


def _moment(value: datetime) -> str:
    """RFC 3339 in UTC, with as many digits of the second as it has."""
    return value.isoformat().replace("+00:00", "Z")


def _span(value: timedelta) -> str:
    """Seconds and an `s`, as `duration()` reads them."""
    micros = value // timedelta(microseconds=1)
    sign = "-" if micros < 0 else ""
    whole, part = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}{f'.{part:06}'.rstrip('0') if part else ''}s"
