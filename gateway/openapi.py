"""The OpenAPI 3.1 document, drawn from the routes and from the structs that they take and give.

msgspec writes the schemas, so that tags, bounds and closed objects are told as they are decoded.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args, get_origin

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter, ParameterKwarg
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition
from msgspec import Raw, Struct

from chassis.edge.problems import CONTENT_TYPE, ProblemBody
from chassis.secret import Secret
from contracts.limits import API_CALLS_PER_MINUTE
from gateway.live.streams import LiveStream
from gateway.permissions import API, PUBLIC, scope_of
from gateway.places import HEADER

JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{name}"
_HIDDEN: Final = frozenset({"OPTIONS", "HEAD"})
_ABOUT: Final = (
    "Commands in, read models out. Every call needs an API key as `Authorization: Bearer ao_live_…` with the scope that "
    "stands at the operation. Every refusal is an RFC 9457 problem with a `code`. A write's answer carries "
    f"`{HEADER}`; the same org's next read waits for it, and whoever reads from another address may send it along. "
    f"{API_CALLS_PER_MINUTE} calls a minute and key."
)


class Operation(Struct, frozen=True, kw_only=True):
    """One route as the document tells it."""

    method: str
    path: str
    handler: HTTPRouteHandler
    parameters: list[FieldDefinition]
    takes: Any = None
    gives: Any = None
    """None: an answer without a body."""

    @property
    def tag(self) -> str:
        return self.path.removeprefix(API).split("/")[1]


def document(told: Iterable[Operation], release: str) -> dict[str, Any]:
    """The whole document as plain values."""
    found = sorted(told, key=lambda each: (each.path, each.method))
    bodies = {kind for each in found for kind in (each.takes, each.gives) if kind is not None}
    kinds = [ProblemBody, *sorted(bodies - {LiveStream}, key=str)]
    schemas, components = msgspec.json.schema_components(kinds, schema_hook=_schema, ref_template=_REF)
    by_kind = dict(zip(kinds, schemas, strict=True))
    commands = {each.takes for each in found}
    _close(components, [by_kind[kind] for kind in kinds if kind in commands])
    paths: dict[str, dict[str, Any]] = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AutomateOS",
            "version": release,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({each.tag for each in found})],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
            "schemas": dict(sorted(components.items())),
        },
    }


def operations(app: Litestar) -> Iterator[Operation]:
    """Every route of the API, but for what a framework adds by itself."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute) or not route.path.startswith(API):
            continue
        for handler in route.route_handlers:
            for method in sorted(set(handler.http_methods) - _HIDDEN):
                yield _described(route, handler, str(method))


def _described(route: HTTPRoute, handler: HTTPRouteHandler, method: str) -> Operation:
    given = set(handler.resolve_dependencies()) | {"data", "request"}
    signature = handler.parsed_fn_signature
    gives = signature.return_type.annotation
    if get_origin(gives) is Response:
        gives = get_args(gives)[0]
    return Operation(
        method=method,
        path=route.path_format,
        handler=handler,
        parameters=[field for name, field in signature.parameters.items() if name not in given],
        takes=handler.parsed_data_field.annotation if handler.parsed_data_field else None,
        gives=None if gives is type(None) else gives,
    )


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    handler = operation.handler
    text = " ".join((handler.fn.__doc__ or "").split())
    scope = scope_of(operation.method, operation.path)
    told: dict[str, Any] = {
        "operationId": handler.fn.__name__,
        "tags": [operation.tag],
        "summary": text.partition(". ")[0].removesuffix("."),
        "description": text,
        "parameters": [_parameter(operation, field) for field in operation.parameters],
    }
    if operation.takes is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas[operation.takes]}}}
    told["responses"] = {
        str(handler.status_code): _answer(operation.gives, schemas),
        **({"200": _answer(operation.gives, schemas, _ALREADY)} if handler.status_code == 202 else {}),
        "default": {
            "description": "A problem.",
            "content": {CONTENT_TYPE: {"schema": schemas[ProblemBody]}},
        },
    }
    if scope != PUBLIC:
        told["security"] = [{"key": []}]
        told["x-scope"] = scope
    return told


_ALREADY: Final = "It was so already: nothing was done again."


def _answer(gives: Any, schemas: dict[Any, Any], words: str = "The answer.") -> dict[str, Any]:
    if gives is None:
        return {"description": "Done."}
    if gives is LiveStream:
        return {"description": "Events as they happen.", "content": {"text/event-stream": {}}}
    return {"description": words, "content": {JSON: {"schema": schemas[gives]}}}


def _parameter(operation: Operation, field: FieldDefinition) -> dict[str, Any]:
    definition = field.kwarg_definition if isinstance(field.kwarg_definition, ParameterKwarg) else None
    place, name = "query", field.name
    if f"{{{field.name}}}" in operation.path:
        place = "path"
    elif isinstance(definition, HeaderParameter):
        place, name = "header", definition.name or name
    elif definition is not None and definition.name:
        name = definition.name
    schema = msgspec.json.schema(field.annotation)
    told = {"name": name, "in": place, "required": place == "path", "schema": schema}
    if definition is not None:
        schema |= {
            key: value
            for key, value in (
                ("minimum", definition.ge),
                ("maximum", definition.le),
                ("maxLength", definition.max_length),
            )
            if value is not None
        }
        if definition.description:
            told["description"] = definition.description
    if field.has_default and field.default is not None:
        schema["default"] = field.default
    return told


def _schema(kind: type) -> dict[str, Any]:
    if kind is Raw:
        return {"description": "Any JSON."}
    if kind is Secret:
        return {"type": "string", "writeOnly": True, "format": "password"}
    raise NotImplementedError(kind)


def _close(components: dict[str, Any], commands: list[Any]) -> None:
    """Say of everything that a command is made of that no other field is taken: the decoder refuses it."""
    waiting: list[Any] = list(commands)
    closed: set[str] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name and name not in closed:
                closed.add(name)
                if "properties" in components[name]:
                    components[name]["additionalProperties"] = False
                waiting.append(components[name])
            waiting.extend(item for key, item in value.items() if key != "mapping")
