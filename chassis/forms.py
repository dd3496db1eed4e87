"""What people fill in: a small part of JSON Schema, and whether an answer fits it.

A form is the schema of an object whose fields are texts, numbers, truths, choices (`enum`) or dates (`format`). It reads the
same from JSON and from what a browser sends, where every value is a text and an empty one is none.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

from chassis.edge.problems import Complaint

_TEXT_CHARS: Final = 10_000
_TRUE: Final = frozenset({"true", "on", "yes", "1"})
_LARGEST: Final = 2**53
Form = Mapping[str, Any]


def complaints(form: Form, given: object, at: str = "") -> list[Complaint]:
    """All that does not fit, each with its place; `at`: where the object itself stands."""
    return [
        Complaint(pointer=f"{at}{pointer}", message=message) for pointer, message in _findings(form, given)
    ]


def fields_of(form: Form) -> Mapping[str, Form]:
    fields: Mapping[str, Form] = form.get("properties", {})
    return fields


def read(form: Form, sent: Mapping[str, object]) -> dict[str, Any]:
    """What a browser sent, as the form's types; what cannot be read so stays a text, which does not fit."""
    found: dict[str, Any] = {}
    for name, field in fields_of(form).items():
        text = sent.get(name)
        if field["type"] == "boolean":
            found[name] = isinstance(text, str) and text.lower() in _TRUE
        elif isinstance(text, str) and text.strip():
            found[name] = _number(text.strip(), field["type"]) if field["type"] != "string" else text
        elif isinstance(text, list):
            found[name] = text
    return found


def _number(text: str, kind: str) -> object:
    try:
        return int(text) if kind == "integer" else _short(float(text))
    except ValueError:
        return text


def _short(number: float) -> float:
    return int(number) if number.is_integer() and abs(number) < _LARGEST else number


def _findings(form: Form, given: object) -> Iterator[tuple[str, str]]:
    if not isinstance(given, Mapping):
        yield "", "This is an object."
        return
    fields = fields_of(form)
    for name in form.get("required", ()):
        if name in fields and name not in given:
            yield f"/{name}", "This is needed."
    for name, value in given.items():
        if name not in fields:
            yield f"/{_escaped(str(name))}", "There is no such field."
        else:
            for message in _faults(fields[name], value):
                yield f"/{name}", message


def _faults(field: Form, value: object) -> Iterator[str]:
    match field["type"]:
        case "boolean":
            if not isinstance(value, bool):
                yield "This is true or false."
        case "string":
            yield from _text_faults(field, value)
        case kind:
            yield from _number_faults(field, value, kind)


def _text_faults(field: Form, value: object) -> Iterator[str]:
    if not isinstance(value, str) or "\0" in value:
        yield "This is a text."
        return
    least, most = field.get("minLength", 0), min(field.get("maxLength", _TEXT_CHARS), _TEXT_CHARS)
    if len(value) < least:
        yield f"This has at least {least} characters."
    if len(value) > most:
        yield f"This has at most {most} characters."
    if "enum" in field and value not in field["enum"]:
        yield f"One of: {', '.join(field['enum'])}."[:300]
    if field.get("format") == "date" and not _is_date(value):
        yield "This is a date such as 2026-11-21."


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _number_faults(field: Form, value: object, kind: str) -> Iterator[str]:
    wanted = "a whole number" if kind == "integer" else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        yield f"This is {wanted}."
        return
    if abs(value) > _LARGEST or (kind == "integer" and value != int(value)):
        yield f"This is {wanted}."
    if "minimum" in field and value < field["minimum"]:
        yield f"This is at least {field['minimum']}."
    if "maximum" in field and value > field["maximum"]:
        yield f"This is at most {field['maximum']}."


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")[:200]
