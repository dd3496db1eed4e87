"""Makes a value of a document in XML."""

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Raw, Struct

from contracts.codec import depth_exceeds, encode
from contracts.limits import FILE_BYTES, JSON_DEPTH
from contracts.nodes import NodeSpec
from executor.contents import Content, data_of, text_or_file
from executor.errors import TooLarge
from executor.forms import form
from executor.markup import Element, Naming, read_xml, trimmed
from executor.node import Context, Result

TEXT: Final = "#text"
ATTRIBUTE: Final = "@"


class XmlRead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Content
    names: Annotated[
        Naming,
        Meta(
            title="Names",
            description="As written, `soap:Body`; expanded, `{http://…}Body`, when prefixes may change; or local, `Body`.",
        ),
    ] = "written"
    lists: Annotated[
        tuple[Annotated[str, Meta(max_length=1_000)], ...],
        Meta(
            title="Always lists",
            description="Names of elements that become a list also where there is only one.",
            max_length=100,
        ),
    ] = ()
    trim: Annotated[
        bool, Meta(title="Trim", description="Leave out white space at both ends of every text.")
    ] = True


class XmlReadNode:
    """Every value stays the text that it was. DTDs are refused, so no entity expands. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="xml.read",
        title="Read XML",
        help="Turns a document in XML into an object with one member, the root. An element is its text; with attributes "
        "or elements in it, it is an object: attributes as `@name`, elements by their name (several of one name: a list), "
        "text beside them as `#text`. Comments are left out. `DOCTYPE` is refused.",
        icon="code-xml",
        category="Data",
        repeat="yes",
        config=form(XmlRead),
        timeout_s=60,
    )
    config: ClassVar = XmlRead

    async def run(self, config: XmlRead, context: Context) -> Result:
        content = text_or_file(config.content, "/content")
        data = await data_of(config.content, context, most=FILE_BYTES)
        # A text is characters already; a file's own declaration says what its bytes mean.
        root = await read_xml(
            data,
            naming=config.names,
            encoding="utf-8" if isinstance(content, str) else None,
            field="/content",
        )
        value = encode({root.name: _value(root, frozenset(config.lists), trim=config.trim)})
        if depth_exceeds(value, JSON_DEPTH - 1):
            raise TooLarge("The XML is nested too deeply.", field="/content")
        return Result(output=Raw(value))


def _value(element: Element, lists: Collection[str], *, trim: bool) -> Any:
    found: dict[str, list[Any]] = {}
    for child in element.children:
        found.setdefault(child.name, []).append(_value(child, lists, trim=trim))
    text = trimmed(element.text) if trim else element.text
    if not found and not element.attributes:
        return text
    value: dict[str, Any] = {ATTRIBUTE + name: said for name, said in element.attributes.items()}
    value |= {name: each if len(each) > 1 or name in lists else each[0] for name, each in found.items()}
    return value | {TEXT: text} if trimmed(text) else value


node = XmlReadNode()
