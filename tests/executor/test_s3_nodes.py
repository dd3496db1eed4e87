"""What the nodes for object stores ask and make of answers; against a server on 127.0.0.1 that checks every signature.

The server reads a request as S3 does: it decodes path and query and encodes them anew, so it shares no code with us.
"""

import asyncio
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote
from xml.sax.saxutils import escape

import pytest

from chassis.secret import BasicSecret, BearerSecret, Secret
from contracts.codec import decode_json
from contracts.messages import Outcome, StepBroken, StepDone
from contracts.payloads import Inline
from executor.buckets import Store, _target
from tests.executor.fakes import World, task, until
from tests.executor.servers import Asked, Reply, says, serving

KEY_ID, KEY = "AKIDTEST", "s3cr3t/key+"
OK = "200 OK"


class Buckets:
    """An object store: objects by bucket and key."""

    def __init__(self, page: int = 1_000) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.page = page
        self.public = False

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        status, body, headers = self._answer(asked)
        await says(status, body, **headers)(asked, writer)

    def _answer(self, asked: Asked) -> tuple[str, bytes, dict[str, str]]:
        path, _, query = asked.target.partition("?")
        if not self.public and not authentic(asked, path, query):
            return "403 Forbidden", _error("SignatureDoesNotMatch"), {}
        bucket, _, key = unquote(path)[1:].partition("/")
        if bucket != "things":
            return "404 Not Found", _error("NoSuchBucket"), {}
        if asked.method == "PUT":
            self.objects[key] = (asked.body, asked.headers["content-type"])
            return OK, b"", {"ETag": f'"{_tag(asked.body)}"', "x-amz-version-id": "v1"}
        if not key:
            return OK, self._listed(dict(parse_qsl(query))), {"content-type": "application/xml"}
        if key not in self.objects:
            return "404 Not Found", _error("NoSuchKey"), {}
        data, kind = self.objects[key]
        return OK, data, {"ETag": f'"{_tag(data)}"', "content-type": kind, "x-amz-meta-who": "ada"}

    def _listed(self, query: dict[str, str]) -> bytes:
        assert (query["list-type"], query["encoding-type"]) == ("2", "url")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        names: dict[str, bool] = {}
        for key in sorted(self.objects):
            rest = key.removeprefix(prefix)
            if key.startswith(prefix) and key > after:
                folder = (
                    prefix + rest.partition(delimiter)[0] + delimiter
                    if delimiter and delimiter in rest
                    else ""
                )
                names[folder or key] = not folder
        shown = list(names)[: min(self.page, int(query["max-keys"]))]
        told = [
            f"<Contents><Key>{quote_plus(name, safe='/')}</Key><Size>{len(self.objects[name][0])}</Size>"
            f"<ETag>&quot;{_tag(self.objects[name][0])}&quot;</ETag><LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>"
            if names[name]
            else f"<CommonPrefixes><Prefix>{quote_plus(name, safe='/')}</Prefix></CommonPrefixes>"
            for name in shown
        ]
        more = len(names) > len(shown)
        token = f"<NextContinuationToken>{escape(quote(shown[-1]))}</NextContinuationToken>" if more else ""
        return (
            f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated><EncodingType>url</EncodingType>{token}{''.join(told)}"
            "</ListBucketResult>"
        ).encode()


def _tag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>m</Message><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>".encode()


def authentic(asked: Asked, path: str, query: str) -> bool:
    """The signature of a request, computed as the manual says."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)",
        asked.headers.get("authorization", ""),
    )
    if found is None or hashlib.sha256(asked.body).hexdigest() != asked.headers["x-amz-content-sha256"]:
        return False
    key_id, day, region, names, signature = found.groups()
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    canonical = "\n".join(
        [
            asked.method,
            quote(unquote(path), safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{asked.headers[name].strip()}" for name in names.split(";")),
            "",
            names,
            asked.headers["x-amz-content-sha256"],
        ]
    )
    assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names.split(";"))
    moment = asked.headers["x-amz-date"]
    text = f"AWS4-HMAC-SHA256\n{moment}\n{day}/{region}/s3/aws4_request\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + KEY.encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key_id == KEY_ID and hmac.new(key, text.encode(), "sha256").hexdigest() == signature


async def attempted(
    kind: str, reply: Reply, world: World | None = None, **config: Any
) -> tuple[Outcome, list[Asked]]:
    """The outcome of one attempt, and what the server was asked."""
    if world is None:
        world = World(allow="127.0.0.0/8:*")
        world.safe.keep("s1", BasicSecret(user=KEY_ID, password=Secret(KEY)), "127.0.0.1", "*.localhost")
    config.setdefault("auth", {"$secret": "s1"})
    secrets = ("/auth",) if config["auth"] else ()
    async with serving(reply) as server, world.executor():
        config = {"endpoint": server.url, "bucket": "things", **config}
        world.source.put(task(config, node_type=kind, repeat="yes", secrets=secrets, timeout_s=20.0))
        await until(lambda: world.outcomes)
    assert KEY not in str(server.asked)
    return world.outcomes[0], server.asked


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone), outcome
    assert isinstance(outcome.output, Inline)
    return decode_json(outcome.output.value)


def broken(outcome: Outcome) -> StepBroken:
    assert isinstance(outcome, StepBroken), outcome
    return outcome


# --- Objects --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["a", "a b/ü.txt", "a+b=c&d?e#f%41", "a//b", "/lead", "~x*'()!:@;,$", "日本|[]{}", "a\\b\x01"]
)
async def test_what_is_put_can_be_got(key: str) -> None:
    buckets = Buckets()

    stored, _ = await attempted("s3.put", buckets, key=key, content="grüß")
    assert output(stored) == {"key": key, "size": 6, "etag": _tag("grüß".encode()), "version": "v1"}
    got, [asked] = await attempted("s3.get", buckets, key=key, read_as="text")
    assert output(got) == {
        "key": key,
        "content": "grüß",
        "content_type": "text/plain",
        "size": 6,
        "etag": _tag("grüß".encode()),
        "version": None,
        "metadata": {"who": "ada"},
    }
    assert asked.method == "GET"


async def test_a_file_goes_and_comes_as_a_file() -> None:
    buckets, world = Buckets(), World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", BasicSecret(user=KEY_ID, password=Secret(KEY)), "127.0.0.1")
    data = bytes(range(256)) * 100
    blob = await world.shelf.put(data, "image/png")
    content = {
        "blob": {"in": "blob", "sha256": blob.sha256, "size": blob.size, "content_type": blob.content_type}
    }

    await attempted("s3.put", buckets, world, key="x.png", content=content)
    assert buckets.objects["x.png"] == (data, "image/png")
    got, _ = await attempted("s3.get", buckets, key="x.png")
    assert output(got)["content"] == content


async def test_an_object_is_read_as_json_or_refused() -> None:
    buckets = Buckets()
    buckets.objects |= {
        "good": (b'{"a": 1.50}', "application/json"),
        "bad": (b"{", "application/json"),
        "none": (b"", ""),
    }

    got, _ = await attempted("s3.get", buckets, key="good", read_as="json")
    assert output(got)["content"] == {"a": 1.5}
    refused, _ = await attempted("s3.get", buckets, key="bad", read_as="json")
    assert broken(refused).error.code == "refused"
    empty, _ = await attempted("s3.get", buckets, key="none", read_as="text")
    assert (output(empty)["content"], output(empty)["content_type"]) == ("", None)


async def test_an_object_has_a_largest_size() -> None:
    buckets = Buckets()
    buckets.objects["x"] = (b"x" * 2_000, "text/plain")
    for most, code in ((2_000, None), (1_999, "payload.too_large")):
        outcome, _ = await attempted("s3.get", buckets, key="x", max_bytes=most)
        assert (outcome.error.code if isinstance(outcome, StepBroken) else None) == code


# --- Lists ----------------------------------------------------------------------------------------


async def test_a_list_is_gathered_from_its_pages() -> None:
    buckets = Buckets(page=3)
    buckets.objects |= {f"a b/{number}+ü": (b"x", "") for number in range(8)}

    told, asked = await attempted("s3.list", buckets, prefix="a b/")
    assert [item["key"] for item in output(told)["items"]] == [f"a b/{number}+ü" for number in range(8)]
    assert output(told)["items"][0] == {
        "key": "a b/0+ü", "size": 1, "etag": _tag(b"x"), "modified": "2026-11-20T12:00:00.000Z",
    }  # fmt: skip
    assert output(told)["more"] is False
    assert len(asked) == 3
    some, asked = await attempted("s3.list", buckets, limit=4, start_after="a b/1+ü")
    assert [item["key"][4] for item in output(some)["items"]] == ["2", "3", "4", "5"]
    assert output(some)["more"] is True
    assert ["max-keys=4" in one.target for one in asked] == [True, False]


async def test_a_folder_is_listed_by_its_delimiter() -> None:
    buckets = Buckets()
    buckets.objects |= dict.fromkeys(("a", "b/1", "b/2", "c/d/e"), (b"", ""))

    told, _ = await attempted("s3.list", buckets, delimiter="/")
    assert [item["key"] for item in output(told)["items"]] == ["a"]
    assert output(told)["prefixes"] == ["b/", "c/"]


async def test_a_server_that_always_has_more_is_not_asked_for_ever() -> None:
    empty = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
    told, asked = await attempted("s3.list", says(body=empty))
    assert output(told) == {"items": [], "prefixes": [], "more": False}
    assert len(asked) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html></html>", b'<!DOCTYPE x [<!ENTITY y "z">]><ListBucketResult/>', b"{}"]
)
async def test_what_is_no_list_is_refused(body: bytes) -> None:
    told, _ = await attempted("s3.list", says(body=body))
    assert broken(told).error.code == "refused"


# --- Who asks, and where --------------------------------------------------------------------------


async def test_a_wrong_key_is_told_by_the_name_of_the_error_and_nothing_else() -> None:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", BasicSecret(user=KEY_ID, password=Secret("wrong")), "127.0.0.1")
    told, _ = await attempted("s3.get", Buckets(), world, key="x")
    assert broken(told).error.message == "The other side answered with status 403 (SignatureDoesNotMatch)."
    assert broken(told).error.status == 403


@pytest.mark.parametrize(
    ("status", "body", "message", "retryable"),
    [
        ("404 Not Found", _error("NoSuchKey"), "status 404 (NoSuchKey).", False),
        ("503 Slow Down", _error("SlowDown"), "status 503 (SlowDown).", True),
        ("500 Error", b"<Error><Code>a <b/> \n c</Code></Error>", "status 500.", True),
        ("301 Moved", _error("PermanentRedirect"), "status 301 (PermanentRedirect).", False),
        ("400 Bad", b"\xff", "status 400.", False),
    ],
)
async def test_an_error_is_told_by_its_code(status: str, body: bytes, message: str, retryable: bool) -> None:
    told, asked = await attempted("s3.get", says(status, body, location="http://127.0.0.1:1/"), key="x")
    assert broken(told).error.message.endswith(message)
    assert broken(told).error.retryable is retryable
    assert len(asked) == 1


async def test_a_credential_signs_for_its_own_hosts_only() -> None:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", BasicSecret(user=KEY_ID, password=Secret(KEY)), "s3.example.com")
    told, asked = await attempted("s3.get", Buckets(), world, key="x")
    assert broken(told).error.code == "secret.not_allowed"
    assert asked == []


async def test_a_secret_of_another_kind_is_refused() -> None:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", BearerSecret(token=Secret(KEY)), "127.0.0.1")
    told, asked = await attempted("s3.get", Buckets(), world, key="x")
    assert (broken(told).error.code, broken(told).error.field) == ("workflow.bad_config", "/auth")
    assert asked == []


async def test_what_everybody_may_read_needs_no_credential() -> None:
    buckets = Buckets()
    buckets.public = True
    buckets.objects["x"] = (b"1", "text/plain")
    told, [asked] = await attempted("s3.get", buckets, key="x", read_as="text", auth=None)
    assert output(told)["content"] == "1"
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("addressing", "url"),
    [
        ("path", "https://s3.example.com:8443/things/a%20b/c?x=1%2F2"),
        ("host", "https://things.s3.example.com:8443/a%20b/c?x=1%2F2"),
    ],
)
def test_the_bucket_may_stand_in_the_path_or_in_the_host(addressing: Any, url: str) -> None:
    store = Store(endpoint="https://s3.example.com:8443/", bucket="things", addressing=addressing)
    assert _target(store, "a b/c", {"x": "1/2"}).url == url


async def test_no_address_has_a_bucket_before_it() -> None:
    told, _ = await attempted("s3.get", says(), key="x", addressing="host", endpoint="http://127.0.0.1")
    assert (broken(told).error.code, broken(told).error.field) == ("workflow.bad_config", "/endpoint")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"endpoint": "ftp://127.0.0.1"}, "/endpoint"),
        ({"endpoint": "http://user@127.0.0.1"}, "/endpoint"),
        ({"endpoint": "http://127.0.0.1/path"}, "/endpoint"),
        ({"key": "a/../b"}, "/key"),
        ({"key": "."}, "/key"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_with_its_field(config: dict[str, str], field: str) -> None:
    settings: dict[str, Any] = {"key": "x", **config}
    told, asked = await attempted("s3.get", Buckets(), None, **settings)
    assert (broken(told).error.code, broken(told).error.field) == ("workflow.bad_config", field)
    assert asked == []


async def test_a_call_goes_through_the_egress_guard() -> None:
    told, _ = await attempted("s3.get", says(), World(), key="x", auth=None)
    assert broken(told).error.code == "unreachable"
