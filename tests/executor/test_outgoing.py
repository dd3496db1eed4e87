"""What is told of calls that leave: where to, what came of it, how long it took; never a path, a body or a secret."""

import asyncio
from typing import Any

import pytest

from chassis.egress import Egress, EgressError, parse_allowed
from chassis.secret import BearerSecret, Secret
from contracts.logs import LogLine
from executor.outgoing import Told
from tests.executor.fakes import World, task, until
from tests.executor.servers import Asked, Reply, says, serving

CANARY = "CANARY-5e81d0c7"


async def lines_of(
    reply: Reply, node_type: str = "http.request", **config: Any
) -> tuple[list[LogLine], World]:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", BearerSecret(token=Secret(CANARY)), "127.0.0.1")
    secrets = ("/auth",) if "auth" in config else ()
    async with serving(reply) as server, world.executor():
        config["url"] = config.get("url", server.url) + f"/{CANARY}?token={CANARY}"
        world.source.put(task(config, node_type=node_type, secrets=secrets, timeout_s=20.0))
        await until(lambda: world.outcomes)
    return [line for record in world.said for line in record.lines], world


def after_a_second(reply: Reply) -> Reply:
    """Of an attempt that makes one call and is quick nothing is told."""

    async def late(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.05)
        await reply(asked, writer)

    return late


@pytest.mark.parametrize(
    ("status", "level"), [(200, "info"), (302, "info"), (404, "warning"), (500, "warning")]
)
async def test_a_call_is_told_with_method_host_status_and_time(status: int, level: str) -> None:
    lines, world = await lines_of(
        after_a_second(says(f"{status} Told", body=CANARY.encode())),
        method="POST",
        body={"private": CANARY},
        headers={"X-Private": CANARY},
        auth={"$secret": "s1"},
        follow_redirects=False,
    )
    [line] = [line for line in lines if "host" in line.fields]
    assert (line.level, line.text) == (level, f"POST to 127.0.0.1: {status}")
    took = line.fields.pop("ms")
    assert 0 <= took < 60_000
    assert line.fields == {"method": "POST", "host": "127.0.0.1", "status": status, "bytes": len(CANARY)}
    assert CANARY.encode() not in b"".join(body for _, body, _ in world.logs.letters)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://10.0.0.1", "http://[", "http://nobody.invalid"]
)
async def test_a_call_that_brings_no_answer_is_told_without_a_word_about_the_network(url: str) -> None:
    lines, world = await lines_of(says(), url=url)
    told = [line for line in lines if "host" in line.fields]
    assert [line.text.partition(": ")[2] for line in told] == ["no answer"]
    assert told[0].level == "warning"
    assert set(told[0].fields) == {"method", "host", "ms", "code"}
    assert CANARY.encode() not in b"".join(body for _, body, _ in world.logs.letters)


async def test_feeds_and_stores_tell_their_calls_as_well() -> None:
    lines, _ = await lines_of(says("503 Away"), node_type="rss.read")
    assert [line.text for line in lines if "host" in line.fields] == ["GET to 127.0.0.1: 503"]


async def test_a_line_to_another_kind_of_server_is_told_with_its_time() -> None:
    heard: list[tuple[str, str, dict[str, Any]]] = []

    def hear(text: str, level: str = "info", **fields: Any) -> None:
        heard.append((text, level, fields))

    async with serving(says()) as server, Egress(parse_allowed("127.0.0.1/32:*")) as egress:
        told = Told(egress, hear)
        opened = await told.open_tcp("127.0.0.1", server.port, usual=(), credential=None)
        opened.socket.close()
        with pytest.raises(EgressError):
            await told.open_tcp("127.0.0.1", 1, usual=(), credential=None)
    (first, level, fields), (second, worse, others) = heard
    assert (first, level, second, worse) == (
        "127.0.0.1: connected",
        "info",
        "127.0.0.1: no connection",
        "warning",
    )
    assert fields.pop("ms") >= 0
    assert fields == {"host": "127.0.0.1", "port": server.port}
    assert others == {"host": "127.0.0.1", "port": 1, "code": "unreachable"}
