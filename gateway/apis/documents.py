"""Bytes of a stranger to plain values: JSON or YAML, never more than the bounds, and every refusal with its place."""

from typing import Any, Final
from urllib.parse import unquote

import msgspec

from chassis.pointers import escaped
from contracts.limits import OPENAPI_BYTES, OPENAPI_DEPTH, OPENAPI_REFERENCES, OPENAPI_VALUES
from gateway.apis.pointers import Refused
from gateway.apis.yaml_values import values_of

_PAYLOADS: Final = frozenset({"example", "examples", "default", "enum", "const", "value"})
"""What stands below these is somebody's data, in which `$ref` is a word like any other."""


def read(data: bytes) -> Any:
    """The document as plain values. Raises `Refused`."""
    if len(data) > OPENAPI_BYTES:
        raise Refused("", f"The document has more than {OPENAPI_BYTES:,} bytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("", "The document is no text in UTF-8.") from None
    return checked(_json(text) if text.lstrip()[:1] in ("{", "[") else values_of(text))


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise Refused("", "The document is nested too deeply.") from None
    except msgspec.DecodeError as error:
        try:
            return values_of(text)  # YAML may begin with a brace too.
        except Refused:
            raise Refused("", f"The document is neither JSON nor YAML: {error}") from None


def checked(document: Any) -> Any:
    """The same document. Raises `Refused` when it is too deep or too large, or refers to somewhere else."""
    left = OPENAPI_VALUES
    waiting: list[tuple[str, Any, int, bool]] = [("", document, 0, False)]
    while waiting:
        pointer, value, depth, payload = waiting.pop()
        left -= 1
        if left < 0:
            raise Refused(pointer, f"The document has more than {OPENAPI_VALUES:,} values.")
        if depth > OPENAPI_DEPTH:
            raise Refused(pointer, "The document is nested too deeply.")
        if isinstance(value, dict):
            target = value.get("$ref")
            if not payload and isinstance(target, str) and not target.startswith("#/"):
                raise Refused(f"{pointer}/$ref", "Only references within the document are followed.")
            waiting += [
                (
                    f"{pointer}/{escaped(name)}",
                    item,
                    depth + 1,
                    payload or name in _PAYLOADS or name.startswith("x-"),
                )
                for name, item in value.items()
            ]
        elif isinstance(value, list):
            waiting += [
                (f"{pointer}/{number}", item, depth + 1, payload) for number, item in enumerate(value)
            ]
    return document


class Document:
    """A document whose references can be followed."""

    def __init__(self, root: Any) -> None:
        if not isinstance(root, dict):
            raise Refused("", "The document is no object.")
        self.root: dict[str, Any] = root

    def follow(self, value: Any, pointer: str) -> tuple[Any, str]:
        """What a value means, and where that stands. Raises `Refused` for a reference that leads nowhere or never ends."""
        seen: list[str] = []
        while isinstance(value, dict) and isinstance(target := value.get("$ref"), str):
            if target in seen:
                raise Refused(f"{pointer}/$ref", "These references lead to each other and to nothing else.")
            seen.append(target)
            value, pointer = self._at(target, f"{pointer}/$ref"), target[1:]
            if len(seen) > OPENAPI_REFERENCES:
                raise Refused(
                    f"{pointer}/$ref",
                    f"More than {OPENAPI_REFERENCES} references stand one behind the other.",
                )
        return value, pointer

    def _at(self, target: str, pointer: str) -> Any:
        place: Any = self.root
        for part in target[2:].split("/"):
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict) and name in place:
                place = place[name]
            elif isinstance(place, list) and name.isdecimal() and int(name[:6]) < len(place):
                place = place[int(name[:6])]
            else:
                raise Refused(pointer, f"There is nothing at {target[:200]}.")
        return place

    def object_at(self, value: Any, pointer: str) -> tuple[dict[str, Any], str]:
        """An object, its reference followed; an absent one is empty."""
        found, at = self.follow(value, pointer)
        if found is None:
            return {}, at
        if not isinstance(found, dict):
            raise Refused(at, "This is no object.")
        return found, at


def listed(value: Any, pointer: str) -> list[Any]:
    """A list; an absent one is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused(pointer, "This is no list.")
    return value
