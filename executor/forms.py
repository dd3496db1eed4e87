"""The form of a node: the JSON Schema of its configuration, made from its type.

Self-contained and without references, so that whoever draws or checks it needs to follow none.
"""

from typing import Any

import msgspec
from msgspec import Struct


def form(config: type[Struct]) -> dict[str, Any]:
    """JSON Schema (2020-12). Titles, help and marks (`x-secret`, `x-expression`) come from `Meta` in the annotations."""
    (schema,), definitions = msgspec.json.schema_components([config], ref_template="{name}")
    inlined = _inlined(schema, definitions, ())
    inlined.pop("title", None)
    inlined.pop("description", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **inlined}


def _inlined(schema: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, definitions, inside) for item in schema]
    if not isinstance(schema, dict):
        return schema
    name = schema.get("$ref")
    if name in inside:
        raise TypeError(f"a configuration cannot contain itself: {name}")
    if name is not None:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _inlined(definitions[name], definitions, (*inside, name)) | rest
    return {key: _inlined(value, definitions, inside) for key, value in schema.items()}
