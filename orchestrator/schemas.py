"""Whether a node's configuration fits the JSON Schema of its type, and which of its fields the schema marks.

A text with `{{ }}` in it may stand for a value of any type, so it fits every field that takes templates; what it gives
is checked where it is used.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from msgspec import Struct
from referencing import Registry

from chassis.pointers import escaped
from contracts.nodes import NodeSpec

Finding: TypeAlias = tuple[str, str]
"""A JSON pointer into the configuration, and what is wrong there."""

REFERENCE: Final = "$secret"
_DEPTH: Final = 32


class Marks(Struct, frozen=True, kw_only=True):
    """JSON pointers of fields with a meaning of their own; `*` stands for every item of a list or every member."""

    conditions: tuple[str, ...] = ()
    literal: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


def marks_of(schema: Mapping[str, Any]) -> Marks:
    """Read the marks out of a schema."""
    found: dict[str, dict[str, None]] = {"condition": {}, "none": {}, "secret": {}}
    for pointer, part in _parts(schema, schema, "", 0):
        if part.get("x-secret") is True:
            found["secret"][pointer] = None
        kind = part.get("x-expression")
        if kind in ("condition", "none"):
            found[kind][pointer] = None
    return Marks(
        conditions=tuple(found["condition"]), literal=tuple(found["none"]), secrets=tuple(found["secret"])
    )


def _parts(
    schema: Any, whole: Mapping[str, Any], pointer: str, depth: int
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return
    yield pointer, schema
    for inner, part in _inside(schema, whole):
        yield from _parts(part, whole, pointer + inner, depth + 1)


def _inside(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for name, part in properties.items():
            yield f"/{escaped(name)}", part
    for key in ("items", "additionalProperties"):
        yield "/*", schema.get(key)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        parts = schema.get(key)
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            yield (f"/{number}" if key == "prefixItems" else ""), part
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        yield "", whole.get("$defs", {}).get(reference.removeprefix("#/$defs/"))


def matches(pointer: str, pattern: str) -> bool:
    """Whether a place is one that a mark means, or lies inside one."""
    places, wanted = pointer.split("/"), pattern.split("/")
    return len(places) >= len(wanted) and all(
        want in ("*", place) for place, want in zip(places, wanted, strict=False)
    )


def matches_any(pointer: str, patterns: tuple[str, ...]) -> bool:
    return any(matches(pointer, pattern) for pattern in patterns)


class Form:
    """The schema of one node type, ready to check configurations."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.marks = marks_of(spec.config)
        # An empty registry: a schema that refers to an address is broken, never fetched.
        self._validator = Draft202012Validator(spec.config, registry=Registry())

    def findings(self, config: Mapping[str, Any]) -> list[Finding]:
        """Everything that does not fit."""
        try:
            found = [
                finding for error in self._validator.iter_errors(config) for finding in self._explain(error)
            ]
        except (
            Exception
        ) as error:  # A plug-in wrote the schema; whatever it breaks is told as the node's fault.
            kind = type(error).__name__
            return [("", f"The schema of node type {self.spec.type} cannot be used ({kind}).")]
        return list(dict.fromkeys([*found, *self._secrets(config)]))

    def _explain(self, error: ValidationError) -> Iterator[Finding]:
        pointer = _pointer(error)
        if self._may_fit(error) or matches_any(pointer, self.marks.secrets):
            return
        instance: Any = error.instance
        schema: Any = error.schema
        match error.validator:
            case "required":
                names: Any = error.validator_value
                for name in (name for name in names if name not in instance):
                    yield f"{pointer}/{escaped(name)}", "This field is missing."
            case "additionalProperties" if error.validator_value is False:
                for name in (name for name in instance if name not in schema.get("properties", {})):
                    yield f"{pointer}/{escaped(name)}", "There is no such field."
            case "not":
                yield pointer, "This may not stand here, beside what else is chosen."
            case "anyOf" | "oneOf" if names := _choice(error.validator_value):
                yield pointer, f"Exactly one of these is needed: {', '.join(names)}."
            case "anyOf" | "oneOf" if closest := self._closest(error):
                yield from self._explain(closest)
            case _:
                yield pointer, _sentence(error)

    def _closest(self, error: ValidationError) -> ValidationError | None:
        """What keeps the alternative that was probably meant from fitting: the fault that lies deepest."""
        wrong = [inner for inner in error.context or () if not self._may_fit(inner)]
        return max(wrong, key=lambda inner: len(inner.absolute_path), default=None)

    def _may_fit(self, error: ValidationError) -> bool:
        """Whether a template stands where the error is, or in every place that keeps one alternative from fitting."""
        if isinstance(error.instance, str) and "{{" in error.instance:
            pointer = _pointer(error)
            return not matches_any(
                pointer, (*self.marks.literal, *self.marks.conditions, *self.marks.secrets)
            )
        if error.validator not in ("anyOf", "oneOf") or not error.context:
            return False
        alternatives: dict[Any, list[ValidationError]] = {}
        for inner in error.context:
            alternatives.setdefault(inner.schema_path[0], []).append(inner)
        return any(all(map(self._may_fit, errors)) for errors in alternatives.values())

    def _secrets(self, config: Mapping[str, Any]) -> Iterator[Finding]:
        for pointer, value in places(config):
            if matches_any(pointer, self.marks.secrets):
                if pointer.count("/") == _depth_of_match(pointer, self.marks.secrets) and not _is_reference(
                    value
                ):
                    yield pointer, 'This field holds a secret: {"$secret": "<id>"} and nothing else.'
            elif isinstance(value, dict) and REFERENCE in value:
                yield pointer, "This field does not take a secret."


def _depth_of_match(pointer: str, patterns: tuple[str, ...]) -> int:
    return max(pattern.count("/") for pattern in patterns if matches(pointer, pattern))


def _is_reference(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {REFERENCE}:
        return False
    name = value[REFERENCE]
    return (
        isinstance(name, str)
        and 1 <= len(name) <= 64
        and name.replace("-", "").replace("_", "").isalnum()
        and name.isascii()
    )


def places(config: Any) -> Iterator[tuple[str, Any]]:
    """Every value in a configuration with its JSON pointer, the whole first."""
    waiting = [("", config)]
    while waiting:
        pointer, value = waiting.pop()
        yield pointer, value
        if isinstance(value, dict):
            waiting += [(f"{pointer}/{escaped(name)}", item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{pointer}/{number}", item) for number, item in enumerate(value)]


def _pointer(error: ValidationError) -> str:
    return "".join(f"/{escaped(str(part))}" for part in error.absolute_path)


_KINDS: Final = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _sentence(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else wanted
            return f"This is {' or '.join(_KINDS.get(kind, str(kind)) for kind in kinds)}."
        case "enum":
            return f"One of: {', '.join(map(str, wanted))}."[:300]
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            least = "least" if "inimum" in error.validator else "most"
            return f"This is at {least} {wanted}."
        case "minLength" | "minItems" | "minProperties":
            return "This is empty or too short."
        case "maxLength" | "maxItems" | "maxProperties":
            return f"This is longer than {wanted}."
        case _:
            return error.message[:300]


def _choice(alternatives: Any) -> list[str]:
    """The names in alternatives that do nothing but ask for a field each; otherwise none."""
    parts = [part for part in alternatives if isinstance(part, Mapping) and part.keys() == {"required"}]
    return [name for part in parts for name in part["required"]] if len(parts) == len(alternatives) else []
