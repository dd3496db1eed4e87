"""A node's configuration with its expressions compiled: every text is a template, marked fields are conditions.

A reference to a secret, `{"$secret": id}`, stays as it is and is never looked into. Names of fields are never templates.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

from msgspec import Struct

from contracts.limits import JSON_DEPTH
from orchestrator.expressions.budget import Budget
from orchestrator.expressions.faults import ExpressionError, ExpressionFault, Failed, Flaw, locate
from orchestrator.expressions.jobs import NO_ANSWERS, Answers, Apart, Job
from orchestrator.expressions.language import Language
from orchestrator.expressions.program import Program
from orchestrator.expressions.references import Reads, Scope, beyond, reads
from orchestrator.expressions.template import parts
from orchestrator.expressions.values import SECRET, Context
from orchestrator.expressions.written import written

EXPRESSIONS: Final = 500
"""In one configuration."""


class _Turn(Struct, frozen=True):
    """One evaluation of a configuration."""

    context: Context
    answers: Answers
    budget: Budget


class _Part(Protocol):
    """A part of a configuration."""

    def value(self, turn: _Turn) -> object: ...

    def fields(self) -> "Iterator[_Field]": ...


class _Literal:
    """A part without expressions."""

    __slots__ = ("_value", "as_written")

    def __init__(self, value: object, *, as_written: bool = True) -> None:
        self._value = value
        self.as_written = as_written
        """False when an escape was resolved."""

    def value(self, turn: _Turn) -> object:  # It is a `_Part`.
        return self._value

    def fields(self) -> "Iterator[_Field]":
        return iter(())


class _Field:
    """One expression in one field, which is told as the culprit when it fails."""

    __slots__ = ("_field", "_node", "_offset", "_program", "_text")

    def __init__(self, program: Program, node: str, field: str, text: str, offset: int) -> None:
        self._program = program
        self._node = node
        self._field = field
        self._text = text
        self._offset = offset
        """Where the expression begins in the text of the field."""

    def value(self, turn: _Turn) -> object:
        try:
            return self._program.evaluate(turn.context, turn.answers, turn.budget)
        except Failed as failed:
            raise self._error(failed) from None

    def written(self, turn: _Turn) -> str:
        value = self.value(turn)
        try:
            text = written(value)
            if isinstance(value, dict | list):
                turn.budget.room.take(len(text))
        except Failed as failed:
            raise self._error(failed) from None
        return text

    def job(self, turn: _Turn) -> Job | None:
        try:
            return self._program.job(turn.context, turn.budget)
        except Failed as failed:
            raise self._error(failed) from None

    def fields(self) -> "Iterator[_Field]":
        yield self

    def _error(self, failed: Failed) -> ExpressionError:
        return ExpressionError(
            node=self._node,
            field=self._field,
            message=failed.message,
            position=locate(self._text, self._offset + failed.offset),
            source=self._text,
        )


class _Text:
    """A text around expressions."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[str | _Field]) -> None:
        self._parts = parts

    def value(self, turn: _Turn) -> object:
        return "".join(part if isinstance(part, str) else part.written(turn) for part in self._parts)

    def fields(self) -> Iterator[_Field]:
        return (part for part in self._parts if isinstance(part, _Field))


class _Object:
    __slots__ = ("_members",)

    def __init__(self, members: Sequence[tuple[str, _Part]]) -> None:
        self._members = members

    def value(self, turn: _Turn) -> object:
        return {name: part.value(turn) for name, part in self._members}

    def fields(self) -> Iterator[_Field]:
        for _, part in self._members:
            yield from part.fields()


class _List:
    __slots__ = ("_items",)

    def __init__(self, items: Sequence[_Part]) -> None:
        self._items = items

    def value(self, turn: _Turn) -> object:
        return [part.value(turn) for part in self._items]

    def fields(self) -> Iterator[_Field]:
        for part in self._items:
            yield from part.fields()


class CompiledConfig:
    """A configuration, ready to be evaluated when it has no faults."""

    def __init__(
        self, root: _Part, faults: tuple[ExpressionFault, ...], needs: Reads, expressions: int
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
            return self._root.value(_Turn(context, answers, Budget()))
        except Apart:
            turn = _Turn(context, answers, Budget())
            jobs = [job for field in self._root.fields() if (job := field.job(turn)) is not None]
            raise Apart([job for job in jobs if job.name not in answers]) from None


Patterns: TypeAlias = Sequence[str]
"""JSON pointers; `*` stands for every item or member. Each means a field and all that is in it."""


class Form(Struct, frozen=True, kw_only=True):
    """What the node's type says about its fields."""

    conditions: Patterns = ()
    """Fields that are bare expressions."""
    literal: Patterns = ()
    """Fields that are no templates."""


TEMPLATES: Final = Form()
CONDITION: Final = Form(conditions=("",))


def compile_config(
    config: object,
    language: Language,
    *,
    node: str,
    form: Form = TEMPLATES,
    scope: Scope | None = None,
    at: str = "",
) -> CompiledConfig:
    """Compile every field; the result tells all faults at once.

    `form`: pointers are relative to `config`, which itself stands `at` a place in the node's configuration.
    `scope`: None takes references as they are, for what was checked before.
    """
    compiling = _Compiling(language, node, form, scope, at)
    root = compiling.part(config, "", 0)
    needs = Reads()
    for one in compiling.reads:
        needs |= one
    return CompiledConfig(root, tuple(compiling.faults), needs, len(compiling.reads))


def compile_condition(
    source: str, language: Language, *, node: str, field: str, scope: Scope | None = None
) -> CompiledConfig:
    """Compile one bare expression, which stands in a field of its own."""
    return compile_config(source, language, node=node, form=CONDITION, scope=scope, at=field)


def compile_template(
    text: str, language: Language, *, node: str, field: str, scope: Scope | None = None
) -> CompiledConfig:
    """Compile one text with expressions in `{{ }}`."""
    return compile_config(text, language, node=node, scope=scope, at=field)


class _Compiling:
    def __init__(self, language: Language, node: str, form: Form, scope: Scope | None, at: str) -> None:
        self._language = language
        self._node = node
        self._form = form
        self._scope = scope
        self._at = at
        self.faults: list[ExpressionFault] = []
        self.reads: list[Reads] = []

    def part(self, value: object, pointer: str, depth: int) -> _Part:
        if depth > JSON_DEPTH:
            message = f"the configuration is nested deeper than {JSON_DEPTH}"
            self._fault(pointer, "", Flaw(code="limit", message=message), 0)
            return _Literal(value)
        if _means(self._form.literal, pointer):
            return _Literal(value)
        match value:
            case str():
                return self._text(value, pointer)
            case dict() if SECRET not in value:
                return self._object(value, pointer, depth)
            case list():
                items = [
                    self.part(item, f"{pointer}/{number}", depth + 1) for number, item in enumerate(value)
                ]
                return _Literal(value) if all(map(_as_written, items)) else _List(items)
            case _:
                return _Literal(value)

    def _object(self, value: dict[Any, Any], pointer: str, depth: int) -> _Part:
        members = [
            (name, self.part(member, f"{pointer}/{_escaped(str(name))}", depth + 1))
            for name, member in value.items()
        ]
        return _Literal(value) if all(_as_written(part) for _, part in members) else _Object(members)

    def _text(self, text: str, pointer: str) -> _Part:
        if _means(self._form.conditions, pointer):
            return self._field(text, 0, text, pointer) or _Literal(text)
        cut = parts(text)
        if isinstance(cut, Flaw):
            self._fault(pointer, text, cut, 0)
            return _Literal(text)
        made = [
            one if isinstance(one, str) else self._field(one.source, one.offset, text, pointer) for one in cut
        ]
        whole = [one for one in made if one is not None]
        if len(whole) == 1 and isinstance(whole[0], _Field):
            return whole[0]
        if all(isinstance(one, str) for one in whole):
            literal = "".join(one for one in whole if isinstance(one, str))
            return _Literal(literal, as_written=literal == text)
        return _Text(whole)

    def _field(self, source: str, offset: int, text: str, pointer: str) -> _Field | None:
        """None when there is a fault."""
        if len(self.reads) == EXPRESSIONS:
            message = f"a node has at most {EXPRESSIONS} expressions"
            self._fault(pointer, text, Flaw(code="limit", message=message), offset)
            return None
        program = self._language.program(source)
        if not isinstance(program, Program):
            for flaw in program:
                self._fault(pointer, text, flaw, offset)
            return None
        self.reads.append(reads(program.references))
        for flaw in () if self._scope is None else beyond(program.references, self._scope):
            self._fault(pointer, text, flaw, offset)
        return _Field(program, self._node, self._at + pointer, text, offset)

    def _fault(self, pointer: str, text: str, flaw: Flaw, offset: int) -> None:
        self.faults.append(
            ExpressionFault(
                node=self._node,
                field=self._at + pointer,
                code=flaw.code,
                message=flaw.message,
                position=locate(text, offset + flaw.offset),
                source=text,
            )
        )


def _as_written(part: _Part) -> bool:
    return isinstance(part, _Literal) and part.as_written


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _means(patterns: Patterns, pointer: str) -> bool:
    """Whether one of the patterns means the field at a pointer, or something around it."""
    if not patterns:
        return False
    places = pointer.split("/")
    for pattern in patterns:
        wanted = pattern.split("/")
        if len(places) >= len(wanted) and all(
            want in ("*", place) for want, place in zip(wanted, places, strict=False)
        ):
            return True
    return False
