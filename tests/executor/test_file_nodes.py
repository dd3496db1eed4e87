"""What the nodes for tables, texts and files make of good and hostile content."""

import gzip
import hashlib
import hmac
import io
import zipfile
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from chassis.egress import Credential
from chassis.ids import digest
from chassis.secret import BearerSecret, HmacSecret, Secret, SecretValue
from contracts.codec import Malformed, decode_json
from contracts.limits import FILE_BYTES, JSON_DEPTH
from contracts.payloads import Blob
from executor.errors import BadConfig, StepError, TooLarge
from executor.node import SecretReference
from executor.outputs import pack
from executor.registry import registry
from tests.executor.fakes import simulated

NODES = registry(()).nodes


class Surroundings:
    """Stored files by their hash, and one secret."""

    def __init__(self, *files: bytes, secret: SecretValue | None = None) -> None:
        self._files = {digest(data): data for data in files}
        self._secret = secret

    async def fetch(self, blob: Blob) -> bytes:
        return self._files[blob.sha256]

    async def open(self, _reference: SecretReference) -> Credential:
        assert self._secret is not None
        return Credential(value=self._secret, allowed_hosts=())


def stored(data: bytes) -> Any:
    return {"blob": {"sha256": digest(data), "size": len(data), "content_type": "application/octet-stream"}}


def packed(kind: str, surroundings: Surroundings, **config: Any) -> Any:
    """The output and the files in it, by their hash."""
    found = NODES[kind]
    decoded = found.decode(msgspec.json.encode(config))
    context: Any = surroundings
    output = pack(simulated(found.node.run(decoded, context)).output)
    return decode_json(output.body), {digest(binary.data): binary.data for binary in output.binaries}


def output(kind: str, *files: bytes, **config: Any) -> Any:
    return packed(kind, Surroundings(*files), **config)[0]


# --- CSV --------------------------------------------------------------------------------------


def test_a_table_becomes_a_list() -> None:
    table = 'id,name\r\n1,"Ada, Countess\nof Lovelace"\r\n\r\n2,"say ""hi"""\r\n3\r\n'

    rows = [{"id": "1", "name": "Ada, Countess\nof Lovelace"}, {"id": "2", "name": 'say "hi"'}, {"id": "3"}]
    assert output("csv.read", content=table) == rows
    assert (
        output("csv.read", b"\xef\xbb\xbf" + table.encode(), content=stored(b"\xef\xbb\xbf" + table.encode()))
        == rows
    )
    assert output("csv.read", content="a;b\n1;2", delimiter=";", header=False) == [["a", "b"], ["1", "2"]]
    assert output("csv.read", content="") == []


@pytest.mark.parametrize(
    ("table", "says"),
    [("a,b\n1,2,3", "Line 2 has 3 values"), ('a\n"x', "Line 2 is not CSV"), ("a,a\n1,2", "same name")],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(table: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says) as told:
        output("csv.read", content=table)
    assert told.value.field == "/content"


@given(
    some.lists(some.fixed_dictionaries({"a": some.text(min_size=1), "b": some.text(min_size=1)}), max_size=5)
)
def test_what_is_built_can_be_read(rows: list[dict[str, str]]) -> None:
    rows = [{key: value.replace("\x00", "") or "-" for key, value in row.items()} for row in rows]
    built = output("csv.build", items=rows, columns=["a", "b"], formulas="kept")
    assert output("csv.read", content=built) == rows


def test_columns_are_chosen_and_formulas_defused() -> None:
    items = [{"a": "=1+1", "b": {"c": 1.5}}, {"b": {"c": [True]}, "z": None}]

    assert output("csv.build", items=items, columns=["b.c", "a"]) == "b.c,a\r\n1.5,'=1+1\r\n[true],\r\n"
    assert output("csv.build", items=items, formulas="kept").startswith("a,b,z\r\n=1+1,")
    assert output("csv.build", items=[1], delimiter="\t") == "value\r\n1\r\n"
    told, files = packed("csv.build", Surroundings(), items=[{"a": 1}], output="file")
    assert told["file"]["blob"]["content_type"] == "text/csv; charset=utf-8"
    assert files[told["file"]["blob"]["sha256"]] == b"a\r\n1\r\n"


# --- JSON -------------------------------------------------------------------------------------


def test_json_is_read_and_built_digit_by_digit() -> None:
    text = '{"a": [1.10, -0.0, 12345678901234567890123]}'
    config = NODES["json.read"].decode(msgspec.json.encode({"content": text}))
    context: Any = Surroundings()

    assert bytes(simulated(NODES["json.read"].node.run(config, context)).output) == text.encode()
    assert output("json.build", value={"a": [1]}) == '{"a":[1]}'
    assert output("json.build", value={"a": 1}, indent=2) == '{\n  "a": 1\n}'


@pytest.mark.parametrize("text", ["{", "nope", "[" * JSON_DEPTH + "]" * JSON_DEPTH, '{"a":NaN}'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(BadConfig):
        output("json.read", content=text)


# --- Hashes and signatures --------------------------------------------------------------------


def test_hashes_are_those_of_the_standard() -> None:
    assert output("crypto.hash", content="abc") == hashlib.sha256(b"abc").hexdigest()
    assert (
        output("crypto.hash", content="abc", algorithm="md5", encoding="base64") == "kAFQmDzST7DWlj99KOF/cg=="
    )
    assert output("crypto.hash", b"\x00", content=stored(b"\x00"), encoding="base64url") == (
        "bjQLnP-zepicpUTmu3gKLHiQHT-zNzh2hRGjBhevoB0"
    )


def test_a_signature_needs_a_key_of_its_kind() -> None:
    surroundings = Surroundings(secret=HmacSecret(key=Secret("k" * 32)))
    told, _ = packed("crypto.hmac", surroundings, content="abc", key={"$secret": "sec_1"})

    assert told == hmac.digest(b"k" * 32, b"abc", "sha256").hex()
    for other in (Surroundings(), Surroundings(secret=BearerSecret(token=Secret("t")))):
        with pytest.raises(BadConfig) as refused:
            key = {"key": {"$secret": "sec_1"}} if other._secret else {}
            packed("crypto.hmac", other, content="abc", **key)
        assert refused.value.field == "/key"


# --- Archives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "gzip"])
def test_what_is_compressed_can_be_extracted(kind: str) -> None:
    told, files = packed("file.compress", Surroundings(), files={"a/b.txt": "grüß"}, format=kind)
    [archive] = files.values()

    [found] = output("file.extract", archive, content=told["file"], read_as="text")
    assert found == {"name": "a/b.txt" if kind == "zip" else "", "size": 6, "content": "grüß"}
    again, _ = packed("file.compress", Surroundings(), files={"a/b.txt": "grüß"}, format=kind)
    assert again == told


def test_bytes_stay_a_file() -> None:
    archive = gzip.compress(b"\xff\x00")
    told, files = packed("file.extract", Surroundings(archive), content=stored(archive), read_as="text")
    assert files[told[0]["content"]["blob"]["sha256"]] == b"\xff\x00"


def bomb(size: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(size))
    return written.getvalue()


@pytest.mark.parametrize("archive", [bomb(FILE_BYTES + 1), gzip.compress(bytes(FILE_BYTES + 1))])
def test_a_bomb_does_not_go_off(archive: bytes) -> None:
    with pytest.raises(TooLarge):
        output("file.extract", archive, content=stored(archive))


@pytest.mark.parametrize("archive", [b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"text", bomb(10)[:-10]])
def test_what_is_no_archive_is_refused(archive: bytes) -> None:
    with pytest.raises(BadConfig):
        output("file.extract", archive, content=stored(archive))


def zipped(*names: str, mode: int = 0o644, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo("x" * len(name))
            entry.filename = name
            entry.external_attr = mode << 16
            archive.writestr(entry, "content", method)
    return written.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:/x",
        "c:x",
        "..\\x",
        "\\\\host\\x",
        "a//b",
        "./a",
        "..",
        "a/\x07",
        "x" * 1_001,
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    archive = zipped(name)
    with pytest.raises(BadConfig) as told:
        output("file.extract", archive, content=stored(archive))
    assert told.value.field == "/content"
    with pytest.raises((BadConfig, Malformed)):
        output("file.compress", files={name: "x"})


def test_a_name_from_windows_is_a_path_too() -> None:
    archive = zipped("a\\b.txt")
    [found] = output("file.extract", archive, content=stored(archive), read_as="text")
    assert (found["name"], found["content"]) == ("a/b.txt", "content")


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        (zipped("link", mode=0o120777), "link"),
        (zipped("a", "b\\c", "b/c"), "two files"),
        (zipped("a", method=zipfile.ZIP_BZIP2), "method"),
        (zipped("a", method=zipfile.ZIP_LZMA), "method"),
    ],
    ids=["link", "twice", "bzip2", "lzma"],
)
def test_links_doubles_and_unbounded_methods_are_refused(archive: bytes, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        output("file.extract", archive, content=stored(archive))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_does_not_win() -> None:
    archive = zipped("a", "a")
    with pytest.raises(BadConfig, match="two files"):
        output("file.extract", archive, content=stored(archive))


def test_an_archive_of_more_files_than_fit_is_refused_before_they_are_read() -> None:
    archive = zipped(*(f"{number}" for number in range(1_001)))
    crowd = two_files() + b"PK\x01\x02" * 20_001
    for many in (archive, crowd):
        with pytest.raises(TooLarge, match="more than 1000 files"):
            output("file.extract", many, content=stored(many))


def two_files() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("x/y", "abc")
        archive.writestr("z", "q" * 100)
    return written.getvalue()


@given(
    some.sampled_from([bomb(9), two_files(), gzip.compress(b"hello")]), some.randoms(use_true_random=False)
)
def test_no_damage_crashes_it(archive: bytes, chance: Random) -> None:
    damaged = bytearray(archive)
    for _ in range(chance.randint(1, 6)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    refused: list[str | None] = []
    try:
        output("file.extract", bytes(damaged), content=stored(bytes(damaged)))
    except StepError as error:
        refused.append(error.field)
    assert set(refused) <= {"/content"}


def test_content_is_a_text_or_a_stored_file_of_bounded_size() -> None:
    with pytest.raises(BadConfig):
        output("crypto.hash", content=5)
    with pytest.raises(BadConfig, match="byte 1"):
        output("csv.read", b"a\xff", content=stored(b"a\xff"))
    with pytest.raises(TooLarge):
        output("crypto.hash", content={"blob": {"sha256": "0" * 64, "size": FILE_BYTES + 1}})
    with pytest.raises(BadConfig):
        output("file.compress", files={"a": "1", "b": "2"}, format="gzip")
