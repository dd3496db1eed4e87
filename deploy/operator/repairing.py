"""Puts a repair of the log together: as the operator, the only one who may both append to a stream and change it."""

from typing import Final

from chassis.clock import SystemClock
from chassis.jetstream import jetstream
from chassis.postgres import pool
from chassis.settings import Settings
from contracts.subjects import DOMAIN, RUNS
from deploy.operator.reach import OPERATOR
from deploy.refusals import Refused
from projections.repair import Repair, Repaired
from projections.streams import JetStreamStreams

_LONG_SECONDS: Final = 24 * 3600.0


async def repair(settings: Settings, stream: str) -> Repaired:
    """Give RUNS or DOMAIN back what the archive still has of it."""
    if stream not in (RUNS, DOMAIN):
        raise Refused(f"Only {RUNS} and {DOMAIN} can be repaired: the archive has no other stream.")
    async with (
        jetstream(settings, OPERATOR, SystemClock()) as log,
        pool(settings, most=4, statement_seconds=_LONG_SECONDS) as postgres,
    ):
        truth = log.log if stream == RUNS else log.domain
        return await Repair(postgres, stream, truth, JetStreamStreams(log.connection), log.marks).run()
