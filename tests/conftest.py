"""Real servers for every test that wants them: started when first asked for, shared by the tests of one worker.

`servers` are nats-server, Postgres, Redis and a mail server that all tests of a worker share: use names of your own
in them. `database` is a fresh database in that Postgres. `nats_server` is a nats-server of one test's own, to be killed
and started again; `start_nats` makes several, or one with other options.
"""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, settings

from deploy.servers import PostgresAddress, Servers
from deploy.servers.nats import NatsOptions
from deploy.testing.containers import NoDaemon, container_servers
from deploy.testing.embedded import NatsServer, embedded_servers
from executor.sandbox.engines import Engines

# How long an example takes says how busy the machine is, and nothing about what it shows.
settings.register_profile(
    "any-machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Where the shared servers are. AUTOMATEOS_TEST_SERVERS=containers takes them from Docker instead of the wheels."""
    in_containers = os.environ.get("AUTOMATEOS_TEST_SERVERS", "embedded") == "containers"
    try:
        with container_servers() if in_containers else embedded_servers() as facts:
            yield facts
    except NoDaemon as reason:
        pytest.skip(str(reason))


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[PostgresAddress]:
    """An empty database for one test, and the superuser's way into it."""
    address = servers.postgres
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(**address.login())
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield msgspec.structs.replace(address, database=name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


StartNats = Callable[..., Awaitable[NatsServer]]


@pytest.fixture
async def start_nats(tmp_path: Path) -> AsyncIterator[StartNats]:
    """Starts a nats-server with the given fields of `NatsOptions`; all of them end with the test."""
    async with AsyncExitStack() as running:

        async def start(**options: str | tuple[str, ...]) -> NatsServer:
            folder = tmp_path / f"nats-{next(_numbers)}"
            server = NatsServer(folder, msgspec.convert(options, NatsOptions), env=os.environ)
            running.push_async_callback(server.close)
            await server.start()
            return server

        yield start


@pytest.fixture
async def nats_server(start_nats: StartNats) -> NatsServer:
    """A fresh nats-server in which everybody may do everything, and which syncs as production does."""
    return await start_nats()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="automateos-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def engines(pytestconfig: pytest.Config) -> Path:
    """Where compiled engines are kept from one session to the next: their names say what they were made from."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("engines")


@pytest.fixture(scope="session")
async def python_engine(engines: Path) -> Path:
    """Python's engine: to make it takes half a minute of processor time, so it is made once for all who run code."""
    return await Engines(engines).file("python", lambda _: None)
