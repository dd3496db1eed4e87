"""A JSON Schema of values that were seen. It tells kinds and names, and never a value.

Every value makes the schema a little wider; what every object had is required. An object with very many names is taken for a
table whose names are data, and none of them is told.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from contracts.limits import JSON_DEPTH

NAMES: Final = 100
"""Of one object; with more it is a table."""
ITEMS: Final = 200
"""Of one list, looked at."""
_FORMATS: Final = {
    "date-time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)"),
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "uri": re.compile(r"https?://[^\s]{1,2000}"),
    "email": re.compile(r"[^\s@]{1,64}@[^\s@]{1,250}\.[^\s@.]{2,30}"),
}
_LONGEST: Final = 2_100
"""A longer text has no format."""
_SEALED: Final = "$sealed"


class Shape:
    """What was seen at one place."""

    def __init__(self) -> None:
        self.seen = 0
        self._kinds: dict[str, int] = {}
        self._formats: set[str] | None = None
        """Those that every text has had; None before the first."""
        self._members: dict[str, Shape] = {}
        self._table: Shape | None = None
        """Of what stands under names that are data."""
        self._items: Shape | None = None

    def see(self, value: Any, depth: int = 0) -> None:
        """One more value."""
        self.seen += 1
        kind = _kind(value)
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        if depth > JSON_DEPTH:
            return
        match value:
            case str():
                self._see_text(value)
            case dict() if kind == "object":
                self._see_members(value, depth)
            case list():
                self._items = self._items or Shape()
                for item in value[:ITEMS]:
                    self._items.see(item, depth + 1)

    def _see_text(self, text: str) -> None:
        known = _FORMATS.keys() if self._formats is None else self._formats
        if len(text) > _LONGEST:
            self._formats = set()
        else:
            self._formats = {name for name in known if _FORMATS[name].fullmatch(text)}

    def _see_members(self, value: Mapping[str, Any], depth: int) -> None:
        if self._table is None and len(self._members.keys() | value.keys()) > NAMES:
            self._table, self._members = Shape(), {}
        for name, member in value.items():
            place = self._table or self._members.setdefault(name, Shape())
            place.see(member, depth + 1)

    def schema(self) -> dict[str, Any]:
        """What fits everything that was seen; of nothing, anything."""
        kinds = set(self._kinds)
        if "number" in kinds:
            kinds.discard("integer")
        schemas = [self._of(kind) for kind in _ORDER if kind in kinds]
        return {} if not schemas else schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def _of(self, kind: str) -> dict[str, Any]:
        match kind:
            case "sealed":
                return {"type": "object", "x-sealed": True}
            case "file":
                return {"type": "object", "x-file": True}
            case "object":
                return self._of_objects()
            case "array":
                items = self._items.schema() if self._items is not None else {}
                return {"type": "array"} | ({"items": items} if items else {})
            case "string":
                shared = [name for name in _FORMATS if name in (self._formats or ())]
                return {"type": "string"} | ({"format": shared[0]} if shared else {})
            case _:
                return {"type": kind}

    def _of_objects(self) -> dict[str, Any]:
        if self._table is not None:
            return {"type": "object", "additionalProperties": self._table.schema()}
        objects = self._kinds["object"]
        required = [name for name, member in self._members.items() if member.seen == objects]
        told: dict[str, Any] = {"type": "object"}
        if self._members:
            told["properties"] = {name: member.schema() for name, member in self._members.items()}
        return told | ({"required": required} if required else {})


_ORDER: Final = ("null", "boolean", "integer", "number", "string", "array", "object", "file", "sealed")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        if value.keys() == {_SEALED}:
            return "sealed"
        is_file = value.keys() == {"blob"} and isinstance(value["blob"], dict) and "sha256" in value["blob"]
        return "file" if is_file else "object"
    return _KINDS[type(value)]


_KINDS: Final = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
}
