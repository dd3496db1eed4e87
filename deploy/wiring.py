"""What the parts of the system do while a stack starts: for the embedded one and for compose.yaml, the same steps.

Each step is safe to run at every start. Imports stand inside: what has nothing to do costs no time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chassis import access
from chassis.ports import Away
from chassis.settings import Settings
from deploy.data_directory import DataDirectory
from deploy.database import ROLES, migrate
from deploy.keys import Keys
from deploy.refusals import Refused
from deploy.servers import PostgresAddress
from deploy.stack import Hooks, Stack

if TYPE_CHECKING:
    from chassis.jetstream.connection import Connection

FIRST_KEY: Final = "first-api-key"
OPERATOR: Final = access.SUPERVISOR
_UNPIN_SECONDS: Final = 2.0


def hooks() -> Hooks:
    """What the embedded stack is given."""
    return Hooks(
        migrate=_migrate,
        reconcile=_reconcile,
        first_key=_first_key,
        nats_users=access.users(),
        nats_accounts=access.accounts,
        before_service=_before_service,
    )


def accounts(data: DataDirectory) -> str:
    """Who may do what at nats-server, with the keys of this data directory; they are made when they are not there."""
    users = Keys(data).nats_users(access.users())
    return access.accounts({name: user.public_key for name, user in users.items()})


async def _migrate(stack: Stack) -> None:
    await bring_database(stack.servers.postgres, Keys(stack.data))


async def _reconcile(stack: Stack) -> None:
    await bring_streams(stack.settings_as(OPERATOR))


async def _first_key(stack: Stack) -> str:
    path = stack.data.secrets / FIRST_KEY
    await make_first_key(stack.settings_as(OPERATOR, postgres_role="gateway"), path)
    return str(path)


async def _before_service(stack: Stack, name: str) -> None:
    if name == "orchestrator":
        # With nats-server away only time is lost: what a dead one holds ends by itself.
        with contextlib.suppress(Away, TimeoutError):
            async with asyncio.timeout(_UNPIN_SECONDS):
                await free_partitions(stack.settings_as(OPERATOR))


async def bring_database(address: PostgresAddress, keys: Keys) -> None:
    """Roles, schemas, tables and rights of this release."""
    await migrate(address, {role: keys.postgres_password(role) for role in ROLES})


async def bring_streams(settings: Settings) -> None:
    """Streams, consumers and buckets of this release. Refused when what is stored does not fit."""
    from chassis.disk import Disk
    from chassis.reconcile import Incompatible, reconcile

    async with _as_operator(settings) as connection:
        try:
            await reconcile(
                connection,
                replicas=settings.replicas,
                pools=pools_of(settings),
                orgs=(access.FIRST_ORG,),
                quota=await Disk(connection, settings.nats_monitor_url).quota(),
            )
        except Incompatible as reason:
            raise Refused(str(reason)) from reason


async def free_partitions(settings: Settings) -> None:
    """Whoever held a partition before is dead: the next orchestrator need not wait for its lease to end."""
    from chassis.reconcile import unpin_all

    async with _as_operator(settings) as connection:
        await unpin_all(connection)


@asynccontextmanager
async def _as_operator(settings: Settings) -> "AsyncIterator[Connection]":
    from chassis.jetstream.connection import NotAllowed, connect

    quiet_logs()
    try:
        async with connect(settings.nats_url, name=OPERATOR, seed_file=settings.nats_seed_file) as connection:
            yield connection
    except NotAllowed as reason:
        raise Refused(str(reason)) from reason


async def make_first_key(settings: Settings, path: Path) -> None:
    """An API key for whoever enters first, unless there is one."""
    from chassis.clock import SystemClock
    from chassis.postgres import pool
    from chassis.sealing import MasterKey
    from chassis.vault import Vault
    from gateway.first_key import ensure_first_key

    async with pool(settings, most=1) as postgres:
        vault = Vault(postgres, MasterKey.from_file(Path(settings.master_key_file)), SystemClock())
        try:
            await ensure_first_key(vault, path)
        except ValueError as reason:
            raise Refused(str(reason)) from reason


def pools_of(settings: Settings) -> tuple[str, ...]:
    """The pools whose tasks somebody takes here."""
    return tuple(filter(None, (name.strip() for name in settings.pools.split(","))))


def quiet_logs() -> None:
    """The supervisor and the commands say in their own lines what happens; what a service would log is left out."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
