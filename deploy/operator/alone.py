"""The servers of a data directory without the services: for what must be mended before a stack can start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.commands.here import Here
from deploy.data_directory import open_data_directory
from deploy.keys import Keys
from deploy.operator.reach import settings_as
from deploy.refusals import Refused
from deploy.servers import EmbeddedServers, ServerOptions, Servers
from deploy.servers.nats import NatsOptions
from deploy.stack import running_stack
from deploy.supervisor import Supervisor
from deploy.wiring import accounts, bring_database, bring_streams


@asynccontextmanager
async def servers(here: Here) -> AsyncIterator[Servers]:
    """Those of the stack that runs here; else they run as long as the block, and nothing else does."""
    running = running_stack(here.data_dir())
    if running is not None:
        yield running.servers
        return
    async with started(here) as alone:
        yield alone


@asynccontextmanager
async def started(here: Here) -> AsyncIterator[Servers]:
    """Start them. Refused while a stack runs or starts in the same data directory."""
    settings = here.settings()
    if not here.data_dir().exists():
        raise Refused(f"There is no data directory {here.data_dir()}.")
    with open_data_directory(here.data_dir()) as data:
        options = ServerOptions(
            nats=NatsOptions(accounts=accounts(data), max_file_store=settings.nats_max_file_store),
            smtp_port=None,
        )
        embedded = EmbeddedServers(data, options=options, env=here.environ, say=_nothing)
        try:
            async with Supervisor(run=data.run, say=_nothing) as supervisor:
                await supervisor.start(embedded.children())
                facts = embedded.facts()
                await bring_database(facts.postgres, Keys(data))
                await bring_streams(settings_as(here, facts))
                yield facts
        finally:
            embedded.forget_staging()


def _nothing(_line: str) -> None:
    """The command says what happens."""
