"""The outermost layer, in front of a real server on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.edge.bodies import read_body
from chassis.edge.connections import ConnectionCap
from chassis.edge.guard import SECURITY_HEADERS, Guard, header
from chassis.edge.problems import Problem
from chassis.http import Receive, Scope, Send, lifespan, send_whole, serving
from chassis.telemetry import Tracer
from contracts.limits import HEADER_BYTES, HEADER_FIELDS


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Does what its path says."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    match scope["path"]:
        case "/raise":
            raise KeyError("hunter2")
        case "/problem":
            raise Problem("rate_limited", "Slowly.", headers={"Retry-After": "7"})
        case "/body":
            length = header(scope, b"content-length")
            body = await read_body(receive, length.encode() if length else None, limit=100, seconds=0.05)
            await send_whole(send, 200, b"text/plain", body)
        case "/own-header":
            await send_whole(send, 200, b"text/plain", b"", ((b"cache-control", b"max-age=5"),))
        case "/large":
            await send_whole(send, 200, b"text/plain", b"x" * 50_000_000)
        case _:
            await send_whole(send, 200, b"text/plain", scope["state"]["address"].encode())


class Wire:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, text: str | bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(text.encode() if isinstance(text, str) else text)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def closed(self) -> bool:
        """Waits until the other side has closed."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def wires(cap: ConnectionCap | None = None, *, trusted_proxies: int = 0) -> AsyncIterator["Open"]:
    guard = Guard(app, tracer=Tracer(), trusted_proxies=trusted_proxies)
    async with serving(guard, "127.0.0.1", 0, cap=cap, drain_seconds=1) as server:
        opened = Open(server.port)
        try:
            yield opened
        finally:
            for wire in opened.all:
                wire.writer.close()


class Open:
    def __init__(self, port: int) -> None:
        self._port = port
        self.all: list[Wire] = []

    async def __call__(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self._port))
        self.all.append(wire)
        return wire


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with wires() as opened:
        yield await opened()


async def test_every_answer_carries_the_security_headers(wire: Wire) -> None:
    for path in ("/", "/problem", "/raise"):
        _, headers, _ = await wire.ask(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
        for name, value in SECURITY_HEADERS:
            assert headers[name.decode()] == value.decode()
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


async def test_an_app_may_set_a_header_itself(wire: Wire) -> None:
    _, headers, _ = await wire.ask("GET /own-header HTTP/1.1\r\nhost: x\r\n\r\n")
    assert headers["cache-control"] == "max-age=5"


async def test_a_problem_is_an_rfc_9457_document_with_a_trace_id(wire: Wire) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    status, headers, body = await wire.ask(
        f"GET /problem HTTP/1.1\r\nhost: x\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n\r\n"
    )
    assert (status, headers["content-type"], headers["retry-after"]) == (429, "application/problem+json", "7")
    assert json.loads(body) == {
        "type": "urn:automateos:rate_limited",
        "title": "Too many requests; Retry-After says when to come again.",
        "status": 429,
        "code": "rate_limited",
        "detail": "Slowly.",
        "trace_id": trace,
    }


async def test_a_defect_says_nothing_about_itself(wire: Wire) -> None:
    status, _, body = await wire.ask("GET /raise HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (500, "internal")
    assert b"hunter2" not in body


@pytest.mark.parametrize(
    "framing",
    [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "content-length: 3\r\ncontent-length: 3\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "content-length : 3\r\n",
        "content-length: 3\r\n folded: 1\r\n",
        "content-length: +3\r\n",
    ],
)
async def test_two_meanings_of_where_a_body_ends_are_refused_and_the_connection_ends(
    wire: Wire, framing: str
) -> None:
    status, headers, _ = await wire.ask(f"POST /body HTTP/1.1\r\nhost: x\r\n{framing}\r\n0\r\n\r\n")
    assert (status, headers["connection"]) == (400, "close")
    assert await wire.closed()


async def test_more_header_fields_than_allowed_are_refused() -> None:
    async with wires() as opened:
        fields = "".join(f"x-{n}: 1\r\n" for n in range(HEADER_FIELDS - 1))
        assert (await (await opened()).ask(f"GET / HTTP/1.1\r\nhost: x\r\n{fields}\r\n"))[0] == 200
        assert (await (await opened()).ask(f"GET / HTTP/1.1\r\nhost: x\r\n{fields}x: 1\r\n\r\n"))[0] == 431


async def test_a_large_header_section_is_refused() -> None:
    async with wires() as opened:
        room = HEADER_BYTES - len("hostx") - len("a")
        assert (await (await opened()).ask(f"GET / HTTP/1.1\r\nhost: x\r\na: {'b' * room}\r\n\r\n"))[0] == 200
        assert (await (await opened()).ask(f"GET / HTTP/1.1\r\nhost: x\r\na: {'b' * room}b\r\n\r\n"))[
            0
        ] == 431


async def test_a_header_section_without_end_is_cut_off(wire: Wire) -> None:
    wire.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 200_000)
    assert (await wire.answer())[0] == 431
    assert await wire.closed()


@pytest.mark.parametrize("begin", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n"])
async def test_a_request_that_does_not_begin_in_time_is_cut_off(begin: bytes) -> None:
    async with wires(ConnectionCap(header_seconds=0.05)) as opened:
        wire = await opened()
        wire.writer.write(begin)
        assert (await wire.answer())[0] == 408
        assert await wire.closed()


async def test_empty_lines_between_requests_do_not_keep_a_connection() -> None:
    async with wires(ConnectionCap(header_seconds=0.05)) as opened:
        wire = await opened()
        assert (await wire.ask("GET / HTTP/1.1\r\nhost: x\r\n\r\n"))[0] == 200
        assert (await wire.ask("\r\n"))[0] == 408
        assert await wire.closed()


async def test_the_deadline_for_headers_does_not_end_a_request_that_is_under_way() -> None:
    async with wires(ConnectionCap(header_seconds=0.02)) as opened:
        wire = await opened()
        wire.writer.write(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
        await asyncio.sleep(0.03)
        status, _, body = await wire.ask("b")
        assert (status, body) == (200, b"ab")


async def test_a_slow_body_is_refused(wire: Wire) -> None:
    status, headers, _ = await wire.ask("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
    assert (status, headers["connection"]) == (408, "close")
    assert await wire.closed()


async def test_a_large_body_is_refused(wire: Wire) -> None:
    status, _, body = await wire.ask("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 101\r\n\r\n")
    assert (status, json.loads(body)["code"]) == (413, "too_large")


async def test_whoever_does_not_read_the_answer_is_cut_off() -> None:
    cap = ConnectionCap(stall_seconds=0.05)
    async with wires(cap) as opened:
        wire = await opened()
        wire.writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(60):
            while cap.open == 0:
                await asyncio.sleep(0.005)
            while cap.open:
                await asyncio.sleep(0.005)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await wire.answer()


async def test_an_address_has_so_many_connections_and_no_more() -> None:
    cap = ConnectionCap(2, exempt_loopback=False)
    async with wires(cap) as opened:
        first, second = await opened(), await opened()
        get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        assert (await first.ask(get))[0] == (await second.ask(get))[0] == 200
        third = await opened()
        assert await third.closed()
        assert cap.refused == 1
        first.writer.close()
        await first.writer.wait_closed()
        async with asyncio.timeout(60):
            while cap.open > 1:
                await asyncio.sleep(0.005)
        assert (await (await opened()).ask(get))[0] == 200


async def test_a_port_has_so_many_connections_in_all_and_tells_the_others_to_come_again() -> None:
    cap = ConnectionCap(most_in_all=1)
    async with wires(cap) as opened:
        first = await opened()
        get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        assert (await first.ask(get))[0] == 200
        status, headers, _ = await (await opened()).answer()
        assert (status, headers["retry-after"], cap.refused) == (503, "1", 1)
        assert (await first.ask(get))[0] == 200


NO = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\nno"


class Keeper:
    """Turns requests away while it is told to."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.shut = True

    def __call__(self, target: bytes) -> bytes | None:
        self.asked.append(target)
        return NO if self.shut else None


async def test_who_is_turned_away_is_answered_without_the_app_and_may_come_again_on_the_same_line() -> None:
    keeper = Keeper()
    async with wires(ConnectionCap(turn_away=keeper, header_seconds=0.05)) as opened:
        wire = await opened()
        request = "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
        for _ in range(3):
            status, headers, body = await wire.ask(request)
            assert (status, headers["retry-after"], body) == (503, "1", b"no")
        await asyncio.sleep(0.1)  # Nobody waits for headers now.
        keeper.shut = False
        assert await wire.ask(request) == await (await opened()).ask(request)
        assert keeper.asked == [b"/body"] * 5


async def test_a_body_that_comes_behind_its_refusal_is_dropped_and_must_end() -> None:
    keeper = Keeper()
    async with wires(ConnectionCap(turn_away=keeper, header_seconds=0.05)) as opened:
        wire = await opened()
        assert (await wire.ask("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhel"))[0] == 503
        wire.writer.write(b"lo all")
        assert (await wire.ask("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"))[0] == 503
        slow = await opened()
        assert (await slow.ask("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhel"))[0] == 503
        assert (await slow.answer())[0] == 408
        assert await slow.closed()


async def test_large_and_endless_bodies_are_left_to_the_app() -> None:
    keeper = Keeper()
    async with wires(ConnectionCap(turn_away=keeper)) as opened:
        for framing in ("content-length: 999999", "transfer-encoding: chunked\r\nconnection: close"):
            assert (await (await opened()).ask(f"POST / HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"))[0] != 503
        assert keeper.asked == []


async def test_who_asks_to_be_let_go_is_let_go_with_the_refusal() -> None:
    async with wires(ConnectionCap(turn_away=Keeper())) as opened:
        wire = await opened()
        ask = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        assert (await wire.ask(ask))[0] == 503
        assert await wire.closed()


async def test_behind_a_trusted_proxy_the_client_is_who_the_proxy_says() -> None:
    get = "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 6.6.6.6, 203.0.113.9\r\n\r\n"
    async with wires(trusted_proxies=1) as opened:
        assert (await (await opened()).ask(get))[2] == b"203.0.113.9"
    async with wires() as opened:
        assert (await (await opened()).ask(get))[2] == b"127.0.0.1"


async def test_what_a_request_causes_belongs_to_its_span() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        seen.append(scope["state"]["trace"])
        raise Problem("not_found")

    async with serving(Guard(inner, tracer=Tracer(1.0, provider)), "127.0.0.1", 0) as server:
        opened = Open(server.port)
        trace = "0af7651916cd43dd8448eb211c80319c"
        head = f"GET / HTTP/1.1\r\nhost: x\r\ntraceparent: 00-{trace}-b7ad6b7169203331-00\r\n\r\n"
        assert (await (await opened()).ask(head))[0] == 404
        opened.all[0].writer.close()
    (span,) = exporter.get_finished_spans()
    assert seen == [f"00-{trace}-{span.context.span_id:016x}-01"]
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.status.is_ok or span.status.is_unset
