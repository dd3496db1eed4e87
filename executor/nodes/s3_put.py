"""Stores an object in a store that speaks S3."""

from typing import Annotated, ClassVar

from msgspec import Meta

from contracts.limits import BLOB_BYTES
from contracts.nodes import NodeSpec
from executor.buckets import Bucket, Call, Key, Store, etag
from executor.contents import Content, Stored, data_of, text_or_file
from executor.forms import form
from executor.node import Context, Result


class S3Put(Store, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: Key
    content: Content
    content_type: Annotated[
        Annotated[str, Meta(max_length=200)] | None,
        Meta(title="Content type", description="In place of the file's own, or text/plain."),
    ] = None


class S3PutNode:
    """Putting the same object twice leaves the same object, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="s3.put",
        title="Put object (S3)",
        help="Stores a text or file as an object in AWS S3 or any store that speaks S3; one of the same key is replaced.",
        icon="cloud-upload",
        category="Storage",
        repeat="yes",
        config=form(S3Put),
    )
    config: ClassVar = S3Put

    async def run(self, config: S3Put, context: Context) -> Result:
        data = await data_of(config.content, context, most=BLOB_BYTES)
        found = text_or_file(config.content, "/content")
        kind = found.blob.content_type if isinstance(found, Stored) else "text/plain; charset=utf-8"
        headers = {"content-type": config.content_type or kind}
        bucket = await Bucket.open(config, context)
        async with context.effect():
            response = await bucket.ask(Call(method="PUT", key=config.key, headers=headers, body=data))
        context.log("stored", bytes=len(data))
        version = response.header("x-amz-version-id")
        return Result(
            output={"key": config.key, "size": len(data), "etag": etag(response), "version": version}
        )


node = S3PutNode()
