"""What can be wrong with an expression: before any run (a fault) or in one (an error), and where."""

from typing import Final, Literal, TypeAlias

from msgspec import Struct

_LONGEST: Final = 500
FaultCode: TypeAlias = Literal["syntax", "reference", "type", "limit"]


class Position(Struct, frozen=True, kw_only=True):
    """A place in a field's text: `offset` counts characters from 0, `line` and `column` count from 1."""

    offset: int
    line: int
    column: int


def locate(text: str, offset: int) -> Position:
    """The position of an offset; one beyond the text is its end."""
    offset = max(0, min(offset, len(text)))
    before = text[:offset]
    return Position(offset=offset, line=before.count("\n") + 1, column=offset - (before.rfind("\n") + 1) + 1)


def brief(message: str) -> str:
    """A sentence in which names and texts of a stranger's data cannot make it endless."""
    return message if len(message) <= _LONGEST else message[: _LONGEST - 1] + "…"


class Flaw(Struct, frozen=True, kw_only=True):
    """One thing wrong with a source on its own, before anybody knows in which field it stands."""

    code: FaultCode
    message: str
    offset: int = 0


class ExpressionFault(Struct, frozen=True, kw_only=True):
    """One thing wrong with a field of a configuration; a workflow with one cannot be published."""

    node: str
    field: str
    """A JSON pointer into the configuration."""
    code: FaultCode
    message: str
    position: Position
    source: str
    """The text of the field."""


class ExpressionError(Exception):
    """An expression failed while a run evaluated it. The step fails with it; nobody else is to blame."""

    def __init__(self, *, node: str, field: str, message: str, position: Position, source: str) -> None:
        super().__init__(message)
        self.node = node
        self.field = field
        """A JSON pointer into the configuration."""
        self.message = message
        self.position = position
        self.source = source
        """The text of the field."""


class Failed(Exception):
    """An evaluation failed, told by the part that knows the source alone: `offset` is a place in it."""

    def __init__(self, message: str, offset: int = 0) -> None:
        self.message = brief(message)
        self.offset = offset
        super().__init__(self.message)


class OutOfMemory(Failed):
    """The evaluation asked for more memory than there is."""
