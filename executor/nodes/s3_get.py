"""Fetches an object from a store that speaks S3."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from contracts.limits import MIB, RESPONSE_BYTES
from contracts.nodes import NodeSpec
from executor.answers import body_of, content_type
from executor.buckets import Bucket, Call, Key, Store, etag
from executor.forms import form
from executor.node import Context, Result


class S3Get(Store, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: Key
    read_as: Annotated[
        Literal["file", "text", "json"], Meta(title="Read as", description="Later steps take any of them.")
    ] = "file"
    max_bytes: Annotated[
        int, Meta(title="Largest object", description="In bytes.", ge=1, le=RESPONSE_BYTES)
    ] = 10 * MIB


class S3GetNode:
    """Only asks, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="s3.get",
        title="Get object (S3)",
        help="Fetches an object from AWS S3 or any store that speaks S3: its content, type, size, ETag and metadata.",
        icon="cloud-download",
        category="Storage",
        repeat="yes",
        config=form(S3Get),
    )
    config: ClassVar = S3Get

    async def run(self, config: S3Get, context: Context) -> Result:
        bucket = await Bucket.open(config, context)
        async with context.effect():
            response = await bucket.ask(Call(method="GET", key=config.key, max_bytes=config.max_bytes))
        content = body_of(response, "binary" if config.read_as == "file" else config.read_as)
        if content is None and config.read_as == "text":
            content = ""
        context.log("fetched", bytes=len(response.body))
        output: dict[str, Any] = {
            "key": config.key,
            "content": content,
            "content_type": content_type(response)[0] or None,
            "size": len(response.body),
            "etag": etag(response),
            "version": response.header("x-amz-version-id"),
            "metadata": {
                name.removeprefix("x-amz-meta-"): value
                for name, value in response.headers
                if name.startswith("x-amz-meta-")
            },
        }
        return Result(output=output)


node = S3GetNode()
