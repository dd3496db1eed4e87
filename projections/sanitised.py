"""What a stranger wrote, as Postgres can hold it: no NUL, no lone surrogate, no end of time, and never long.

The bytes themselves are in the archive; what stands in a read model is for reading.
"""

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from contracts.limits import KIB
from contracts.payloads import Blob, Payload

PREVIEW_BYTES: Final = 4 * KIB
TEXT_CHARS: Final = 2_000
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


class Preview(Struct, frozen=True):
    """The beginning of a value, how long the whole is, and where it lies when it lies elsewhere."""

    text: str
    size: int
    blob: str | None


def text(value: str, limit: int = TEXT_CHARS) -> str:
    """At most `limit` characters that a text column takes."""
    if len(value) > limit:
        value = value[:limit]
    if value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def optional(value: str | None, limit: int = TEXT_CHARS) -> str | None:
    return None if value is None else text(value, limit)


def readable(data: bytes, limit: int = PREVIEW_BYTES) -> str:
    """The beginning of some bytes as text; what is not UTF-8 is left out."""
    return data[:limit].decode("utf-8", "ignore").replace("\0", "\ufffd")


def preview(payload: Payload) -> Preview:
    """JSON text as it stands in the log: an escaped NUL in it is six harmless characters."""
    if isinstance(payload, Blob):
        return Preview("", payload.size, payload.sha256)
    data = bytes(payload.value)
    return Preview(readable(data), len(data), None)


def moment(time: datetime) -> datetime:
    """The same moment in UTC, or the first or last one that there is."""
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return _FIRST if time.year == 1 else _LAST
