"""Puts a rebuild of the read models together: as the owner of the schemas and as the projector, on the running stack."""

from pathlib import Path
from typing import Final

import msgspec

from chassis.clock import SystemClock
from chassis.jetstream import JetStream
from chassis.postgres import facts, pool
from chassis.settings import Settings
from contracts.subjects import DLQ, HOOKS
from deploy.commands.here import Here
from deploy.database import sql_file
from deploy.operator.reach import settings_for
from projections.guard import FOLLOWED
from projections.rebuild import Rebuild, Rebuilt, Sources
from projections.streams import JetStreamStreams

_LONG_SECONDS: Final = 3600.0


async def rebuild(here: Here, log: JetStream, *, verify: bool) -> Rebuilt:
    settings = settings_for(here, here.running())
    streams = JetStreamStreams(log.connection)
    sources = Sources(
        hooks=log.reader(HOOKS),
        dead_letters=log.reader(DLQ),
        facts={name: await streams.facts(name) for name in sorted({each.stream for each in FOLLOWED})},
    )
    owner = facts(_as(settings, here, "owner"))
    async with pool(_as(settings, here, "projector"), statement_seconds=_LONG_SECONDS) as projector:
        return await Rebuild(owner, projector, sources, sql_file("read"), SystemClock()).run(verify=verify)


def _as(settings: Settings, here: Here, role: str) -> Settings:
    password = Path(here.data_dir()) / "secrets" / "postgres" / f"{role}.password"
    return msgspec.structs.replace(settings, postgres_user=role, postgres_password_file=str(password))
