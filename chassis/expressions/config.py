"""Compiles a node's configuration: every text is a template, marked fields are conditions.

A reference to a secret, `{"$secret": id}`, stays as it is and is never looked into. Names of fields are never templates.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from chassis.expressions.faults import ExpressionFault, Flaw, brief, locate
from chassis.expressions.language import Language
from chassis.expressions.parts import CompiledConfig, Field, List, Literal, Object, Part, Text
from chassis.expressions.program import Program
from chassis.expressions.references import Reads, Scope, beyond, reads
from chassis.expressions.template import parts
from chassis.expressions.values import SECRET
from chassis.pointers import escaped
from contracts.limits import JSON_DEPTH

EXPRESSIONS: Final = 500
"""In one configuration."""
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
IN_BRACES: Final = "this is an expression already: write it without {{ }}"


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

    def part(self, value: object, pointer: str, depth: int) -> Part:
        if depth > JSON_DEPTH:
            message = f"the configuration is nested deeper than {JSON_DEPTH}"
            self._fault(pointer, "", Flaw(code="limit", message=message), 0)
            return Literal(value)
        if _means(self._form.literal, pointer):
            return Literal(value)
        match value:
            case str():
                return self._text(value, pointer)
            case dict() if SECRET not in value:
                return self._object(value, pointer, depth)
            case list():
                items = [
                    self.part(item, f"{pointer}/{number}", depth + 1) for number, item in enumerate(value)
                ]
                return Literal(value) if all(map(_as_written, items)) else List(items)
            case _:
                return Literal(value)

    def _object(self, value: dict[Any, Any], pointer: str, depth: int) -> Part:
        members = [
            (name, self.part(member, f"{pointer}/{escaped(str(name))}", depth + 1))
            for name, member in value.items()
        ]
        return Literal(value) if all(_as_written(part) for _, part in members) else Object(members)

    def _text(self, text: str, pointer: str) -> Part:
        if _means(self._form.conditions, pointer):
            if text.lstrip().startswith("{{"):  # What everybody tries first; no expression begins so.
                self._fault(pointer, text, Flaw(code="syntax", message=IN_BRACES), 0)
                return Literal(text)
            return self._field(text, 0, text, pointer) or Literal(text)
        cut = parts(text)
        if isinstance(cut, Flaw):
            self._fault(pointer, text, cut, 0)
            return Literal(text)
        made = [
            one if isinstance(one, str) else self._field(one.source, one.offset, text, pointer) for one in cut
        ]
        whole = [one for one in made if one is not None]
        if len(whole) == 1 and isinstance(whole[0], Field):
            return whole[0]
        if all(isinstance(one, str) for one in whole):
            literal = "".join(one for one in whole if isinstance(one, str))
            return Literal(literal, as_written=literal == text)
        return Text(whole)

    def _field(self, source: str, offset: int, text: str, pointer: str) -> Field | None:
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
        return Field(program, self._node, self._at + pointer, text, offset)

    def _fault(self, pointer: str, text: str, flaw: Flaw, offset: int) -> None:
        self.faults.append(
            ExpressionFault(
                node=self._node,
                field=self._at + pointer,
                code=flaw.code,
                message=brief(flaw.message),
                position=locate(text, offset + flaw.offset),
                source=text,
            )
        )


def _as_written(part: Part) -> bool:
    return isinstance(part, Literal) and part.as_written


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
