"""Texts that the engine would cut: a NUL ends a plain text there, so such a text goes in as a protobuf message."""

from typing import Any


class _StringValue:
    full_name = "google.protobuf.StringValue"


class Text:
    """A text with a NUL in it, in the shape of the protobuf message that the engine takes for a text."""

    __slots__ = ("_wire",)
    DESCRIPTOR = _StringValue

    def __init__(self, text: str) -> None:
        body = text.encode()
        length, rest = bytearray(), len(body)
        while rest > 0x7F:
            length.append(rest & 0x7F | 0x80)
            rest >>= 7
        length.append(rest)
        self._wire = b"\x0a" + bytes(length) + body

    def SerializePartialToString(self) -> bytes:  # noqa: N802  # The engine asks for it by this name.
        return self._wire


def shielded(value: Any) -> Any:
    """The value with every text that holds a NUL as `Text`."""
    if isinstance(value, str):
        return Text(value) if "\0" in value else value
    if isinstance(value, dict):
        return {shielded(name): shielded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shielded(part) for part in value]
    return value
