"""What a form asks: the part of JSON Schema from which a page can be made that everybody can fill in."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.limits import (
    FORM_CHOICES,
    FORM_PROPERTIES,
    FORM_TEXT_CHARS,
    MAX_INTEGER,
    NAME_CHARS,
)

FieldName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
_Label: TypeAlias = Annotated[str, Meta(max_length=NAME_CHARS)]
_Long: TypeAlias = Annotated[str, Meta(max_length=2_000)]
_Choice: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS)]
_Bound: TypeAlias = Annotated[float, Meta(ge=-1e15, le=1e15)]


class Question(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"min_length": "minLength", "max_length": "maxLength"},
):
    """One property of the schema: one field of the page."""

    type: Literal["string", "integer", "number", "boolean"] = "string"
    title: _Label = ""
    """What stands beside the field; the property's name where there is none."""
    description: _Long = ""
    enum: Annotated[tuple[_Choice, ...], Meta(max_length=FORM_CHOICES)] = ()
    """Of a string: one of these."""
    format: Literal["", "email", "uri", "date", "multiline"] = ""
    min_length: Annotated[int, Meta(ge=0, le=FORM_TEXT_CHARS)] = 0
    max_length: Annotated[int, Meta(ge=1, le=FORM_TEXT_CHARS)] = 1_000
    minimum: _Bound | None = None
    maximum: _Bound | None = None


class Questions(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A JSON Schema of an object, with its properties in the order of the page."""

    type: Literal["object"] = "object"
    properties: Annotated[dict[FieldName, Question], Meta(min_length=1, max_length=FORM_PROPERTIES)]
    required: Annotated[tuple[FieldName, ...], Meta(max_length=FORM_PROPERTIES)] = ()


_LONG_TEXT: Final = 200
"""An approval's text that may be longer has lines."""


def questions_in(form: Mapping[str, Any]) -> Questions:
    """What the form of an approval asks, as its run recorded it; nothing, where there is none.

    Total: a recorded form stays readable, though more was allowed when it was written, and whoever named no bound has the widest.
    """
    fields = form.get("properties", {})
    return Questions(
        properties={name: _question_in(field) for name, field in fields.items()},
        required=tuple(form.get("required", ())),
    )


def _question_in(field: Mapping[str, Any]) -> Question:
    kind = field["type"]
    has_lines = kind == "string" and "enum" not in field and field.get("maxLength", 0) > _LONG_TEXT
    return Question(
        type=kind,
        title=field.get("title", ""),
        description=field.get("description", ""),
        enum=tuple(field.get("enum", ())),
        format=field.get("format") or ("multiline" if has_lines else ""),
        min_length=field.get("minLength", 0),
        max_length=min(field.get("maxLength", FORM_TEXT_CHARS), FORM_TEXT_CHARS),
        minimum=max(field.get("minimum", -MAX_INTEGER), -MAX_INTEGER),
        maximum=min(field.get("maximum", MAX_INTEGER), MAX_INTEGER),
    )
