"""What ingress answers over HTTP."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from chassis.ports import Blobs
from contracts.codec import encode
from contracts.messages import Answer, Responded
from contracts.payloads import Inline

_JSON: Final = "application/json"
_NOT_OURS_TO_SET: Final = frozenset(
    {
        "connection",
        "content-length",
        "transfer-encoding",
        "keep-alive",
        "upgrade",
        "trailer",
        "te",
        "date",
        "set-cookie",
    }
)
_GUARD: Final = {
    "content-security-policy": "sandbox",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
"""A run's answer is a user's content: no page of it may act in our origin."""


class Reply(Struct, frozen=True, kw_only=True):
    """One HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def settled(answer: Answer) -> Reply:
    """Which run a delivery stands for; 200 instead of 202: it had been started before, by the receipt that is told."""
    came_again = answer.result == "duplicate"
    body = {"run": answer.run, "receipt": answer.receipt, "deduplicated": came_again}
    return Reply(status=200 if came_again else 202, body=encode(body))


async def run_says(responded: Responded, blobs: Blobs, *, duplicate: bool) -> Reply:
    """The run's own answer."""
    headers = {"automateos-run": responded.run, **_GUARD}
    if duplicate:
        headers["automateos-deduplicated"] = "true"
    match responded.state:
        case "failed" | "cancelled":
            failure = responded.error
            body = {"run": responded.run, "status": responded.state, "code": failure.code if failure else ""}
            return Reply(status=responded.status, body=encode(body), headers=headers)
        case "responded" | "completed":
            kind, data = await _content(responded, blobs)
            extra = {n.lower(): v for n, v in responded.headers.items() if _may_set(n, v)}
            extra.pop("content-type", None)
            return Reply(status=responded.status, body=data, content_type=kind, headers=extra | headers)


async def _content(responded: Responded, blobs: Blobs) -> tuple[str, bytes]:
    """A text with a content type of its own goes out as it is; everything else as JSON."""
    payload = responded.body
    data = bytes(payload.value) if isinstance(payload, Inline) else await blobs.get(payload)
    wanted = next(
        (v for n, v in responded.headers.items() if n.lower() == "content-type" and _may_set(n, v)), ""
    )
    if wanted and data[:1] == b'"':
        text: Any = msgspec.json.decode(data)
        return wanted, str(text).encode()
    return wanted or _JSON, data


def _may_set(name: str, value: str) -> bool:
    printable = name.isascii() and value.isascii() and name.replace("-", "").isalnum() and value.isprintable()
    return printable and name.lower() not in _NOT_OURS_TO_SET
