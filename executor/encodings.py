"""How bytes are written as text."""

import base64
from typing import Annotated, Literal, TypeAlias, assert_never

from msgspec import Meta

EncodingName: TypeAlias = Literal["hex", "base64", "base64url"]
Encoding: TypeAlias = Annotated[EncodingName, Meta(title="Encoding")]


def encoded(data: bytes, encoding: EncodingName) -> str:
    """RFC 4648; `base64url` without padding, as tokens use it."""
    match encoding:
        case "hex":
            return data.hex()
        case "base64":
            return base64.b64encode(data).decode()
        case "base64url":
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert_never(encoding)
