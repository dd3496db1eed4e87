"""One page after the other: by a Link header, by a cursor in the answer, or by number."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urljoin

from msgspec import Meta, Raw, Struct

from chassis.egress import Response
from chassis.egress.urls import BadUrl, parse_url
from contracts.codec import decode_json
from contracts.limits import LIST_ITEMS
from executor.answers import body_of, headers_of, scalar
from executor.errors import BadConfig, Refused, TooLarge

_LINK: Final = re.compile(
    r"""<([^<>]{0,8000})>\s*((?:;\s*[A-Za-z*]{1,40}\s*=\s*(?:"[^"]{0,200}"|[^\s;,"]{1,200})\s*)*)"""
)
_REL: Final = re.compile(r"""(?:^|[\s;])rel\s*=\s*"?([^";]*)"?""", re.IGNORECASE)

Pointer: TypeAlias = Annotated[str, Meta(max_length=500)]
Most: TypeAlias = Annotated[int, Meta(ge=1, le=1_000)]
Parameter: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]


class _Pages(Struct, frozen=True, kw_only=True, tag_field="by", forbid_unknown_fields=True):
    items: Pointer = ""
    most: Most = 100


class ByLink(_Pages, frozen=True, kw_only=True, tag="link", forbid_unknown_fields=True):
    """The next page's address stands in the header `Link`, as `rel="next"`."""


class ByCursor(_Pages, frozen=True, kw_only=True, tag="cursor", forbid_unknown_fields=True):
    next: Pointer
    parameter: Parameter


class ByNumber(_Pages, frozen=True, kw_only=True, tag="page", forbid_unknown_fields=True):
    parameter: Parameter
    first: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


Pages: TypeAlias = ByLink | ByCursor | ByNumber
Ask: TypeAlias = Callable[[Mapping[str, str], str], Awaitable[Response]]
"""Asks for one page: with these parameters in the query, or at this address in place of the first."""


async def all_pages(pages: Pages, ask: Ask) -> dict[str, Any]:
    """The items of all pages. Raises what `ask` does, `Refused` and `TooLarge`."""
    items: list[Any] = []
    more: Mapping[str, str] = {pages.parameter: str(pages.first)} if isinstance(pages, ByNumber) else {}
    where, asked = "", 0
    seen: set[str] = set()
    while True:
        response = await ask(more, where)
        asked += 1
        body = _decoded(response)
        found = _at(body, pages.items)
        if not isinstance(found, list):
            raise Refused("There is no list of items in the answer where `items` points to.")
        items += found
        if len(items) > LIST_ITEMS:
            raise TooLarge(f"All pages have more than {LIST_ITEMS:,} items.", field="/pages")
        following = _next(pages, response, body, asked, found)
        if following is None or asked == pages.most:
            return {
                "items": items, "pages": asked, "more": following is not None,
                "status": response.status, "headers": headers_of(response),
            }  # fmt: skip
        if following in seen:
            raise Refused("The other side names a page as the next one that was asked for already.")
        seen.add(following)
        if isinstance(pages, ByLink):
            where = following
        else:
            more = {pages.parameter: following}


def _next(pages: Pages, response: Response, body: Any, asked: int, found: list[Any]) -> str | None:
    """What is asked for next; None when this was the last page."""
    match pages:
        case ByNumber():
            return str(pages.first + asked) if found else None
        case ByCursor():
            cursor = _at(body, pages.next)
            if cursor is None or isinstance(cursor, bool | dict | list) or cursor == "":
                return None
            return scalar(cursor)
        case ByLink():
            return _linked(response)


def _linked(response: Response) -> str | None:
    for name, value in response.headers:
        for link in _LINK.finditer(value) if name == "link" else ():
            relation = _REL.search(link[2])
            if relation and "next" in relation[1].lower().split():
                return _nearby(response.url, link[1])
    return None


def _nearby(url: str, link: str) -> str:
    """The next page's address, on the same server: what goes along was meant for that one."""
    try:
        here, there = parse_url(url), parse_url(urljoin(url, link))
    except (BadUrl, ValueError):
        raise Refused("The next page's address is none.") from None
    if here.origin != there.origin:
        raise Refused("The next page lies on another server.")
    return there.url


def _decoded(response: Response) -> Any:
    body = body_of(response, "json")
    return decode_json(body) if isinstance(body, Raw) else body


def _at(value: Any, pointer: str) -> Any:
    """What a JSON pointer leads to; None when it leads to nothing."""
    if pointer and not pointer.startswith("/"):
        raise BadConfig("A JSON pointer begins with a slash.", field="/pages")
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name[:9]) < len(value):
            value = value[int(name[:9])]
        else:
            return None
    return value
