"""A field that takes a text or a stored file, as bytes."""

import re
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from contracts.payloads import Blob
from executor.errors import BadConfig, TooLarge
from executor.node import Context

Content: TypeAlias = Annotated[
    Raw, Meta(title="Content", description="A text, or a file as {{ steps.fetch.output.body }}.")
]


class Stored(Struct, frozen=True, forbid_unknown_fields=True):
    """A file in the object store, as outputs name it."""

    blob: Blob


_decoder: Final[msgspec.json.Decoder[str | Stored]] = msgspec.json.Decoder(str | Stored)


def text_or_file(content: Raw, field: str) -> str | Stored:
    """What such a field holds. Raises `BadConfig` for anything else."""
    try:
        return _decoder.decode(content)
    except msgspec.DecodeError:
        raise BadConfig("This is neither a text nor a stored file.", field=field) from None


async def data_of(content: Raw, context: Context, *, most: int, field: str = "/content") -> bytes:
    """The bytes; a text's in UTF-8. Raises `BadConfig` for anything else, `TooLarge` beyond `most` bytes."""
    found = text_or_file(content, field)
    size = found.blob.size if isinstance(found, Stored) else len(found.encode())
    if size > most:
        raise TooLarge(f"The content has more than {most:,} bytes.", field=field)
    return await context.fetch(found.blob) if isinstance(found, Stored) else found.encode()


async def text_of(content: Raw, context: Context, *, most: int, field: str = "/content") -> str:
    """The text; a file's is read as UTF-8, with or without its mark at the beginning."""
    data = await data_of(content, context, most=most, field=field)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadConfig(f"This is not a text in UTF-8: byte {error.start} is wrong.", field=field) from None


_TAME: Final = re.compile(r"(?!/|[A-Za-z]:)[^\\\x00-\x1f\x7f]{1,1000}")


def is_tame(name: str) -> bool:
    """Whether a name in an archive stays where the archive is unpacked: relative, without `..`, backslash or control."""
    return _TAME.fullmatch(name) is not None and not {"", ".", ".."} & set(name.split("/"))
