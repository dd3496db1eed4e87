"""What a campaign asks of the installation's own stores: streams by nats-server, tables by Postgres, as they are."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from chassis.clock import SystemClock
from chassis.jetstream.blobs import JetStreamBlobs
from chassis.jetstream.connection import Connection, connect
from chassis.jetstream.reader import JetStreamReader, WentBackwards
from chassis.ports import Away, Stored
from contracts import subjects
from contracts.codec import Decoder
from contracts.payloads import Blob
from contracts.plans import Plan
from contracts.streams import OWNERS, Consumer, pool_consumer, worker_consumer
from deploy.testing.installation import Installation

OUTSIDE: Final = "ext-chaos"
_EXECUTORS: Final = pool_consumer("default")
_WORKERS: Final = worker_consumer("org_default", OUTSIDE)
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


def pools(*, outside: bool) -> Sequence[Consumer]:
    """Who takes tasks. `outside`: workers outside do, too."""
    return (_EXECUTORS, _WORKERS) if outside else (_EXECUTORS,)


async def left(connection: Connection, *, outside: bool = False) -> list[str]:
    """What nobody has taken yet, or not acknowledged, in INBOX and TASKS."""
    found: list[str] = []
    for consumer in (*OWNERS, *pools(outside=outside)):
        info = await connection.api(f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
        waiting = int(info.get("num_pending", 0)) + int(info.get("num_ack_pending", 0))
        if waiting:
            found.append(f"{waiting} in {consumer.stream} for {consumer.name}")
    return found


async def ghosts(connection: Connection, *, outside: bool = False) -> int:
    """Tasks that lie there acknowledged.

    TASKS does not sync, so a killed nats-server may have forgotten that they were removed. Nobody is given them again.
    """
    waiting = 0
    for consumer in pools(outside=outside):
        info = await connection.api(f"CONSUMER.INFO.{subjects.TASKS}.{consumer.name}")
        waiting += int(info.get("num_pending", 0)) + int(info.get("num_ack_pending", 0))
    state = (await connection.api(f"STREAM.INFO.{subjects.TASKS}"))["state"]
    return int(state["messages"]) - waiting


async def plan_of(connection: Connection, sha256: str) -> Plan:
    blobs = JetStreamBlobs(connection, SystemClock())
    return _decode_plan(await blobs.get(Blob(sha256=sha256, size=0)))


class Witness:
    """Reads RUNS and EFFECTS as they grow, through all faults: what was read once must be there for ever, as it was.

    A claim leaves the log with its run; what it proves must not leave with it.
    """

    def __init__(self, installed: Installation) -> None:
        self._installed = installed
        self.claims: Counter[str] = Counter()
        self.times: dict[str, float] = {}
        """When the first claim on a subject was stored, by nats-server's clock."""
        self.commits: dict[int, tuple[str, bytes]] = {}
        """Subject and hash of every commit that was read, by its sequence."""
        self.wrong: list[str] = []

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(subjects.EFFECTS, self._claimed))
            group.create_task(self._follow(subjects.RUNS, self._committed))

    async def _follow(self, stream: str, heard: Callable[[Stored], None]) -> None:
        read = 0
        while True:
            try:
                async with operator(self._installed) as connection:
                    async for batch in JetStreamReader(connection, stream).read(read):
                        for stored in batch:
                            heard(stored)
                            read = stored.sequence
            except Away:
                await asyncio.sleep(0.5)
            except WentBackwards as reason:
                self.wrong.append(str(reason))
                return

    def _claimed(self, stored: Stored) -> None:
        self.claims[stored.subject] += 1
        self.times.setdefault(stored.subject, stored.time)

    def _committed(self, stored: Stored) -> None:
        self.commits[stored.sequence] = (stored.subject, hashlib.sha256(stored.body).digest())
