"""What an operator may ask of the read models: make them anew, or give the log back what it lost."""

from collections.abc import Mapping
from typing import Any, Final

from chassis.clock import SystemClock
from chassis.jetstream import jetstream
from chassis.lifecycle import CannotStart
from chassis.postgres import pool
from chassis.settings import Settings
from contracts.subjects import DLQ, DOMAIN, HOOKS, LOGS, RUNS, SCHEDULES
from projections.guard import FOLLOWED
from projections.queries import ROW_TYPES
from projections.rebuild import Rebuild, Rebuilt, Sources
from projections.repair import Repair, Repaired
from projections.streams import JetStreamStreams

CONNECTIONS: Final = 6
LONG_SECONDS: Final = 24 * 3600.0


async def rebuild(
    settings: Settings,
    owner: Mapping[str, Any],
    ddl: str,
    *,
    verify: bool = False,
    nats_user: str = "projections",
) -> Rebuilt:
    """Make the read models anew and swap them in.

    `settings` are those of the projections, `owner` is how asyncpg connects as the owner of the schemas
    (`chassis.postgres.facts`), `ddl` makes the tables (`deploy.database.sql_file("read")`).
    """
    clock = SystemClock()
    async with (
        jetstream(settings, nats_user, clock) as js,
        pool(settings, most=CONNECTIONS, statement_seconds=LONG_SECONDS, begins_with=ROW_TYPES) as postgres,
    ):
        streams = JetStreamStreams(js.connection)
        sources = Sources(
            hooks=js.reader(HOOKS),
            dead_letters=js.reader(DLQ),
            schedules=js.reader(SCHEDULES),
            logs=js.reader(LOGS),
            facts={each.stream: await streams.facts(each.stream) for each in FOLLOWED},
        )
        return await Rebuild(owner, postgres, sources, ddl, clock).run(verify=verify)


async def repair(settings: Settings, stream: str, *, nats_user: str) -> Repaired:
    """Give RUNS or DOMAIN back what the archive still has of it.

    `nats_user`: who may append to the stream and change it; no service may do both.
    """
    if stream not in (RUNS, DOMAIN):
        raise CannotStart(f"Only {RUNS} and {DOMAIN} can be repaired: the archive has no other stream.")
    async with (
        jetstream(settings, nats_user, SystemClock()) as js,
        pool(settings, most=CONNECTIONS, statement_seconds=LONG_SECONDS) as postgres,
    ):
        truth = js.log if stream == RUNS else js.domain
        return await Repair(postgres, stream, truth, JetStreamStreams(js.connection), js.marks).run()
