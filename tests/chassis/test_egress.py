"""What leaves and what does not: the guard against private addresses, credentials, bounds, and what touches the world."""

import asyncio
import gzip
import ipaddress
import socket
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trustme
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from chassis.egress import (
    AllowedTarget,
    BadAllowList,
    Credential,
    CredentialNotAllowed,
    Egress,
    EgressError,
    EgressLimits,
    Request,
    Response,
    parse_allowed,
)
from chassis.egress.addresses import HTTP_PORTS, is_public, may_reach
from chassis.egress.opening import egress_of
from chassis.egress.urls import BadUrl, parse_url
from chassis.lifecycle import CannotStart
from chassis.secret import (
    BasicSecret,
    BearerSecret,
    HeaderSecret,
    HmacSecret,
    QuerySecret,
    Secret,
    SecretValue,
    SmtpSecret,
)
from chassis.settings import Settings
from chassis.testing.ports import free_port

CANARY = "CANARY-77b2e0"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


# --- A world to call ----------------------------------------------------------------------------

connects: list[Any] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        connects.append(arguments[1])


sys.addaudithook(_note)


@contextmanager
def nothing_connects() -> Iterator[None]:
    """Whatever happens inside, no socket of this process connects to anything."""
    connects.clear()
    yield
    assert connects == []


class Asked:
    """One request as a server saw it."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self.body = body
        self.connection = connection


Answering = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class World:
    """A server on a loopback address that remembers what it was asked and how often somebody connected."""

    def __init__(self, answering: Answering | bytes = OK) -> None:
        self.answering = answering
        self.asked: list[Asked] = []
        self.connections = self.open = self.most_open = 0
        self.server_names: list[str | None] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def allowed(self) -> tuple[AllowedTarget, ...]:
        return parse_allowed(f"127.0.0.1/32:{self.port}")

    @asynccontextmanager
    async def running(
        self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator["World"]:
        server = await asyncio.start_server(self._serve, host, port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            while self._tasks:
                await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        task, number = asyncio.current_task(), self.connections
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                asked = Asked(head[:-4], await reader.readexactly(length), number)
                self.asked.append(asked)
                if isinstance(self.answering, bytes):
                    writer.write(self.answering)
                else:
                    await self.answering(asked, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError, asyncio.LimitOverrunError):
            pass  # The client left.
        finally:
            self.open -= 1
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World().running() as running:
        yield running


def egress(*allow: World, resolve: Any = None, tls: Any = None, **limits: Any) -> Egress:
    allowed = [target for each in allow for target in each.allowed]
    return Egress(allowed, resolve, tls=tls, limits=EgressLimits(**limits))


def names(**addresses: Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver that knows these names (`_` for a dot) and nothing else."""
    known = {name.replace("_", "."): found for name, found in addresses.items()}

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known[host]

    return resolve


async def refusal(client: Egress, url: str, **fields: Any) -> EgressError:
    with pytest.raises(EgressError) as caught:
        await client.request(Request(method=fields.pop("method", "GET"), url=url, **fields))
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.detail}"
    return caught.value


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: int = 302) -> bytes:
    return answer(b"", f"location: {location}", status=f"{status} Elsewhere")


# --- X6: addresses that are not for workflows ---------------------------------------------------------

_CORPUS = r"""
http://127.0.0.1/ http://localhost/ http://0/ http://0.0.0.0/ http://127.1/ http://2130706433/ http://0x7f000001/
http://0177.0.0.1/ http://127.0.0.1.nip.io/ http://[::1]/ http://[::]/ http://[::ffff:127.0.0.1]/
http://[::ffff:7f00:1]/ http://[64:ff9b::7f00:1]/ http://[2002:7f00:1::]/ http://[fe80::1%25lo]/
http://[fd00:ec2::254]/ http://169.254.169.254/latest/meta-data/ http://[::ffff:169.254.169.254]/
http://2852039166/ http://0xA9FEA9FE/ http://169.254.43518/ http://10.0.0.5/ http://172.16.0.1/
http://192.168.1.1/ http://100.64.0.1/ http://198.18.0.1/ http://224.0.0.1/ http://255.255.255.255/
http://168.63.129.16/ http://evil@127.0.0.1/ http://example.com@127.0.0.1/ http://127.0.0.1#@example.com/
http://127.0.0.1%2f@example.com/ http://①②⑦.⓪.⓪.①/ http://127。0。0。1/ http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/
http://metadata.google.internal/ http://127.0.0.1:14411/ file:///etc/passwd gopher://127.0.0.1:6379/
ftp://127.0.0.1/ unix:///tmp/x http:///etc http://127.0.0.1\@example.com/ http://mixed.test/
http://[::127.0.0.1]/ http://[0:0:0:0:0:ffff:7f00:1]/ http://[::1%25lo]/ http://[2001:0:7f00:1::]/
http://[64:ff9b:1::7f00:1]/ http://[fec0::1]/ http://[ff02::1]/ http://[2001:db8::1]/ http://[100::1]/
http://127.0.0.1./ http://LOCALHOST./ http://127.000.000.001/ http://0x7f.0.0.1/ http://[::ffff:0:127.0.0.1]/
http://100.100.100.200/ http://192.0.0.192/ http://240.0.0.1/ http://exa%6dple.com/ http://a..b/ //127.0.0.1/
http://127.0.0.1:0/ http://127.0.0.1:99999/ http://127.0.0.1:80:80/ http://[::1/ http:127.0.0.1 127.0.0.1
ws://127.0.0.1/ javascript:alert(1) data:text/plain,x http://example.com:22/ http://example.com:6379/
"""
HOSTILE = [
    *_CORPUS.split(),
    "http://exa\tmple.com/",
    "http://127.0.0.1\r\nhost: x/",
    "http://a b/",
    "",
    " ",
    "http://\x00/",
    "http://x/" + "a" * 20_000,
]

HOSTILE_NAMES = names(
    example_com=["93.184.216.34"],
    localhost=["127.0.0.1", "::1"],
    metadata_google_internal=["169.254.169.254"],
    mixed_test=["93.184.216.34", "10.0.0.1"],
    **{"127_0_0_1_nip_io": ["127.0.0.1"]},
)


@pytest.mark.parametrize("url", HOSTILE)
async def test_a_hostile_url_connects_to_nothing(url: str) -> None:
    async with egress(resolve=HOSTILE_NAMES) as client:
        with nothing_connects():
            error = await refusal(client, url)
    assert not error.touched
    assert error.reason in ("bad_request", "forbidden")


async def test_a_hostile_url_reaches_no_listener_on_an_open_port(world: World) -> None:
    """The same corpus at a port that listens and that public hosts may have, with nothing allow-listed."""
    for port in range(8100, 8999):
        try:
            async with World().running(port=port) as listener:
                async with egress(resolve=HOSTILE_NAMES) as client:
                    for url in HOSTILE:
                        scheme, separator, rest = url.partition("://")
                        host, slash, path = rest.partition("/")
                        if separator and host and ":1" not in host[-6:]:
                            await refusal(client, f"{scheme}://{host}:{port}{slash}{path}")
                    await refusal(client, f"http://127.0.0.1:{port}/")
                assert listener.connections == 0
                break
        except OSError:
            continue  # Somebody has this port.
    else:
        pytest.fail("no port was free")


@pytest.mark.parametrize("hops", range(1, 6))
@pytest.mark.parametrize(
    "last", ["http://127.0.0.1:{secret}/", "http://inner.test:{secret}/", "//127.0.0.1:{secret}/x"]
)
async def test_a_redirect_chain_into_a_private_address_ends_before_it(hops: int, last: str) -> None:
    async def chain(asked: Asked, writer: asyncio.StreamWriter) -> None:
        step = int(asked.path.strip("/"))
        writer.write(redirect(f"/{step + 1}" if step < hops else last.format(secret=secret.port)))

    resolve = names(inner_test=["127.0.0.1"])
    async with World(chain).running() as outer, World().running() as secret:
        async with egress(outer, resolve=resolve) as client:
            error = await refusal(client, f"{outer.url}/1")
        assert (error.reason, error.touched) == ("forbidden", True)
        assert len(outer.asked) == hops
        assert secret.connections == 0


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1\\@x/",
        "http://0x7f.1/",
        "javascript:1",
    ],
)
async def test_a_redirect_to_no_web_address_is_refused(world: World, location: str) -> None:
    world.answering = redirect(location)
    async with egress(world) as client:
        error = await refusal(client, world.url)
    assert (error.reason, error.touched, error.retryable) == ("bad_redirect", True, False)


async def test_a_name_that_changes_its_address_is_checked_at_every_connection() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"]])
    asked = 0

    async def rebinding(host: str, port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return next(answers)

    closing = answer(b"", "connection: close")
    async with World(closing).running() as good, World().running("127.0.0.2", good.port) as inner:
        async with egress(good, resolve=rebinding) as client:
            url = f"http://rebind.test:{good.port}/"
            assert (await client.request(Request(method="GET", url=url))).status == 200
            assert (await refusal(client, url)).reason == "forbidden"
            assert (await client.request(Request(method="GET", url=url))).status == 200
        assert (asked, len(good.asked), inner.connections) == (3, 2, 0)
        assert {each.headers["host"] for each in good.asked} == {f"rebind.test:{good.port}"}


async def test_a_kept_connection_is_not_looked_up_again(world: World) -> None:
    answers = iter([["127.0.0.1"]])

    async def once(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async with egress(world, resolve=once) as client:
        for _ in range(5):
            await client.request(Request(method="GET", url=f"http://once.test:{world.port}/"))
    assert world.connections == 1


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1", "10.0.0.1"],
        ["10.0.0.1", "127.0.0.1"],
        ["127.0.0.1", "::1"],
        ["127.0.0.1", "fe80::1%lo"],
        ["127.0.0.1", "nonsense"],
        ["93.184.216.34", "fd00::1"],
    ],
)
async def test_one_forbidden_address_forbids_the_name(world: World, found: list[str]) -> None:
    async with egress(world, resolve=names(mixed_test=found)) as client:
        with nothing_connects():
            error = await refusal(client, f"http://mixed.test:{world.port}/")
    assert (error.reason, error.touched) == ("forbidden", False)


async def test_the_next_address_is_tried_when_one_does_not_answer(world: World) -> None:
    allow = [*world.allowed, *parse_allowed(f"127.0.0.3/32:{world.port}")]
    async with Egress(allow, names(two_test=["127.0.0.3", "127.0.0.1"])) as client:
        assert (
            await client.request(Request(method="GET", url=f"http://two.test:{world.port}/"))
        ).status == 200


async def test_proxies_of_the_environment_are_not_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with World().running() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        async with egress(world) as client:
            assert (await client.request(Request(method="GET", url=world.url))).body == b"ok"
        assert (proxy.connections, world.connections) == (0, 1)


@given(st.ip_addresses())
def test_no_address_is_public_that_python_knows_to_be_special(address: Any) -> None:
    if is_public(address):
        assert address.is_global
        special = ("private", "multicast", "reserved", "loopback", "link_local", "unspecified")
        assert not any(getattr(address, f"is_{kind}") for kind in special)


@given(st.ip_addresses(v=4))
def test_no_ipv6_disguise_makes_an_ipv4_address_public(address: Any) -> None:
    number = int(address)
    for disguise in (
        number,
        0xFFFF << 32 | number,
        0x64FF9B << 96 | number,
        0x2002 << 112 | number << 80,
        0x20010000 << 96 | number,
    ):
        assert not is_public(ipaddress.IPv6Address(disguise))


@pytest.mark.parametrize(
    "text",
    [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "2606:4700::1111",
        "2a00:1450:4001::200e",
        "172.15.0.1",
        "172.32.0.1",
        "100.128.0.1",
        "11.0.0.1",
    ],
)
def test_public_addresses_are_open_on_the_usual_ports_only(text: str) -> None:
    assert [may_reach(text, port, HTTP_PORTS, ()) for port in (80, 443, 8000, 8443, 8999)] == [True] * 5
    assert [may_reach(text, port, HTTP_PORTS, ()) for port in (22, 25, 81, 3000, 5432, 6379, 7999, 9000)] == [
        False
    ] * 8


def test_the_allow_list_opens_networks_by_port() -> None:
    allow = parse_allowed(
        "127.0.0.1/32:8080, 10.0.0.0/8 192.168.0.0/16:*,[fd00::/8]:5000-5010, fd12::/16, 0.0.0.0/0:3000,[::1/128]"
    )
    reachable = {
        ("127.0.0.1", 8080): True,
        ("127.0.0.1", 8081): False,
        ("127.0.0.2", 8080): False,
        ("10.1.2.3", 443): True,
        ("10.1.2.3", 5432): False,
        ("192.168.1.1", 5432): True,
        ("fd00::1", 5005): True,
        ("fd00::1", 5011): False,
        ("fd12::1", 80): True,
        ("::1", 80): True,
        ("::1", 81): False,
        ("1.1.1.1", 3000): True,
        ("1.1.1.1", 3001): False,
        ("172.16.0.1", 3000): True,
        ("169.254.169.254", 3000): False,
        ("168.63.129.16", 3000): False,
        ("::ffff:127.0.0.1", 8080): False,
    }
    assert {target: may_reach(*target, HTTP_PORTS, allow) for target in reachable} == reachable


def test_metadata_is_opened_by_an_entry_for_the_one_address_alone() -> None:
    for entry, open_ in (
        ("169.254.0.0/16", False),
        ("169.254.169.254/31", False),
        ("169.254.169.254/32", True),
        ("169.254.169.254", True),
    ):
        assert may_reach("169.254.169.254", 80, HTTP_PORTS, parse_allowed(entry)) is open_


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1/8",
        "10.0.0.0/33",
        "x",
        "10.0.0.0/8:",
        "10.0.0.0/8:0",
        "10.0.0.0/8:70000",
        "10.0.0.0/8:9-8",
        "10.0.0.0/8:a",
        "[fd00::/8",
        "[fd00::/8]:x",
        "localhost:80",
    ],
)
def test_an_allow_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadAllowList, match="network"):
        parse_allowed(text)
    with pytest.raises(CannotStart, match="AUTOMATEOS_EGRESS_ALLOW"):
        egress_of(Settings(egress_allow=text))


def test_an_empty_allow_list_is_empty() -> None:
    assert parse_allowed("") == parse_allowed(" , ") == ()


@given(st.text())
def test_any_text_is_a_url_or_is_refused(text: str) -> None:
    for candidate in (text, "http://" + text, "http://h/" + text):
        try:
            target = parse_url(candidate)
        except BadUrl:
            continue
        assert parse_url(target.url) == target, "what is sent reads as what was judged"
        assert b" " not in target.path
        assert b"\n" not in target.path


def test_an_address_that_was_read_is_read_no_more_and_one_that_was_refused_is_refused_again() -> None:
    assert parse_url("https://a.example/x") is parse_url("https://a.example/x")
    for _ in range(2):
        with pytest.raises(BadUrl):
            parse_url("https://a.example:0/x")
    base = parse_url("https://a.example/x/y")
    assert parse_url("z", base).path == b"/x/z"


# --- What a request looks like ----------------------------------------------------------------------


async def test_a_call_goes_out_as_it_was_asked_for_and_comes_back_whole(world: World) -> None:
    world.answering = answer(
        b'{"a":1}', "X-Id: 7", "Set-Cookie: a=1", "Set-Cookie: b=2", status="201 Created"
    )
    async with egress(world) as client:
        got = await client.request(
            Request(
                method="post",
                url=f"{world.url}/p/ü?q=a b#f",
                headers={"X-One": "1", "Accept": "x"},
                body=b"\x00\xff",
            )
        )
    asked = world.asked[0]
    assert (asked.method, asked.path, asked.body) == ("POST", "/p/%C3%BC?q=a%20b", b"\x00\xff")
    assert asked.headers["host"] == f"127.0.0.1:{world.port}"
    assert (asked.headers["x-one"], asked.headers["accept"], asked.headers["content-length"]) == (
        "1",
        "x",
        "2",
    )
    assert (got.status, got.body, got.header("x-id")) == (201, b'{"a":1}', "7")
    assert [value for name, value in got.headers if name == "set-cookie"] == ["a=1", "b=2"]
    assert got.url == f"{world.url}/p/%C3%BC?q=a%20b"
    assert got.elapsed > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("Host", "evil.test"), ("Content-Length", "1"), ("Transfer-Encoding", "chunked"), ("Connection", "close"), ("Upgrade", "h2c"),
     ("Proxy-Authorization", "x"), ("Expect", "100-continue"), ("X\r\nY", "1"), ("X", "1\r\nY: 2"), ("X", "\n"), ("X", "\x00"), ("", "1"), ("a b", "1"), ("ü", "1")],
)  # fmt: skip
async def test_a_header_that_is_not_the_callers_is_refused(world: World, name: str, value: str) -> None:
    async with egress(world) as client:
        with nothing_connects():
            error = await refusal(client, world.url, headers={name: value})
    assert (error.reason, error.touched, error.retryable) == ("bad_request", False, False)


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\nX: 1", "CONNECT", "TRACE", "ÜBER"])
async def test_a_method_that_is_none_is_refused(world: World, method: str) -> None:
    async with egress(world) as client:
        assert (await refusal(client, world.url, method=method)).reason == "bad_request"
    assert world.connections == 0


async def test_a_head_request_has_no_body_to_wait_for(world: World) -> None:
    world.answering = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\ncontent-encoding: gzip\r\n\r\n"
    async with egress(world) as client:
        got = await client.request(Request(method="HEAD", url=world.url))
    assert (got.status, got.body, got.header("content-length")) == (200, b"", "99999999999")


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [(301, "POST", "GET", b""), (302, "POST", "GET", b""), (303, "POST", "GET", b""), (303, "PUT", "GET", b""), (307, "POST", "POST", b"x"),
     (308, "PUT", "PUT", b"x"), (302, "PUT", "PUT", b"x"), (301, "GET", "GET", b""), (303, "HEAD", "HEAD", b"")],
)  # fmt: skip
async def test_a_redirect_keeps_or_changes_the_method_as_http_says(
    status: int, method: str, then: str, body: bytes
) -> None:
    async def once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(redirect("/there?x=1", status) if asked.path == "/" else answer(b""))

    async with World(once).running() as world, egress(world) as client:
        got = await client.request(
            Request(
                method=method,
                url=world.url,
                body=b"x" if then == method != "GET" and method != "HEAD" else b"",
                headers={"content-type": "t"},
            )
        )
        last = world.asked[-1]
    assert (last.method, last.path, last.body) == (then, "/there?x=1", body)
    assert ("content-type" in last.headers) == ((then == method and status != 303) or method == "HEAD")
    assert got.url == f"{world.url}/there?x=1"


async def test_redirects_end_after_five_and_are_not_followed_when_not_wanted(world: World) -> None:
    world.answering = redirect("/again")
    async with egress(world) as client:
        error = await refusal(client, world.url)
        assert (error.reason, error.touched, len(world.asked)) == ("too_many_redirects", True, 6)
        got = await client.request(Request(method="GET", url=world.url, follow_redirects=False))
        assert (got.status, got.header("location")) == (302, "/again")


# --- X7: credentials ---------------------------------------------------------------------------------

CREDENTIALS: list[tuple[SecretValue, str, str]] = [
    (HeaderSecret(name="X-Token", value=Secret(CANARY)), "x-token", CANARY),
    (BearerSecret(token=Secret(CANARY)), "authorization", f"Bearer {CANARY}"),
    (BasicSecret(user="ann", password=Secret("p:w")), "authorization", "Basic YW5uOnA6dw=="),
]


def bound(value: SecretValue, *hosts: str) -> Credential:
    return Credential(value=value, allowed_hosts=hosts or ("127.0.0.1",))


@pytest.mark.parametrize(("value", "header", "sent"), CREDENTIALS)
async def test_a_credential_goes_to_its_own_host(
    world: World, value: SecretValue, header: str, sent: str
) -> None:
    async with egress(world) as client:
        request = Request(
            method="GET", url=world.url, headers={header.title(): "mine"}, credential=bound(value)
        )
        assert CANARY not in repr(request)
        await client.request(request)
    assert world.asked[0].headers[header] == sent


async def test_a_key_in_the_query_is_added_and_not_shown_again(world: World) -> None:
    credential = bound(QuerySecret(name="api key", value=Secret(f"{CANARY}&x=1")))
    async with egress(world) as client:
        for url, path in ((world.url, "/?"), (f"{world.url}/p?a=1", "/p?a=1&")):
            got = await client.request(Request(method="GET", url=url, credential=credential))
            assert world.asked[-1].path == f"{path}api%20key={CANARY}%26x%3D1"
            assert CANARY not in repr(got) + got.url


@pytest.mark.parametrize(
    "hosts",
    [("api.example.com",), (), ("*.0.0.1",), ("127.0.0.2",), ("127.0.0.1.example.com",), ("*.127.0.0.1",)],
)
async def test_a_credential_of_another_host_stops_the_call_before_anything_leaves(
    world: World, hosts: tuple[str, ...]
) -> None:
    credential = Credential(value=BearerSecret(token=Secret(CANARY)), allowed_hosts=hosts)
    async with egress(world) as client:
        with nothing_connects(), pytest.raises(CredentialNotAllowed) as caught:
            # A pattern with `*.` matches names below it; `*.0.0.1` would match this address as text.
            await client.request(Request(method="GET", url=world.url, credential=credential))
    assert (caught.value.touched, caught.value.retryable, caught.value.code) == (
        False,
        False,
        "secret.not_allowed",
    )


@pytest.mark.parametrize("value", [HmacSecret(key=Secret("k")), SmtpSecret(user="a", password=Secret("k"))])
async def test_a_secret_of_another_kind_does_not_go_into_a_request(world: World, value: SecretValue) -> None:
    async with egress(world) as client:
        assert (await refusal(client, world.url, credential=bound(value))).reason == "bad_request"
    assert world.connections == 0


async def test_a_credential_that_would_break_the_header_is_refused(world: World) -> None:
    broken = bound(BearerSecret(token=Secret(f"{CANARY}\r\nx: y")))
    async with egress(world) as client:
        error = await refusal(client, world.url, credential=broken)
    assert (error.reason, world.connections) == ("bad_request", 0)


@pytest.mark.parametrize(("value", "header", "sent"), CREDENTIALS)
async def test_a_redirect_to_another_port_or_name_leaves_the_credential_behind(
    value: SecretValue, header: str, sent: str
) -> None:
    own = {
        "Cookie": "c",
        "X-Mine": "m",
        "X-Api-Key": "k",
        "Accept": "a",
        "Content-Type": "t",
        "Idempotency-Key": "i",
    }
    async with World().running() as second, World(redirect(f"{second.url}/x", 307)).running() as first:
        resolve = names(other_test=["127.0.0.1"])
        async with egress(first, second, resolve=resolve) as client:
            credential = bound(value, "127.0.0.1", "other.test")
            for location in (f"{second.url}/x", f"http://other.test:{second.port}/x"):
                first.answering = redirect(location, 307)
                await client.request(
                    Request(method="POST", url=first.url, body=b"b", headers=own, credential=credential)
                )
        for asked in first.asked:
            assert asked.headers[header] == sent
        for asked in second.asked:
            assert header not in asked.headers
            assert not {"cookie", "x-mine", "x-api-key", "authorization"} & asked.headers.keys()
            assert {"accept", "content-type", "idempotency-key"} <= asked.headers.keys()
        assert len(second.asked) == 2


async def test_a_query_key_does_not_follow_a_redirect_elsewhere_and_does_follow_one_within() -> None:
    async with World().running() as second, World().running() as first:
        credential = bound(QuerySecret(name="key", value=Secret(CANARY)))
        async with egress(first, second) as client:
            first.answering = redirect(f"{second.url}/x?a=1")
            await client.request(Request(method="GET", url=first.url, credential=credential))
            assert second.asked[0].path == "/x?a=1"

            async def within(asked: Asked, writer: asyncio.StreamWriter) -> None:
                writer.write(redirect("/x?a=1") if asked.path.startswith("/?") else OK)

            first.answering = within
            got = await client.request(Request(method="GET", url=first.url, credential=credential))
        assert first.asked[-1].path == f"/x?a=1&key={CANARY}"
        assert got.url.endswith("/x?a=1")


async def test_a_credential_does_not_come_back_by_a_detour() -> None:
    async with World().running() as second, World().running() as first:

        async def detour(asked: Asked, writer: asyncio.StreamWriter) -> None:
            writer.write(redirect(second.url) if asked.path == "/" else OK)

        first.answering, second.answering = detour, redirect(f"{first.url}/chosen/by/second")
        async with egress(first, second) as client:
            await client.request(Request(method="GET", url=first.url, credential=bound(CREDENTIALS[1][0])))
        assert [("authorization" in asked.headers) for asked in first.asked] == [True, False]


# --- Bounds --------------------------------------------------------------------------------------------

MIB = 1024 * 1024


async def test_an_answer_as_large_as_the_limit_comes_and_one_byte_more_does_not(world: World) -> None:
    async with egress(world) as client:
        for size, fits in ((999, True), (1_000, True), (1_001, False)):
            for head in (f"content-length: {size}", "connection: close"):
                body = b"x" * size

                async def send(
                    asked: Asked, writer: asyncio.StreamWriter, head: str = head, body: bytes = body
                ) -> None:
                    writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
                    if head == "connection: close":
                        await writer.drain()
                        writer.close()

                world.answering = send
                if fits:
                    got = await client.request(Request(method="GET", url=world.url, max_bytes=1_000))
                    assert len(got.body) == size
                else:
                    error = await refusal(client, world.url, max_bytes=1_000)
                    assert (error.reason, error.touched, error.retryable) == ("too_large", True, False)


async def test_an_endless_answer_is_cut_off(world: World) -> None:
    sent = 0

    async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
            await writer.drain()

    world.answering = endless
    async with egress(world) as client:
        error = await refusal(client, world.url, max_bytes=4 * MIB)
    assert error.reason == "too_large"
    assert sent < 64 * MIB


async def test_no_caller_can_raise_the_limit(world: World) -> None:
    world.answering = b"HTTP/1.1 200 OK\r\ncontent-length: 33554433\r\n\r\n"
    async with egress(world) as client:
        assert (await refusal(client, world.url, max_bytes=1 << 40)).reason == "too_large"


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate), ("GZIP", gzip.compress),
     ("gzip", lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]))],
)  # fmt: skip
async def test_compression_is_undone(world: World, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    data = b"some text, " * 50
    world.answering = answer(compress(data), f"content-encoding: {encoding}")
    async with egress(world) as client:
        got = await client.request(Request(method="GET", url=world.url))
    assert got.body == data
    assert got.header("content-encoding") is None
    assert got.header("content-length") is None


async def test_a_compression_that_we_did_not_ask_for_is_left_to_the_caller(world: World) -> None:
    world.answering = answer(b"\x0b\x02\x80ok\x03", "content-encoding: br")
    async with egress(world) as client:
        got = await client.request(Request(method="GET", url=world.url))
    assert (got.body, got.header("content-encoding")) == (b"\x0b\x02\x80ok\x03", "br")
    assert world.asked[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        zlib.compress,
        raw_deflate,
        lambda data: b"".join(gzip.compress(data[: 1 << 20]) for _ in range(64)),
    ],
)
async def test_a_bomb_does_not_go_off(world: World, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(b"\0" * (64 * MIB))
    encoding = "gzip" if bomb[:2] == b"\x1f\x8b" else "deflate"
    world.answering = answer(bomb, f"content-encoding: {encoding}")
    async with egress(world) as client:
        error = await refusal(client, world.url)
        assert (error.reason, error.touched) == ("too_large", True)
        world.answering = OK
        assert (await client.request(Request(method="GET", url=world.url))).status == 200


async def test_a_short_answer_may_be_as_repetitive_as_it_likes(world: World) -> None:
    world.answering = answer(gzip.compress(b"\0" * MIB), "content-encoding: gzip")
    async with egress(world) as client:
        assert len((await client.request(Request(method="GET", url=world.url))).body) == MIB
        world.answering = answer(gzip.compress(b"\0" * (MIB + 1)), "content-encoding: gzip")
        assert (await refusal(client, world.url)).reason == "too_large"


@pytest.mark.parametrize(
    "body",
    [
        b"not gzip at all",
        gzip.compress(b"x" * 999)[:-4],
        gzip.compress(b"x" * 999)[:15],
        gzip.compress(b"ok") + b"junk",
    ],
    ids=[
        "of another kind",
        "without its end",
        "cut",
        "with more behind it",
    ],  # The header has the time in it.
)
async def test_damaged_compression_is_told(world: World, body: bytes) -> None:
    world.answering = answer(body, "content-encoding: gzip")
    async with egress(world) as client:
        error = await refusal(client, world.url)
    assert (error.reason, error.touched) == ("bad_encoding", True)


async def drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def drip_head(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"x: y\r\n")
        await asyncio.sleep(0.02)


async def only_informed(asked: Asked, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.02)


async def silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("slow", [drip, drip_head, only_informed, silent])
async def test_a_slow_answer_ends_at_the_deadline(world: World, slow: Answering) -> None:
    world.answering = slow
    async with egress(world) as client:
        error = await refusal(client, world.url, timeout_s=0.2)
    assert (error.reason, error.touched, error.retryable) == ("timeout", True, True)


async def test_the_deadline_is_for_all_redirects_together() -> None:
    async def slow_redirect(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.15)
        writer.write(redirect("/again"))

    async with World(slow_redirect).running() as world, egress(world) as client:
        error = await refusal(client, world.url, timeout_s=0.4)
    assert (error.reason, error.touched) == ("timeout", True)
    assert len(world.asked) < 6


# --- What touched the world -----------------------------------------------------------------------------


async def test_closed_forbidden_unknown_and_silent_addresses_sound_alike_and_touch_nothing() -> None:
    closed = free_port()
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = [socket.socket() for _ in range(8)]
    for filler in fillers:  # A backlog that is full drops what comes: as silent as a firewall.
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    allow = parse_allowed(f"127.0.0.1/32:{closed}, 127.0.0.1/32:{full.getsockname()[1]}")

    async def slow(host: str, port: int) -> Sequence[str]:
        if host == "slow.test":
            await asyncio.sleep(60)
        return await names(inner_test=["10.0.0.1"], empty_test=[])(host, port)

    urls = {
        f"http://127.0.0.1:{closed}/": "unreachable",
        f"http://127.0.0.1:{full.getsockname()[1]}/": "unreachable",
        "http://10.0.0.1/": "forbidden",
        "http://inner.test/": "forbidden",
        "http://inner.test:22/": "forbidden",
        "http://nobody.test/": "unresolvable",
        "http://empty.test/": "unresolvable",
        "http://slow.test/": "unresolvable",
    }
    async with Egress(allow, slow, limits=EgressLimits(resolve_s=0.1, connect_s=0.2)) as client:
        errors = {url: await refusal(client, url, method="POST", body=b"x", timeout_s=5) for url in urls}
    for each in (full, *fillers):
        each.close()
    assert {url: error.reason for url, error in errors.items()} == urls
    told = {(str(error), error.retryable, error.code, error.touched) for error in errors.values()}
    assert len(told) == 1
    assert not next(iter(told))[3]
    assert not any(part in str(error) for error in errors.values() for part in ("10.0.0.1", "refused", "22"))


async def test_a_call_that_never_got_a_line_is_untouched(world: World) -> None:
    world.answering = silent
    async with egress(world, per_host=1) as client, asyncio.TaskGroup() as group:
        first = group.create_task(refusal(client, world.url, timeout_s=1.0))
        while not world.asked:
            await asyncio.sleep(0.001)
        waiting = await refusal(client, world.url, method="POST", timeout_s=0.1)
        assert (waiting.reason, waiting.touched) == ("busy", False)
        assert (await first).touched


async def test_a_call_that_gave_up_waiting_leaves_its_place_to_the_next(world: World) -> None:
    async with (
        World(silent).running() as slow,
        egress(world, slow, per_host=1, connections=1) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(refusal(client, slow.url, timeout_s=0.5))
        while not slow.asked:
            await asyncio.sleep(0.001)
        gave_up = group.create_task(refusal(client, world.url, timeout_s=0.05))
        await asyncio.sleep(0)
        next_one = await client.request(Request(method="GET", url=world.url, timeout_s=10))
        assert ((await gave_up).reason, next_one.status) == ("busy", 200)


async def end(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def half(data: bytes) -> Answering:
    async def send(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return send


@pytest.mark.parametrize(
    ("answering", "reason"),
    [
        (end, "closed"),
        (half(b"HTTP/1.1 200 OK\r\n"), "closed"),
        (half(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"), "closed"),
        (half(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc"), "closed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "bad_answer"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", "bad_answer"),
    ],
)
async def test_without_a_complete_answer_the_world_may_have_been_touched(
    world: World, answering: Any, reason: str
) -> None:
    world.answering = answering
    async with egress(world) as client:
        error = await refusal(client, world.url, method="POST", body=b"x")
        assert (error.reason, error.touched, error.retryable) == (reason, True, True)
        world.answering = OK
        assert (await client.request(Request(method="GET", url=world.url))).status == 200


@pytest.mark.parametrize("status", [200, 204, 400, 404, 429, 500, 503])
async def test_every_complete_answer_is_an_answer(world: World, status: int) -> None:
    world.answering = (
        f"HTTP/1.1 {status} X\r\nretry-after: 3\r\n{'' if status == 204 else 'content-length: 0'}".encode()
        + b"\r\n\r\n"
    )
    if status == 204:
        world.answering = b"HTTP/1.1 204 X\r\nretry-after: 3\r\n\r\n"
    async with egress(world) as client:
        got = await client.request(Request(method="GET", url=world.url))
    assert (got.status, got.header("retry-after")) == (status, "3")


# --- TLS ---------------------------------------------------------------------------------------------------

AUTHORITY = trustme.CA()


def server_side(*hosts: str, seen: list[str | None] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*hosts).configure_cert(context)
    if seen is not None:
        context.sni_callback = lambda _socket, name, _context: seen.append(name)
    return context


def client_side() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def test_the_certificate_and_the_greeting_are_for_the_name_not_the_address() -> None:
    seen: list[str | None] = []
    async with World().running(tls=server_side("good.test", seen=seen)) as world:
        resolve = names(good_test=["127.0.0.1"], bad_test=["127.0.0.1"])
        async with egress(world, resolve=resolve, tls=client_side()) as client:
            for _ in range(2):
                got = await client.request(Request(method="GET", url=f"https://GOOD.test.:{world.port}/"))
                assert got.status == 200
            error = await refusal(client, f"https://bad.test:{world.port}/", method="POST")
        assert (error.reason, error.touched, error.retryable) == ("certificate", False, False)
        assert seen == ["good.test", "bad.test"]
        assert world.asked[0].headers["host"] == f"good.test:{world.port}"
        assert len(world.asked) == 2


async def test_a_server_of_unknown_authority_or_without_tls_is_untouched(world: World) -> None:
    async with (
        World().running(tls=server_side("127.0.0.1")) as secure,
        egress(world, secure, connect_s=0.5) as client,
    ):
        stranger = await refusal(client, f"https://127.0.0.1:{secure.port}/", method="POST")
        plain = await refusal(client, f"https://127.0.0.1:{world.port}/", method="POST")
    assert (stranger.reason, stranger.touched) == ("certificate", False)
    assert (plain.reason, plain.touched) == ("tls", False)
    assert not secure.asked
    assert not world.asked


async def test_a_redirect_from_https_to_http_leaves_the_credential_behind(world: World) -> None:
    async with (
        World(redirect(world.url)).running(tls=server_side("127.0.0.1")) as secure,
        egress(world, secure, tls=client_side()) as client,
    ):
        url = f"https://127.0.0.1:{secure.port}/"
        await client.request(Request(method="GET", url=url, credential=bound(CREDENTIALS[1][0])))
    assert "authorization" in secure.asked[0].headers
    assert "authorization" not in world.asked[0].headers


# --- Connections ---------------------------------------------------------------------------------------------


async def test_calls_to_one_host_share_connections_up_to_the_limit(world: World) -> None:
    async with egress(world, per_host=4) as client:
        for _ in range(10):
            await client.request(Request(method="PUT", url=world.url, body=b"x" * 200_000, repeatable=True))
        assert world.connections == 1
        async with asyncio.TaskGroup() as group:
            for _ in range(60):
                group.create_task(client.request(Request(method="GET", url=world.url)))
        assert world.most_open <= 4
    assert len(world.asked) == 70


async def test_one_slow_host_does_not_hold_up_another(world: World) -> None:
    async with (
        World(silent).running() as slow,
        egress(world, slow, per_host=2, connections=100) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(6):
            group.create_task(refusal(client, slow.url, timeout_s=0.5))
        while len(slow.asked) < 2:
            await asyncio.sleep(0.001)
        assert (await client.request(Request(method="GET", url=world.url))).status == 200


async def test_a_connection_that_the_other_side_closed_while_idle_is_replaced(world: World) -> None:
    world.answering = half(OK)  # Closes without having said so.
    async with egress(world) as client:
        for _ in range(5):
            assert (await client.request(Request(method="POST", url=world.url, body=b"x"))).status == 200
            await asyncio.sleep(0.01)
    assert world.connections == 5


async def second_kills(asked: Asked, writer: asyncio.StreamWriter) -> None:
    if asked.path == "/second":
        writer.transport.abort()
    else:
        writer.write(OK)


@pytest.mark.parametrize(
    ("method", "repeatable", "repeated"),
    [("GET", None, True), ("POST", None, False), ("DELETE", None, False), ("DELETE", True, True), ("POST", True, True), ("GET", False, False)],
)  # fmt: skip
async def test_a_kept_connection_that_dies_under_a_call_repeats_only_what_its_caller_lets_be_repeated(
    method: str, repeatable: bool | None, repeated: bool
) -> None:
    async with World(second_kills).running() as world, egress(world) as client:
        await client.request(Request(method="GET", url=world.url))
        headers = {
            "Idempotency-Key": "k"
        }  # Says nothing: whether the server looks at it, only the caller knows.
        with pytest.raises(EgressError) as caught:
            await client.request(
                Request(method=method, url=f"{world.url}/second", headers=headers, repeatable=repeatable)
            )
    assert (caught.value.reason, caught.value.touched) == ("closed", True)
    assert [asked.path for asked in world.asked].count("/second") == (2 if repeated else 1)


async def test_a_call_that_must_not_be_sent_twice_has_a_connection_of_its_own(world: World) -> None:
    world.answering = OK
    async with egress(world) as client:
        for repeatable in (True, False, False, True):
            await client.request(Request(method="POST", url=world.url, repeatable=repeatable))
        assert world.connections == 3
        assert client._lines._idle == 1


@pytest.mark.parametrize("repeatable", [True, False, None])
async def test_a_redirect_to_another_server_takes_no_promise_along(
    world: World, repeatable: bool | None
) -> None:
    """A POST that follows a 307 to where nobody promised anything is sent once."""
    world.answering = OK
    async with World(second_kills).running() as other, egress(world, other) as client:
        await client.request(Request(method="GET", url=other.url))
        world.answering = redirect(f"{other.url}/second", 307)
        with pytest.raises(EgressError):
            await client.request(Request(method="POST", url=world.url, repeatable=repeatable))
    assert [asked.path for asked in other.asked].count("/second") == 1


async def test_a_new_connection_that_dies_is_not_tried_again(world: World) -> None:
    world.answering = end
    async with egress(world) as client:
        error = await refusal(client, world.url)
    assert (error.reason, error.touched, len(world.asked)) == ("closed", True, 1)


async def test_a_server_that_speaks_out_of_turn_is_not_listened_to(world: World) -> None:
    """What lies in a kept connection before the next request would be taken for its answer."""
    world.answering = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
    async with egress(world) as client:
        for _ in range(4):
            assert (await client.request(Request(method="GET", url=world.url))).body == b"ok"
            await asyncio.sleep(0.005)
    assert world.connections == 4


async def test_cancelled_calls_leave_no_connection_and_no_place_behind(world: World) -> None:
    async def sometimes(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.002 * (len(world.asked) % 5))
        writer.write(answer(b"x" * 100_000))

    world.answering = sometimes
    async with egress(world, per_host=4, connections=4) as client:

        async def impatient(patience: float) -> None:
            try:
                async with asyncio.timeout(patience):
                    await client.request(Request(method="POST", url=world.url, body=b"x" * 100_000))
            except TimeoutError:
                pass

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(impatient(0.001 * (number % 37)))
        world.answering = OK
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(client.request(Request(method="GET", url=world.url))) for _ in range(8)
            ]
        assert {task.result().status for task in answers} == {200}
        assert client._lines._total._value == 4
        assert {host.users for host in client._lines._hosts.values()} <= {0}
    while world.open:
        await asyncio.sleep(0.001)


async def test_idle_connections_are_closed_after_a_while(world: World) -> None:
    async with egress(world, keepalive_s=0.05) as client:
        await client.request(Request(method="GET", url=world.url))
        while world.open:
            await asyncio.sleep(0.005)
        assert client._lines._hosts == {}
        assert client._lines._idle == 0


# --- TCP, for mail ----------------------------------------------------------------------------------------------


async def test_a_tcp_connection_goes_to_a_checked_address(world: World) -> None:
    async with Egress(world.allowed, names(mail_test=["127.0.0.1"])) as client:
        opened = await client.open_tcp("Mail.TEST.", world.port)
        with opened.socket:
            assert opened.socket.getpeername() == ("127.0.0.1", world.port)
            assert (opened.host, opened.address, opened.port) == ("mail.test", "127.0.0.1", world.port)


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [("127.0.0.1", 25, "forbidden"), ("inner.test", 25, "forbidden"), ("public.test", 6379, "forbidden"), ("nobody.test", 25, "unresolvable"),
     ("[::1]", 25, "forbidden"), ("127.1", 25, "bad_request"), ("a\nb", 25, "bad_request"), ("", 25, "bad_request")],
)  # fmt: skip
async def test_a_tcp_connection_to_anywhere_else_is_refused(host: str, port: int, reason: str) -> None:
    known = names(inner_test=["10.0.0.1"], public_test=["93.184.216.34"])
    async with Egress((), known) as client:
        with nothing_connects(), pytest.raises(EgressError) as caught:
            await client.open_tcp(host, port)
    assert (caught.value.reason, caught.value.touched) == (reason, False)


async def test_a_mail_account_goes_to_its_own_server(world: World) -> None:
    account = Credential(
        value=SmtpSecret(user="a", password=Secret(CANARY)), allowed_hosts=("smtp.example.com",)
    )
    async with Egress(world.allowed) as client:
        with nothing_connects(), pytest.raises(CredentialNotAllowed):
            await client.open_tcp("127.0.0.1", world.port, credential=account)


# --- Names by the operating system --------------------------------------------------------------------------------


async def test_the_systems_own_resolver_is_asked_and_its_answer_judged(world: World) -> None:
    async with egress(world) as client:
        with nothing_connects():
            assert (await refusal(client, "http://localhost/")).reason == "forbidden"
        assert (await refusal(client, "http://nobody.invalid/")).reason == "unresolvable"


# --- The loop that production runs on --------------------------------------------------------------------------------


def test_all_of_it_works_on_uvloop() -> None:
    async def story() -> list[str]:
        told: list[str] = []
        async with (
            World().running() as plain,
            World().running(tls=server_side("127.0.0.1")) as secure,
            World(silent).running() as mute,
            egress(plain, secure, mute, tls=client_side(), connect_s=0.5) as client,
        ):
            for url in (plain.url, f"https://127.0.0.1:{secure.port}/", plain.url):
                got: Response = await client.request(Request(method="POST", url=url, body=b"x" * 300_000))
                told.append(str(got.status))
            for url in (
                f"https://127.0.0.1:{plain.port}/",
                mute.url,
                "http://127.0.0.1:8123/",
                f"http://127.0.0.1:{plain.port}\\@x/",
            ):
                error = await refusal(client, url, timeout_s=1.0)
                told.append(error.reason)
            opened = await client.open_tcp("127.0.0.1", plain.port)
            opened.socket.close()
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(client.request(Request(method="GET", url=plain.url)))
        return told

    assert uvloop.run(story()) == ["200", "200", "200", "tls", "timeout", "forbidden", "bad_request"]
