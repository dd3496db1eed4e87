"""What the HTTP node sends, what it makes of answers, and when it leaves doubt; against a real server on 127.0.0.1."""

import asyncio
import base64
import gzip
from contextlib import closing, suppress
from functools import partial
from typing import Any

import pytest

from chassis.secret import BasicSecret, BearerSecret, HeaderSecret, QuerySecret, Secret
from contracts.codec import decode_json, encode
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt, StepLetGo
from contracts.payloads import Blob, Inline
from tests.executor.fakes import STEP, World, task, until
from tests.executor.servers import Asked, Reply, says, serving


async def _silent(_: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(600)


async def _hangs_up(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def attempted(reply: Reply, world: World | None = None, **config: Any) -> tuple[Outcome, list[Asked]]:
    """The outcome of one attempt at a call to a server that replies so, and what the server was asked."""
    surroundings = world or World(allow="127.0.0.0/8:*")
    secrets = ("/auth",) if "auth" in config else ()
    async with serving(reply) as server, surroundings.executor():
        config["url"] = config.get("url", server.url + "/things").replace("PORT", str(server.port))
        surroundings.source.put(
            task(config, node_type="http.request", repeat="no", secrets=secrets, timeout_s=20.0)
        )
        await until(lambda: surroundings.outcomes)
    return surroundings.outcomes[0], server.asked


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone), outcome
    assert isinstance(outcome.output, Inline)
    return decode_json(outcome.output.value)


# --- What is sent ---------------------------------------------------------------------------------


async def test_a_call_carries_the_key_of_its_step() -> None:
    outcome, [asked] = await attempted(says(), method="POST", body={"n": [1, 2.50]}, headers={"X-Count": 3})

    assert output(outcome)["status"] == 200
    assert (asked.method, asked.target) == ("POST", "/things")
    assert asked.headers["idempotency-key"] == f"run-1/{STEP}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["x-count"] == "3"
    assert decode_json(asked.body) == {"n": [1, 2.5]}


async def test_a_key_of_the_authors_own_choosing_stays() -> None:
    _, [asked] = await attempted(says(), headers={"idempotency-KEY": "mine", "X-None": None})

    assert asked.headers["idempotency-key"] == "mine"
    assert "x-none" not in asked.headers


@pytest.mark.parametrize(
    ("config", "content_type", "body"),
    [
        ({"body": "text"}, "application/json", b'"text"'),
        (
            {"body": {"a": 1}, "content_type": "application/vnd.api+json"},
            "application/vnd.api+json",
            b'{"a":1}',
        ),
        (
            {"body": {"a": "1 2", "b": [1, True, None]}, "body_type": "form"},
            "application/x-www-form-urlencoded",
            b"a=1+2&b=1&b=true",
        ),
        ({"body": "grüß", "body_type": "raw"}, "text/plain; charset=utf-8", "grüß".encode()),
        ({"body": "<a/>", "body_type": "raw", "headers": {"Content-Type": "text/xml"}}, "text/xml", b"<a/>"),
        ({}, None, b""),
    ],
)
async def test_bodies_are_sent_as_their_type_says(config: Any, content_type: str | None, body: bytes) -> None:
    _, [asked] = await attempted(says(), method="POST", **config)

    assert asked.headers.get("content-type") == content_type
    assert asked.body == body


async def test_a_stored_file_is_sent_as_it_is() -> None:
    world = World(allow="127.0.0.0/8:*")
    blob = await world.shelf.put(b"\x89PNG", "image/png")

    _, [asked] = await attempted(says(), world, method="PUT", body_type="raw", body={"blob": blob})

    assert (asked.headers["content-type"], asked.body) == ("image/png", b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "body"), [("form", ["a"]), ("form", {"a": {"b": 1}}), ("raw", 7), ("raw", {"blob": {}})]
)
async def test_a_body_that_does_not_fit_its_type_is_refused(kind: str, body: Any) -> None:
    outcome, asked = await attempted(says(), method="POST", body_type=kind, body=body)

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.field) == ("workflow.bad_config", "/body")
    assert not asked


async def test_the_query_is_added_to_what_the_url_has() -> None:
    url = "http://127.0.0.1:PORT/p%2Fq?x=%2b#end"
    _, [asked] = await attempted(says(), url=url, query={"a": "1&2", "b": [1, 2], "c": None, "d": True})

    assert asked.target == "/p%2Fq?x=%2b&a=1%262&b=1&b=2&d=true"


# --- Credentials ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "header"),
    [
        (BearerSecret(token=Secret("t0k")), ("authorization", "Bearer t0k")),
        (
            BasicSecret(user="ada", password=Secret("pw")),
            ("authorization", "Basic " + base64.b64encode(b"ada:pw").decode()),
        ),
        (HeaderSecret(name="X-Api-Key", value=Secret("k3y")), ("x-api-key", "k3y")),
    ],
)
async def test_a_credential_goes_along_to_its_own_host(value: Any, header: tuple[str, str]) -> None:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", value, "127.0.0.1")

    outcome, [asked] = await attempted(says(), world, auth={"$secret": "s1"})

    assert output(outcome)["status"] == 200
    assert asked.headers[header[0]] == header[1]


async def test_a_credential_in_the_query_is_in_no_output() -> None:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", QuerySecret(name="key", value=Secret("s3cr3t")), "127.0.0.1")

    outcome, [asked] = await attempted(says(), world, auth={"$secret": "s1"})

    assert asked.target == "/things?key=s3cr3t"
    assert b"s3cr3t" not in encode(outcome)


async def test_a_credential_for_another_host_does_not_leave() -> None:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", BearerSecret(token=Secret("t0k")), "api.example.org")

    outcome, asked = await attempted(says(), world, method="POST", auth={"$secret": "s1"})

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("secret.not_allowed", False)
    assert not asked


async def test_an_address_that_is_not_allowed_is_refused_before_any_connection() -> None:
    outcome, asked = await attempted(says(), World(), method="POST")

    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "unreachable"
    assert not asked


# --- What becomes of answers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "content_type", "body", "value"),
    [
        ("auto", "application/json", b'{"a":[1.10]}', {"a": [1.1]}),
        ("auto", "application/problem+json; charset=utf-8", b"\xef\xbb\xbf[1]", [1]),
        ("auto", "application/json", b'{"a": "\\ud800x"}', {"a": "\ufffdx"}),
        ("auto", "application/json", b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ("auto", "application/json", b"not json", "not json"),
        ("auto", "application/json", b"[" * 5_000, "[" * 5_000),
        ("auto", "application/json", b"", None),
        ("auto", "text/plain; charset=latin-1", b"gr\xfc\xdfe", "grüße"),
        ("auto", "text/plain; charset=nonsense", b"gr\xfc", "gr\ufffd"),
        ("auto", "text/html", b"<p>\x00</p>", "<p>\x00</p>"),
        ("text", "image/png", b"text", "text"),
        ("json", "text/plain", b"7", 7),
    ],
)
async def test_a_body_is_read_by_its_type(reading: str, content_type: str, body: bytes, value: Any) -> None:
    outcome, _ = await attempted(says(body=body, content_type=content_type), response=reading)

    assert output(outcome)["body"] == value


@pytest.mark.parametrize(
    ("reading", "content_type"), [("auto", "image/png"), ("auto", ""), ("binary", "text/plain")]
)
async def test_other_bodies_are_stored_and_referred_to(reading: str, content_type: str) -> None:
    world = World(allow="127.0.0.0/8:*")

    outcome, _ = await attempted(says(body=b"\x89P\xff", content_type=content_type), world, response=reading)

    blob = output(outcome)["body"]["blob"]
    assert world.shelf.blobs[blob["sha256"]] == b"\x89P\xff"
    assert blob["content_type"] == (content_type or "application/octet-stream")


@pytest.mark.parametrize(
    "body", [b"not json", b"{", b'"\xff"', b"NaN", b'["\\ud800", NaN]', b"[" * 5_000, b"1e999"]
)
async def test_what_must_be_json_and_is_not_fails_the_step(body: bytes) -> None:
    outcome, _ = await attempted(says(body=body, content_type="application/json"), response="json")

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("refused", False)


async def test_headers_that_carry_secrets_are_dropped() -> None:
    reply = says(set_cookie="session=1", Authorization="x", X_Api_Key="x", X_Shown="yes", Etag='"e"')

    outcome, _ = await attempted(reply)

    headers = output(outcome)["headers"]
    assert (headers["x-shown"], headers["etag"]) == ("yes", '"e"')
    assert {"set-cookie", "authorization", "x-api-key"}.isdisjoint(headers)


async def test_a_large_answer_travels_as_a_reference() -> None:
    body = encode({"text": "x" * 100_000})

    outcome, _ = await attempted(
        says(body=gzip.compress(body), content_type="application/json", content_encoding="gzip")
    )

    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Blob)


async def test_an_answer_beyond_the_bound_fails_without_doubt_and_is_not_asked_for_again() -> None:
    outcome, _ = await attempted(says(body=b"x" * 2_000), method="POST", max_bytes=1_000)

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("payload.too_large", False)


@pytest.mark.parametrize(
    ("rules", "status", "success"),
    [(["2xx"], 204, True), (["2xx"], 404, False), (["2xx", "404"], 404, True), (["201"], 200, False)],
)
async def test_the_author_says_which_statuses_are_a_success(
    rules: list[str], status: int, success: bool
) -> None:
    outcome, _ = await attempted(says(f"{status} Whatever"), success=rules)

    assert isinstance(outcome, StepDone if success else StepBroken)


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (401, False),
        (404, False),
        (409, False),
        (422, False),
        (408, True),
        (429, True),
        (500, True),
        (503, True),
    ],
)
async def test_a_refusal_says_whether_trying_again_can_help(status: int, retryable: bool) -> None:
    outcome, _ = await attempted(says(f"{status} No"), method="POST")

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.status, outcome.error.retryable) == (
        "refused",
        status,
        retryable,
    )


@pytest.mark.parametrize(
    ("said", "at_least", "at_most"),
    [
        ("7", 7, 7),
        ("99999999", 86_400, 86_400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Tue, 20 Nov 2125 12:00:00 GMT", 86_400, 86_400),
    ],
)
async def test_retry_after_is_handed_on_within_bounds(said: str, at_least: float, at_most: float) -> None:
    outcome, _ = await attempted(says("429 Too Many", retry_after=said))

    assert isinstance(outcome, StepBroken)
    assert outcome.retry_after_s is not None
    assert at_least <= outcome.retry_after_s <= at_most


@pytest.mark.parametrize("said", ["soon", "-5", "1e3", "٣"])
async def test_a_retry_after_that_says_nothing_is_ignored(said: str) -> None:
    reply = says("503 No", retry_after=said.encode().decode("latin-1"))

    outcome, _ = await attempted(reply)

    assert isinstance(outcome, StepBroken)
    assert outcome.retry_after_s is None
    assert outcome.error.retryable


# --- Doubt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [_silent, _hangs_up, says("502 Bad Gateway"), says("504 Gateway Timeout")])
@pytest.mark.parametrize(
    ("config", "doubt"),
    [
        ({"method": "POST"}, True),
        ({"method": "PATCH"}, True),
        ({"method": "POST", "honours_key": True}, False),
        ({"method": "GET"}, False),
        ({"method": "PUT"}, False),
        ({"method": "DELETE"}, False),
    ],
)
async def test_no_word_about_a_call_leaves_doubt_unless_it_may_be_repeated(
    reply: Reply, config: dict[str, Any], doubt: bool
) -> None:
    outcome, asked = await attempted(reply, timeout_s=1.5, **config)

    assert len(asked) == 1
    if doubt:
        assert isinstance(outcome, StepInDoubt)
    else:
        assert isinstance(outcome, StepBroken)
        assert outcome.error.retryable


async def test_a_closed_port_leaves_no_doubt() -> None:
    async with serving(_silent) as gone:
        port = gone.port
    outcome, _ = await attempted(says(), method="POST", url=f"http://127.0.0.1:{port}/")

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("unreachable", True)


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "http://user:pw@127.0.0.1/", "nonsense", "http://", "http://[::1"]
)
async def test_a_url_that_is_none_fails_the_step_for_good(url: str) -> None:
    outcome, asked = await attempted(says(), url=url)

    assert isinstance(outcome, StepBroken)
    assert not outcome.error.retryable
    assert not asked


async def test_a_call_that_is_cancelled_is_cut_off_and_says_what_may_have_happened() -> None:
    world = World(allow="127.0.0.0/8:*")
    async with serving(_silent) as server, world.executor():
        world.source.put(task({"url": server.url, "method": "POST"}, node_type="http.request", repeat="no"))
        await until(lambda: server.asked)
        world.owner.cancel((STEP, 1))
        async with asyncio.timeout(30):
            await until(lambda: world.outcomes)

    [outcome] = world.outcomes
    assert isinstance(outcome, StepLetGo)
    assert outcome.effect == "possible"


async def test_only_calls_that_must_not_be_repeated_are_claimed() -> None:
    for method, claims in (("GET", 0), ("POST", 1)):
        world = World(allow="127.0.0.0/8:*")
        await attempted(says(), world, method=method)
        assert len(world.ledger.stored) == claims


def _are(outcomes: list[Outcome], count: int) -> bool:
    return len(outcomes) == count


@pytest.mark.parametrize(("config", "times"), [({"method": "POST"}, 1), ({"method": "GET"}, 2)])
async def test_a_call_that_must_not_be_repeated_is_not_sent_again_on_another_connection(
    config: dict[str, Any], times: int
) -> None:
    """The server keeps its first connection open, takes the second call on it, and closes without a word."""
    world = World(allow="127.0.0.0/8:*")
    calls: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(asyncio.IncompleteReadError, asyncio.CancelledError):
            for number in range(2):
                await reader.readuntil(b"\r\n\r\n")
                calls.append(number)
                if number == 0:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with world.executor():
        for attempt in (1, 2):
            world.source.put(
                task({"url": url, **config}, node_type="http.request", repeat="no", attempt=attempt)
            )
            await until(partial(_are, world.outcomes, attempt))
    listener.close()

    assert all(isinstance(outcome, StepDone) for outcome in world.outcomes)
    assert len(calls) == 1 + times
