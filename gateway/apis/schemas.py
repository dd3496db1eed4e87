"""A document's schemas as JSON Schemas of a form: bounded, without references, with nothing that is executed or believed.

Rule that holds here: only keywords of the list pass. `pattern` does not, because a stranger's regular expression may take
for ever; our own marks (`x-secret`, `x-expression`) do not, because they say what may hold a secret.
"""

from collections.abc import Mapping
from typing import Any, Final

from chassis.pointers import escaped
from contracts.limits import OPENAPI_FORM_DEPTH, OPENAPI_FORM_PARTS
from gateway.apis.documents import Document

_TEXT_CHARS: Final = 1_000
_CHOICES: Final = 200
_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS: Final = ("minimum", "maximum")
_WORDS: Final = ("title", "description", "format", "pattern")


class Forms:
    """Makes the schemas of one operation's form."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = OPENAPI_FORM_PARTS

    def schema(self, value: Any, pointer: str) -> dict[str, Any]:
        """What is too deep, too much or contains itself takes any value there. Raises `Refused` for references to nothing."""
        return self._schema(value, pointer, 0, ())

    def _schema(self, value: Any, pointer: str, depth: int, inside: tuple[str, ...]) -> dict[str, Any]:
        found, at = self._document.follow(value, pointer)
        self._left -= 1
        if not isinstance(found, dict) or depth > OPENAPI_FORM_DEPTH or self._left < 0 or at in inside:
            return {}
        within = (*inside, at)
        made = _plain(found)
        if properties := self._properties(found, at, depth, within):
            made["properties"] = properties
            required = found.get("required")
            named = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
            if kept := [name for name in named if name in properties]:
                made["required"] = kept
        for name in ("items", "additionalProperties"):
            inner = found.get(name)
            if isinstance(inner, dict):
                made[name] = self._schema(inner, f"{at}/{name}", depth + 1, within)
            elif inner is False and name == "additionalProperties":
                made[name] = False
        for name, becomes in (("allOf", "allOf"), ("anyOf", "anyOf"), ("oneOf", "anyOf")):
            parts = found.get(name)
            if isinstance(parts, list) and parts:
                # Authors seldom mean that two alternatives must not both fit.
                made[becomes] = [
                    self._schema(part, f"{at}/{name}/{number}", depth + 1, within)
                    for number, part in enumerate(parts[:_CHOICES])
                ]
        return _nullable(made, found)

    def _properties(
        self, found: Mapping[str, Any], at: str, depth: int, within: tuple[str, ...]
    ) -> dict[str, Any]:
        properties = found.get("properties")
        if not isinstance(properties, dict):
            return {}
        made: dict[str, Any] = {}
        for name, part in properties.items():
            inner, _ = self._document.follow(part, f"{at}/properties/{escaped(name)}")
            if isinstance(inner, dict) and inner.get("readOnly") is True:
                continue  # The other side's to say.
            made[name] = self._schema(part, f"{at}/properties/{escaped(name)}", depth + 1, within)
        return made


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    kinds = found.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(kinds, list) and kinds and all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
        made["type"] = kinds[0] if len(kinds) == 1 else kinds
    made |= {name: found[name] for name in _COUNTS if _is_count(found.get(name))}
    made |= {name: found[name] for name in _BOUNDS if _is_number(found.get(name))}
    for name in ("exclusiveMinimum", "exclusiveMaximum"):
        bound = name.replace("exclusiveM", "m")
        if found.get(name) is True and bound in made:  # As OpenAPI 3.0 says it.
            made[name] = made.pop(bound)
        elif _is_number(found.get(name)):
            made[name] = found[name]
    choices = found.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= _CHOICES:
        made["enum"] = choices
    if "const" in found:
        made["const"] = found["const"]
    if isinstance(found.get("default"), str | int | float | bool):
        made["default"] = found["default"]
    return made | _words(found)


def _words(found: Mapping[str, Any]) -> dict[str, str]:
    said = {name: found[name] for name in _WORDS if isinstance(found.get(name), str) and found[name]}
    about = said.get("description", "")
    if pattern := said.pop("pattern", ""):
        about = f"{about} Written as {pattern}".strip()
    if about:
        said["description"] = about[:_TEXT_CHARS]
    return {name: text[:_TEXT_CHARS] for name, text in said.items()}


def _nullable(made: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """`nullable` of OpenAPI 3.0 as JSON Schema says it."""
    if found.get("nullable") is not True:
        return made
    if isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if "enum" in made and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    return made


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
