"""Undoes a response's compression piece by piece, within bounds."""

import zlib
from typing import Final, Protocol

from contracts.limits import MIB

_HARMLESS: Final = (
    1 * MIB
)  # Below this no ratio hurts, and short repetitive answers do compress a hundredfold.


class Swollen(Exception):
    """What comes out is larger than the limit, or out of proportion to what went in."""


class Damaged(Exception):
    """What went in is not what its header says, or ends too early."""


class Inflater(Protocol):
    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> None:
        """Raises `Damaged` when something is missing."""
        ...


class Verbatim:
    """No compression, or one that the caller has to undo."""

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> None:
        pass


class Zlib:
    """gzip (also of several members) and deflate (also without its header, as some servers send it)."""

    def __init__(self, limit: int, ratio: int) -> None:
        self._limit, self._ratio = limit, ratio
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._fed = self._out = 0
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        self._fed += len(data)
        while data:
            if self._stream.eof:
                self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # The next member.
            allowed = min(self._limit, max(_HARMLESS, self._fed * self._ratio))
            piece = self._inflate(data, allowed - self._out + 1)
            self._out += len(piece)
            if self._out > allowed:
                raise Swollen
            pieces.append(piece)
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return b"".join(pieces)

    def finish(self) -> None:
        if self._fed and not self._stream.eof:
            raise Damaged

    def _inflate(self, data: bytes, most: int) -> bytes:
        first, self._begun = not self._begun, True
        try:
            return self._stream.decompress(data, most)
        except zlib.error as error:
            if not first:
                raise Damaged from error
        try:
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._stream.decompress(data, most)
        except zlib.error as error:
            raise Damaged from error


def inflater(encoding: str, limit: int, ratio: int) -> Inflater:
    """For a Content-Encoding. One that we did not ask for and do not know stays as it is."""
    if encoding.strip().lower() in {"gzip", "x-gzip", "deflate"}:
        return Zlib(limit, ratio)
    return Verbatim()
