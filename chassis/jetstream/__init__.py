"""Every port of `chassis.ports` on JetStream, and the one place that puts them together for a service.

`jetstream(settings, service, clock)` opens the connection and gives an object whose fields are the ports. What lives
beside them (owning partitions, watching the disk) is `run`: put it into the service's task group. An error that no
reconnect can heal, or that a callback raised, cancels the body and is raised from the context.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from chassis.clock import Clock
from chassis.disk import Disk
from chassis.jetstream.blobs import JetStreamBlobs
from chassis.jetstream.catalogue import JetStreamCatalogue
from chassis.jetstream.connection import Connection, connect
from chassis.jetstream.handing import JetStreamHanding
from chassis.jetstream.inbox import JetStreamInbox, JetStreamLetters
from chassis.jetstream.log import BATCH_FROM, JetStreamLog
from chassis.jetstream.ownership import JetStreamOwnership
from chassis.jetstream.reader import JetStreamReader
from chassis.jetstream.signals import JetStreamSignals
from chassis.jetstream.tasks import JetStreamTasks, JetStreamTaskSource
from chassis.ports import Away
from chassis.settings import Settings
from contracts import subjects

__all__ = ["JetStream", "jetstream"]

_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2

log = structlog.get_logger()


class JetStream:
    """The ports of one process."""

    def __init__(self, connection: Connection, settings: Settings, clock: Clock, *, batch_from: int) -> None:
        self.connection = connection
        self.log = JetStreamLog(connection, subjects.RUNS, batch_from=batch_from)
        self.domain = JetStreamLog(connection, subjects.DOMAIN)
        self.schedules = JetStreamLog(connection, subjects.SCHEDULES)
        self.gates = JetStreamLog(connection, subjects.GATES)
        self.effects = JetStreamLog(connection, subjects.EFFECTS)
        self.marks = JetStreamLog(connection, f"KV_{subjects.MARKS_BUCKET}")
        self.signals = JetStreamSignals(connection)
        self.inbox = JetStreamInbox(connection)
        self.letters = JetStreamLetters(connection)
        self.tasks = JetStreamTasks(connection, JetStreamLog(connection, subjects.TASKS))
        self.handing = JetStreamHanding(connection)
        self.blobs = JetStreamBlobs(connection, clock)
        self.catalogue = JetStreamCatalogue(connection)
        self.disk = Disk(connection, settings.nats_monitor_url, lambda: connection.client.sent_bytes)
        self._ownership: JetStreamOwnership | None = None
        self._owning = asyncio.Event()

    def ownership(self) -> JetStreamOwnership:
        """From the first call on this process stands by for its share of the partitions, while `run` runs."""
        if self._ownership is None:
            self._ownership = JetStreamOwnership(self.connection)
            self._owning.set()
        return self._ownership

    def source(self, *pools: str) -> JetStreamTaskSource:
        return JetStreamTaskSource(self.connection, pools)

    def reader(self, stream: str, filter: str = "") -> JetStreamReader:  # noqa: A002  # JetStream's word.
        return JetStreamReader(self.connection, stream, filter)

    def unready(self) -> list[str]:
        """Why this process cannot do its work now; empty when it can."""
        return [] if self.connection.up else ["nats-server does not answer."]

    async def run(self) -> None:
        """Watch the disk, and own partitions once somebody asked for them: for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.disk.run())
            await self._owning.wait()
            tasks.create_task(self.ownership().run())


@asynccontextmanager
async def jetstream(
    settings: Settings, service: str, clock: Clock, *, batch_from: int = BATCH_FROM
) -> AsyncIterator[JetStream]:
    """The ports, ready to be used: the streams are there, their epochs known. Waits for a server that comes up.

    `batch_from`: 3 where the stream's staging folder lies in memory (deploy.servers.staging says so).
    """
    async with connect(
        settings.nats_url, name=service, seed_file=settings.nats_seed_file, clock=clock
    ) as connection:
        opened = JetStream(connection, settings, clock, batch_from=batch_from)
        await _until_there(opened)
        yield opened


async def _until_there(opened: JetStream) -> None:
    """The streams are made while the stack starts: wait a little for whoever makes them, not for ever."""
    end = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while True:
        try:
            await opened.log.end()
            await opened.domain.end()
        except Away as away:
            if asyncio.get_running_loop().time() > end:
                raise
            log.warning("jetstream.waits", reason=str(away))
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return
