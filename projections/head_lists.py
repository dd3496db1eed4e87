"""The heads that an anchor stands for, written out: so that whoever finds its root broken also finds which history broke it.

An anchor's signed body names each part by its hash. Nothing has to trust a part: it either has that hash or is none.
"""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from contracts import subjects
from contracts.codec import Malformed
from contracts.limits import MIB

SUBJECT: Final = subjects.anchor(0)
"""No log ever has epoch 0."""
HEADS_PER_PART: Final = 2_000
_PART_BYTES: Final = 4 * MIB


class Head(Struct, frozen=True, array_like=True):
    """The newest commit of one history."""

    subject: str
    version: int
    hash: bytes

    @property
    def order(self) -> tuple[str, ...]:
        """Its place in a list: runs before all others, each by its names."""
        kind, *names = self.subject.split(".")
        return ("b" if kind == "evt" else "a", *names)


_decoder: Final = msgspec.msgpack.Decoder(list[Head])


def part(heads: Sequence[Head]) -> bytes:
    """Some heads as one message."""
    return zlib.compress(msgspec.msgpack.encode(heads), 6)


def heads_in(body: bytes) -> list[Head]:
    """Raises `Malformed`; never takes more memory than a part may."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(body, _PART_BYTES)
        if not unpacking.eof:
            raise Malformed("a part of a list of heads is too large or ends too early")
        return _decoder.decode(data)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"a part of a list of heads cannot be read: {error}") from error


def listed(names: Sequence[str], bodies: Iterable[bytes]) -> list[Head] | None:
    """The heads of the parts with these hashes, in this order. None when one is missing or cannot be read."""
    found = {hashlib.sha256(body).hexdigest(): body for body in bodies}
    heads: list[Head] = []
    try:
        for name in names:
            heads += heads_in(found[name])
    except (KeyError, Malformed):
        return None
    return heads
