"""Writes a value as XML."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from contracts.limits import FILE_BYTES, XML_DEPTH, Name
from contracts.nodes import NodeSpec
from executor.errors import BadConfig, StepError, TooLarge
from executor.forms import form
from executor.node import Binary, Context, Result
from executor.nodes.xml_read import ATTRIBUTE, TEXT

_LETTER: Final = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f"
    "\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd"
)
_WORD: Final = rf"[{_LETTER}][-.0-9\u00b7\u0300-\u036f\u203f\u2040{_LETTER}]*"
_NAME: Final = re.compile(rf"(?:(?P<prefix>{_WORD}):)?{_WORD}")
"""Names in XML 1.0 with namespaces, as far as the first plane goes."""
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_IN_TEXT: Final = str.maketrans(_ESCAPES)
_IN_ATTRIBUTE: Final = str.maketrans({**_ESCAPES, '"': "&quot;", "\n": "&#10;", "\t": "&#9;"})
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_KNOWN_PREFIXES: Final = frozenset({"xml", "xmlns"})


class XmlBuild(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    value: Annotated[
        Raw,
        Meta(
            title="Value",
            description="As Read XML gives it: `@name` is an attribute, `#text` a text beside elements, a list several "
            "elements of one name.",
        ),
    ]
    root: Annotated[
        Annotated[str, Meta(max_length=200)],
        Meta(title="Root", description="Name of the root element; empty: the value's only member is it."),
    ] = ""
    declaration: Annotated[bool, Meta(title="Begin with <?xml …?>")] = True
    indent: Annotated[int, Meta(title="Indent", description="0: all on one line.", ge=0, le=8)] = 0
    output: Annotated[Literal["text", "file"], Meta(title="Output")] = "text"


class XmlBuildNode:
    """Everything is escaped, and a name that is none is refused: no value can add an element. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="xml.build",
        title="Build XML",
        help="Writes an object as a document in XML, as a text or a file; the way back from Read XML.",
        icon="code-xml",
        category="Data",
        repeat="yes",
        config=form(XmlBuild),
        timeout_s=60,
    )
    config: ClassVar = XmlBuild

    async def run(self, config: XmlBuild, _context: Context) -> Result:
        name, value = _root(_decode(config.value), config.root)
        writing = _Writing(config.indent)
        if config.declaration:
            writing.write(_DECLARATION + "\n")
        writing.element(name, value, "/value", _Around(0, _KNOWN_PREFIXES))
        text = writing.text
        if config.output == "file":
            return Result(output={"file": Binary(text.encode(), "application/xml")})
        return Result(output=text)


_decode: Final = msgspec.json.Decoder(float_hook=str).decode
"""Numbers keep the digits that they came with."""


def _root(value: Any, name: Name) -> tuple[str, Any]:
    if name:
        return name, value
    if not isinstance(value, dict) or len(value) != 1:
        raise BadConfig(
            "A document has one root: name it, or give an object with one member.", field="/value"
        )
    [(name, value)] = value.items()
    return name, value


class _Around(Struct, frozen=True):
    """What an element stands in."""

    depth: int
    prefixes: frozenset[str]


class _Writing:
    def __init__(self, indent: int) -> None:
        self._indent = indent
        self._pieces: list[str] = []
        self._room = FILE_BYTES

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def write(self, text: str) -> None:
        self._room -= len(text.encode())
        if self._room < 0:
            raise TooLarge(f"The XML would have more than {FILE_BYTES:,} bytes.", field="/value")
        self._pieces.append(text)

    def element(self, name: str, value: Any, at: str, around: _Around) -> None:
        if around.depth == XML_DEPTH:
            raise TooLarge(f"Elements would stand more than {XML_DEPTH} deep.", field=at)
        if isinstance(value, list):
            raise _wrong(at, "A list in a list, or as the root, has no form in XML.")
        members = value if isinstance(value, dict) else {TEXT: value}
        attributes = [(key, one) for key, one in members.items() if key.startswith(ATTRIBUTE)]
        declared = {key.partition(":")[2] for key, _ in attributes if key.startswith("@xmlns:")}
        inside = _Around(around.depth + 1, around.prefixes | declared)
        self.write("<" + _named(name, at, inside.prefixes))
        for key, one in attributes:
            said = _scalar(one, at).translate(_IN_ATTRIBUTE)
            self.write(f' {_named(key[1:], at, inside.prefixes)}="{said}"')
        self._content(name, members, at, inside)

    def _content(self, name: str, members: Mapping[str, Any], at: str, inside: _Around) -> None:
        text = _scalar(members.get(TEXT), at).translate(_IN_TEXT)
        children = list(_children(members, at))
        if not text and not children:
            return self.write("/>")
        self.write(">" + text)
        # White space beside a text would become part of it.
        line = "" if text or not self._indent else "\n" + " " * self._indent * inside.depth
        for key, one, place in children:
            self.write(line)
            self.element(key, one, place, inside)
        if children:
            self.write(line[: len(line) - self._indent])
        return self.write(f"</{name}>")


def _children(members: Mapping[str, Any], at: str) -> Iterator[tuple[str, Any, str]]:
    """The elements in an element: a list stands for several of one name."""
    for key, one in members.items():
        if key == TEXT or key.startswith(ATTRIBUTE):
            continue
        place = f"{at}/{key.replace('~', '~0').replace('/', '~1')}"
        if isinstance(one, list):
            yield from ((key, each, f"{place}/{number}") for number, each in enumerate(one))
        else:
            yield key, one, place


def _named(name: str, at: str, prefixes: frozenset[str]) -> str:
    found = _NAME.fullmatch(name)
    if found is None:
        raise _wrong(at, f"`{name[:100]}` is no name in XML.")
    if found["prefix"] not in (None, *prefixes):
        raise _wrong(
            at, f"The prefix `{found['prefix'][:100]}` is not declared: add `@xmlns:{found['prefix'][:100]}`."
        )
    return name


def _scalar(value: Any, at: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        raise _wrong(at, "An attribute or a text is a text, a number, a truth or null.")
    text = str(value)
    if found := _FORBIDDEN.search(text):
        raise _wrong(at, f"The character U+{ord(found[0]):04X} cannot stand in XML.")
    return text


def _wrong(at: str, message: str) -> StepError:
    return BadConfig(message, field=at[:500])


node = XmlBuildNode()
