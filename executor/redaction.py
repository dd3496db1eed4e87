"""Blanks what is secret out of texts, also where it was quoted, escaped or encoded on its way."""

import base64
import json
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote, quote_plus

from msgspec import Struct

from chassis.secret import REDACTED, Secret, SecretValue

_SHORTEST_PART: Final = 6
"""Of an encoded secret: less than that is found in harmless text too."""


def texts_of(value: SecretValue) -> list[str]:
    """What must not be seen of an opened secret."""
    held = (getattr(value, name) for name in value.__struct_fields__)
    return [each.reveal().decode(errors="replace") for each in held if isinstance(each, Secret)]


def leaves(value: Any) -> Iterable[str]:
    """The texts and numbers in a value."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


class Redaction(Struct, frozen=True):
    """Knows some secrets in every form in which they might be written."""

    forms: tuple[str, ...] = ()
    """The longest first: one may be part of another."""

    @staticmethod
    def of(texts: Iterable[str]) -> "Redaction":
        forms = {form for text in texts for form in _forms(text) if form}
        return Redaction(tuple(sorted(forms, key=lambda form: (-len(form), form))))

    @property
    def longest(self) -> int:
        return len(self.forms[0]) if self.forms else 0

    def text(self, text: str) -> str:
        for form in self.forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text


def _forms(text: str) -> Iterable[str]:
    data = text.encode(errors="replace")
    yield text
    yield quote(text, safe="")
    yield quote_plus(text)
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    for encoded in (data.hex(), data.hex().upper()):
        if len(encoded) >= _SHORTEST_PART:
            yield encoded
    for ahead in range(3):
        # The letters that do not depend on what stands before and behind the secret.
        whole = base64.b64encode(b"\0" * ahead + data).decode()
        part = whole[-(-ahead * 8 // 6) : (ahead + len(data)) * 8 // 6]
        if len(part) >= _SHORTEST_PART:
            yield part
            yield part.replace("+", "-").replace("/", "_")
