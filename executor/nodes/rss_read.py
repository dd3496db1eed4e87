"""Reads a feed in RSS or Atom from its address."""

import re
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Struct

from chassis.egress import Request, Response
from contracts.limits import FILE_BYTES
from contracts.nodes import NodeSpec
from executor.answers import content_type, refusal, succeeded
from executor.errors import BadConfig, Refused
from executor.feeds import read_feed
from executor.forms import form
from executor.markup import read_xml
from executor.node import Context, Result, SecretField

_ACCEPT: Final = "application/rss+xml, application/atom+xml, application/rdf+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.1"
_NAMES_ENCODING: Final = re.compile(rb"<\?xml[^>]*\sencoding\s*=|\xef\xbb\xbf|\xff\xfe|\xfe\xff")


class RssRead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, Meta(title="URL", description="Of the feed.", min_length=1, max_length=16_384)]
    limit: Annotated[
        int, Meta(title="How many", description="Items from the beginning of the feed.", ge=1, le=1_000)
    ] = 50
    auth: Annotated[
        SecretField,
        Meta(title="Credential", description="Goes only to the hosts that the secret allows."),
    ] = None
    timeout_s: Annotated[
        float, Meta(title="Timeout", description="Seconds, for everything together.", gt=0, le=600)
    ] = 30.0


class RssReadNode:
    """Only asks, so it may be repeated at will. What the feed says of HTML is a stranger's: escape it before showing it."""

    spec: ClassVar = NodeSpec(
        type="rss.read",
        title="Read RSS",
        help="Fetches a feed (RSS 2.0, RSS 1.0 or Atom): what it says of itself, and its items with id, title, link, "
        "published, updated, author, summary, content, categories and enclosures. Moments are in UTC.",
        icon="rss",
        category="Network",
        repeat="yes",
        config=form(RssRead),
        timeout_s=660,
    )
    config: ClassVar = RssRead

    async def run(self, config: RssRead, context: Context) -> Result:
        request = Request(
            method="GET",
            url=config.url,
            headers={"Accept": _ACCEPT},
            timeout_s=config.timeout_s,
            max_bytes=FILE_BYTES,
            credential=await context.open(config.auth) if config.auth else None,
        )
        async with context.effect():
            response = await context.egress.request(request)
        if not succeeded(response.status, ("2xx",)):
            raise refusal(response, context.now)
        feed = await _feed(response, config.limit)
        context.log("read", items=len(feed["items"]))
        return Result(output=feed)


async def _feed(response: Response, limit: int) -> dict[str, Any]:
    body = response.body.lstrip(b" \t\r\n")
    _, charset = content_type(response)
    encoding = charset or None if _NAMES_ENCODING.match(body) is None else None
    try:
        root = await read_xml(body, naming="expanded", encoding=encoding)
    except BadConfig as wrong:
        raise Refused(f"The answer is no feed. {wrong}") from None
    return read_feed(root, address=response.url, limit=limit)


node = RssReadNode()
