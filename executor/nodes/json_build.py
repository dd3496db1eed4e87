"""Writes a value as JSON, as a text or a file."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from contracts.nodes import NodeSpec
from executor.forms import form
from executor.node import Binary, Context, Result


class JsonBuild(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    value: Annotated[Raw, Meta(title="Value")]
    indent: Annotated[int, Meta(title="Indent", description="0: all on one line.", ge=0, le=8)] = 0
    output: Annotated[Literal["text", "file"], Meta(title="Output")] = "text"


class JsonBuildNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="json.build",
        title="Build JSON",
        help="Writes a value as JSON, as a text or a file.",
        icon="braces",
        category="Data",
        repeat="yes",
        config=form(JsonBuild),
        timeout_s=60,
    )
    config: ClassVar = JsonBuild

    async def run(self, config: JsonBuild, _context: Context) -> Result:
        written = msgspec.json.format(bytes(config.value), indent=config.indent or -1)
        if config.output == "file":
            return Result(output={"file": Binary(written, "application/json")})
        return Result(output=written.decode())


node = JsonBuildNode()
