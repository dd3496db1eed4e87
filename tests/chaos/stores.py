"""What a campaign asks of the installation's own stores: streams by nats-server, tables by Postgres, as they are."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from chassis.clock import SystemClock
from chassis.jetstream.blobs import JetStreamBlobs
from chassis.jetstream.connection import Connection, connect
from chassis.jetstream.reader import JetStreamReader
from chassis.ports import Away, Stored
from contracts import subjects
from contracts.codec import Decoder
from contracts.payloads import Blob
from contracts.plans import Plan
from contracts.streams import OWNERS, pool_consumer
from deploy.testing.installation import Installation

_POOL: Final = pool_consumer("default")
_decode_plan: Final = Decoder[Plan](Plan)


@asynccontextmanager
async def operator(installed: Installation, user: str = "supervisor") -> AsyncIterator[Connection]:
    """A connection past every proxy."""
    seed = installed.data / "secrets" / "nats" / f"{user}.seed"
    async with connect(installed.servers["nats_url"], name=user, seed_file=str(seed)) as connection:
        yield connection


async def all_of(connection: Connection, stream: str) -> AsyncIterator[Stored]:
    """Every message of a stream, up to its end as it is now."""
    reader = JetStreamReader(connection, stream)
    end = await reader.end()
    async for batch in reader.read(0):
        for stored in batch:
            yield stored
        if not batch or batch[-1].sequence >= end:
            return


async def digests(connection: Connection, stream: str) -> dict[int, tuple[str, bytes]]:
    """Subject and hash of every message by its sequence."""
    return {
        stored.sequence: (stored.subject, hashlib.sha256(stored.body).digest())
        async for stored in all_of(connection, stream)
    }


async def left(connection: Connection) -> list[str]:
    """What nobody has taken yet, or not acknowledged, in INBOX and TASKS."""
    found: list[str] = []
    for consumer in (*OWNERS, _POOL):
        info = await connection.api(f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
        waiting = int(info.get("num_pending", 0)) + int(info.get("num_ack_pending", 0))
        if waiting:
            found.append(f"{waiting} in {consumer.stream} for {consumer.name}")
    return found


async def ghosts(connection: Connection) -> int:
    """Tasks that lie there acknowledged.

    TASKS does not sync, so a killed nats-server may have forgotten that they were removed. Nobody is given them again.
    """
    info = await connection.api(f"CONSUMER.INFO.{subjects.TASKS}.{_POOL.name}")
    state = (await connection.api(f"STREAM.INFO.{subjects.TASKS}"))["state"]
    waiting = int(info.get("num_pending", 0)) + int(info.get("num_ack_pending", 0))
    return int(state["messages"]) - waiting


async def plan_of(connection: Connection, sha256: str) -> Plan:
    blobs = JetStreamBlobs(connection, SystemClock())
    return _decode_plan(await blobs.get(Blob(sha256=sha256, size=0)))


class Witness:
    """Reads EFFECTS as it grows: a claim leaves the log with its run, and what it proves must not leave with it."""

    def __init__(self, installed: Installation) -> None:
        self._installed = installed
        self.claims: Counter[str] = Counter()
        self.times: dict[str, float] = {}
        """When the first claim on a subject was stored, by nats-server's clock."""
        self._read = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                async with operator(self._installed) as connection:
                    await self._follow(connection)
            except Away:
                await asyncio.sleep(0.5)

    async def _follow(self, connection: Connection) -> None:
        async for batch in JetStreamReader(connection, subjects.EFFECTS).read(self._read):
            for stored in batch:
                self.claims[stored.subject] += 1
                self.times.setdefault(stored.subject, stored.time)
                self._read = stored.sequence
