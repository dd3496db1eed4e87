r"""Where the expressions of a text are: `{{ … }}`, found by scanning CEL, so that its own braces and strings stay whole.

`\{{` is a literal `{{`. Of backslashes right before `{{`, each pair stands for one; anywhere else they are themselves.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from msgspec import Struct

from chassis.expressions.faults import Flaw


class Placeholder(Struct, frozen=True, kw_only=True):
    """An expression and where it begins in the text."""

    source: str
    offset: int


Part: TypeAlias = str | Placeholder

_OPENING: Final = re.compile(r"(\\*)\{\{")
_QUOTED: Final = {
    "'": re.compile(r"(?:[^'\\]|\\.)*'", re.DOTALL),
    '"': re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL),
    "'''": re.compile(r"(?:[^\\]|\\.)*?'''", re.DOTALL),
    '"""': re.compile(r'(?:[^\\]|\\.)*?"""', re.DOTALL),
}
_RAW: Final = {quote: re.compile(rf".*?{quote}", re.DOTALL) for quote in _QUOTED}
_NEXT: Final = re.compile(
    r"""[{}]|//|(?:(?<![A-Za-z0-9_])(?P<prefix>[bB]?[rR]|[rR][bB]))?(?P<quote>'''|\"\"\"|'|\")"""
)


def parts(text: str) -> list[Part] | Flaw:
    """The text cut into literal strings and placeholders; neighbours are never both literal, and none is empty."""
    if "{{" not in text:
        return [text] if text else []
    found: list[Part] = []
    literal = ""
    at = 0
    while (opening := _OPENING.search(text, at)) is not None:
        slashes = len(opening[1])
        literal += text[at : opening.start()] + "\\" * (slashes // 2)
        if slashes % 2:
            literal += "{{"
            at = opening.end()
            continue
        end = _end(text, opening.end())
        if end is None:
            return Flaw(code="syntax", message="`{{` has no `}}`", offset=opening.end() - 2)
        if literal:
            found.append(literal)
            literal = ""
        found.append(Placeholder(source=text[opening.end() : end], offset=opening.end()))
        at = end + 2
    literal += text[at:]
    return [*found, literal] if literal else found


def _end(text: str, start: int) -> int | None:
    """Where the `}}` stands that ends the expression that begins at `start`."""
    depth = 0
    for at, brace in _braces(text, start):
        if brace == "{":
            depth += 1
        elif depth:
            depth -= 1
        elif text.startswith("}}", at):
            return at
    return None


def _braces(text: str, at: int) -> Iterator[tuple[int, str]]:
    """The braces outside strings and comments. After an unfinished string there are none."""
    while (found := _NEXT.search(text, at)) is not None:
        if found[0] in ("{", "}"):
            yield found.start(), found[0]
            at = found.end()
        elif found[0] == "//":
            line = text.find("\n", found.end())
            if line < 0:
                return
            at = line
        else:
            closing = (_RAW if found["prefix"] else _QUOTED)[found["quote"]].match(text, found.end())
            if closing is None:
                return
            at = closing.end()
