"""A nats-server with the declared streams, and connections to it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from chassis.clock import SystemClock
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.connection import connect
from chassis.reconcile import reconcile
from chassis.settings import Settings
from deploy.servers.nats import NatsOptions
from deploy.testing.embedded import NatsServer


class OpenPorts(Protocol):
    async def __call__(self, service: str = "tests") -> JetStream: ...


@pytest.fixture
async def streams(start_nats) -> NatsServer:
    """A nats-server of the test's own, in which every stream is made."""
    server = await start_nats()
    async with connect(server.url, name="reconciler") as connection:
        await reconcile(connection)
    return server


@pytest.fixture
async def open_ports(streams: NatsServer) -> AsyncIterator[OpenPorts]:
    """Opens the ports of one process after another; all are closed with the test."""
    async with AsyncExitStack() as opened:

        async def ports(service: str = "tests") -> JetStream:
            settings = Settings(nats_url=streams.url, nats_monitor_url=streams.monitor_url)
            return await opened.enter_async_context(jetstream(settings, service, SystemClock()))

        yield ports


@pytest.fixture
async def ports(open_ports: OpenPorts) -> JetStream:
    """The ports of one process."""
    return await open_ports()
