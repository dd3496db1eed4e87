"""The form of an imported node: its parameters by where they stand, its body, and what every such node has."""

from typing import Any, Final

from contracts.apis import ApiCall
from contracts.limits import MIB, RESPONSE_BYTES

_GROUPS: Final = {
    "path": ("path", "Path"),
    "query": ("query", "Query"),
    "header": ("headers", "Headers"),
    "cookie": ("cookies", "Cookies"),
}
_LITERAL: Final = {"x-expression": "none"}
_POINTER: Final = {"type": "string", "maxLength": 500, "pattern": "^(/.*)?$", **_LITERAL}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 200, **_LITERAL}


def form_of(
    call: ApiCall, schemas: dict[tuple[str, str], dict[str, Any]], body: dict[str, Any]
) -> dict[str, Any]:
    """JSON Schema (2020-12) of the configuration."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for where, (group, title) in _GROUPS.items():
        of_group = [parameter for parameter in call.parameters if parameter.where == where]
        if not of_group:
            continue
        needed = [parameter.name for parameter in of_group if parameter.required]
        properties[group] = {
            "type": "object",
            "title": title,
            "properties": {parameter.name: schemas[where, parameter.name] for parameter in of_group},
            "required": needed,
            "additionalProperties": False,
        }
        if needed:
            required.append(group)
    if call.body is not None:
        properties["body"] = {"title": "Body", **body}
        if call.body.required:
            required.append("body")
    properties |= _access(call) | _common(call)
    if not call.server:
        required.append("server")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _access(call: ApiCall) -> dict[str, Any]:
    if not call.schemes:
        return {}
    fields: dict[str, Any] = {
        "auth": {
            "title": "Credential",
            "description": "Goes only to the hosts that the secret allows.",
            "x-secret": True,
        }
    }
    if len(call.schemes) > 1:
        names = [scheme.name for scheme in call.schemes]
        fields["auth_as"] = {"enum": names, "title": "Shown as", "default": names[0], **_LITERAL}
    return fields


def _common(call: ApiCall) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "server": {"type": "string", "title": "Server", "minLength": 1, "maxLength": 2_000}
        | ({"default": call.server} if call.server else {}),
        "timeout_s": {
            "type": "number", "title": "Timeout", "description": "Seconds, for each call.",
            "exclusiveMinimum": 0, "maximum": 3_600, "default": 30.0,
        },
        "max_bytes": {
            "type": "integer", "title": "Largest answer", "description": "In bytes, all pages together.",
            "minimum": 1, "maximum": RESPONSE_BYTES, "default": 10 * MIB,
        },
        "response": {
            "enum": ["auto", "json", "text", "binary"], "title": "Read the answer as", "default": "auto", **_LITERAL,
        },
        "success": {
            "type": "array", "title": "Success", "maxItems": 50, "default": ["2xx"],
            "items": {"type": "string", "pattern": "^[1-5](xx|[0-9]{2})$"},
        },
    }  # fmt: skip
    if call.method == "GET":
        fields["pages"] = _pages()
    if call.method in ("POST", "PATCH"):
        fields["honours_key"] = {
            "type": "boolean",
            "title": "The server honours Idempotency-Key",
            "description": "Then the call may be repeated under the same key when its outcome is unknown.",
            "default": False,
            **_LITERAL,
        }
    return fields


def _pages() -> dict[str, Any]:
    items = _POINTER | {
        "title": "Items",
        "description": "JSON pointer to the list in each answer; empty: the answer itself.",
    }
    most = {"type": "integer", "title": "Most pages", "minimum": 1, "maximum": 1_000, "default": 100}

    def way(mode: str, title: str, more: dict[str, Any], required: list[str]) -> dict[str, Any]:
        return {
            "type": "object",
            "title": title,
            "properties": {"by": {"const": mode, **_LITERAL}, "items": items, "most": most, **more},
            "required": ["by", *required],
            "additionalProperties": False,
        }

    cursor = {
        "next": _POINTER
        | {"title": "Cursor", "description": "JSON pointer to the next page's cursor in an answer."},
        "parameter": _NAME | {"title": "Parameter", "description": "Of the query, which takes the cursor."},
    }
    page = {
        "parameter": _NAME
        | {"title": "Parameter", "description": "Of the query, which takes the page's number."},
        "first": {"type": "integer", "title": "First page", "minimum": 0, "maximum": 1_000_000, "default": 1},
    }
    return {
        "title": "Pages",
        "description": "Ask for one page after the other, and give all items.",
        "oneOf": [
            way("link", "Link header", {}, []),
            way("cursor", "Cursor in the answer", cursor, ["next", "parameter"]),
            way("page", "Page number", page, ["parameter"]),
        ],
    }
