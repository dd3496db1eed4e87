"""Makes a value of a text in JSON."""

from typing import ClassVar

from msgspec import Raw, Struct

from contracts.codec import Malformed, decode_json, depth_exceeds
from contracts.limits import FILE_BYTES, JSON_DEPTH
from contracts.nodes import NodeSpec
from executor.contents import Content, data_of
from executor.errors import BadConfig
from executor.forms import form
from executor.node import Context, Result


class JsonRead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Content


class JsonReadNode:
    """The value keeps every digit. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="json.read",
        title="Read JSON",
        help="Turns a text or file in JSON into a value that later steps can look into.",
        icon="braces",
        category="Data",
        repeat="yes",
        config=form(JsonRead),
        timeout_s=60,
    )
    config: ClassVar = JsonRead

    async def run(self, config: JsonRead, context: Context) -> Result:
        data = await data_of(config.content, context, most=FILE_BYTES)
        if depth_exceeds(data, JSON_DEPTH - 1):
            raise BadConfig("The JSON is nested too deeply.", field="/content")
        try:
            decode_json(data)
        except Malformed as malformed:
            raise BadConfig(f"This is not JSON: {malformed}", field="/content") from None
        return Result(output=Raw(data))


node = JsonReadNode()
