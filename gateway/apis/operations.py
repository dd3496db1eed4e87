"""Node types from the operations of an OpenAPI document (3.0 and 3.1): a form for each, and a template of its request."""

import re
from typing import Any, Final, Literal, get_args

from chassis.pointers import escaped
from contracts.apis import PREFIX, ApiBody, ApiCall, ApiParameter, ApiType, ApiTypes, Skipped, Where
from contracts.codec import encode
from contracts.limits import API_TYPES_BYTES, NAME_CHARS, OPENAPI_OPERATIONS
from contracts.nodes import NodeSpec, Repeat
from gateway.apis.documents import Document, listed
from gateway.apis.forms import form_of
from gateway.apis.pointers import Refused
from gateway.apis.schemas import Forms
from gateway.apis.security import Unsupported, schemes_of
from gateway.apis.servers import server_of

Method = Literal["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"]

_METHODS: Final = {method.lower(): method for method in get_args(Method)}
_PARAMETERS: Final = 200
_SKIPPED: Final = 200
_VERSION: Final = re.compile(r"3\.[01]\.\d{1,3}(?:-\S{1,50})?")
_STYLES: Final = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
_OURS: Final = frozenset({"accept", "content-type", "authorization"})
"""Headers that a parameter cannot be: OpenAPI says that they are ignored."""
_MARKS: Final = re.compile(r"\{([^{}]*)\}")
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_WORDS: Final = re.compile(r"[^a-z0-9]+")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def types_of(root: Any, *, name: str, version: int, server: str, base: str) -> ApiTypes:
    """Everything that nodes can be made of.

    `name`: how the org calls the API. `server`: in place of the document's own. `base`: where the document came from, which a
    relative address is relative to. Raises `Refused` when the document is broken or beyond the bounds.
    """
    document = Document(root)
    said = document.root.get("openapi")
    if not isinstance(said, str) or not _VERSION.fullmatch(said):
        what = "Swagger 2.0" if "swagger" in document.root else "another format"
        raise Refused("/openapi", f"OpenAPI 3.0 or 3.1 is read, and this is {what}.")
    info, _ = document.object_at(document.root.get("info"), "/info")
    making = _Making(document, name, version, server, base)
    making.paths()
    if not making.types:
        raise Refused("/paths", "The document has no operation of which a node can be made.")
    title = info.get("title")
    return ApiTypes(
        title=(title if isinstance(title, str) and title else name)[:NAME_CHARS],
        types=tuple(making.types),
        skipped=tuple(making.skipped[:_SKIPPED]),
    )


class _Making:
    def __init__(self, document: Document, name: str, version: int, server: str, base: str) -> None:
        self._document, self._name, self._version = document, name, version
        self._server, self._base = server, base
        self._names: set[str] = set()
        self._size = 0
        self.types: list[ApiType] = []
        self.skipped: list[Skipped] = []

    def paths(self) -> None:
        paths, at = self._document.object_at(self._document.root.get("paths"), "/paths")
        for path, item in paths.items():
            if not path.startswith("/"):
                continue  # An extension.
            found, place = self._document.object_at(item, f"{at}/{escaped(path)}")
            for word, method in _METHODS.items():
                if word in found:
                    self._one(path, method, found, place, f"{place}/{word}")

    def _one(self, path: str, method: Method, item: dict[str, Any], item_at: str, at: str) -> None:
        if len(self.types) + len(self.skipped) >= OPENAPI_OPERATIONS:
            raise Refused(at, f"The document has more than {OPENAPI_OPERATIONS:,} operations.")
        operation, at = self._document.object_at(item[method.lower()], at)
        try:
            made = self._type(path, method, operation, item, item_at, at)
        except Unsupported as error:
            self.skipped.append(Skipped(pointer=error.pointer, reason=str(error)))
            return
        self._size += len(encode(made))
        if self._size > API_TYPES_BYTES:
            raise Refused(at, f"All node types together have more than {API_TYPES_BYTES:,} bytes.")
        self.types.append(made)

    def _type(
        self,
        path: str,
        method: Method,
        operation: dict[str, Any],
        item: dict[str, Any],
        item_at: str,
        at: str,
    ) -> ApiType:
        forms = Forms(self._document)
        parameters, schemas = self._parameters(operation, item, item_at, at, forms)
        if len(path) > 2_000 or {"?", "#"} & set(path):
            raise Unsupported(at, "The path is no path.")
        wanted = {parameter.name for parameter in parameters if parameter.where == "path"}
        if set(_MARKS.findall(path)) != wanted:
            raise Refused(f"{at}/parameters", "The path's parameters are not those of its `{}`.")
        body, body_schema = self._body(operation, at, forms)
        call = ApiCall(
            method=method,
            path=path,
            server=server_of(self._document, operation, item, at, self._server, self._base),
            parameters=parameters,
            body=body,
            schemes=schemes_of(self._document, operation, at),
        )
        label = f"{method} {path}"
        summary = operation.get("summary")
        about = operation.get("description")
        repeat: Repeat = "yes" if method in _SAFE else "no"
        spec = NodeSpec(
            type=f"{PREFIX}.{self._name}.{self._slug(operation, method, path)}",
            version=self._version,
            title=(summary if isinstance(summary, str) and summary.strip() else label)[:NAME_CHARS],
            help=(f"{label}. {about}" if isinstance(about, str) and about else f"{label}.")[:2_000],
            icon="globe",
            category=f"API: {self._name}",
            repeat=repeat,
            config=form_of(call, schemas, body_schema),
        )
        return ApiType(spec=spec, call=call)

    def _slug(self, operation: dict[str, Any], method: str, path: str) -> str:
        """One word for an operation, the same in every import of the same document."""
        said = operation.get("operationId")
        text = said if isinstance(said, str) and said.strip() else f"{method} {path}"
        word = _WORDS.sub("_", _HUMPS.sub("_", text[:500]).lower()).strip("_") or "operation"
        word = (word if word[0].isalpha() else f"op_{word}")[:32].strip("_")
        name, number = word, 1
        while name in self._names:
            number += 1
            ending = f"_{number}"
            name = word[: 32 - len(ending)] + ending
        self._names.add(name)
        return name

    # --- Parameters -----------------------------------------------------------------------------

    def _parameters(
        self, operation: dict[str, Any], item: dict[str, Any], item_at: str, at: str, forms: Forms
    ) -> tuple[tuple[ApiParameter, ...], dict[tuple[str, str], dict[str, Any]]]:
        """The path's own and the operation's, which replace those of the same name and place."""
        made: dict[tuple[str, str], ApiParameter] = {}
        schemas: dict[tuple[str, str], dict[str, Any]] = {}
        for source, place in ((item, item_at), (operation, at)):
            stated = listed(source.get("parameters"), f"{place}/parameters")
            if len(stated) > _PARAMETERS:
                raise Refused(f"{place}/parameters", f"More than {_PARAMETERS} parameters.")
            for number, value in enumerate(stated):
                found, where = self._document.object_at(value, f"{place}/parameters/{number}")
                parameter = _parameter(found, where)
                if parameter is not None:
                    made[parameter.where, parameter.name] = parameter
                    schemas[parameter.where, parameter.name] = self._schema(found, where, forms)
        return tuple(made.values()), schemas

    def _schema(self, found: dict[str, Any], at: str, forms: Forms) -> dict[str, Any]:
        content = found.get("content")
        if isinstance(content, dict) and content:
            kind, media = next(iter(content.items()))
            inner = media.get("schema") if isinstance(media, dict) else None
            schema = forms.schema(inner, f"{at}/content/{escaped(kind)}/schema")
        else:
            schema = forms.schema(found.get("schema"), f"{at}/schema")
        about = found.get("description")
        return ({"description": about[:1_000]} if isinstance(about, str) and about else {}) | schema

    # --- Bodies ---------------------------------------------------------------------------------

    def _body(
        self, operation: dict[str, Any], at: str, forms: Forms
    ) -> tuple[ApiBody | None, dict[str, Any]]:
        if operation.get("requestBody") is None:
            return None, {}
        stated, place = self._document.object_at(operation["requestBody"], f"{at}/requestBody")
        content, content_at = self._document.object_at(stated.get("content"), f"{place}/content")
        if not content:
            return None, {}
        kind, media = min(content.items(), key=lambda pair: _RANKS[_kind(pair[0])])
        body = ApiBody(kind=_kind(kind), content_type=_media(kind), required=stated.get("required") is True)
        if body.kind == "raw":
            return body, {"description": "A text, or a stored file."}
        found, media_at = self._document.object_at(media, f"{content_at}/{escaped(kind)}")
        return body, forms.schema(found.get("schema"), f"{media_at}/schema")


_RANKS: Final = {"json": 0, "form": 1, "multipart": 2, "raw": 3}
_MEDIA: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,90}/[a-z0-9!#$&^_.+-]{1,90}")


def _kind(content_type: str) -> Literal["json", "form", "multipart", "raw"]:
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/json" or media.endswith("+json") or media in ("*/*", "application/*"):
        return "json"
    if media == "application/x-www-form-urlencoded":
        return "form"
    return "multipart" if media == "multipart/form-data" else "raw"


def _media(content_type: str) -> str:
    media = content_type.partition(";")[0].strip().lower()
    if "*" in media:
        return "application/json" if _kind(content_type) == "json" else "application/octet-stream"
    return media if _MEDIA.fullmatch(media) else "application/octet-stream"


def _parameter(found: dict[str, Any], at: str) -> ApiParameter | None:
    name = found.get("name")
    where: Any = found.get("in")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise Refused(f"{at}/name", "A parameter has a name of at most 200 characters.")
    if where not in get_args(Where):
        raise Refused(f"{at}/in", "A parameter stands in the path, the query, a header or a cookie.")
    if where == "header" and name.lower() in _OURS:
        return None
    if where == "header" and not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise Refused(f"{at}/name", "This cannot be the name of a header.")
    style = found.get("style", _STYLES[where][0])
    if style not in _STYLES[where]:
        raise Unsupported(f"{at}/style", f"A parameter in the {where} is not written so.")
    explode = found.get("explode")
    return ApiParameter(
        name=name,
        where=where,
        style=style,
        explode=explode if isinstance(explode, bool) else style in ("form", "deepObject"),
        as_json=isinstance(found.get("content"), dict),
        required=where == "path" or found.get("required") is True,
    )
