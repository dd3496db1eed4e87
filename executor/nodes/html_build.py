"""Makes a table in HTML of a list of objects, for mails and reports."""

import html
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.limits import FILE_BYTES, Name
from contracts.nodes import NodeSpec
from executor.errors import TooLarge
from executor.forms import form
from executor.lists import MISSING, Columns, Items, all_fields, look, read
from executor.node import Binary, Context, Result


class HtmlBuild(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    columns: Columns = ()
    titles: Annotated[
        dict[str, Name],
        Meta(title="Titles", description="Of columns, where they differ from the name.", max_length=500),
    ] = msgspec.field(default_factory=dict)
    caption: Annotated[
        str, Meta(title="Caption", description="Stands above the table.", max_length=1_000)
    ] = ""
    output: Annotated[Literal["text", "file"], Meta(title="Output")] = "text"


class HtmlBuildNode:
    """Everything is escaped, so no value can add an element, an attribute or a script. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="html.build",
        title="Build HTML table",
        help="Turns a list into a table in HTML, as a text or a file. Every value stands there as the text that it is. Other HTML is a text with `{{ … .htmlEscape() }}` in it.",
        icon="table",
        category="Data",
        repeat="yes",
        config=form(HtmlBuild),
        timeout_s=60,
    )
    config: ClassVar = HtmlBuild

    async def run(self, config: HtmlBuild, _context: Context) -> Result:
        pieces: list[str] = []
        room = FILE_BYTES
        for piece in _table(config):
            room -= len(piece.encode("utf-8", "replace"))
            if room < 0:
                raise TooLarge(f"The table would have more than {FILE_BYTES:,} bytes.", field="/items")
            pieces.append(piece)
        table = "\n".join(pieces) + "\n"
        if config.output == "file":
            return Result(
                output={"file": Binary(table.encode("utf-8", "replace"), "text/html; charset=utf-8")}
            )
        return Result(output=table)


def _table(config: HtmlBuild) -> Iterator[str]:
    items = read(config.items)
    columns = config.columns or all_fields(items)
    yield "<table>"
    if config.caption:
        yield f"<caption>{html.escape(config.caption)}</caption>"
    yield _row("th", [config.titles.get(name, name or "value") for name in columns], "thead")
    yield "<tbody>"
    for item in items:
        yield _row("td", [_written(look(item.value, name)) for name in columns])
    yield "</tbody>"
    yield "</table>"


def _row(cell: str, texts: list[str], around: str = "") -> str:
    cells = "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in texts)
    row = f"<tr>{cells}</tr>"
    return f"<{around}>{row}</{around}>" if around else row


def _written(value: Any) -> str:
    if value is MISSING or value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


node = HtmlBuildNode()
