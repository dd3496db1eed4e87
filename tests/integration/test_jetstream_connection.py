"""What the connection promises: it heals itself, says at once what nobody knows, and dies visibly when it must."""

import asyncio
import random
from typing import Any

import pytest
from nats.protocol.parser import Parser

from chassis.jetstream.client import _QuickParser
from chassis.jetstream.connection import NotAllowed, connect
from chassis.jetstream.wire import Headers, Refusal, block, header, lines_of, status
from chassis.ports import Ambiguous, Away, Proposal
from deploy.testing.embedded import NatsServer
from tests.integration.conftest import OpenPorts, StartNats
from tests.integration.port_laws import LONG, commit, until
from tests.integration.proxies import proxy_to

# --- The watchdog -----------------------------------------------------------------------------


async def test_a_connection_that_only_answers_pings_is_dropped_and_made_anew(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with proxy_to(streams.url) as proxy, open_ports(url=proxy.url) as ports:
        await ports.log.append([commit("before")])
        proxy.swallowing = True
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(four_questions(ports.connection))
            await until(lambda: ports.connection.counts["wedged"] == 1)
            proxy.swallowing = False
            await until(lambda: proxy.connections >= 2 and ports.connection.up)
        assert asking.result() == [None, None, None]
        assert await ports.log.append([commit("after")]) != [None]


async def four_questions(connection: Any) -> list[Any]:
    """One more than the watchdog takes would only wait for the new connection."""
    question = ("$JS.API.INFO", b"", b"")
    return [(await connection.ask([question], timeout=0.2))[0] for _ in range(3)]


async def test_many_questions_without_an_answer_at_once_count_once(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with proxy_to(streams.url) as proxy, open_ports(url=proxy.url) as ports:
        proxy.swallowing = True
        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(ports.connection.ask([("$JS.API.INFO", b"", b"")], timeout=0.3))
        proxy.swallowing = False
        assert ports.connection.counts["time_outs"] == 20
        assert ports.connection.counts["wedged"] + ports.connection.counts["silent"] == 0
        await ports.log.append([commit("after")])
        assert proxy.connections == 1


async def test_a_connection_that_answers_nothing_is_dropped_too(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with proxy_to(streams.url) as proxy, open_ports(url=proxy.url) as ports:
        proxy.silent = True
        for _ in range(3):
            assert await ports.connection.ask([("$JS.API.INFO", b"", b"")], timeout=0.1) == [None]
        await until(lambda: ports.connection.counts["silent"] == 1)
        proxy.silent = False
        await until(lambda: ports.connection.up)
        assert await ports.log.append([commit("after")]) != [None]


async def test_a_connection_that_nobody_reads_is_made_anew(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        assert ports.connection.client._reading_task is not None
        ports.connection.client._reading_task.cancel()
        await until(lambda: ports.connection.counts["deaf"] == 1)
        await until(lambda: ports.connection.up)
        assert await ports.log.append([commit("after")]) != [None]


async def test_a_connection_that_nobody_makes_anew_ends_the_service(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    with pytest.raises(Away, match="stopped reconnecting"):
        async with open_ports() as ports:
            await streams.kill()
            await until(lambda: ports.connection.client.is_reconnecting)
            assert ports.connection.client._reconnection_task is not None
            ports.connection.client._reconnection_task.cancel()
            await asyncio.Event().wait()
    await streams.start()


async def test_an_answer_to_a_ping_that_nobody_awaits_any_more_harms_nothing(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with proxy_to(streams.url) as proxy, open_ports(url=proxy.url) as ports:
        given_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await ports.connection.client._send_ping(given_up)
        given_up.cancel()
        await ports.connection.flush()
        assert await ports.log.append([commit("after")]) != [None]
        assert ports.connection.counts["lost"] == 0


# --- Losing the connection --------------------------------------------------------------------


async def test_a_flush_is_answered_behind_what_was_said_before_it(
    monkeypatch: pytest.MonkeyPatch, open_ports: OpenPorts
) -> None:
    async with open_ports() as ports:
        client = ports.connection.client
        written: list[bytes] = []
        write, write_lines = client._writer.write, client._writer.writelines
        with monkeypatch.context() as patch:
            patch.setattr(client._writer, "write", lambda data: (written.append(bytes(data)), write(data)))
            patch.setattr(
                client._writer, "writelines", lambda lines: (written.extend(lines), write_lines(lines))
            )
            client.hear("behind.*", lambda *_message: None)
            client.send("behind.one", b"body")
            await ports.connection.flush()
    assert [line.split()[0] for line in written[:3]] == [b"SUB", b"PUB", b"PING"]


async def test_who_asked_is_told_at_once_when_the_connection_goes(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with proxy_to(streams.url) as proxy, open_ports(url=proxy.url) as ports:
        proxy.swallowing = True
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ports.connection.ask([("$JS.API.INFO", b"", b"")], timeout=LONG * 10))
            calling = tasks.create_task(refused_request(ports))
            await asyncio.sleep(0.1)
            proxy.cut()
            async with asyncio.timeout(LONG):
                assert await asking == [None]
                assert isinstance(await calling, Ambiguous)


async def refused_request(ports: Any) -> Exception | None:
    def silent(_subject: str, _body: bytes, _answer: Any) -> None:
        pass

    async with ports.signals.listen("nobody.answers", silent):
        try:
            await ports.signals.request("nobody.answers", b"", LONG * 10)
        except Away as away:
            return away
    return None


async def test_nothing_leaves_that_was_said_while_the_server_was_away(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with open_ports() as ports, open_ports() as others:
        heard: list[bytes] = []
        before = ports.connection.connected_since
        async with others.signals.listen("said", lambda _subject, body, _answer: heard.append(body)):
            await streams.kill()
            await until(lambda: not ports.connection.up)
            ports.signals.publish("said", b"into the void")
            with pytest.raises(Away) as told:
                await ports.signals.request("said", b"", 1.0)
            assert not isinstance(told.value, Ambiguous)
            await streams.start()
            await until(lambda: ports.connection.up and others.connection.up)
            await until(lambda: said(ports, heard))
        assert set(heard) == {b"again"}
        assert ports.source("default").connected_since == ports.connection.connected_since > before
        assert ports.unready() == []


def said(ports: Any, heard: list[bytes]) -> bool:
    ports.signals.publish("said", b"again")
    return bool(heard)


async def test_who_listened_listens_again_after_a_restart(streams: NatsServer, open_ports: OpenPorts) -> None:
    def heard(subject: str, _body: bytes, answer: Any) -> None:
        answer(subject.encode())

    async with open_ports() as ports, open_ports() as others, others.signals.listen("asked.*", heard):
        for _ in range(3):
            await streams.kill()
            await until(lambda: not ports.connection.up and not others.connection.up)
            await streams.start()
            await until(lambda: ports.connection.up and others.connection.up)
            await others.connection.flush()
            assert await ports.signals.request("asked.x", b"", LONG) == b"asked.x"


# --- Dying visibly ----------------------------------------------------------------------------


async def test_a_callback_that_raises_ends_the_service(open_ports: OpenPorts) -> None:
    def heard(_subject: str, _body: bytes, _answer: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with open_ports() as ports, ports.signals.listen("boom", heard):
            ports.signals.publish("boom", b"")
            await asyncio.Event().wait()


async def test_an_unknown_user_is_an_error_and_no_waiting(start_nats: StartNats) -> None:
    server = await start_nats(accounts='authorization { user: "somebody", password: "secret" }')
    with pytest.raises(NotAllowed, match="refuses the user of stranger"):
        async with connect(server.url, name="stranger"):
            raise AssertionError("it was let in")


async def test_a_user_that_is_no_longer_known_ends_the_service(nats_server: NatsServer) -> None:
    with pytest.raises(NotAllowed):
        async with connect(nats_server.url, name="known"):
            nats_server._nats._options = nats_server._nats._options.__class__(
                accounts='authorization { user: "somebody", password: "secret" }'
            )
            await nats_server.kill()
            await nats_server.start()
            await asyncio.Event().wait()


async def test_a_service_that_may_not_listen_ends(start_nats: StartNats) -> None:
    allowed = (
        'authorization { users: [ { user: u, password: p, permissions: { subscribe: ["_INBOX_deaf.>"] } } ] }'
    )
    server = await start_nats(accounts=allowed)
    url = server.url.replace("nats://", "nats://u:p@")
    with pytest.raises(NotAllowed, match="subscription"):
        async with connect(url, name="deaf") as connection:
            connection.hear("secret.>", lambda _subject, _reply, _headers, _body: None)
            await asyncio.Event().wait()


async def test_it_waits_for_a_server_that_is_not_there_yet(nats_server: NatsServer) -> None:
    await nats_server.stop()

    async def connected() -> bool:
        async with connect(nats_server.url, name="early") as connection:
            return connection.up

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(connected())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await nats_server.start()
    assert waiting.result()


# --- The short way through nats-py ------------------------------------------------------------


class Recorder:
    """Stands where the parser has its client."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        self.said.append((sid, bytes(subject), bytes(reply), bytes(data), bytes(headers or b"")))

    async def _process_ping(self) -> None:
        self.said.append("ping")

    async def _process_pong(self) -> None:
        self.said.append("pong")

    async def _process_info(self, info: Any) -> None:
        self.said.append(info)

    async def _process_err(self, text: str) -> None:
        self.said.append(text)


def protocol(chance: random.Random) -> bytes:
    """Anything that a server may say, bodies full of what looks like protocol."""
    parts: list[bytes] = []
    for _ in range(60):
        body = chance.choice(
            (b"", b"\r\n", b"MSG a 1 5\r\nhello\r\n", chance.randbytes(chance.randrange(3000)))
        )
        head = b"NATS/1.0\r\nA: b\r\n\r\n" if chance.random() < 0.5 else b"NATS/1.0 503\r\n\r\n"
        reply = chance.choice((b"", b"reply.to "))
        parts.append(
            chance.choice(
                (
                    b"MSG s.a 7 %s%d\r\n%s\r\n" % (reply, len(body), body),
                    b"HMSG s.b 8 %s%d %d\r\n%s%s\r\n" % (reply, len(head), len(head) + len(body), head, body),
                    b"PING\r\n",
                    b"PONG\r\n",
                    b"+OK\r\n",
                    b'INFO {"server_id":"x"}\r\n',
                    b"-ERR 'Slow Consumer'\r\n",
                )
            )
        )
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(30))
async def test_the_short_parser_says_what_nats_py_says_however_the_bytes_are_cut(seed: int) -> None:
    chance = random.Random(seed)
    data = protocol(chance)
    short, long = Recorder(), Recorder()
    theirs: Any = Parser(long)
    await theirs.parse(data)
    ours: Any = _QuickParser(short)
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 7, 100, 5000))
        await ours.parse(data[at : at + size])
        at += size
    assert short.said == long.said
    assert len(short.said) > 30


async def test_messages_of_every_size_come_through_whole(open_ports: OpenPorts) -> None:
    heard: list[bytes] = []
    sizes = [0, 1, 4_095, 32_768, 100_000, 1_000_000, 3]

    def hear(_subject: str, body: bytes, _answer: Any) -> None:
        heard.append(body)

    async with open_ports() as ports, open_ports() as others, others.signals.listen("size", hear):
        for size in sizes:
            ports.signals.publish("size", bytes([size % 251]) * size)
        await until(lambda: len(heard) == len(sizes))
    assert [len(body) for body in heard] == sizes
    assert all(set(body) <= {size % 251} for body, size in zip(heard, sizes, strict=True))


# --- Headers ----------------------------------------------------------------------------------


def test_a_header_value_never_ends_its_line() -> None:
    raw = block(lines_of({"reason": "a\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\nbody", "next": "é"}))
    assert dict(Headers(raw)) == {
        "reason": "a  Nats-Expected-Last-Subject-Sequence: 0    body",
        "next": "é",
    }
    assert header(raw, b"Nats-Expected-Last-Subject-Sequence") == ""


@pytest.mark.parametrize("name", ["Nats-Msg-Id", "a b", "", "a:b", "a\r\nb", "é"])
def test_a_header_name_that_means_something_to_the_server_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header name"):
        lines_of({name: "value"})


def test_a_status_is_read_and_a_message_has_none() -> None:
    assert status(b"NATS/1.0 503\r\n\r\n") == "503"
    assert status(b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n") == "408"
    assert status(b"NATS/1.0\r\na: 404\r\n\r\n") == ""
    assert status(b"") == ""


async def test_a_commit_larger_than_a_message_may_be_is_a_defect_of_ours(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        with pytest.raises(Refusal, match="more than a message may have"):
            await ports.log.append([Proposal("run.o.large", b"x" * 1_100_000, 0)])
        ports.signals.publish("large", b"x" * 1_100_000)
        assert ports.connection.counts["too_large"] == 1
        assert await ports.log.append([commit("small")]) != [None]  # On the same connection.
        assert ports.connection.counts["lost"] == 0
