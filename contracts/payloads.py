"""A value in the log: inline while it is small, by reference beyond 64 KiB."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Raw, Struct

from contracts.limits import BLOB_BYTES, Sha256


class Inline(Struct, frozen=True, kw_only=True, tag_field="in", tag="event"):
    """The value itself, as JSON."""

    value: Raw


class Blob(Struct, frozen=True, kw_only=True, tag_field="in", tag="blob"):
    """Bytes in the object store, named by their hash. The history says the hash even when the bytes are gone."""

    sha256: Sha256
    size: Annotated[int, Meta(ge=0, le=BLOB_BYTES)]
    content_type: Annotated[str, Meta(max_length=200)] = "application/json"


Payload: TypeAlias = Inline | Blob

NULL = Inline(value=Raw(b"null"))


def null() -> Inline:
    """The default of a value that nobody gave."""
    return NULL
