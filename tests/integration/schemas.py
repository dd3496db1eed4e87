"""Values that fit a JSON Schema of ours, and values that nearly do."""

import json
from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

_DEEPEST: Final = 5
_TEXTS: Final = st.text(max_size=20) | st.sampled_from(
    [
        "",
        "\0",
        "a" * 300,
        "'; drop table runs; --",
        "../../etc/passwd",
        "\u202e",
        "{{ 1 }}",
        "9" * 40,
        "%00",
        "*",
        ">",
        ".",
    ]
)
ANYTHING: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def fitting(
    schema: Mapping[str, Any], components: Mapping[str, Any], depth: int = 0
) -> st.SearchStrategy[Any]:
    """Mostly what the schema says; now and then something else."""
    return st.one_of(_fitting(schema, components, depth), _fitting(schema, components, depth), ANYTHING)


def _fitting(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _fitting(components[schema["$ref"].rpartition("/")[2]], components, depth)
    if "const" in schema or "enum" in schema:
        return st.sampled_from([schema["const"]] if "const" in schema else schema["enum"])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of([_fitting(choice, components, depth) for choice in choices])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([_fitting({**schema, "type": each}, components, depth) for each in kind])
    match kind:
        case "object" if depth < _DEEPEST:
            return _object(schema, components, depth)
        case "array" if depth < _DEEPEST:
            items = schema.get("items", {})
            inner = fitting(items, components, depth + 1) if isinstance(items, Mapping) else ANYTHING
            return st.lists(inner, max_size=3)
        case _:
            return _leaf(kind, schema)


def _leaf(kind: object, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", -10), schema.get("maximum", 2**60)
    number = st.sampled_from([low - 1, low, low + 1, 7, high, high + 1])
    kinds = {
        "string": _TEXTS,
        "integer": number,
        "number": number,
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return kinds[kind] if isinstance(kind, str) and kind in kinds else ANYTHING


def _object(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    members = {
        name: fitting(each, components, depth + 1) for name, each in schema.get("properties", {}).items()
    }
    required = {name: members.pop(name) for name in schema.get("required", ()) if name in members}
    return st.fixed_dictionaries(required, optional=members)


def encoded(value: Any) -> bytes:
    """As JSON that may hold half characters, as a careless client writes them."""
    return json.dumps(value).encode()
