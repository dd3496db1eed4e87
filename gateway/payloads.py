"""Values that may be too large for the log: inline while small, in the object store beyond that."""

from msgspec import Raw

from chassis.edge.problems import Problem
from chassis.ports import Blobs
from contracts.limits import INLINE_BYTES
from contracts.payloads import Blob, Inline, Payload


async def payload_of(data: bytes, blobs: Blobs) -> Payload:
    """JSON text as a payload; on disk before this returns, when it is large."""
    if len(data) > INLINE_BYTES:
        return await blobs.put(data)
    return Inline(value=Raw(data))


async def bytes_of(payload: Payload, blobs: Blobs) -> bytes:
    match payload:
        case Inline():
            return bytes(payload.value)
        case Blob():
            try:
                return await blobs.get(payload)
            except KeyError:
                raise Problem("payload.missing") from None
