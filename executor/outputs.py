"""What a node returns, made fit for the log: JSON of bounded size and depth, without numbers or letters that no store takes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from chassis.ids import digest
from chassis.ports import Blobs
from contracts.codec import depth_exceeds
from contracts.limits import BLOB_BYTES, INLINE_BYTES, JSON_DEPTH
from contracts.payloads import Blob, Inline, Payload
from executor.errors import Crashed, TooLarge
from executor.patience import insist


class Binary:
    """Bytes inside an output. They are kept in the object store; the output says `{"blob": …}` in their place."""

    __slots__ = ("content_type", "data")

    def __init__(self, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.data = data
        self.content_type = content_type[:200]


class Packed(Struct, frozen=True):
    """An output as bytes, and what must be stored beside it."""

    body: bytes
    binaries: tuple[Binary, ...]


def pack(output: Any, shown: Callable[[bytes], bytes] = bytes) -> Packed:
    """`shown`: what may be seen of bytes. Raises `TooLarge`, or `Crashed` when the output is nothing that JSON can say."""
    binaries: list[Binary] = []

    def refer(value: Any) -> Any:
        if not isinstance(value, Binary):
            raise TypeError(f"a {type(value).__name__} in the output")
        kept = Binary(shown(value.data), value.content_type)
        binaries.append(kept)
        return {"blob": _blob(kept)}

    try:
        body = shown(_encode(output, refer))
    except RecursionError as error:
        raise Crashed("The node's output is nested too deeply.") from error
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise Crashed("The node's output cannot be written as JSON.") from error
    if len(body) > BLOB_BYTES or any(len(binary.data) > BLOB_BYTES for binary in binaries):
        raise TooLarge("The node's output is larger than the limit.")
    if depth_exceeds(body, JSON_DEPTH):
        raise Crashed("The node's output is nested too deeply.")
    return Packed(body, tuple(binaries))


async def keep(packed: Packed, blobs: Blobs) -> Payload:
    """Store what is too large for an event. Waits while the object store is away: what the attempt brought is not lost."""
    for binary in packed.binaries:
        await insist(partial(blobs.put, binary.data, binary.content_type))
    if len(packed.body) <= INLINE_BYTES:
        return Inline(value=Raw(packed.body))
    return await insist(lambda: blobs.put(packed.body))


def _encode(output: Any, refer: Callable[[Any], Any]) -> bytes:
    if isinstance(output, Raw):
        return _checked(bytes(output))
    try:
        body = msgspec.json.encode(output, enc_hook=refer)
    except UnicodeEncodeError:
        body = msgspec.json.encode(_mended(output), enc_hook=refer)
    if b"null" in body:
        # A number that is not finite is written as null: only now is it worth looking for one.
        _mended(output)
    return _checked(body)


_scan: Final = msgspec.json.Decoder(Raw).decode


def _checked(body: bytes) -> bytes:
    """The same bytes; raises when a `Raw` in them is not JSON."""
    body.decode()
    _scan(body)
    return body


def _mended(value: Any) -> Any:
    """The value with U+FFFD for every lone surrogate. Raises ValueError at a number that is not finite."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_mended(item) for item in value]
    return _mended(msgspec.to_builtins(value)) if isinstance(value, Struct) else value


def _blob(binary: Binary) -> Blob:
    return Blob(sha256=digest(binary.data), size=len(binary.data), content_type=binary.content_type)
