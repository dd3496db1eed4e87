"""How a command reaches into a running stack: its API, its log, its archive. Always as somebody with few rights.

Importing this takes no time; what speaks to NATS and Postgres is imported when it is asked for.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from chassis.settings import Settings
from deploy.commands.here import Here
from deploy.operator.api import Api, key_in
from deploy.refusals import Refused
from deploy.servers import Servers

if TYPE_CHECKING:
    from chassis.jetstream import JetStream
    from chassis.postgres import Pool

LONG_SECONDS: Final = 3_600.0
OPERATOR: Final = "supervisor"
"""The user at nats-server whom these commands are (chassis/access.py, which is not imported for its name alone)."""


def api(here: Here, key_file: Path | None) -> Api:
    """The API of the stack that runs here, with the key of the first start unless another one is named."""
    running = here.running()
    file = key_file or Path(running.first_key_file or here.data_dir() / "secrets" / "first-api-key")
    return Api(running.gateway_url, key_in(file))


def settings_as(here: Here, servers: Servers, user: str = OPERATOR, role: str = "") -> Settings:
    """The settings with which a service would speak to these servers as this user and this role."""
    secrets, postgres = here.data_dir() / "secrets", servers.postgres
    seed = secrets / "nats" / f"{user}.seed"
    return msgspec.structs.replace(
        here.settings(),
        data_dir=str(here.data_dir()),
        nats_url=servers.nats_url,
        nats_monitor_url=servers.nats_monitor_url,
        nats_seed_file=str(seed) if seed.exists() else "",
        postgres_host=postgres.host,
        postgres_port=postgres.port,
        postgres_database=postgres.database,
        postgres_user=role or postgres.user,
        postgres_password_file=str(secrets / "postgres" / f"{role}.password")
        if role
        else postgres.password_file,
    )


class Stores(Struct, frozen=True, kw_only=True):
    """The log and the archive of a running stack."""

    log: "JetStream"
    archive: "Pool"


@asynccontextmanager
async def stores(
    here: Here, user: str = OPERATOR, *, statement_seconds: float = 30.0
) -> AsyncIterator[Stores]:
    """Both, while the context is open. `statement_seconds`: more for who reads the whole archive."""
    from chassis.clock import SystemClock
    from chassis.jetstream import jetstream
    from chassis.jetstream.connection import NotAllowed
    from chassis.postgres import pool
    from deploy.wiring import quiet_logs

    quiet_logs()
    settings = settings_as(here, here.running().servers, user)
    try:
        async with (
            jetstream(settings, user, SystemClock()) as log,
            pool(settings, most=2, statement_seconds=statement_seconds) as archive,
        ):
            yield Stores(log=log, archive=archive)
    except NotAllowed as reason:
        raise Refused(str(reason)) from reason
