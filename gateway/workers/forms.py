"""Which node types a pool may offer: their forms are a stranger's, so they are made of few words and bounded in every way."""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import structs

from chassis.edge.problems import Complaint
from chassis.pointers import escaped
from contracts.codec import depth_exceeds, encode
from contracts.limits import WORKER_FORM_BYTES, WORKER_FORM_DEPTH, WORKER_FORM_PARTS
from contracts.nodes import NodeSpec
from contracts.workers import PREFIX

_WORDS: Final = frozenset(
    {
        *(
            "$schema",
            "type",
            "title",
            "description",
            "properties",
            "required",
            "additionalProperties",
            "items",
        ),
        *("enum", "const", "default", "examples", "minimum", "maximum", "minLength", "maxLength"),
        *("minItems", "maxItems", "minProperties", "maxProperties", "x-expression"),
    }
)
"""Of JSON Schema. No patterns, whose cost nobody bounds, and no references; no secrets, which no worker is given."""
_KINDS: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})


def offered(specs: tuple[NodeSpec, ...], pool: str) -> tuple[NodeSpec, ...]:
    """The types as the catalogue has them: they are of this pool, whatever they say."""
    return tuple(structs.replace(spec, pool=pool, place="executor", contains=False) for spec in specs)


def complaints(specs: tuple[NodeSpec, ...]) -> list[Complaint]:
    """Everything that is wrong with what a pool wants to offer."""
    found: list[Complaint] = []
    seen: set[str] = set()
    for number, spec in enumerate(specs):
        place = f"/specs/{number}"
        if spec.type.partition(".")[0] != PREFIX or "." not in spec.type:
            found.append(_bad(f"{place}/type", f"A worker's node types are called {PREFIX}.<name>."))
        if spec.type in seen:
            found.append(_bad(f"{place}/type", "It stands twice."))
        seen.add(spec.type)
        if spec.outputs_from is not None:
            found.append(_bad(f"{place}/outputs_from", "A worker names every port."))
        found += _form(spec.config, f"{place}/config")
    return found


def _form(config: dict[str, Any], place: str) -> list[Complaint]:
    written = encode(config)
    if len(written) > WORKER_FORM_BYTES or depth_exceeds(written, 4 * WORKER_FORM_DEPTH):
        return [_bad(place, f"A form has {WORKER_FORM_BYTES} bytes at the most and is not nested deeply.")]
    if config.get("type") != "object":
        return [_bad(f"{place}/type", "A configuration is an object.")]
    parts = list(_parts(config, place, 0))
    if len(parts) > WORKER_FORM_PARTS:
        return [_bad(place, f"A form has {WORKER_FORM_PARTS} parts at the most.")]
    return [complaint for complaint in parts if complaint is not None]


def _parts(schema: Any, place: str, depth: int) -> Iterator[Complaint | None]:
    """One for each part of the form; what is wrong with it, or None."""
    if not isinstance(schema, dict) or depth > WORKER_FORM_DEPTH:
        yield _bad(place, f"This is an object, nested {WORKER_FORM_DEPTH} deep at the most.")
        return
    yield None
    for word in schema:
        if word not in _WORDS:
            yield _bad(f"{place}/{escaped(str(word)[:64])}", "A worker's form has no such word.")
    if schema.get("type", "object") not in _KINDS:
        yield _bad(f"{place}/type", "This is no type.")
    if not isinstance(schema.get("additionalProperties", False), bool):
        yield _bad(f"{place}/additionalProperties", "This is true or false.")
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        yield _bad(f"{place}/properties", "This is an object.")
        return
    for name, inner in properties.items():
        yield from _parts(inner, f"{place}/properties/{escaped(str(name)[:64])}", depth + 1)
    if "items" in schema:
        yield from _parts(schema["items"], f"{place}/items", depth + 1)


def _bad(pointer: str, message: str) -> Complaint:
    return Complaint(pointer=pointer, message=message)
