"""Lists the objects in a store that speaks S3."""

from typing import Annotated, Any, ClassVar, Final
from urllib.parse import unquote_plus

from msgspec import Meta

from chassis.egress import Response
from contracts.limits import FILE_BYTES
from contracts.nodes import NodeSpec
from executor.buckets import Bucket, Call, Store, child_text
from executor.errors import BadConfig, Refused
from executor.forms import form
from executor.markup import Element, read_xml
from executor.node import Context, Result

PAGE: Final = 1_000
"""Keys that S3 tells at once, at most."""


class S3List(Store, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prefix: Annotated[str, Meta(title="Prefix", description="Keys that begin so.", max_length=1_024)] = ""
    delimiter: Annotated[
        str,
        Meta(
            title="Delimiter",
            description="`/` lists one folder: what is deeper is told as `prefixes`.",
            max_length=10,
        ),
    ] = ""
    start_after: Annotated[str, Meta(title="Start after", description="A key.", max_length=1_024)] = ""
    limit: Annotated[int, Meta(title="How many", ge=1, le=10_000)] = 1_000


class S3ListNode:
    """Only asks, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="s3.list",
        title="List objects (S3)",
        help="Lists objects in AWS S3 or any store that speaks S3 in the order of their keys: key, size, ETag, when it was "
        "modified. `more` tells whether there are others behind them.",
        icon="cloud",
        category="Storage",
        repeat="yes",
        config=form(S3List),
    )
    config: ClassVar = S3List

    async def run(self, config: S3List, context: Context) -> Result:
        bucket = await Bucket.open(config, context)
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        token: str | None = ""
        async with context.effect():
            while token is not None and len(items) + len(prefixes) < config.limit:
                room = min(PAGE, config.limit - len(items) - len(prefixes))
                page = await _page(
                    await bucket.ask(
                        Call(method="GET", query=_query(config, token, room), max_bytes=FILE_BYTES)
                    )
                )
                items += page[0][:room]
                prefixes += page[1][: max(0, room - len(page[0]))]
                token = page[2] if page[0] or page[1] else None  # Nobody is asked for ever.
        context.log("listed", objects=len(items))
        return Result(output={"items": items, "prefixes": prefixes, "more": token is not None})


def _query(config: S3List, token: str, room: int) -> dict[str, str]:
    asked = {
        "prefix": config.prefix,
        "delimiter": config.delimiter,
        "start-after": config.start_after,
        "continuation-token": token,
    }
    given = {name: value for name, value in asked.items() if value}
    # Keys may have characters that XML does not.
    return {"list-type": "2", "encoding-type": "url", "max-keys": str(room), **given}


async def _page(response: Response) -> tuple[list[dict[str, Any]], list[str], str | None]:
    """Objects, prefixes, and the token for what comes behind them."""
    try:
        root = await read_xml(response.body, naming="local")
    except BadConfig as wrong:
        raise Refused(f"The other side's list cannot be read. {wrong}") from None
    if root.name != "ListBucketResult":
        raise Refused("The other side does not speak S3: its answer is no list.")
    decoded = unquote_plus if child_text(root, "EncodingType") == "url" else str
    items = [_object(each, decoded) for each in root.children if each.name == "Contents"]
    prefixes = [
        decoded(child_text(each, "Prefix") or "") for each in root.children if each.name == "CommonPrefixes"
    ]
    more = child_text(root, "IsTruncated") == "true"
    return items, prefixes, child_text(root, "NextContinuationToken") if more else None


def _object(said: Element, decoded: Any) -> dict[str, Any]:
    size = child_text(said, "Size") or ""
    return {
        "key": decoded(child_text(said, "Key") or ""),
        "size": int(size) if size.isascii() and size.isdigit() and len(size) <= 15 else None,
        "etag": (child_text(said, "ETag") or "").strip('"') or None,
        "modified": child_text(said, "LastModified"),
    }


node = S3ListNode()
