"""What Redis says (RESP 2 and 3) as JSON, never more of it than there is room for.

Numbers that JSON's readers would round are texts, as are infinities; bytes that are no UTF-8 are `{"base64": …}`; a map whose
keys are texts is an object, any other a list of pairs.
"""

import asyncio
import base64
import math
from typing import Any, Final

from msgspec import Struct

from contracts.limits import KIB, LIST_ITEMS, MAX_INTEGER
from executor.errors import TooLarge

_DEPTH: Final = 32
_LINE: Final = 8 * KIB


class Garbled(Exception):
    """What came is not RESP."""


class Said(Struct, frozen=True):
    """An error as the server told it."""

    text: str

    @property
    def code(self) -> str:
        """The first word, where it is one of the capital words that errors begin with."""
        word = self.text.partition(" ")[0]
        return word if word.isascii() and word.isupper() and word.isalpha() and len(word) <= 32 else "ERR"


def command(*parts: bytes) -> bytes:
    """A command as it goes on the line: every part with its length, so that none can become two."""
    lines = [b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)]
    return b"".join(lines)


class Replies:
    """Reads replies one after the other. Raises `Garbled`, `TooLarge`, and `EOFError` when the line ends."""

    def __init__(self, reader: asyncio.StreamReader, most: int) -> None:
        self._reader = reader
        self._room = most
        self._items = LIST_ITEMS

    async def next(self) -> Any:
        """A value that JSON can say, or `Said`."""
        while True:
            pushed, value = await self._value(0)
            if not pushed:
                return value

    async def _value(self, depth: int) -> tuple[bool, Any]:
        """The next value, and whether nobody asked for it."""
        self._items -= 1
        if depth > _DEPTH or self._items < 0:
            raise TooLarge("The reply is nested too deeply or has too many items.")
        line = await self._line()
        kind, rest = line[:1], line[1:]
        try:
            return kind == b">", await self._read(kind, rest, depth)
        except (ValueError, UnicodeDecodeError):
            raise Garbled from None

    async def _read(self, kind: bytes, rest: bytes, depth: int) -> Any:
        match kind:
            case b"+":
                return _text(rest)
            case b"-":
                return Said(rest.decode("utf-8", "replace"))
            case b":" | b"(":
                return _number(int(rest))
            case b",":
                number = float(rest)
                return number if math.isfinite(number) else str(number)
            case b"#":
                return rest == b"t"
            case b"_":
                return None
            case b"$" | b"=" | b"!":
                return _sized(kind, await self._bytes(int(rest)))
            case _:
                return await self._many(kind, int(rest), depth)

    async def _many(self, kind: bytes, size: int, depth: int) -> Any:
        match kind:
            case b"*" | b"~" | b">":
                return None if size < 0 else [await self._inner(depth) for _ in range(size)]
            case b"%":
                return _mapped([(await self._inner(depth), await self._inner(depth)) for _ in range(size)])
            case b"|":  # Attributes: about the value that follows them.
                for _ in range(2 * size):
                    await self._inner(depth)
                return await self._inner(depth)
            case _:
                raise Garbled

    async def _inner(self, depth: int) -> Any:
        return (await self._value(depth + 1))[1]

    async def _line(self) -> bytes:
        try:
            line = await self._reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError:
            raise Garbled from None
        if len(line) > _LINE:
            raise Garbled
        self._spend(len(line))
        return line[:-2]

    async def _bytes(self, size: int) -> bytes | None:
        if size < 0:
            return None
        self._spend(size)
        data = await self._reader.readexactly(size + 2)
        return data[:-2]

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise TooLarge("The reply is larger than the limit.")


def _sized(kind: bytes, data: bytes | None) -> Any:
    if data is None:
        return None
    if kind == b"!":
        return Said(data.decode("utf-8", "replace"))
    return _text(data[4:] if kind == b"=" else data)  # `txt:` stands before a verbatim text.


def _number(value: int) -> int | str:
    return value if abs(value) <= MAX_INTEGER else str(value)


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _mapped(pairs: list[tuple[Any, Any]]) -> Any:
    if all(isinstance(key, str) for key, _ in pairs):
        return dict(pairs)
    return [list(pair) for pair in pairs]
