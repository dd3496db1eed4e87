"""What is picked out of good and hostile pages, by the real process that reads them."""

from typing import Any

import msgspec
import pytest
from selectolax.lexbor import LexborHTMLParser

from contracts.codec import decode_json
from executor.errors import BadConfig, Crashed, StepError, TooLarge
from executor.hypertext import readable
from executor.nodes.html_extract import node
from executor.outputs import pack
from executor.secluded import Secluded

PAGE = """<!doctype html><title>Shop</title>
<body><h1>Things &amp; more</h1>
<ul><li class=item data-id=1><a href="/x?a=1&amp;b=2">First <b>thing</b></a> 5&nbsp;€
    <li class="item sold"><a HREF='/y'>Second</a></ul>
<p>one<br>two</p><input checked>
<script type="application/ld+json">{"a": "<b>"}</script><style>p {}</style></body>"""


async def picked(html: str, each: str = "", /, **fields: Any) -> Any:
    asked = {"content": html, "each": each, "fields": fields}
    config = msgspec.json.decode(msgspec.json.encode(asked), type=node.config)
    context: Any = None  # A text needs no store.
    return decode_json(pack((await node.run(config, context)).output).body)


async def refused(kind: type[StepError], html: str, each: str = "", /, **fields: Any) -> str | None:
    with pytest.raises(kind) as told:
        await picked(html, each, **fields)
    return told.value.field


async def test_fields_are_picked_by_their_selectors() -> None:
    found = await picked(
        PAGE,
        head={"selector": "h1"},
        links={"selector": "a", "take": "attribute", "attribute": "href", "all": True},
        checked={"selector": "input", "take": "attribute", "attribute": "checked"},
        value={"selector": "input", "take": "attribute", "attribute": "value"},
        html={"selector": "li b", "take": "html"},
        inner={"selector": ".sold", "take": "inner_html"},
        data={"selector": "script[type='application/ld+json']"},
        none={"selector": "table"},
        nothing={"selector": "table", "all": True},
    )
    assert found == {
        "head": "Things & more",
        "links": ["/x?a=1&b=2", "/y"],
        "checked": "",
        "value": None,
        "html": "<b>thing</b>",
        "inner": '<a href="/y">Second</a>',
        "data": '{"a": "<b>"}',
        "none": None,
        "nothing": [],
    }


async def test_for_each_gives_one_item_with_fields_picked_in_it() -> None:
    found = await picked(
        PAGE,
        "li.item",
        id={"take": "attribute", "attribute": "data-ID"},
        text={},
        bold={"selector": "b", "all": True},
    )
    assert found == [
        {"id": "1", "text": "First thing 5 €", "bold": ["thing"]},
        {"id": None, "text": "Second", "bold": []},
    ]
    assert await picked(PAGE, "table", text={}) == []


def test_a_text_is_told_as_one_reads_it() -> None:
    body = LexborHTMLParser(PAGE).body
    assert body is not None
    assert readable(body) == "Things & more\nFirst thing 5 €\nSecond\none\ntwo"


@pytest.mark.parametrize("html", ["", "<", "text", "</p></p>", "<p>a\0b", "\ud7ff<table><td><p>", "<svg><b>"])
async def test_anything_is_a_page(html: str) -> None:
    assert set(await picked(html, text={}, p={"selector": "p"})) == {"text", "p"}


async def test_a_wrong_selector_is_refused_with_its_field() -> None:
    assert await refused(BadConfig, PAGE, a={"selector": "li:::"}) == "/fields/a/selector"
    assert await refused(BadConfig, PAGE, **{"a/b": {"selector": "li >"}}) == "/fields/a~1b/selector"
    assert await refused(BadConfig, PAGE, ":nope(", a={}) == "/each"


async def test_an_attribute_is_named_where_one_is_taken_and_only_there() -> None:
    assert await refused(BadConfig, PAGE, a={"take": "attribute"}) == "/fields"
    assert await refused(BadConfig, PAGE, a={"attribute": "href"}) == "/fields"


async def test_what_is_found_is_bounded() -> None:
    # Each of the elements holds all that come after it.
    assert (
        await refused(TooLarge, "<div>" * 3_000, a={"selector": "div", "take": "html", "all": True})
        == "/fields/a"
    )


@pytest.mark.parametrize(
    ("html", "selector"),
    [
        ("<div>" * 1_000_000, "div"),
        ("<a " + " ".join(f"x{number}=1" for number in range(500_000)) + ">", "a"),
        ("<div>" * 400, "div " * 60),
    ],
    ids=["deep", "attributes", "selector"],
)
async def test_a_page_or_selector_that_takes_for_ever_is_stopped(html: str, selector: str) -> None:
    quick = Secluded("executor.hypertext", seconds=1.0, most=1_000_000)
    question = msgspec.json.encode({"html": html, "each": "", "fields": {"a": {"selector": selector}}})
    with pytest.raises(TooLarge) as told:
        await quick.answer(question, field="/content")
    assert told.value.field == "/content"


async def test_a_mistake_of_our_own_is_a_crash_and_no_fault_of_the_page() -> None:
    with pytest.raises(Crashed):
        await Secluded("executor.hypertext", most=1_000).answer(b"no question", field="/content")


async def test_an_answer_that_is_too_long_is_not_read_to_its_end() -> None:
    question = msgspec.json.encode({"html": "x" * 5_000, "each": "", "fields": {"a": {}}})
    with pytest.raises(TooLarge):
        await Secluded("executor.hypertext", most=1_000).answer(question, field="/content")
