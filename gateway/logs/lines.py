"""One log line as it is told, and whether it is one of those that are asked for."""

import re
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from msgspec import Struct

from chassis.edge.problems import Complaint, Problem
from contracts.codec import Decoder, Malformed, encode
from contracts.limits import MAX_INTEGER
from contracts.logs import LEVELS, LogLevel, LogLine, LogRecord, Missing

log = structlog.get_logger()

_ID: Final = re.compile(r"([0-9]{1,16})-([0-9]{1,4})")
_decode: Final = Decoder[LogRecord](LogRecord)


LAST: Final = 9_999
"""No message has so many lines: the place behind all of them."""


class LogLineView(Struct, frozen=True, kw_only=True):
    """One line."""

    id: str
    """Where to go on from, as the `cursor` of the next call or as `Last-Event-ID`."""
    run: str
    time: datetime
    step: str
    node: str
    attempt: int
    level: LogLevel
    text: str
    fields: dict[str, Any]
    missing: Missing | None = None
    """There when something is not there that was said: how much, and which bound took it."""


class Place(Struct, frozen=True, order=True):
    """Of a line: the message of LOGS, and which of its lines."""

    sequence: int = 0
    index: int = -1

    @property
    def id(self) -> str:
        return f"{self.sequence}-{self.index}"

    @property
    def following(self) -> int:
        """The first message in which a line beyond it may be."""
        return max(1, self.sequence + (self.index == LAST))


class LineFilter(Struct, frozen=True, kw_only=True):
    """Which lines; what is None is not asked."""

    step: str | None = None
    attempt: int | None = None
    level: LogLevel | None = None
    """Of this level at least."""
    contains: str | None = None

    def fits(self, record: LogRecord, line: LogLine) -> bool:
        if self.attempt is not None and record.attempt != self.attempt:
            return False
        if self.step is not None and record.step != self.step:
            return False
        if self.level is not None and LEVELS.index(line.level) < LEVELS.index(self.level):
            return False
        return self.contains is None or _holds(line, needle(self.contains))


def needle(text: str) -> bytes:
    """What to look for in lines as they are stored: JSON writes each character alike wherever it stands."""
    try:
        return encode(text)[1:-1].lower()
    except UnicodeEncodeError:
        raise Problem(
            "malformed", errors=[Complaint(pointer="contains", message="Half a character.")]
        ) from None


def _holds(line: LogLine, sought: bytes) -> bool:
    """In its text, or in a field. Letters A to Z in either case; any other as it is written."""
    if sought in encode(line.text).lower():
        return True
    return any(sought in encode(part).lower() for pair in line.fields.items() for part in pair)


def record_of(body: bytes, sequence: int) -> LogRecord | None:
    """None for what is no record: somebody is told, and the others are read on."""
    try:
        return _decode(body)
    except Malformed as error:
        log.error("logs.unreadable", sequence=sequence, reason=str(error))
        return None


def view(record: LogRecord, line: LogLine, place: Place) -> LogLineView:
    return LogLineView(
        id=place.id,
        run=record.run,
        time=datetime.fromtimestamp(line.time, UTC),
        step=record.step,
        node=record.node,
        attempt=record.attempt,
        level=line.level,
        text=line.text,
        fields=line.fields,
        missing=line.missing,
    )


def place_of(text: str | None, name: str) -> Place:
    """The place that an id names; the beginning without one. Raises `Problem`."""
    if not text:
        return Place()
    found = _ID.fullmatch(text)
    if found is None or int(found[1]) > MAX_INTEGER:
        raise Problem("malformed", errors=[Complaint(pointer=name, message="Not an id of ours.")])
    return Place(int(found[1]), int(found[2]))
