"""Takes the files out of a zip archive or a gzip file."""

import gzip
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta, Struct

from contracts.limits import ARCHIVE_FILES, FILE_BYTES
from contracts.nodes import NodeSpec
from executor.contents import Content, data_of, is_tame
from executor.errors import BadConfig, TooLarge
from executor.forms import form
from executor.node import Binary, Context, Result

GZIP_MAGIC: Final = b"\x1f\x8b"
CENTRAL_MAGIC: Final = b"PK\x01\x02"
_READ: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""The others unpack a piece as a whole, however much comes of it."""
UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
)
"""What `gzip` and `zipfile` raise for damaged bytes, found by damaging some (`NotImplementedError` is a RuntimeError)."""


class FileExtract(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Content
    read_as: Annotated[
        Literal["file", "text"], Meta(title="Read as", description="Text: in UTF-8, where it is that.")
    ] = "file"


class FileExtractNode:
    """What comes out is bounded before it is unpacked, so that no bomb goes off. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="file.extract",
        title="Extract",
        help="Takes the files out of a zip archive or a gzip file: a list of names with their content.",
        icon="file-archive",
        category="Data",
        repeat="yes",
        config=form(FileExtract),
        timeout_s=60,
    )
    config: ClassVar = FileExtract

    async def run(self, config: FileExtract, context: Context) -> Result:
        data = await data_of(config.content, context, most=FILE_BYTES)
        try:
            files = {"": _gunzip(data)} if data.startswith(GZIP_MAGIC) else _unzip(data)
        except UNREADABLE as error:
            raise BadConfig(f"The archive cannot be read: {error}.", field="/content") from None
        return Result(
            output=[
                {"name": name, "size": len(found), "content": _content(found, config)}
                for name, found in files.items()
            ]
        )


def _gunzip(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        found = packed.read(FILE_BYTES + 1)
    if len(found) > FILE_BYTES:
        raise _too_large()
    return found


def _unzip(data: bytes) -> Mapping[str, bytes]:
    if data.count(CENTRAL_MAGIC) > 20 * ARCHIVE_FILES:  # All of them would be read before one can be counted.
        raise _too_many()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > ARCHIVE_FILES:
            raise _too_many()
        files: dict[str, bytes] = {}
        for entry in entries:
            name = _name(entry)
            if name in files:
                raise BadConfig(f"The archive has two files {name!r}.", field="/content")
            # What an archive says of its sizes may be a lie: what is read is counted.
            room = FILE_BYTES - sum(map(len, files.values()))
            with archive.open(entry) as packed:
                files[name] = packed.read(room + 1)
            if len(files[name]) > room:
                raise _too_large()
    return files


def _name(entry: zipfile.ZipInfo) -> str:
    """A file's path. Nothing is written here, but a later step may take the name for a place to write to."""
    name = entry.filename.replace("\\", "/")
    if not is_tame(name):
        raise BadConfig(
            f"The archive has a file with the name {name[:100]!r}, which leads elsewhere.", field="/content"
        )
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise BadConfig(f"The archive has a link, {name!r}, in place of a file.", field="/content")
    if entry.compress_type not in _READ:
        raise BadConfig(
            f"{name!r} is packed by a method that is not read here; deflate is.", field="/content"
        )
    return name


def _too_many() -> TooLarge:
    return TooLarge(f"The archive has more than {ARCHIVE_FILES} files.", field="/content")


def _too_large() -> TooLarge:
    return TooLarge(f"The archive holds more than {FILE_BYTES:,} bytes.", field="/content")


def _content(data: bytes, config: FileExtract) -> str | Binary:
    if config.read_as == "text":
        try:
            return data.decode()
        except UnicodeDecodeError:
            return Binary(data)
    return Binary(data)


node = FileExtractNode()
