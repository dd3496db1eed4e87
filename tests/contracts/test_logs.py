"""Log records as other releases write and read them."""

import msgspec

from contracts.codec import Decoder, encode
from contracts.logs import LogLine, LogRecord, Missing

BEFORE = (
    b'{"org":"org_default","run":"r1","step":"a","node":"a","attempt":1,"executor":"executor:e",'
    b'"lines":[{"time":1790000000.5,"text":"said"},{"time":1790000001,"level":"error","text":"x","fields":{"n":1}}]}'
)


class LineBefore(msgspec.Struct, frozen=True, kw_only=True):
    """As the release before reads a line."""

    time: float
    level: str = "info"
    text: str
    fields: dict[str, object] = {}


def test_a_record_of_the_release_before_is_read() -> None:
    record = Decoder[LogRecord](LogRecord)(BEFORE)
    assert [(line.level, line.text, line.missing) for line in record.lines] == [
        ("info", "said", None),
        ("error", "x", None),
    ]
    assert encode(record) == BEFORE.replace(b"1790000001,", b"1790000001.0,")


def test_a_line_with_a_marker_is_read_by_the_release_before() -> None:
    line = LogLine(time=1.0, level="warning", text="bound", missing=Missing(why="run", lines=7))
    before = msgspec.json.decode(encode(line), type=LineBefore)
    assert (before.level, before.text, before.fields) == ("warning", "bound", {})
