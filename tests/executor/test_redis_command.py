"""What the node for Redis sends, gives and refuses; against the real server of the embedded stack, through the guard."""

import asyncio
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import redis.asyncio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from chassis.secret import BasicSecret, BearerSecret, Secret, SecretValue, TextSecret
from contracts.codec import decode_json
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt, StepLetGo, Task
from contracts.payloads import Inline
from deploy.readiness import answers
from deploy.servers.redis import redis_binary
from executor.errors import TooLarge
from executor.redis_commands import READS, REFUSED
from executor.resp import Garbled, Replies, Said, command
from tests.executor.bridges import Bridge, bridged
from tests.executor.fakes import STEP, World, scheduled, task, until
from tests.executor.servers import says, serving

PASSWORD = "c4nary-pw"


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    """A server of this module's own, the program of the embedded stack: the shared one gives nobody a password."""
    with redis_server() as socket:
        yield socket


@pytest.fixture(scope="module")
def old() -> Iterator[str]:
    """One that knows no HELLO, as before version 6, and wants a password."""
    with redis_server("--rename-command", "HELLO", "", "--requirepass", PASSWORD) as socket:
        yield socket


@contextmanager
def redis_server(*more: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="automateos-redis-") as folder:
        socket = f"{folder}/redis.sock"
        command_line = [
            str(redis_binary()),
            "--port",
            "0",
            "--unixsocket",
            socket,
            "--save",
            "",
            "--dir",
            folder,
            *more,
        ]
        server = subprocess.Popen(command_line, stdout=subprocess.DEVNULL)
        try:
            asyncio.run(_ready(socket))
            yield socket
        finally:
            server.terminate()
            server.wait(10)


async def _ready(socket: str) -> None:
    async with asyncio.timeout(60):
        await answers(socket, b"PING\r\n", b"")


@pytest.fixture
async def admin(path: str) -> AsyncIterator[Any]:
    """The way in of somebody who may do everything; `ada` comes by a password."""
    client: Any = redis.asyncio.Redis(unix_socket_path=path)
    try:
        await client.flushall()
        await client.execute_command("ACL", "SETUSER", "ada", "on", f">{PASSWORD}", "~*", "+@all")
        yield client
    finally:
        await client.aclose()


ADA: Final = BasicSecret(user="ada", password=Secret(PASSWORD))


def guarded(value: SecretValue = ADA, *hosts: str) -> World:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", value, *(hosts or ("127.0.0.1",)))
    return world


def asking(port: int, name: str, *arguments: Any, **more: Any) -> Task:
    config = {
        "host": "127.0.0.1",
        "port": port,
        "tls": "disable",
        "auth": {"$secret": "s1"},
        "command": name,
        "arguments": [*arguments],
    }
    return task(config | more, node_type="redis.command", repeat="no", secrets=("/auth",), timeout_s=20.0)


async def attempted(
    path: str, name: str, *arguments: Any, world: World | None = None, **more: Any
) -> Outcome:
    world = world or guarded()
    async with bridged(path) as bridge, world.executor():
        world.source.put(asking(bridge.port, name, *arguments, **more))
        await until(lambda: world.outcomes)
    assert PASSWORD not in str(world.outcomes)
    assert PASSWORD not in str(world.said)
    return world.outcomes[0]


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone), outcome
    assert isinstance(outcome.output, Inline)
    return decode_json(outcome.output.value)


def broken(outcome: Outcome) -> StepBroken:
    assert isinstance(outcome, StepBroken), outcome
    return outcome


# --- Replies ----------------------------------------------------------------------------------------


async def test_commands_bring_what_json_can_say(admin: Any, path: str) -> None:
    for name, arguments, reply in (
        ("SET", ("a", "grüß\r\n$1"), "OK"),
        ("GET", ("a",), "grüß\r\n$1"),
        ("get", ("none",), None),
        ("INCRBY", ("n", 2**53 - 1), 2**53 - 1),
        ("INCR", ("n",), str(2**53)),
        ("HSET", ("h", "x", 1, "y", 2.5, "z", True), 3),
        ("HGETALL", ("h",), {"x": "1", "y": "2.5", "z": "true"}),
        ("RPUSH", ("l", "1", "2"), 2),
        ("LRANGE", ("l", 0, -1), ["1", "2"]),
        ("ZADD", ("z", 1.5, "m"), 1),
        ("ZSCORE", ("z", "m"), 1.5),
        ("SETBIT", ("b", 0, 1), 0),
        ("GET", ("b",), {"base64": "gA=="}),
    ):
        assert output(await attempted(path, name, *arguments)) == {"reply": reply}, name


async def test_several_go_as_one(admin: Any, path: str) -> None:
    then = [{"command": "INCR", "arguments": ["n"]}, {"command": "GET", "arguments": ["n"]}]
    told = output(await attempted(path, "SET", "n", 1, then=then))
    assert told == {"reply": "OK", "then": [2, "2"]}


async def test_when_one_cannot_be_queued_none_is_carried_out(admin: Any, path: str) -> None:
    told = broken(await attempted(path, "SET", "a", 1, then=[{"command": "GET"}])).error
    assert told.message == "The server answered ERR: wrong number of arguments for 'get' command."
    assert told.field == "/then/0/command"
    assert await admin.get("a") is None


async def test_when_one_fails_the_step_tells_which(admin: Any, path: str) -> None:
    told = broken(
        await attempted(path, "SET", "a", "x", then=[{"command": "INCR", "arguments": ["a"]}])
    ).error
    assert told.message == "The server answered ERR: value is not an integer or out of range."
    assert told.field == "/then/0/command"


async def test_what_was_sent_does_not_come_back_in_an_error(admin: Any, path: str) -> None:
    told = broken(await attempted(path, "NOSUCH", "s3cret value")).error
    assert told.message == "The server answered ERR."


@given(
    st.recursive(
        st.none() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_is_written_is_read(value: Any) -> None:
    def written(item: Any) -> bytes:
        match item:
            case None:
                return b"_\r\n"
            case int():
                return b":%d\r\n" % item
            case str():
                return b"$%d\r\n%b\r\n" % (len(item.encode()), item.encode())
            case _:
                return b"*%d\r\n" % len(item) + b"".join(map(written, item))

    assert read(written(value)) == value


def read(data: bytes, most: int = 1_000_000) -> Any:
    async def reading() -> Any:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await Replies(reader, most).next()

    return asyncio.run(reading())


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"%1\r\n:1\r\n+a\r\n", [[1, "a"]]), (b",inf\r\n", "inf"), (b"#f\r\n", False), (b"~1\r\n+a\r\n", ["a"]),
     (b"(12345678901234567890\r\n", "12345678901234567890"), (b"=7\r\ntxt:abc\r\n", "abc"), (b"!5\r\nERR x\r\n", Said("ERR x")),
     (b"|1\r\n+k\r\n+v\r\n+a\r\n", "a"), (b">1\r\n+news\r\n+a\r\n", "a"), (b"$-1\r\n", None), (b"*-1\r\n", None)],
)  # fmt: skip
def test_every_kind_of_reply_has_its_place(data: bytes, value: Any) -> None:
    assert read(data) == value


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n", b":x\r\n", b"?\r\n", b"$x\r\n", b",\xff\r\n"]
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        read(data)


@pytest.mark.parametrize(
    "data", [b"*1\r\n" * 40 + b":1\r\n", b"$2000000\r\n", b"*200000\r\n" + b":1\r\n" * 200_000]
)
def test_replies_are_bounded(data: bytes) -> None:
    with pytest.raises(TooLarge):
        read(data, 1_000_000)


def test_no_argument_becomes_two() -> None:
    assert command(b"SET", b"a\r\n$1", b"") == b"*3\r\n$3\r\nSET\r\n$5\r\na\r\n$1\r\n$0\r\n\r\n"


async def test_an_old_server_is_spoken_to_in_the_old_tongue(old: str) -> None:
    world = guarded(TextSecret(text=Secret(PASSWORD)))
    then = [{"command": "HGETALL", "arguments": ["h"]}]
    told = output(await attempted(old, "HSET", "h", "x", 1, world=world, then=then, database=3))
    assert told == {"reply": 1, "then": [["x", "1"]]}
    world = guarded(TextSecret(text=Secret("wr0ng")))
    refused = broken(await attempted(old, "PING", world=world)).error
    assert refused.message == "The server does not let us in (WRONGPASS)."
    refused = broken(await attempted(old, "PING", auth=None)).error
    assert refused.message == "The server answered NOAUTH."


# --- What is not sent -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("BLPOP", ["a", 0]), ("subscribe", ["a"]), ("Config", ["GET", "*"]), ("FLUSHALL", []), ("EVAL", ["return 1", 0]), ("KEYS", ["*"]),
     ("MIGRATE", ["10.0.0.1", 6379]), ("REPLICAOF", ["10.0.0.1", 6379]), ("XREAD", ["block", 0, "STREAMS", "a", "$"]), ("MULTI", []),
     ("SELECT", [1])],
)  # fmt: skip
async def test_what_waits_or_administrates_is_not_sent(path: str, name: str, arguments: list[Any]) -> None:
    world = guarded()
    async with bridged(path) as bridge, world.executor():
        world.source.put(asking(bridge.port, name, *arguments))
        await until(lambda: world.outcomes)
        assert bridge.connections == 0
    told = broken(world.outcomes[0]).error
    assert (told.code, told.field) == ("workflow.bad_config", "/command")


async def test_every_command_that_the_server_calls_dangerous_or_blocking_is_refused_or_known(
    admin: Any,
) -> None:
    known = {"INFO", "SORT", "SORT_RO", "RESTORE", "OBJECT", "LASTSAVE", "COMMAND", "PUBLISH"}
    found = {
        name.decode().upper()
        for group in ("blocking", "admin", "dangerous", "scripting")
        for name in await admin.execute_command("ACL", "CAT", group)
    }
    assert found - REFUSED - known - {"XREAD", "XREADGROUP"} == set()
    assert not READS & REFUSED


# --- Where it goes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1"])
async def test_a_private_address_is_refused_before_anything_connects(path: str, host: str) -> None:
    world = World(allow="127.0.0.0/8 10.0.0.0/8")  # Opened for calls: not for databases.
    world.safe.keep("s1", TextSecret(text=Secret(PASSWORD)), host)
    async with bridged(path) as bridge, world.executor():
        for number, port in enumerate((bridge.port, 6379)):
            world.source.put(
                task(
                    {"host": host, "port": port, "tls": "disable", "command": "PING"},
                    node_type="redis.command", repeat="no", step=f"call[{number}]",
                )
            )  # fmt: skip
        await until(lambda: len(world.outcomes) == 2)
        assert bridge.connections == 0
    assert {broken(outcome).error.code for outcome in world.outcomes} == {"unreachable"}


async def test_a_password_goes_to_its_own_hosts_only(path: str) -> None:
    world = guarded(TextSecret(text=Secret(PASSWORD)), "redis.example.com")
    assert broken(await attempted(path, "PING", world=world)).error.code == "secret.not_allowed"


async def test_a_wrong_password_is_told_without_it(admin: Any, path: str) -> None:
    world = guarded(BasicSecret(user="ada", password=Secret("wr0ng")))
    told = broken(await attempted(path, "PING", world=world)).error
    assert told.message == "The server does not let us in (WRONGPASS)."


async def test_a_secret_of_another_kind_is_refused(path: str) -> None:
    world = guarded(BearerSecret(token=Secret("t")))
    told = broken(await attempted(path, "PING", world=world)).error
    assert (told.code, told.field) == ("workflow.bad_config", "/auth")


@pytest.mark.parametrize(("trusted", "code"), [(True, None), (False, "refused")])
async def test_the_line_is_encrypted_and_its_certificate_checked(
    admin: Any, path: str, trusted: bool, code: str | None
) -> None:
    authority, world = trustme.CA(), guarded()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = authority.cert_pem.bytes().decode() if trusted else ""
    async with bridged(path, context) as bridge, world.executor():
        world.source.put(asking(bridge.port, "PING", tls="verify-full", ca=ca))
        await until(lambda: world.outcomes)
    [outcome] = world.outcomes
    assert (broken(outcome).error.code if code else output(outcome)["reply"]) == (code or "PONG")


async def test_what_is_no_redis_is_told_so() -> None:
    world = guarded()

    async with serving(says("400 Bad Request")) as server, world.executor():
        world.source.put(asking(server.port, "PING", timeout_s=0.5))
        await until(lambda: world.outcomes)
    assert broken(world.outcomes[0]).error.code in ("unreachable", "attempt.timeout")


# --- Doubt ------------------------------------------------------------------------------------------


def loses(bridge: Bridge, word: bytes) -> None:
    bridge.loses = lambda data: word in data


@pytest.mark.parametrize(("name", "outcome"), [("INCR", StepInDoubt), ("GET", StepBroken)])
async def test_a_reply_that_never_came_leaves_doubt_unless_the_command_only_reads(
    admin: Any, path: str, name: str, outcome: type
) -> None:
    await admin.set("n", 0)
    world = guarded()
    async with bridged(path) as bridge, world.executor():
        loses(bridge, b"\r\n%b\r\n" % name.encode())
        world.source.put(asking(bridge.port, name, "n"))
        await until(lambda: world.outcomes)
    assert isinstance(world.outcomes[0], outcome)
    assert await admin.get("n") == (b"1" if name == "INCR" else b"0")


async def test_killed_while_the_reply_is_awaited_nobody_knows(admin: Any, path: str) -> None:
    world = guarded()
    world.runs.commit(scheduled())
    world.source.connected_since = 1e12
    await admin.execute_command("CLIENT", "PAUSE", "15000", "WRITE")
    async with bridged(path) as bridge:
        async with world.executor() as first:
            world.source.put(asking(bridge.port, "INCR", "n"))
            await until(lambda: b"INCR" in bridge.heard)
            await first.kill()
        assert world.outcomes == []
        async with world.executor():
            world.source.put(asking(bridge.port, "INCR", "n"))
            await until(lambda: world.outcomes)
    await admin.execute_command("CLIENT", "UNPAUSE")
    assert isinstance(world.outcomes[0], StepInDoubt)
    assert bridge.heard.count(b"INCR") == 1


@pytest.mark.parametrize("stopped", [True, False])
async def test_stopped_or_out_of_time_while_a_reply_is_awaited(admin: Any, path: str, stopped: bool) -> None:
    world = guarded()
    await admin.execute_command("CLIENT", "PAUSE", "15000", "WRITE")
    async with bridged(path) as bridge, world.executor():
        world.source.put(asking(bridge.port, "INCR", "n", timeout_s=10 if stopped else 2.0))
        await until(lambda: b"INCR" in bridge.heard)
        if stopped:
            world.owner.cancel((STEP, 1))
        await until(lambda: world.outcomes)
    await admin.execute_command("CLIENT", "UNPAUSE")
    [outcome] = world.outcomes
    if stopped:
        assert isinstance(outcome, StepLetGo)
        assert outcome.effect == "possible"
    else:
        assert isinstance(outcome, StepInDoubt)
