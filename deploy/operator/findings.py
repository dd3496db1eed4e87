"""One thing that `automateos doctor` looked at, and what to do about it."""

from typing import Literal

from msgspec import Struct


class Finding(Struct, frozen=True, kw_only=True):
    """`bad`: something does not work or soon will not; then `what` also says what to do."""

    level: Literal["ok", "note", "bad"]
    what: str


def ok(what: str) -> Finding:
    return Finding(level="ok", what=what)


def note(what: str) -> Finding:
    return Finding(level="note", what=what)


def bad(what: str) -> Finding:
    return Finding(level="bad", what=what)
