"""What the API tells about imported APIs, and what it takes."""

from typing import Annotated

from msgspec import Meta, Struct

from contracts.apis import ApiName, Skipped
from contracts.limits import OPENAPI_BYTES, Name

Address = Annotated[str, Meta(min_length=1, max_length=2_000)]


class ImportApi(Struct, frozen=True, kw_only=True):
    """An OpenAPI document (3.0 or 3.1, JSON or YAML): its text, or where it lies. One of the two."""

    name: ApiName
    """What the org calls the API."""
    document: Annotated[str, Meta(max_length=OPENAPI_BYTES)] | None = None
    url: Address | None = None
    secret: Annotated[str, Meta(max_length=64)] | None = None
    """Id of the secret to fetch it with."""
    server: Address | None = None
    """Where the operations are called, in place of the document's own servers."""


class Changes(Struct, frozen=True, kw_only=True):
    """Node types by what an import did to them, against the version before."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    same: int = 0


class ApiOperation(Struct, frozen=True, kw_only=True):
    type: str
    """The node type, as workflows name it."""
    title: str
    method: str
    path: str


class ApiView(Struct, frozen=True, kw_only=True):
    """An imported API."""

    name: ApiName
    title: Name
    version: int
    """The newest; node types without a version mean this one."""
    operations: int


class ApiList(Struct, frozen=True, kw_only=True):
    items: list[ApiView]


class ApiVersion(Struct, frozen=True, kw_only=True):
    """One import, whole."""

    name: ApiName
    title: Name
    version: int
    operations: list[ApiOperation]
    skipped: tuple[Skipped, ...]
    """Operations of which no node type was made, and why."""
    changes: Changes
