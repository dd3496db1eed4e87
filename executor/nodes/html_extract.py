"""Picks values out of a page in HTML by CSS selectors."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct, field

from contracts.codec import encode
from contracts.limits import FILE_BYTES, LIST_RULES, Name
from contracts.nodes import NodeSpec
from executor.contents import Content, text_of
from executor.errors import BadConfig, TooLarge
from executor.forms import form
from executor.hypertext import Answer, Pick, Question
from executor.node import Context, Result
from executor.secluded import Secluded


class HtmlExtract(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Content
    fields: Annotated[
        dict[Name, Pick],
        Meta(title="Fields", description="Name to what is picked.", min_length=1, max_length=LIST_RULES),
    ] = field(default_factory=dict)
    each: Annotated[
        Annotated[str, Meta(max_length=500)],
        Meta(
            title="For each",
            description="A CSS selector: one item for each that is found, fields are picked in it.",
        ),
    ] = ""


class HtmlExtractNode:
    """The page is read in a process without secrets that is killed when it takes too long. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="html.extract",
        title="Extract from HTML",
        help="Picks texts, attributes or pieces of HTML out of a page by CSS selectors: an object of fields, or with “For "
        "each” a list of them. What is not found is null.",
        icon="code",
        category="Data",
        repeat="yes",
        config=form(HtmlExtract),
        timeout_s=60,
    )
    config: ClassVar = HtmlExtract

    def __init__(self) -> None:
        self._secluded = Secluded("executor.hypertext", most=8 * FILE_BYTES)

    async def run(self, config: HtmlExtract, context: Context) -> Result:
        for name, pick in config.fields.items():
            if (pick.take == "attribute") != bool(pick.attribute):
                raise BadConfig(
                    f"`{name}` takes an attribute without naming it, or names one without taking it.",
                    field="/fields",
                )
        html = await text_of(config.content, context, most=FILE_BYTES)
        asked = Question(html=html, each=config.each, fields=config.fields)
        answer = msgspec.json.decode(
            await self._secluded.answer(encode(asked), field="/content"), type=Answer
        )
        if answer.wrong:
            kind = TooLarge if answer.too_large else BadConfig
            raise kind(answer.wrong, field=answer.field)
        return Result(output=answer.found)


node = HtmlExtractNode()
