"""What goes over the wire to JetStream and comes back: headers, acknowledgements, refusals."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from chassis.ports import Ambiguous, Away, Full

EPOCH: Final = "automateos.epoch"
"""The key in a stream's metadata that says how often its log was restored, plus one."""
VERSION_LINE: Final = b"NATS/1.0\r\n"
LINE_END: Final = b"\r\n"
EXPECTED: Final = b"Nats-Expected-Last-Subject-Sequence: %d\r\n"

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NO_LINES: Final = str.maketrans({"\r": " ", "\n": " "})


class Refusal(Exception):
    """The server said no, and saying it again would not help: a defect of ours or of the configuration."""


@lru_cache(maxsize=256)
def _name(name: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith("Nats-"):
        raise ValueError(f"{name!r} is not a header name that a message may carry")
    return name


def lines_of(headers: Mapping[str, str]) -> bytes:
    """Header lines without version line and end. A value can never end its line."""
    text = "".join([f"{_name(name)}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        return lines_of({name: value.translate(_NO_LINES) for name, value in headers.items()})
    return text.encode()


def block(*lines: bytes) -> bytes:
    """A whole header block of these lines; empty when there are none."""
    joined = b"".join(lines)
    return b"".join((VERSION_LINE, joined, LINE_END)) if joined else b""


def status(headers: bytes) -> str:
    """The inline status of a control message: `503`, `408` …; empty for a message."""
    return headers[9:12].decode() if headers[8:9] == b" " else ""


def header(headers: bytes, name: bytes) -> str:
    """One header's value; empty when it is not there."""
    start = headers.find(b"\r\n%s:" % name)
    if start < 0:
        return ""
    start += len(name) + 3
    return headers[start : headers.find(LINE_END, start)].strip().decode(errors="replace")


class Headers(Mapping[str, str]):
    """The headers that the writer of a message gave it. Decoded when somebody asks: most readers do not."""

    __slots__ = ("_decoded", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._decoded: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._decoded is None:
            pairs = (line.partition(b":") for line in self._raw.split(LINE_END)[1:])
            self._decoded = {
                name.decode("ascii", "replace"): value.strip().decode(errors="replace")
                for name, colon, value in pairs
                if colon and not name.startswith(b"Nats-")
            }
        return self._decoded

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


class Complaint(Struct, frozen=True):
    """An error as JetStream tells it."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Acknowledgement(Struct, frozen=True):
    """JetStream's answer to a publish."""

    seq: int = 0
    error: Complaint | None = None


_acknowledgement: Final = msgspec.json.Decoder(Acknowledgement)
_any: Final = msgspec.json.Decoder(dict[str, Any])

IN_FLIGHT: Final = 10164
"""Alone: somebody's proposal for the subject waits for its majority. It may win or never be stored."""
CONFLICTS: Final = frozenset({10071, 10164, 10201})
"""Another was first, or we were ourselves: wrong last sequence, the same in a batch, an exact repeat in a batch."""
_FULL: Final = frozenset({10002, 10023, 10028, 10047, 10077})
_PASSING: Final = frozenset({10008, 10009, 10074, 10176, 10210})
"""No leader, no quorum, no metadata leader, a torn batch, too many batches at once: nothing stored, try again."""
_STAGED: Final = 10158
"""A message with this id waits for its majority: ours, sent before. It may win or never be stored."""
NOT_FOUND: Final = frozenset({10014, 10037, 10059})
"""No such consumer, message, stream."""


def acknowledged(headers: bytes, body: bytes) -> Acknowledgement:
    """Read a PubAck. Raises `Away` when no stream answered."""
    if not body:
        raise Away(f"no stream answers (status {status(headers) or 'none'})")
    return _acknowledgement.decode(body)


def answered(headers: bytes, body: bytes) -> dict[str, Any]:
    """Read an answer of the JetStream API, errors included. Raises `Away` when nobody answered."""
    if not body:
        raise Away(f"JetStream does not answer (status {status(headers) or 'none'})")
    return _any.decode(body)


def refused(error: Complaint) -> Exception:
    """What a complaint means to us."""
    text = f"{error.description} ({error.err_code})"
    if error.err_code in _FULL:
        return Full(text)
    if error.err_code in _PASSING or error.code in {408, 429, 503}:
        return Away(text)
    if error.err_code == _STAGED:
        return Ambiguous(text)
    return Refusal(text)


def unix_seconds(text: str) -> float:
    """RFC 3339 with any number of decimals, as Go writes it."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return moment + float(f"0.{fraction}") if fraction else moment
