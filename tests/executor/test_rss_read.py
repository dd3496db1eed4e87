"""What feeds become, good ones and broken ones; fetched from a real server on 127.0.0.1."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from contracts.codec import decode_json
from contracts.limits import FILE_BYTES
from contracts.messages import Outcome, StepBroken, StepDone
from contracts.payloads import Inline
from executor.errors import StepError
from executor.feeds import moment, read_feed
from executor.markup import read_xml
from executor.nodes.rss_read import node
from tests.executor.fakes import World, simulated, task, until
from tests.executor.servers import Asked, Reply, says, serving

RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:content="http://purl.org/rss/1.0/modules/content/"
     xmlns:atom="http://www.w3.org/2005/Atom" xmlns:media="http://search.yahoo.com/mrss/">
<channel>
  <title>News &amp; more</title><link>/home</link><description>What is new</description><language>en</language>
  <lastBuildDate>Fri, 20 Nov 2026 12:00:00 +0100</lastBuildDate>
  <atom:link href="https://example.com/feed" rel="self"/>
  <item>
    <title>First</title><link>https://example.com/1</link><guid isPermaLink="false">id-1</guid>
    <pubDate>Thu, 19 Nov 2026 08:30:00 GMT</pubDate><dc:creator>Ada</dc:creator><author>a@example.com</author>
    <description><![CDATA[<p>short</p>]]></description><content:encoded><![CDATA[<p>long</p>]]></content:encoded>
    <category>one</category><category>two</category><media:title>not this</media:title>
    <enclosure url="/a.mp3" type="audio/mpeg" length="123"/>
  </item>
  <item><guid>https://example.com/2</guid><pubDate>yesterday</pubDate><enclosure url="x" length="many"/></item>
  <item/>
</channel></rss>"""

ATOM = """<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de">
  <title>Atom</title><subtitle>sub</subtitle><updated>2026-11-20T12:00:00.5+01:00</updated>
  <link rel="self" href="https://example.com/self"/><link href="https://example.com/"/>
  <entry>
    <id>tag:1</id><title>Eins</title><published>2026-11-19T00:00:00Z</published><updated>2026-11-20T00:00:00</updated>
    <link rel="enclosure" href="b.ogg" type="audio/ogg" length="5"/><link rel="alternate" href="/1"/>
    <author><name>Ada</name></author><author><name>Bob</name></author><category term="c"/>
    <summary>short</summary>
    <content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">a &lt; b<br/><a href="?x=1&amp;y=&quot;">c</a></div></content>
  </entry>
  <entry><id>tag:2</id><content type="html">&lt;b&gt;x&lt;/b&gt;</content></entry>
</feed>"""

RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
  xmlns:dc="http://purl.org/dc/elements/1.1/">
  <channel rdf:about="https://example.com/"><title>RDF</title><link>https://example.com/</link><dc:date>2026-11-20</dc:date></channel>
  <item rdf:about="urn:1"><title>One</title><link>https://example.com/1</link><dc:date>2026-11-19T10:00+02:00</dc:date>
    <dc:subject>s</dc:subject></item>
</rdf:RDF>"""

NOTHING: dict[str, Any] = {
    "id": None, "title": None, "link": None, "published": None, "updated": None, "author": None, "summary": None,
    "content": None, "categories": [], "enclosures": [],
}  # fmt: skip


def parsed(document: str | bytes, limit: int = 50) -> Any:
    async def main() -> Any:
        data = document.encode() if isinstance(document, str) else document
        root = await read_xml(data, naming="expanded")
        return read_feed(root, address="https://example.com/feeds/all", limit=limit)

    return simulated(main())


async def attempted(reply: Reply, **config: Any) -> tuple[Outcome, list[Asked]]:
    """The outcome of one attempt at a feed on a server that replies so, and what the server was asked."""
    world = World(node, allow="127.0.0.0/8:*")
    async with serving(reply) as server, world.executor():
        config.setdefault("url", f"{server.url}/feed?token=x")
        world.source.put(task(config, node_type="rss.read", repeat="yes", timeout_s=20.0))
        await until(lambda: world.outcomes)
    return world.outcomes[0], server.asked


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone), outcome
    assert isinstance(outcome.output, Inline)
    return decode_json(outcome.output.value)


# --- Formats --------------------------------------------------------------------------------------


def test_rss_has_its_items_in_the_common_form() -> None:
    told = parsed(RSS)

    assert told["feed"] == {
        "format": "rss",
        "title": "News & more",
        "link": "https://example.com/home",
        "description": "What is new",
        "language": "en",
        "updated": "2026-11-20T11:00:00Z",
    }
    first, second, third = told["items"]
    assert first == {
        "id": "id-1",
        "title": "First",
        "link": "https://example.com/1",
        "published": "2026-11-19T08:30:00Z",
        "updated": None,
        "author": "Ada",
        "summary": "<p>short</p>",
        "content": "<p>long</p>",
        "categories": ["one", "two"],
        "enclosures": [{"url": "https://example.com/a.mp3", "type": "audio/mpeg", "length": 123}],
    }
    link = "https://example.com/2"
    files = [{"url": "https://example.com/feeds/x", "type": None, "length": None}]
    assert second == NOTHING | {"id": link, "link": link, "enclosures": files}
    assert third == NOTHING


def test_atom_has_its_items_in_the_common_form() -> None:
    told = parsed(ATOM)

    assert told["feed"] == {
        "format": "atom",
        "title": "Atom",
        "link": "https://example.com/",
        "description": "sub",
        "language": "de",
        "updated": "2026-11-20T11:00:00Z",
    }
    first, second = told["items"]
    assert first == {
        "id": "tag:1",
        "title": "Eins",
        "link": "https://example.com/1",
        "published": "2026-11-19T00:00:00Z",
        "updated": "2026-11-20T00:00:00Z",
        "author": "Ada, Bob",
        "summary": "short",
        "content": '<div>a &lt; b<br><a href="?x=1&amp;y=&quot;">c</a></div>',
        "categories": ["c"],
        "enclosures": [{"url": "https://example.com/feeds/b.ogg", "type": "audio/ogg", "length": 5}],
    }
    assert second == NOTHING | {"id": "tag:2", "content": "<b>x</b>"}


def test_rdf_has_its_items_beside_the_channel() -> None:
    told = parsed(RDF)

    assert (told["feed"]["format"], told["feed"]["updated"]) == ("rdf", "2026-11-20T00:00:00Z")
    assert told["items"] == [
        NOTHING
        | {
            "id": "urn:1",
            "title": "One",
            "link": "https://example.com/1",
            "published": "2026-11-19T08:00:00Z",
            "categories": ["s"],
        }
    ]


def test_only_so_many_items_are_taken() -> None:
    assert [item["title"] for item in parsed(RSS, limit=1)["items"]] == ["First"]


@pytest.mark.parametrize("document", ["<html/>", "<feed/>", '<rss xmlns="urn:x"/>'])
def test_xml_that_is_no_feed_is_refused(document: str) -> None:
    with pytest.raises(StepError, match="no feed"):
        parsed(document)


def test_a_feed_without_a_channel_has_no_items() -> None:
    assert parsed("<rss/>")["items"] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Sat, 07 Sep 2002 00:00:01 EST", "2002-09-07T05:00:01Z"),
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("20261120T120000+0100", "2026-11-20T11:00:00Z"),
        ("0001-01-01T00:00:00+10:00", None),
        ("Mon, 99 Foo 2026 00:00:00 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_moments_are_told_in_utc_or_not_at_all(text: str | None, told: str | None) -> None:
    assert moment(text) == told


@given(some.text())
def test_no_moment_crashes_it(text: str) -> None:
    told = moment(text)
    assert told is None or told.endswith("Z")


# --- Fetching -------------------------------------------------------------------------------------


async def test_a_feed_is_fetched_and_the_log_does_not_tell_its_token() -> None:
    outcome, [asked] = await attempted(says(body=b"\n " + RSS.encode()), limit=2)

    assert [item["id"] for item in output(outcome)["items"]] == ["id-1", "https://example.com/2"]
    assert (asked.method, asked.target) == ("GET", "/feed?token=x")
    assert asked.headers["accept"].startswith("application/rss+xml")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<rss><channel><title>é</title></channel></rss>".encode("latin-1"), "text/xml; charset=ISO-8859-1"),
        # The document knows better than its server.
        (b'<?xml version="1.0" encoding="utf-8"?><rss><channel><title>\xc3\xa9</title></channel></rss>', "text/xml; charset=latin1"),
        ("<rss><channel><title>é</title></channel></rss>".encode("utf-16"), "text/xml; charset=utf-8"),
        ("<rss><channel><title>é</title></channel></rss>".encode(), "application/rss+xml"),
    ],
)  # fmt: skip
async def test_a_feed_is_read_in_its_encoding(body: bytes, kind: str) -> None:
    outcome, _ = await attempted(says(body=body, content_type=kind))
    assert output(outcome)["feed"]["title"] == "é"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>not found<br></body></html>",
        b"{}",
        b'<!DOCTYPE rss [<!ENTITY x "y">]><rss><channel><title>&x;</title></channel></rss>',
        b"<rss><channel><title>caf\xe9</title></channel></rss>",
    ],
)
async def test_what_is_no_feed_is_refused(body: bytes) -> None:
    outcome, _ = await attempted(says(body=body))
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("refused", False)
    assert "no feed" in outcome.error.message


@pytest.mark.parametrize(
    ("status", "retryable"), [("404 Not Found", False), ("503 No", True), ("304 Not Modified", False)]
)
async def test_a_status_that_is_no_success_is_told(status: str, retryable: bool) -> None:
    outcome, _ = await attempted(says(status))
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.status, outcome.error.retryable) == (int(status[:3]), retryable)


async def test_a_feed_has_a_largest_size() -> None:
    outcome, _ = await attempted(says(body=b" " * (FILE_BYTES + 1)))
    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "payload.too_large"


async def test_a_feed_goes_through_the_egress_guard() -> None:
    outcome, _ = await attempted(says(), url="http://169.254.169.254/feed")
    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "unreachable"
