"""Makes a list of objects of a table in CSV (RFC 4180)."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from contracts.limits import FILE_BYTES, LIST_ITEMS
from contracts.nodes import NodeSpec
from executor.contents import Content, text_of
from executor.errors import BadConfig, TooLarge
from executor.forms import form
from executor.node import Context, Result


class CsvRead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Content
    delimiter: Annotated[str, Meta(title="Delimiter", min_length=1, max_length=1)] = ","
    header: Annotated[
        bool, Meta(title="First row has the names", description="Otherwise each row is a list of texts.")
    ] = True


class CsvReadNode:
    """Every value stays the text that it was. A row with more values than names is refused with its line."""

    spec: ClassVar = NodeSpec(
        type="csv.read",
        title="Read CSV",
        help="Turns a table in CSV into a list with one item per row.",
        icon="table",
        category="Data",
        repeat="yes",
        config=form(CsvRead),
        timeout_s=60,
    )
    config: ClassVar = CsvRead

    async def run(self, config: CsvRead, context: Context) -> Result:
        text = await text_of(config.content, context, most=FILE_BYTES)
        rows = _rows(text, config.delimiter)
        if not config.header:
            return Result(output=[row for _, row in rows])
        names = next((row for _, row in rows), [])
        if len(set(names)) < len(names):
            raise BadConfig("Two columns have the same name.", field="/content")
        return Result(output=[_object(names, row, line) for line, row in rows])


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for number, row in enumerate(reader):
            if number > LIST_ITEMS:
                raise TooLarge(f"The table has more than {LIST_ITEMS:,} rows.", field="/content")
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise BadConfig(f"Line {reader.line_num} is not CSV: {error}.", field="/content") from None


def _object(names: Sequence[str], row: Sequence[str], line: int) -> dict[str, Any]:
    if len(row) > len(names):
        raise BadConfig(f"Line {line} has {len(row)} values for {len(names)} columns.", field="/content")
    return dict(zip(names, row, strict=False))


node = CsvReadNode()
