"""A nats-server with the declared streams, and the ports of any number of processes on it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

import pytest

from chassis.clock import SystemClock
from chassis.disk import Disk
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.alongside import alongside
from chassis.jetstream.connection import connect
from chassis.reconcile import reconcile
from chassis.settings import Settings
from deploy.testing.embedded import NatsServer

OpenPorts: TypeAlias = Callable[..., AbstractAsyncContextManager[JetStream]]


StartNats: TypeAlias = Callable[..., Awaitable[NatsServer]]


async def make_streams(server: NatsServer) -> None:
    async with connect(server.url, name="reconciler") as connection:
        await reconcile(connection, quota=await Disk(connection, server.monitor_url).quota())


@asynccontextmanager
async def ports_of(server: NatsServer, *, url: str = "", batch_from: int = 16) -> AsyncIterator[JetStream]:
    """The ports of one process, with all that runs beside them."""
    settings = Settings(nats_url=url or server.url, nats_monitor_url=server.monitor_url)
    async with (
        jetstream(settings, "tests", SystemClock(), batch_from=batch_from) as opened,
        alongside(opened.run()),
    ):
        yield opened


@pytest.fixture
async def streams(nats_server: NatsServer) -> NatsServer:
    """A nats-server of the test's own, in which every stream is made."""
    await make_streams(nats_server)
    return nats_server


@pytest.fixture
def open_ports(streams: NatsServer) -> OpenPorts:
    """The ports of as many processes as a test wants."""
    return partial(ports_of, streams)
