"""A configuration in the parts that its evaluation walks: literals, fields with an expression, texts around some."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from msgspec import Struct

from chassis.expressions.budget import Budget
from chassis.expressions.faults import ExpressionError, ExpressionFault, Failed, locate
from chassis.expressions.jobs import NO_ANSWERS, Answers, Apart, Job
from chassis.expressions.program import Program
from chassis.expressions.references import Reads
from chassis.expressions.values import Context
from chassis.written import written


class Turn(Struct, frozen=True):
    """One evaluation of a configuration."""

    context: Context
    answers: Answers
    budget: Budget


class Part(Protocol):
    """A part of a configuration."""

    def value(self, turn: Turn) -> object: ...

    def fields(self) -> "Iterator[Field]": ...


class Literal:
    """A part without expressions."""

    __slots__ = ("_value", "as_written")

    def __init__(self, value: object, *, as_written: bool = True) -> None:
        self._value = value
        self.as_written = as_written
        """False when an escape was resolved."""

    def value(self, turn: Turn) -> object:  # It is a `Part`.
        return self._value

    def fields(self) -> "Iterator[Field]":
        return iter(())


class Field:
    """One expression in one field, which is told as the culprit when it fails."""

    __slots__ = ("_field", "_node", "_offset", "_program", "_text")

    def __init__(self, program: Program, node: str, field: str, text: str, offset: int) -> None:
        self._program = program
        self._node = node
        self._field = field
        self._text = text
        self._offset = offset
        """Where the expression begins in the text of the field."""

    def value(self, turn: Turn) -> object:
        try:
            return self._program.evaluate(turn.context, turn.answers, turn.budget)
        except Failed as failed:
            raise self._error(failed) from None

    def written(self, turn: Turn) -> str:
        value = self.value(turn)
        try:
            text = written(value)
            if isinstance(value, dict | list):
                turn.budget.room.take(len(text))
        except Failed as failed:
            raise self._error(failed) from None
        return text

    def job(self, turn: Turn) -> Job | None:
        try:
            return self._program.job(turn.context, turn.budget)
        except Failed as failed:
            raise self._error(failed) from None

    def fields(self) -> "Iterator[Field]":
        yield self

    def _error(self, failed: Failed) -> ExpressionError:
        return ExpressionError(
            node=self._node,
            field=self._field,
            message=failed.message,
            position=locate(self._text, self._offset + failed.offset),
            source=self._text,
        )


class Text:
    """A text around expressions."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[str | Field]) -> None:
        self._parts = parts

    def value(self, turn: Turn) -> object:
        return "".join(part if isinstance(part, str) else part.written(turn) for part in self._parts)

    def fields(self) -> Iterator[Field]:
        return (part for part in self._parts if isinstance(part, Field))


class Object:
    __slots__ = ("_members",)

    def __init__(self, members: Sequence[tuple[str, Part]]) -> None:
        self._members = members

    def value(self, turn: Turn) -> object:
        return {name: part.value(turn) for name, part in self._members}

    def fields(self) -> Iterator[Field]:
        for _, part in self._members:
            yield from part.fields()


class List:
    __slots__ = ("_items",)

    def __init__(self, items: Sequence[Part]) -> None:
        self._items = items

    def value(self, turn: Turn) -> object:
        return [part.value(turn) for part in self._items]

    def fields(self) -> Iterator[Field]:
        for part in self._items:
            yield from part.fields()


class CompiledConfig:
    """A configuration, ready to be evaluated when it has no faults."""

    def __init__(
        self, root: Part, faults: tuple[ExpressionFault, ...], needs: Reads, expressions: int
    ) -> None:
        self._root = root
        self.faults = faults
        self.reads = needs
        """What must be at hand in the context."""
        self.expressions = expressions
        """How many there are."""

    def evaluate(self, context: Context, answers: Answers = NO_ANSWERS) -> Any:
        """The configuration with every expression evaluated.

        Raises `ExpressionError` for the first field that fails, and `Apart`, with every job that has no answer yet,
        when some of it must be evaluated elsewhere.
        """
        try:
            return self._root.value(Turn(context, answers, Budget()))
        except Apart:
            turn = Turn(context, answers, Budget())
            jobs = [job for field in self._root.fields() if (job := field.job(turn)) is not None]
            raise Apart([job for job in jobs if job.name not in answers]) from None
