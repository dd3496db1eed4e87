"""Makes a gzip file, or a zip archive of several files."""

import gzip
import io
import zipfile
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Raw, Struct, field

from contracts.limits import ARCHIVE_FILES, FILE_BYTES
from contracts.nodes import NodeSpec
from executor.contents import data_of, is_tame
from executor.errors import BadConfig
from executor.forms import form
from executor.node import Binary, Context, Result

FileName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^/\\\x00-\x1f][^\\\x00-\x1f]*$")]


class FileCompress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    files: Annotated[
        dict[FileName, Raw],
        Meta(
            title="Files", description="Name to text or stored file.", min_length=1, max_length=ARCHIVE_FILES
        ),
    ] = field(default_factory=dict)
    format: Annotated[Literal["zip", "gzip"], Meta(title="Format", description="gzip takes one file.")] = (
        "zip"
    )


class FileCompressNode:
    """The same files give the same bytes: no time of day is in them. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="file.compress",
        title="Compress",
        help="Puts files into a zip archive, or one into gzip.",
        icon="file-archive",
        category="Data",
        repeat="yes",
        config=form(FileCompress),
        timeout_s=60,
    )
    config: ClassVar = FileCompress

    async def run(self, config: FileCompress, context: Context) -> Result:
        if wild := [name for name in config.files if not is_tame(name)]:
            raise BadConfig(f"{wild[0]!r} is no relative path of a file.", field="/files")
        files: dict[str, bytes] = {}
        for name, content in config.files.items():
            room = FILE_BYTES - sum(map(len, files.values()))
            files[name] = await data_of(content, context, most=room, field="/files")
        if config.format == "gzip":
            if len(files) != 1:
                raise BadConfig("gzip takes one file.", field="/files")
            [data] = files.values()
            return Result(output={"file": Binary(gzip.compress(data, mtime=0), "application/gzip")})
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return Result(output={"file": Binary(written.getvalue(), "application/zip")})


node = FileCompressNode()
