"""XML as a tree, read with bounds: no DTD, so that there are no entities but the five of XML, and nothing is ever fetched.

Rule that holds here: whatever the document says, what it becomes is bounded before it is kept. Names count with their
namespace, because one long address may stand behind a hundred thousand short prefixes.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias
from xml.parsers import expat

from msgspec import Struct, field

from contracts.limits import FILE_BYTES, KIB, XML_ATTRIBUTES, XML_DEPTH, XML_PARTS
from executor.errors import BadConfig, StepError, TooLarge

Naming: TypeAlias = Literal["written", "expanded", "local"]
"""Names with the prefix that the document chose, as `{namespace}name`, or without either."""

_PIECE: Final = 256 * KIB
_WHITE: Final = " \t\r\n"


class Element(Struct):
    """An element: what it is called, its attributes, and in order what is in it."""

    name: str
    attributes: dict[str, str]
    content: "list[str | Element]" = field(default_factory=list)

    @property
    def children(self) -> "list[Element]":
        return [part for part in self.content if isinstance(part, Element)]

    @property
    def text(self) -> str:
        """The text directly in it, without that of its children."""
        return "".join(part for part in self.content if isinstance(part, str))

    @property
    def all_text(self) -> str:
        """The text in it and in everything inside."""
        return "".join(part if isinstance(part, str) else part.all_text for part in self.content)


async def read_xml(
    data: bytes, *, naming: Naming, encoding: str | None = None, field: str | None = None
) -> Element:
    """The root of a document. Raises `BadConfig` for what is no XML or has a DTD, `TooLarge` beyond the bounds.

    `encoding`: in place of what the document says of itself.
    """
    reading = _Reading(naming, encoding, field)
    for start in range(0, len(data), _PIECE):
        reading.feed(data[start : start + _PIECE])
        await asyncio.sleep(0)  # The executor has leases to renew meanwhile.
    return reading.end()


class _Reading:
    """One document on its way into a tree."""

    def __init__(self, naming: Naming, encoding: str | None, where: str | None) -> None:
        self._naming = naming
        self._where = where
        self._open: list[Element] = []
        self._root: Element | None = None
        self._parts = 0
        self._room = 2 * FILE_BYTES
        """For names, values and texts, in characters."""
        self._parser = expat.ParserCreate(encoding, None if naming == "written" else "}")
        self._parser.buffer_text = True
        self._parser.ordered_attributes = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def feed(self, piece: bytes) -> None:
        self._parse(piece, last=False)

    def end(self) -> Element:
        self._parse(b"", last=True)
        if self._root is None:
            raise self._wrong("This is not XML: there is no element.")
        return self._root

    def _parse(self, piece: bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            message = f"This is not XML: {expat.ErrorString(error.code)}, line {error.lineno}."
            raise self._wrong(message) from None
        except (LookupError, ValueError):  # The encoding that it names is none, or none of single bytes.
            raise self._wrong("The XML says that it is in an encoding that is not known here.") from None

    def _wrong(self, message: str) -> StepError:
        return BadConfig(message, field=self._where)

    def _too_large(self, what: str) -> StepError:
        line = self._parser.CurrentLineNumber
        return TooLarge(f"The XML has {what} (line {line}).", field=self._where)

    # --- What the parser tells -------------------------------------------------------------------

    def _doctype(self, *_: object) -> None:
        raise self._wrong(
            "The XML has a document type (DOCTYPE), which is not read here: entities hide in it."
        )

    def _start(self, name: str, written: Sequence[str]) -> None:
        if len(self._open) == XML_DEPTH:
            raise self._too_large(f"elements more than {XML_DEPTH} deep")
        if len(written) > 2 * XML_ATTRIBUTES:
            raise self._too_large(f"more than {XML_ATTRIBUTES} attributes in one element")
        self._parts += 1 + len(written) // 2
        if self._parts > XML_PARTS:
            raise self._too_large(f"more than {XML_PARTS:,} elements and attributes")
        self._take(len(name) + sum(map(len, written)))
        pairs = zip(written[::2], written[1::2], strict=True)
        attributes = {self._name(key): value for key, value in pairs}
        if 2 * len(attributes) < len(written):
            raise self._wrong(
                f"Two attributes of `{name[:200]}` have the same name when namespaces are left out."
            )
        element = Element(self._name(name), attributes)
        if self._open:
            self._open[-1].content.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._take(len(text))
        self._open[-1].content.append(text)

    def _take(self, characters: int) -> None:
        self._room -= characters
        if self._room < 0:
            raise self._too_large("more in it than fits")

    def _name(self, name: str) -> str:
        if self._naming == "written" or "}" not in name:
            return name
        return f"{{{name}" if self._naming == "expanded" else name.rpartition("}")[2]


def trimmed(text: str) -> str:
    """Without XML's white space at both ends."""
    return text.strip(_WHITE)
