"""A delivery as a run sees it: body, headers, query and method, with what must stay secret left out or sealed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct

from chassis.chains import HEADER as CAUSE
from chassis.ports import Blobs
from chassis.sealing import Sealer, seal_paths
from contracts.codec import encode
from contracts.limits import FORM_FIELDS, INLINE_BYTES
from contracts.payloads import Blob, Inline, Payload
from contracts.triggers import HeaderToken, Webhook
from ingress.bodies import Body, gathered

SEALED_TYPE: Final = "application/vnd.automateos.sealed"
HIDDEN_HEADERS: Final = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-api-key", "set-cookie", CAUSE}
)


class Request(Struct, frozen=True, kw_only=True):
    """What came over HTTP, whole."""

    method: str
    headers: Mapping[str, str]
    """Lower-case names; a name that came twice has its values joined by `, `."""
    raw_headers: Sequence[tuple[bytes, bytes]]
    """As they came: what a signature is looked for in."""
    query: str
    body: bytes
    address: str
    received_at: str
    trace: str = ""


class _Upload(Struct, frozen=True, kw_only=True):
    name: str
    filename: str
    content_type: str
    size: int
    blob: Blob


class Input(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What expressions see as `trigger`."""

    body: Any
    headers: dict[str, str]
    query: dict[str, Any]
    method: str
    content_type: str
    received_at: str
    raw: Blob | None = None
    """The bytes as they came, when `body` is not the same text."""
    files: tuple[_Upload, ...] = ()


def visible_headers(headers: Mapping[str, str], hidden: str = "") -> dict[str, str]:
    """The headers that may be stored: none that carries a credential, or proves which run asks."""
    return {name: value for name, value in headers.items() if name not in HIDDEN_HEADERS and name != hidden}


def hidden_header(webhook: Webhook) -> str:
    """The header in which this trigger's senders show their token; empty: in none."""
    authentication = webhook.authentication
    return authentication.header.lower() if isinstance(authentication, HeaderToken) else ""


def query_of(text: str) -> dict[str, Any]:
    """The query as an object. What is not one is left out: senders put anything there."""
    if not text:
        return {}
    try:
        return gathered(parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS))
    except ValueError:
        return {}


async def input_of(
    request: Request,
    body: Body,
    blobs: Blobs,
    *,
    hidden: str,
    sensitive: Sequence[str],
    sealer: Sealer | None,
) -> Payload:
    """The run's input; over 64 KiB it lies in the object store before anything is accepted.

    With `sealer`, the values at the sensitive places of it are ciphertext, and so are the raw bytes beside them.
    """
    raw = await _keep_raw(request.body, body, blobs, sealer)
    files = [
        _Upload(
            name=file.name,
            filename=file.filename,
            content_type=file.content_type,
            size=len(file.data),
            blob=await blobs.put(file.data, file.content_type),
        )
        for file in body.files
    ]
    encoded = encode(
        Input(
            body={"blob": raw} if body.binary else body.value,
            headers=visible_headers(request.headers, hidden),
            query=query_of(request.query),
            method=request.method,
            content_type=body.content_type,
            received_at=request.received_at,
            raw=raw,
            files=tuple(files),
        )
    )
    if sealer is not None:
        encoded = encode(seal_paths(msgspec.json.decode(encoded), sensitive, sealer))
    if len(encoded) > INLINE_BYTES:
        return await blobs.put(encoded)
    return Inline(value=Raw(encoded))


async def _keep_raw(data: bytes, body: Body, blobs: Blobs, sealer: Sealer | None) -> Blob | None:
    if not data or (isinstance(body.value, Raw) and sealer is None):
        return None
    if sealer is not None:
        return await blobs.put(sealer.seal(data).encode(), SEALED_TYPE)
    return await blobs.put(data, body.content_type or "application/octet-stream")
