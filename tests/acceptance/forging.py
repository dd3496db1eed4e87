"""A forger with every right on both stores but the signing key: changes what lies in Postgres, and makes RUNS anew to his liking."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from msgspec import structs

from chassis.clock import SystemClock
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.log import JetStreamLog
from chassis.ports import Proposal, Stored
from contracts.subjects import ANCHORS, RUNS, anchor
from deploy.commands.here import Here
from deploy.operator.alone import started
from deploy.operator.reach import OPERATOR, settings_as
from deploy.testing.installation import Installation
from projections.anchors import decode_anchor, decode_body

Forged = Sequence[Stored | None]
"""What shall lie in RUNS, one for each sequence; None: there was something, and it was deleted."""


def rewritten(bodies: Sequence[bytes], version: int, old: bytes, new: bytes) -> list[bytes]:
    """A history with one commit changed and every hash behind it made good again."""
    assert bodies[version - 1].count(old) == 1
    made = list(bodies)
    made[version - 1] = made[version - 1].replace(old, new)
    for place in range(version, len(made)):
        before, after = (hashlib.sha256(each[place - 1]).hexdigest().encode() for each in (bodies, made))
        assert made[place].count(before) == 1
        made[place] = made[place].replace(before, after)
    return made


async def replace_archive(connection: asyncpg.Connection, run: str, bodies: Sequence[bytes]) -> None:
    """Every commit of a run with its hash, and every other place in which the last hash stands."""
    for version, body in enumerate(bodies, 1):
        await connection.execute(
            "update archive.commits set body = $3, hash = $4 where run = $1 and version = $2",
            run, version, body, hashlib.sha256(body).digest(),
        )  # fmt: skip
    last = hashlib.sha256(bodies[-1]).digest()
    await connection.execute("update archive.run_ids set hash = $2 where run = $1", run, last)
    await connection.execute("update read.runs set head_hash = $2 where id = $1", run, last)


def forge(
    stack: Installation,
    forged: Callable[[Sequence[Stored]], Forged],
    also: Callable[[asyncpg.Connection], Awaitable[None]],
) -> int:
    """Stop the stack, make RUNS anew, do something in Postgres, and start it again.

    Answers how many commits of RUNS had no anchor when it had stopped.
    """
    stack.stop()
    not_anchored = asyncio.run(_forge(stack, forged, also))
    stack.start()
    return not_anchored


async def _forge(
    stack: Installation,
    forged: Callable[[Sequence[Stored]], Forged],
    also: Callable[[asyncpg.Connection], Awaitable[None]],
) -> int:
    here = Here(environ=stack.environ, say=lambda _: None)
    async with started(here) as facts:
        async with jetstream(settings_as(here, facts), OPERATOR, SystemClock()) as js:
            before = await everything(js)
            assert [stored.sequence for stored in before] == list(range(1, len(before) + 1))
            newest = (await JetStreamLog(js.connection, ANCHORS).history(anchor(1)))[-1]
            anchored = decode_body(decode_anchor(newest.body).body).runs.through
            created, last = await _made_anew(js, before, forged(before))
        address = facts.postgres
        connection = await asyncpg.connect(**address.login())
        # So that nobody notices at the start that the stream is another one.
        await connection.execute(
            "update read.positions set created = $1, sequence = $2 where stream = 'RUNS'", created, last
        )
        await also(connection)
        await connection.close()
    return len(before) - anchored


async def everything(js: JetStream) -> list[Stored]:
    found: list[Stored] = []
    async for batch in js.reader(RUNS).read(0):
        if not batch:
            return found
        found += batch
    return found


async def _made_anew(js: JetStream, before: Sequence[Stored], forged: Forged) -> tuple[str, int]:
    """When the new stream was made, and where it ends."""

    async def api(verb: str, asked: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = await js.connection.api(f"STREAM.{verb}.{RUNS}", asked)
        assert "error" not in answer, answer
        return answer

    config = (await api("INFO"))["config"]
    await api("DELETE")
    created = (await api("CREATE", {**config, "deny_delete": False}))["created"]
    ends: dict[str, int] = {}
    for place, stored in enumerate(forged):
        given = stored or before[place]
        headers = {name: text for name, text in given.headers.items() if not name.startswith("Nats-")}
        proposal = Proposal(given.subject, given.body, ends.get(given.subject, 0), headers)
        [sequence] = await js.log.append([proposal])
        assert sequence == place + 1
        ends[given.subject] = sequence
    for place, stored in enumerate(forged):
        if stored is None:
            await api("MSG.DELETE", {"seq": place + 1})
    await api("UPDATE", config)
    return created, len(forged)


def with_body(stored: Stored, body: bytes) -> Stored:
    return structs.replace(stored, body=body)
