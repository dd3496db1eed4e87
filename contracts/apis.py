"""What an imported OpenAPI document becomes: node types whose behaviour is data, and nothing that is run.

One `ApiTypes` per import, never changed afterwards. A plan copies the `ApiCall` of each node it has, so a run goes on the
same way whatever is imported later.
"""

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.limits import API_VERSIONS, APIS, Count, Name, Positive, SchemaVersion
from contracts.nodes import NodeSpec
from contracts.payloads import Blob

PREFIX: Final = "api"
"""The first word of every imported node type: `api.petstore.list_pets`."""

ApiName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Where: TypeAlias = Literal["path", "query", "header", "cookie"]
Style: TypeAlias = Literal[
    "simple", "label", "matrix", "form", "spaceDelimited", "pipeDelimited", "deepObject"
]
BodyKind: TypeAlias = Literal["json", "form", "multipart", "raw"]
Scheme: TypeAlias = Literal["header", "query", "cookie", "basic", "bearer", "oauth2"]


class ApiParameter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One value of a call, and how it is written."""

    name: Annotated[str, Meta(max_length=200)]
    where: Where
    style: Style
    explode: bool = False
    as_json: bool = False
    """Written as JSON in place of a style."""
    required: bool = False


class ApiBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: BodyKind
    content_type: Annotated[str, Meta(max_length=200)]
    required: bool = False


class ApiScheme(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How whoever calls shows who they are."""

    name: Annotated[str, Meta(max_length=200)]
    kind: Scheme
    field: Annotated[str, Meta(max_length=200)] = ""
    """The header, query parameter or cookie that holds the key."""
    token_url: Annotated[str, Meta(max_length=2_000)] = ""
    scopes: tuple[str, ...] = ()


class ApiCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The template of a request: everything about an operation but the values."""

    method: Literal["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"]
    path: Annotated[str, Meta(max_length=2_000)]
    """`/pets/{id}`: under the server's address."""
    server: Annotated[str, Meta(max_length=2_000)] = ""
    """Empty: the document names none, and each node does."""
    parameters: tuple[ApiParameter, ...] = ()
    body: ApiBody | None = None
    schemes: tuple[ApiScheme, ...] = ()


class ApiType(Struct, frozen=True, kw_only=True):
    """A node type made of one operation."""

    spec: NodeSpec
    call: ApiCall


class Skipped(Struct, frozen=True, kw_only=True):
    """An operation of which no node type was made, and why."""

    pointer: str
    reason: str


class ApiTypes(Struct, frozen=True, kw_only=True):
    """All of one import."""

    title: Name
    types: tuple[ApiType, ...]
    skipped: tuple[Skipped, ...] = ()


class ApiImport(Struct, frozen=True, kw_only=True):
    """One version of an API, as a compile request names it."""

    name: ApiName
    version: Positive
    newest: bool = False
    """A node that names no version means this one."""
    types: Blob


ApiImports: TypeAlias = Annotated[tuple[ApiImport, ...], Meta(max_length=APIS + API_VERSIONS)]


class OrgApiImported(Struct, frozen=True, kw_only=True, tag_field="type", tag="org.api-imported"):
    """A new version of an API's node types. The earlier ones stay for the workflows that name them."""

    schema_version: SchemaVersion = 1
    name: ApiName
    version: Positive
    title: Name
    operations: Count
    document: Blob
    """As it came: `{"text": …}`."""
    types: Blob
    """`ApiTypes` as JSON. Never inline: the org's history is read whole, and often."""


class OrgApiRemoved(Struct, frozen=True, kw_only=True, tag_field="type", tag="org.api-removed"):
    """The node types are offered no more; what was published goes on."""

    schema_version: SchemaVersion = 1
    name: ApiName
