"""Whether an answer fits what a form asks; and whether a form can be answered at all. Pure.

An answer comes from a page, where everything is text, or from a program, as JSON. Both are held to the same questions. A form that
starts runs asks for consent: a box that is needed has to be ticked. An approval asks for a decision: there it may be denied (`may_deny`).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from math import inf
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from chassis.edge.problems import Complaint
from chassis.pointers import escaped
from contracts.forms import Question, Questions
from contracts.limits import MAX_INTEGER

_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,16}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")
MISSING: Final = "This is needed."
_TICKED: Final = frozenset({"yes", "true", "on", "1"})
_NAME_CHARS: Final = 200
"""As much is said of a name that nobody asked for."""


class Wrong(Exception):
    """A value that is no answer to its question, in words for whoever gave it."""


class Checked(Struct, frozen=True, kw_only=True):
    """An answer, as far as it fits, and what is wrong with the rest of it, by the field's name."""

    values: dict[str, Any]
    errors: dict[str, str]


def flaws(questions: Questions) -> Iterator[tuple[str, str]]:
    """What nobody could answer: a JSON pointer into the schema, and why."""
    for place, name in enumerate(questions.required):
        if name not in questions.properties:
            yield f"/required/{place}", f"there is no property {name!r}"
    for name, asked in questions.properties.items():
        at = f"/properties/{name}"
        if asked.enum and asked.type != "string":
            yield f"{at}/enum", "only a string can be one of several"
        if len(set(asked.enum)) < len(asked.enum):
            yield f"{at}/enum", "the same stands twice"
        if asked.format and asked.type != "string":
            yield f"{at}/format", "only a string has a format"
        if asked.min_length > asked.max_length:
            yield f"{at}/minLength", "it is more than maxLength"
        if asked.minimum is not None and asked.maximum is not None and asked.minimum > asked.maximum:
            yield f"{at}/minimum", "it is more than maximum"


def complaints(checked: Checked, at: str) -> list[Complaint]:
    """What is wrong with an answer, each with its place; `at`: where the answer itself stands."""
    return [
        Complaint(pointer=f"{at}/{escaped(name)[:_NAME_CHARS]}" if name else at, message=message)
        for name, message in checked.errors.items()
    ]


def from_page(questions: Questions, given: Mapping[str, str], *, may_deny: bool = False) -> Checked:
    """An answer of texts. An empty one is none; a box that is not ticked is false."""
    read: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, asked in questions.properties.items():
        text = given.get(name, "")
        if asked.type == "boolean":
            read[name] = text.strip().lower() in _TICKED
        elif text.strip():
            try:
                read[name] = _read(asked, text)
            except Wrong as wrong:
                errors[name] = str(wrong)
    return _checked(questions, read, errors, may_deny=may_deny)


def from_json(questions: Questions, given: Any, *, may_deny: bool = False) -> Checked:
    """An answer of JSON values. What was not asked is an error of its own name."""
    if not isinstance(given, dict):
        return Checked(values={}, errors={"": "An object is asked for."})
    errors = {name: "Nobody asked for this." for name in given if name not in questions.properties}
    read = {name: value for name, value in given.items() if name not in errors and value is not None}
    return _checked(questions, read, errors, may_deny=may_deny)


def _checked(
    questions: Questions, read: Mapping[str, Any], errors: dict[str, str], *, may_deny: bool
) -> Checked:
    values: dict[str, Any] = {}
    for name, asked in questions.properties.items():
        if name in errors:
            continue
        is_denied = asked.type == "boolean" and read.get(name) is False and not may_deny
        is_missing = name not in read or is_denied
        if is_missing and name in questions.required:
            errors[name] = MISSING
        elif name in read:
            try:
                values[name] = _fitting(asked, read[name])
            except Wrong as wrong:
                errors[name] = str(wrong)
    return Checked(values=values, errors=errors)


def _read(asked: Question, text: str) -> Any:
    stripped = text.strip()
    match asked.type:
        case "integer":
            if not _WHOLE.fullmatch(stripped):
                raise Wrong("This is not a whole number.")
            return int(stripped)
        case "number":
            if not _NUMBER.fullmatch(stripped):
                raise Wrong("This is not a number.")
            return _short(float(stripped))
        case _:
            # Browsers send a line's end as two characters.
            return text.replace("\r\n", "\n") if asked.format == "multiline" else stripped


def _short(number: float) -> float:
    """The number as a program would write it: 5, not 5.0."""
    return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else number


def _fitting(asked: Question, value: Any) -> Any:
    match asked.type:
        case "boolean":
            if not isinstance(value, bool):
                raise Wrong("This is neither true nor false.")
            return value
        case "integer" | "number":
            return _number(asked, value)
        case "string":
            return _text(asked, value)


def _number(asked: Question, value: Any) -> int | float:
    # Compared, not converted: a program may write an integer that no float holds.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < inf:
        raise Wrong("This is not a number.")
    if asked.type == "integer" and value != int(value):
        raise Wrong("This is not a whole number.")
    if (asked.type == "integer" or isinstance(value, int)) and abs(value) > MAX_INTEGER:
        raise Wrong("This number has too many digits.")
    if asked.minimum is not None and value < asked.minimum:
        raise Wrong(f"This must be {_shown(asked.minimum)} or more.")
    if asked.maximum is not None and value > asked.maximum:
        raise Wrong(f"This must be {_shown(asked.maximum)} or less.")
    return int(value) if asked.type == "integer" else value


def _shown(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _text(asked: Question, value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong("This is not a text.")
    if "\0" in value:
        raise Wrong("This has a character that no text has.")
    if asked.enum:
        if value not in asked.enum:
            raise Wrong("This is none of the choices.")
        return value
    if len(value) < asked.min_length:
        raise Wrong(f"This must have {asked.min_length} characters or more.")
    if len(value) > asked.max_length:
        raise Wrong(f"This must have {asked.max_length} characters or fewer.")
    if asked.format in _FORMATS and not _FORMATS[asked.format][0](value):
        raise Wrong(_FORMATS[asked.format][1])
    return value


def _is_email(value: str) -> bool:
    return len(value) <= 254 and _EMAIL.fullmatch(value) is not None


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not set(value) & set(" \t\r\n")
    except ValueError:
        return False


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_FORMATS: Final = {
    "email": (_is_email, "This is not an e-mail address."),
    "uri": (_is_address, "This is not a web address: it begins with https:// or http://."),
    "date": (_is_date, "This is not a date, like 2026-12-31."),
}
