"""Feeds in one form, whichever of RSS 2.0, RSS 1.0 (RDF) and Atom they come in.

What a feed does not say is null; a moment that cannot be read is null too, because feeds are full of them.
"""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urljoin

from executor.errors import Refused
from executor.markup import Element, trimmed

_ATOM: Final = ("{http://www.w3.org/2005/Atom}", "{http://purl.org/atom/ns#}")
_RSS: Final = ("", "{http://purl.org/rss/1.0/}", "{http://my.netscape.com/rdf/simple/0.9/}")
_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_ENCODED: Final = "{http://purl.org/rss/1.0/modules/content/}encoded"
_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_VOID: Final = frozenset({"area", "br", "col", "embed", "hr", "img", "input", "source", "track", "wbr"})


def read_feed(root: Element, *, address: str, limit: int) -> dict[str, Any]:
    """What a feed says of itself, and its first items. Raises `Refused` when it is none.

    `address`: where it came from; links that lead from there are told in full.
    """
    if root.name in (f"{atom}feed" for atom in _ATOM):
        told, entries = _atom_feed(root), _all(root, *_in(_ATOM, "entry"))
        item: Callable[[Element], dict[str, Any]] = _atom_item
    elif root.name in ("rss", f"{_RDF}RDF"):
        channel = _first(root, *_in(_RSS, "channel")) or Element("channel", {})
        told = _rss_feed(channel, "rss" if root.name == "rss" else "rdf")
        # In RDF, and in some of the oldest feeds, the items stand beside the channel.
        entries = [*_all(channel, *_in(_RSS, "item")), *_all(root, *_in(_RSS, "item"))]
        item = _rss_item
    else:
        raise Refused("The answer is XML, but no feed: neither RSS nor Atom.")
    items = [_in_full(item(entry), address) for entry in entries[:limit]]
    return {"feed": _in_full(told, address), "items": items}


def moment(text: str | None) -> str | None:
    """RFC 3339 in UTC, from what feeds write: RFC 822 or ISO 8601; without a zone it is taken for UTC."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = _read(read, text or "")
            return found.isoformat(timespec="seconds").replace("+00:00", "Z")
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None


def _read(read: Callable[[str], datetime], text: str) -> datetime:
    found = read(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


# --- RSS ------------------------------------------------------------------------------------------


def _rss_feed(channel: Element, kind: str) -> dict[str, Any]:
    said = _Said(channel, _RSS)
    return {
        "format": kind,
        "title": said.text("title"),
        "link": said.text("link"),
        "description": said.text("description"),
        "language": said.text("language", f"{_DC}language"),
        "updated": moment(said.text("lastBuildDate", "pubDate", f"{_DC}date")),
    }


def _rss_item(item: Element) -> dict[str, Any]:
    said = _Said(item, _RSS)
    guid = said.text("guid")
    link = said.text("link")
    if link is None and guid and guid.startswith(("http://", "https://")):
        link = guid
    return {
        "id": guid or item.attributes.get(f"{_RDF}about") or link,
        "title": said.text("title"),
        "link": link,
        "published": moment(said.text("pubDate", f"{_DC}date")),
        "updated": None,
        "author": said.text(f"{_DC}creator", "author"),
        "summary": said.text("description"),
        "content": said.text(_ENCODED),
        "categories": said.texts("category", f"{_DC}subject"),
        "enclosures": [
            _enclosure(one.attributes, one.attributes.get("url")) for one in said.all("enclosure")
        ],
    }


# --- Atom -----------------------------------------------------------------------------------------


def _atom_feed(feed: Element) -> dict[str, Any]:
    said = _Said(feed, _ATOM)
    return {
        "format": "atom",
        "title": said.text("title"),
        "link": _alternate(said),
        "description": said.text("subtitle", "tagline"),
        "language": feed.attributes.get(_LANG),
        "updated": moment(said.text("updated", "modified")),
    }


def _atom_item(entry: Element) -> dict[str, Any]:
    said = _Said(entry, _ATOM)
    names = [name for author in said.all("author") if (name := _Said(author, _ATOM).text("name"))]
    links = [one.attributes for one in said.all("link") if one.attributes.get("rel") == "enclosure"]
    terms = [one.attributes.get("term") for one in said.all("category")]
    return {
        "id": said.text("id") or _alternate(said),
        "title": said.text("title"),
        "link": _alternate(said),
        "published": moment(said.text("published", "issued")),
        "updated": moment(said.text("updated", "modified")),
        "author": ", ".join(names) or None,
        "summary": said.markup("summary"),
        "content": said.markup("content"),
        "categories": [term for term in terms if term],
        "enclosures": [_enclosure(link, link.get("href")) for link in links],
    }


def _alternate(said: "_Said") -> str | None:
    links = [one.attributes for one in said.all("link")]
    return next((one.get("href") for one in links if one.get("rel", "alternate") == "alternate"), None)


# --- What both are made of ------------------------------------------------------------------------


class _Said:
    """What the children of an element say; a name without a namespace is one of the feed's own."""

    def __init__(self, element: Element, own: Sequence[str]) -> None:
        self._element = element
        self._own = own

    def all(self, *names: str) -> list[Element]:
        wanted = [full for name in names for full in ((name,) if name[:1] == "{" else _in(self._own, name))]
        return _all(self._element, *wanted)

    def texts(self, *names: str) -> list[str]:
        return [text for one in self.all(*names) if (text := trimmed(one.all_text))]

    def text(self, *names: str) -> str | None:
        """Of the first of these names that says anything."""
        return next((text for name in names for text in self.texts(name)), None)

    def markup(self, name: str) -> str | None:
        """As HTML: an element with XHTML in it is written out, any other says its HTML or text itself."""
        found = next(iter(self.all(name)), None)
        if found is None:
            return None
        return trimmed(_inner(found) if found.children else found.text) or None


def _inner(element: Element) -> str:
    return "".join(
        html.escape(part, quote=False) if isinstance(part, str) else _outer(part) for part in element.content
    )


def _outer(element: Element) -> str:
    name = element.name.rpartition("}")[2]
    attributes = "".join(
        f' {key.rpartition("}")[2]}="{html.escape(value)}"' for key, value in element.attributes.items()
    )
    end = "" if name in _VOID else f"{_inner(element)}</{name}>"
    return f"<{name}{attributes}>{end}"


def _in(spaces: Sequence[str], name: str) -> Iterator[str]:
    return (f"{space}{name}" for space in spaces)


def _all(element: Element, *names: str) -> list[Element]:
    return [child for child in element.children if child.name in names]


def _first(element: Element, *names: str) -> Element | None:
    return next(iter(_all(element, *names)), None)


def _enclosure(said: Mapping[str, str], url: str | None) -> dict[str, Any]:
    length = said.get("length", "")
    known = length.isascii() and length.isdigit() and len(length) <= 15
    return {"url": url, "type": said.get("type"), "length": int(length) if known else None}


def _in_full(told: dict[str, Any], address: str) -> dict[str, Any]:
    files = told.get("enclosures")
    whole = told | {"link": _joined(address, told["link"])}
    if files is not None:
        whole["enclosures"] = [one | {"url": _joined(address, one["url"])} for one in files]
    return whole


def _joined(address: str, link: str | None) -> str | None:
    try:
        return link and urljoin(address, link)
    except ValueError:
        return link
