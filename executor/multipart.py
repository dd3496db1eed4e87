"""Bodies of requests by their kind; files are stored ones, by reference."""

import hashlib
import json
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Raw

from contracts.apis import ApiBody
from contracts.limits import FORM_FIELDS
from executor.answers import scalar
from executor.contents import Stored, text_or_file
from executor.errors import BadConfig
from executor.node import Context

_object: Final = msgspec.json.Decoder(dict[str, Any])


async def body_of(body: ApiBody | None, given: Raw, context: Context) -> tuple[bytes, str]:
    """The bytes and their content type. Raises `BadConfig`."""
    written = bytes(given)
    if body is None or not written or written == b"null":
        if body is not None and body.required:
            raise BadConfig("The body is missing.", field="/body")
        return b"", ""
    if body.kind == "json":
        return written, body.content_type
    if body.kind == "raw":
        raw = text_or_file(given, "/body")
        data = await context.fetch(raw.blob) if isinstance(raw, Stored) else raw.encode()
        return data, body.content_type
    pairs = _pairs(written)
    if body.kind == "form":
        return urlencode([(name, _text(value)) for name, value in pairs]).encode(), body.content_type
    return await _multipart(pairs, context)


def _pairs(written: bytes) -> list[tuple[str, Any]]:
    try:
        fields = _object.decode(written)
    except msgspec.DecodeError:
        raise BadConfig("The body is an object of fields.", field="/body") from None
    pairs = [
        (name, item)
        for name, value in fields.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
    ]
    if len(pairs) > FORM_FIELDS:
        raise BadConfig(f"A form has {FORM_FIELDS} fields at the most.", field="/body")
    return pairs


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else scalar(value)


async def _multipart(pairs: list[tuple[str, Any]], context: Context) -> tuple[bytes, str]:
    """Each attempt at a step sends the same bytes, the boundary included."""
    parts: list[bytes] = []
    for name, value in pairs:
        quoted = name.replace("%", "%25").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        try:
            stored = msgspec.convert(value, Stored)
        except msgspec.ValidationError:
            kind = "\r\nContent-Type: application/json" if isinstance(value, dict) else ""
            head, data = f'Content-Disposition: form-data; name="{quoted}"{kind}', _text(value).encode()
        else:
            kind = stored.blob.content_type.replace("\r", "").replace("\n", "")
            head = f'Content-Disposition: form-data; name="{quoted}"; filename="{quoted}"\r\nContent-Type: {kind}'
            data = await context.fetch(stored.blob)
        parts.append(head.encode() + b"\r\n\r\n" + data)
    boundary = hashlib.sha256(context.key.encode() + b"\0" + b"\0".join(parts)).hexdigest()[:40]
    lines = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return lines + b"--" + boundary.encode() + b"--\r\n", f"multipart/form-data; boundary={boundary}"
