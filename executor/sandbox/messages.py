"""What the executor and the process of a sandbox say to each other, each message as JSON after its length in four bytes."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from contracts.limits import CODE_RESULT_BYTES, LOG_TEXT_CHARS, MIB, Count
from contracts.logs import LogLevel

Language: TypeAlias = Literal["python", "javascript"]

Kind: TypeAlias = Literal["code", "asked", "processor", "memory", "depth", "result", "forbidden"]
"""The code raised an error, asked to fail, took too much of something, or touched what is not there."""

LINE_CHARS: Final = 2 * LOG_TEXT_CHARS
MESSAGE_CHARS: Final = 2_000
FRAME_BYTES: Final = 6 * CODE_RESULT_BYTES + MIB
"""A result is a text inside JSON: each of its characters may be written with six."""


class Job(Struct, frozen=True, kw_only=True):
    """One attempt's code."""

    source: str
    input: Raw
    seed: str
    now: float
    key: str
    processor_s: float
    memory_bytes: int


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """The process has given up what it does not need. `landlock`: the version of the kernel's; 0 where it has none."""

    landlock: int


class Said(Struct, frozen=True, kw_only=True, tag="said"):
    """A line that the code wrote, and where in it."""

    level: LogLevel
    line: Annotated[int, Meta(ge=0, le=2**32)]
    text: str


class Unsaid(Struct, frozen=True, kw_only=True, tag="unsaid"):
    """How much more the code wrote than an attempt may; told at its end."""

    lines: Count
    chars: Count


class Returned(Struct, frozen=True, kw_only=True, tag="returned"):
    """JSON, so the code says: nobody has looked yet."""

    value: str


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    kind: Kind
    message: str = ""
    line: Annotated[int, Meta(ge=0, le=2**32)] = 0
    """0: no line of the code is to blame."""
    retry: bool = False


Ending: TypeAlias = Returned | Failed
Spoken: TypeAlias = Said | Unsaid


class Told(Struct, frozen=True, kw_only=True):
    """What the inside tells of an error."""

    kind: Literal["code", "asked", "memory"]
    message: str
    line: Annotated[int, Meta(ge=0, le=2**32)] = 0
    retry: bool = False


def framed(message: Struct) -> bytes:
    body = msgspec.json.encode(message)
    return len(body).to_bytes(4, "big") + body


def ending_of(answer: str) -> Ending:
    """What a guest's answer means: `v` and a result, or `e` and an error. Anything else is an error of its own making."""
    if len(answer) > CODE_RESULT_BYTES:
        return Failed(kind="result")
    if answer.startswith("v"):
        return Returned(value=answer[1:])
    try:
        told = msgspec.json.decode(answer[1:], type=Told)
    except msgspec.MsgspecError:
        return Failed(kind="forbidden", message="it answered with something that is no answer")
    return Failed(kind=told.kind, message=told.message[:MESSAGE_CHARS], line=told.line, retry=told.retry)
