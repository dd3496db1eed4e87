"""What the API takes and tells about API keys."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from contracts.limits import Name


class IssueKey(Struct, frozen=True, kw_only=True):
    """A key can give only the scopes that the key which asks has itself."""

    name: Name
    scopes: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(min_length=1, max_length=64)]
    expires: Annotated[datetime, Meta(tz=True)] | None = None


class IssuedKey(Struct, frozen=True, kw_only=True):
    id: str
    key: str
    """Shown this once; only its hash is kept."""


class KeyView(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    scopes: tuple[str, ...]
    created: datetime
    expires: datetime | None
    last_used: datetime | None
    revoked: datetime | None


class KeyList(Struct, frozen=True, kw_only=True):
    items: list[KeyView]
