"""What the nodes for XML make of good and hostile documents."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from chassis.ids import digest
from contracts.codec import decode_json
from contracts.limits import FILE_BYTES, XML_ATTRIBUTES, XML_DEPTH, XML_PARTS
from contracts.payloads import Blob
from executor.errors import BadConfig, StepError, TooLarge
from executor.outputs import pack
from executor.registry import registry
from tests.executor.fakes import simulated

NODES = registry(()).nodes


class Files:
    """Stored files by their hash."""

    def __init__(self, *files: bytes) -> None:
        self._files = {digest(data): data for data in files}

    async def fetch(self, blob: Blob) -> bytes:
        return self._files[blob.sha256]


def stored(data: bytes) -> Any:
    return {"blob": {"sha256": digest(data), "size": len(data), "content_type": "application/xml"}}


def output(kind: str, *files: bytes, **config: Any) -> Any:
    found = NODES[kind]
    decoded = found.decode(msgspec.json.encode(config))
    context: Any = Files(*files)
    return decode_json(pack(simulated(found.node.run(decoded, context)).output).body)


def read(document: str, **config: Any) -> Any:
    return output("xml.read", content=document, **config)


def built(value: Any, **config: Any) -> Any:
    return output("xml.build", value=value, declaration=False, **config)


def refused(kind: type[StepError], document: str | bytes, **config: Any) -> StepError:
    with pytest.raises(kind) as told:
        if isinstance(document, bytes):
            output("xml.read", document, content=stored(document), **config)
        else:
            read(document, **config)
    assert told.value.field == "/content"
    return told.value


ORDER = """<?xml version="1.0"?>
<!-- a comment -->
<order id="7" paid="yes">
  <line sku="a">2</line><line sku="b"><![CDATA[<3>]]></line>
  <note> as   it is </note>
  <empty/>
  <said>one <b>two</b> three</said>
</order>"""


# --- Reading ----------------------------------------------------------------------------------


def test_a_document_becomes_an_object_by_the_convention() -> None:
    assert read(ORDER) == {
        "order": {
            "@id": "7",
            "@paid": "yes",
            "line": [{"@sku": "a", "#text": "2"}, {"@sku": "b", "#text": "<3>"}],
            "note": "as   it is",
            "empty": "",
            "said": {"b": "two", "#text": "one  three"},
        }
    }


def test_what_may_be_one_or_several_can_always_be_a_list() -> None:
    assert read("<a><b>1</b></a>") == {"a": {"b": "1"}}
    assert read("<a><b>1</b></a>", lists=["b"]) == {"a": {"b": ["1"]}}


def test_white_space_stays_where_it_is_asked_for() -> None:
    assert read("<a> x </a>", trim=False) == {"a": " x "}
    assert read("<a> <b/> </a>", trim=False) == {"a": {"b": ""}}


@pytest.mark.parametrize(
    ("names", "value"),
    [
        ("written", {"s:a": {"@xmlns:s": "urn:s", "@xmlns": "urn:d", "b": {"@s:k": "1", "#text": "x"}}}),
        ("expanded", {"{urn:s}a": {"{urn:d}b": {"@{urn:s}k": "1", "#text": "x"}}}),
        ("local", {"a": {"b": {"@k": "1", "#text": "x"}}}),
    ],
)
def test_names_with_namespaces_are_told_as_one_wants_them(names: str, value: Any) -> None:
    assert read('<s:a xmlns:s="urn:s" xmlns="urn:d"><b s:k="1">x</b></s:a>', names=names) == value


@pytest.mark.parametrize(
    "document",
    [
        "<a>€</a>".encode(),
        b"\xef\xbb\xbf<a>\xe2\x82\xac</a>",
        '<?xml version="1.0" encoding="utf-16"?><a>€</a>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="windows-1252"?><a>\x80</a>',
        b'<?xml version="1.0" encoding="iso-8859-15"?><a>\xa4</a>',
    ],
)
def test_a_file_is_read_in_the_encoding_that_it_names(document: bytes) -> None:
    assert output("xml.read", document, content=stored(document)) == {"a": "€"}


def test_a_text_is_a_text_whatever_it_says_of_itself() -> None:
    assert read('<?xml version="1.0" encoding="iso-8859-1"?><a>€</a>') == {"a": "€"}


# --- Documents that mean harm -----------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;&l;">]><a>&m;</a>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1/">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1/p.dtd"> %p;]><a/>',
        "<!DOCTYPE a><a/>",
    ],
)
def test_a_document_type_is_refused_before_anything_in_it_is_read(document: str) -> None:
    assert "DOCTYPE" in str(refused(BadConfig, document))
    assert "DOCTYPE" in str(refused(BadConfig, document.encode("utf-16")))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "no element"),
        ("text", "line 1"),
        ("<a>", "line 1"),
        ("<a>\n</b>", "line 2"),
        ("<a/><b/>", "junk"),
        ("<a>&nbsp;</a>", "undefined entity"),
        ('<a x="1" x="2"/>', "duplicate"),
        ("<a>\x00</a>", "line 1"),
        ("<a>&#0;</a>", "line 1"),
    ],
)
def test_what_is_no_xml_is_refused_with_its_line(document: str, says: str) -> None:
    assert says in str(refused(BadConfig, document))


@pytest.mark.parametrize("encoding", ["rot13", "utf-7", "zip", "shift_jis", "no-such"])
def test_an_encoding_that_is_none_is_refused(encoding: str) -> None:
    refused(BadConfig, f'<?xml version="1.0" encoding="{encoding}"?><a>\x80</a>'.encode("latin-1"))


def test_a_prefix_must_be_declared_where_namespaces_are_looked_at() -> None:
    refused(BadConfig, "<p:a/>", names="local")


def test_two_attributes_that_become_one_are_refused() -> None:
    refused(BadConfig, '<a xmlns:p="urn:p" x="1" p:x="2"/>', names="local")


@pytest.mark.parametrize(
    "document",
    [
        "<a>" * 100_000,
        "<a>" * (XML_DEPTH + 1) + "</a>" * (XML_DEPTH + 1),
        "<a>" + "<b/>" * XML_PARTS + "</a>",
        "<a " + " ".join(f'x{number}=""' for number in range(XML_ATTRIBUTES + 1)) + "/>",
        "<a>" + "x" * FILE_BYTES + "</a>",
        # Each level takes two of JSON's: the object and the list.
        "<a><b/>" * 40 + "".join("</a><a/>" for _ in range(39)) + "</a>",
    ],
    ids=["open", "deep", "wide", "attributes", "large", "lists"],
)
def test_what_is_beyond_the_bounds_is_refused(document: str) -> None:
    refused(TooLarge, document)


def test_a_long_namespace_behind_a_short_prefix_is_counted_each_time() -> None:
    document = '<p:a xmlns:p="' + "u" * 1_000_000 + '">' + "<p:b/>" * 1_000 + "</p:a>"
    assert "more in it than fits" in str(refused(TooLarge, document, names="local"))


@given(
    some.binary(max_size=200) | some.text(alphabet="<>/&;!?[]-ab\"'= x:#DOCTYPE", max_size=60).map(str.encode)
)
def test_no_bytes_crash_it(document: bytes) -> None:
    fields: set[str | None] = set()
    try:
        output("xml.read", document, content=stored(document), names="local")
    except StepError as error:
        fields.add(error.field)
    assert fields <= {"/content"}


# --- Building ---------------------------------------------------------------------------------


def test_an_object_becomes_a_document_by_the_same_convention() -> None:
    value = {
        "order": {"@id": 7, "line": [{"@sku": "a", "#text": 2.50}, "x"], "none": None, "ok": True, "no": []}
    }

    assert built(value) == '<order id="7"><line sku="a">2.5</line><line>x</line><none/><ok>true</ok></order>'
    assert built({"line": [1, {"@a": 1}]}, root="lines") == '<lines><line>1</line><line a="1"/></lines>'
    assert built("x", root="a") == "<a>x</a>"


def test_numbers_keep_their_digits() -> None:
    config = NODES["xml.build"].decode(
        b'{"value":{"a":[1.10,12345678901234567890123]},"root":"r","declaration":false}'
    )
    context: Any = Files()
    built_text = simulated(NODES["xml.build"].node.run(config, context)).output
    assert built_text == "<r><a>1.10</a><a>12345678901234567890123</a></r>"


def test_indentation_touches_no_text() -> None:
    value = {"a": {"b": {"c": "1"}, "said": {"#text": "one", "i": "two"}}}
    told = "<a>\n  <b>\n    <c>1</c>\n  </b>\n  <said>one<i>two</i></said>\n</a>"
    assert built(value, indent=2) == told


def test_a_file_says_what_it_is() -> None:
    told = output("xml.build", value={"a": "ü"}, output="file")
    assert told["file"]["blob"]["content_type"] == "application/xml"
    assert told["file"]["blob"]["size"] == len('<?xml version="1.0" encoding="UTF-8"?>\n<a>ü</a>'.encode())


def test_no_value_can_add_an_element() -> None:
    evil = "\"'><b x=\"&'/>]]>\r\n\t"
    document = built({"a": {"@k": evil, "#text": evil}})
    assert "<b" not in document
    assert read(document, trim=False) == {"a": {"@k": evil, "#text": evil}}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a b": 1}, "/value"),
        ({"a": {"<b>": 1}}, "/value/<b>"),
        ({"a": {"@x y": 1}}, "/value"),
        ({"a": {"@": 1}}, "/value"),
        ({"a": {"-b": 1}}, "/value/-b"),
        ({"a": {"p:b": 1}}, "/value/p:b"),
        ({"a": {"p:b:c": 1}}, "/value/p:b:c"),
        ({"a": {"@b": {}}}, "/value"),
        ({"a": {"#text": [1]}}, "/value"),
        ({"a": {"b": ["\x01"]}}, "/value/b/0"),
        ({"a": "\ufffe"}, "/value"),
        ({"a": {"b": [[1]]}}, "/value/b/0"),
        ({"a": [1, 2]}, "/value"),
        ({"a": 1, "b": 2}, "/value"),
        ([1], "/value"),
        ({}, "/value"),
    ],
)
def test_what_has_no_form_in_xml_is_refused_with_its_place(value: Any, field: str) -> None:
    with pytest.raises(BadConfig) as told:
        built(value)
    assert told.value.field == field


def test_a_prefix_is_used_where_it_is_declared() -> None:
    value = {"s:a": {"@xmlns:s": "urn:s", "@xml:lang": "en", "s:b": "1"}}
    assert read(built(value)) == value


def test_documents_are_bounded_in_depth_and_size() -> None:
    deep: Any = "x"
    for _ in range(XML_DEPTH):
        deep = {"a": deep}
    assert len(built(deep)) > XML_DEPTH
    with pytest.raises(TooLarge):
        built(deep, root="one_more")
    with pytest.raises(TooLarge):
        built({"a": ["x" * 1_000_000] * 9}, root="r")


names = some.from_regex(r"[a-z_][a-z0-9_.-]{0,5}", fullmatch=True)
texts = some.text(
    some.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda letter: letter >= " " or letter in "\t\n\r"
    )
)
spoken = texts.filter(lambda text: bool(text.strip(" \t\r\n")))
elements = some.recursive(
    texts,
    lambda inner: some.dictionaries(names.map("@".__add__), texts, max_size=2).flatmap(
        lambda attributes: some.tuples(
            some.dictionaries(
                names, inner | some.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3
            ),
            some.none() | spoken,
        ).map(lambda rest: attributes | rest[0] | ({} if rest[1] is None else {"#text": rest[1]}))
    ),
    max_leaves=6,
)


@given(names, elements)
def test_what_is_built_can_be_read(name: str, value: Any) -> None:
    assert read(built({name: value}), trim=False) == {name: value}
