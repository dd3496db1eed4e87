"""What is picked out of a page in HTML, in a process that may be killed: `python -m executor.hypertext`.

The parser is fast and forgiving, but 500 KB of nested `<div>` take it 40 seconds; a selector can take longer still.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from chassis.solitude import serve
from contracts.limits import FILE_BYTES, LIST_ITEMS, MIB

MEMORY: Final = 320 * MIB
_SPACE: Final = re.compile(r"\s+")
_UNREAD: Final = frozenset({"script", "style", "template", "noscript", "title"})
# fmt: off
_BLOCKS: Final = frozenset({
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer",
    "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table",
    "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})
# fmt: on


class Pick(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to look for."""

    selector: Annotated[
        str, Meta(title="CSS selector", description="Empty: the item itself.", max_length=500)
    ] = ""
    take: Annotated[
        Literal["text", "attribute", "html", "inner_html"],
        Meta(title="Take", description="Text: as one reads it, blocks on lines of their own."),
    ] = "text"
    attribute: Annotated[str, Meta(title="Attribute", description="Its name, as `href`.", max_length=200)] = (
        ""
    )
    all: Annotated[
        bool, Meta(title="All", description="A list of all that is found, in place of the first.")
    ] = False


class Question(Struct, frozen=True, kw_only=True):
    html: str
    each: str
    fields: Mapping[str, Pick]


class Answer(Struct, frozen=True, kw_only=True):
    found: Any = None
    wrong: str = ""
    """What cannot be done, in words."""
    field: str = ""
    too_large: bool = False


class _Wrong(Exception):
    def __init__(self, message: str, field: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.answer = Answer(wrong=message, field=field, too_large=too_large)


def answered(question: bytes) -> bytes:
    asked = msgspec.json.decode(question, type=Question)
    try:
        answer = Answer(found=_Picking(asked).found())
    except _Wrong as wrong:
        answer = wrong.answer
    return msgspec.json.encode(answer)


class _Picking:
    def __init__(self, asked: Question) -> None:
        self._asked = asked
        self._page = LexborHTMLParser(asked.html)
        self._room = FILE_BYTES
        self._values = LIST_ITEMS

    def found(self) -> Any:
        root = self._page.root
        if not self._asked.each:
            return self._object(root)
        return [self._object(node) for node in self._select(root, self._asked.each, "/each")]

    def _object(self, node: LexborNode | None) -> dict[str, Any]:
        return {
            name: self._value(node, pick, f"/fields/{name.replace('~', '~0').replace('/', '~1')}")
            for name, pick in self._asked.fields.items()
        }

    def _value(self, node: LexborNode | None, pick: Pick, at: str) -> Any:
        nodes: Sequence[LexborNode]
        if pick.selector:
            nodes = self._select(node, pick.selector, f"{at}/selector")
        else:
            nodes = [node] if node is not None else []
        if not pick.all:
            return self._taken(nodes[0], pick, at) if nodes else None
        return [self._taken(one, pick, at) for one in nodes]

    def _select(self, node: LexborNode | None, selector: str, at: str) -> Sequence[LexborNode]:
        if node is None:
            return []
        try:
            return node.css(selector)
        except SelectolaxError:
            raise _Wrong("This is no CSS selector that is known here.", at) from None

    def _taken(self, node: LexborNode, pick: Pick, at: str) -> str | None:
        match pick.take:
            case "text":
                taken: str | None = readable(node)
            case "attribute":
                # One without a value, as `checked`, is there all the same.
                name, given = pick.attribute.lower(), node.attributes
                taken = (given[name] or "") if name in given else None
            case "html":
                taken = node.html
            case "inner_html":
                taken = node.inner_html
        self._values -= 1
        self._room -= len((taken or "").encode("utf-8", "replace"))
        if self._values < 0 or self._room < 0:
            raise _Wrong(
                f"More than {LIST_ITEMS:,} values or {FILE_BYTES:,} bytes are found.", at, too_large=True
            )
        return taken


def readable(node: LexborNode) -> str:
    """The text of an element as one reads it: without scripts and styles, unless the element is one."""
    if node.tag in _UNREAD:
        return node.text().strip()
    pieces: list[str] = []
    waiting: list[LexborNode | str] = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            pieces.append(one)
        elif one.is_text_node:
            pieces.append(_SPACE.sub(" ", one.text_content or ""))
        elif one.tag not in _UNREAD:
            waiting.extend(reversed(_inside(one)))
    lines = (_SPACE.sub(" ", line).strip() for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _inside(node: LexborNode) -> list[LexborNode | str]:
    """What is in an element, between line breaks when it is a block."""
    found: list[LexborNode | str] = []
    child = node.child
    while child is not None:
        if child.is_text_node or child.is_element_node:
            found.append(child)
        child = child.next
    return ["\n", *found, "\n"] if node.tag in _BLOCKS else found


if __name__ == "__main__":
    serve(answered, memory=MEMORY)
