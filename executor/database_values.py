"""JSON to what Postgres takes, and what Postgres gives to JSON; one row of a table per type.

Numbers that JSON's readers would round (`numeric`, an `int8` beyond 2^53) are texts, moments are RFC 3339 in UTC, `bytea` is
Base64, `json` is itself; whatever stands in no row goes both ways as Postgres writes it.
"""

import base64
import binascii
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import date, time
from typing import Any, Final, Protocol

import msgspec

from contracts.codec import Malformed, decode_json
from contracts.limits import MAX_INTEGER

_INTEGERS: Final = frozenset({"int2", "int4", "int8", "oid"})
_FLOATS: Final = frozenset({"float4", "float8"})
_DOCUMENTS: Final = frozenset({"json", "jsonb"})
_TEXTS: Final = frozenset({"text", "varchar", "bpchar", "name", "char", "uuid", "unknown"})
_KNOWN: Final = _INTEGERS | _FLOATS | _DOCUMENTS | _TEXTS | {"bool", "bytea", "void"}
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)(\+00)?")


class Unfit(Exception):
    """A value is none that this type of parameter takes."""


class Kind(Protocol):
    """asyncpg's description of a type."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def schema(self) -> str: ...


def strangers(kinds: Iterable[Kind]) -> set[tuple[str, str]]:
    """Schema and name of the types whose texts Postgres itself shall read and write."""
    named = (
        (kind.schema, kind.name.removesuffix("[]")) for kind in kinds if kind.kind in ("scalar", "array")
    )
    return {(schema, name) for schema, name in named if name not in _KNOWN}


async def speak_text(types: set[tuple[str, str]], register: Callable[..., Awaitable[None]]) -> None:
    """Have these types go both ways as texts. `register`: asyncpg's `set_type_codec`."""
    for schema, name in sorted(types):
        decode = _moment if name in ("timestamptz", "timestamp") else str
        await register(name, schema=schema, encoder=str, decoder=decode, format="text")


def given(value: Any, kind: Kind) -> Any:
    """A JSON value as asyncpg takes it for a parameter of a type. Raises `Unfit`."""
    if value is None:
        return None
    name = kind.name
    if kind.kind == "array":
        return _items(value, name.removesuffix("[]"))
    if kind.kind != "scalar":
        raise Unfit(f"Parameters of the type {name} are not taken; write it as `$1::text::{name}`.")
    return _scalar(value, name)


def _items(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unfit(f"This is a list of {name}.")
    return [
        None
        if item is None
        else _items(item, name)
        if isinstance(item, list) and name not in _DOCUMENTS
        else _scalar(item, name)
        for item in value
    ]


def _scalar(value: Any, name: str) -> Any:
    if name in _DOCUMENTS:
        return msgspec.json.encode(value).decode()
    if isinstance(value, dict | list):
        raise Unfit(f"An object or list is no {name}.")
    if name == "bool":
        return _boolean(value)
    try:
        if name in _INTEGERS and not isinstance(value, bool):
            return _whole(value)
        if name in _FLOATS and not isinstance(value, bool):
            return float(value)
        if name == "bytea" and isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error, OverflowError):
        raise Unfit(f"This is no {'Base64' if name == 'bytea' else name}.") from None
    if name in _INTEGERS | _FLOATS | {"bytea"}:
        raise Unfit(f"This is no {name}.")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit("This is true or false.")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("a fraction")
        return int(value)
    return int(value)


def told(value: Any, kind: Kind) -> Any:
    """What asyncpg gives for a column of a type, as JSON says it."""
    if value is None:
        return None
    name = kind.name.removesuffix("[]")
    if kind.kind == "array":
        return [_told_item(item, name) for item in value]
    return _told_one(value, name)


def _told_item(item: Any, name: str) -> Any:
    if isinstance(item, list):
        return [_told_item(inner, name) for inner in item]
    return None if item is None else _told_one(item, name)


def _told_one(value: Any, name: str) -> Any:
    match value:
        case bool() | None:
            return value
        case int():
            return value if abs(value) <= MAX_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() if name == "char":
            return value.decode("latin-1")
        case bytes():
            return base64.b64encode(value).decode()
        case str() if name in _DOCUMENTS:
            return _document(value)
        case date() | time():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return _structure(value)


def _structure(value: Any) -> Any:
    """Ranges, records and lists of them; anything else as a text."""
    if hasattr(value, "lower_inc"):
        if value.isempty:
            return {"empty": True}
        ends = {"lower": _told_one(value.lower, ""), "upper": _told_one(value.upper, "")}
        return ends | {"lower_inc": value.lower_inc, "upper_inc": value.upper_inc}
    if hasattr(value, "items"):
        return {name: _told_one(item, "") for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_told_one(item, "") for item in value]
    return str(value)


def _document(text: str) -> Any:
    try:
        return decode_json(text.encode())
    except Malformed:
        return text  # Deeper than we read, or with a number that JSON's readers do not have.


def _moment(text: str) -> str:
    """`2026-11-20 12:00:00+00` as `2026-11-20T12:00:00Z`; what is no such moment (`infinity`, years BC) stays."""
    found = _MOMENT.fullmatch(text)
    return f"{found[1]}T{found[2]}{'Z' if found[3] else ''}" if found else text
