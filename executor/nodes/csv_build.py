"""Makes a table in CSV (RFC 4180) of a list of objects."""

import csv
import io
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.nodes import NodeSpec
from executor.forms import form
from executor.lists import MISSING, Columns, Items, all_fields, look, read
from executor.node import Binary, Context, Result

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for a formula (OWASP, CSV injection)."""


class CsvBuild(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    items: Items
    columns: Columns = ()
    delimiter: Annotated[str, Meta(title="Delimiter", min_length=1, max_length=1)] = ","
    header: Annotated[bool, Meta(title="First row has the names")] = True
    output: Annotated[Literal["text", "file"], Meta(title="Output")] = "text"
    formulas: Annotated[
        Literal["defused", "kept"],
        Meta(
            title="Texts that look like formulas",
            description="Defused: with ' before them, so that no spreadsheet runs what a stranger wrote.",
        ),
    ] = "defused"


class CsvBuildNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="csv.build",
        title="Build CSV",
        help="Turns a list into a table in CSV, as a text or a file.",
        icon="table",
        category="Data",
        repeat="yes",
        config=form(CsvBuild),
        timeout_s=60,
    )
    config: ClassVar = CsvBuild

    async def run(self, config: CsvBuild, _context: Context) -> Result:
        items = read(config.items)
        columns = config.columns or all_fields(items)
        written = io.StringIO(newline="")
        writer = csv.writer(written, delimiter=config.delimiter)
        if config.header:
            writer.writerow([_cell(name or "value", config) for name in columns])
        for item in items:
            writer.writerow([_cell(look(item.value, name), config) for name in columns])
        if config.output == "file":
            return Result(output={"file": Binary(written.getvalue().encode(), "text/csv; charset=utf-8")})
        return Result(output=written.getvalue())


def _cell(value: Any, config: CsvBuild) -> str:
    if value is MISSING or value is None:
        return ""
    if isinstance(value, str):
        defused = config.formulas == "defused" and value.startswith(FORMULA_STARTS)
        return f"'{value}" if defused else value
    return msgspec.json.encode(value).decode()


node = CsvBuildNode()
