"""Runs of which the log knows nothing any more: their ids stay in the archive for ever, and refuse a second start.

Two kinds of histories leave the log whole. One that no dedupe key named: nobody can ask for it again but by its receipt,
and a receipt says when it was made. One with a key, past the horizon of tombstones: before the first of those leaves, a
mark is set for all to see. So a start asks the archive only when its own history may be among those that left.

Why that is safe: a history leaves whole a day after its run ended at the earliest (`SETTLED_SECONDS`), and ten minutes
after the mark was set (`MARKED_SECONDS`); what was learnt here counts for a minute, and a commit that was decided more
than five minutes ago is decided anew before it is appended.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog
from msgspec import Struct

from chassis.clock import Clock
from chassis.ids import received_at
from chassis.ports import Away, Log
from chassis.postgres import Pool, as_org
from contracts.messages import StartRun
from contracts.subjects import HORIZON

log = structlog.get_logger()

FRESH_SECONDS: Final = 3600.0
"""A run whose receipt is younger cannot have left; two machines' clocks may be a day apart before that is wrong."""
SETTLED_SECONDS: Final = 24 * 3600.0
MARKED_SECONDS: Final = 600.0
"""So long after the mark was first seen by the archiver everybody else has seen it too."""
_LOOK_SECONDS: Final = 30.0
_STALE_SECONDS: Final = 180.0
_FIND: Final = """
select run, receipt, request, version, encode(hash, 'hex') as hash from archive.run_ids
where org = $1 and run = any($2::text[])
"""


class PastRun(Struct, frozen=True, kw_only=True):
    """A run that ended, as the archive remembers it for ever."""

    run: str
    receipt: str
    request: str | None
    version: int
    hash: str
    """Of its last commit."""


class RunIds(Protocol):
    """Every run that ever ended."""

    async def find(self, org: str, runs: Sequence[str]) -> Mapping[str, PastRun]:
        """Those of these that ended once. Raises `Away` when nobody can say."""
        ...


class PostgresRunIds:
    """`archive.run_ids`, by its primary key."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, org: str, runs: Sequence[str]) -> Mapping[str, PastRun]:
        async with as_org(self._pool, org) as connection:
            rows = await connection.fetch(_FIND, org, list(runs))
        return {row["run"]: PastRun(**dict(row)) for row in rows}


class Horizon:
    """Whether tombstones may have left the log. Followed by `run`; what was not looked up for long counts as passed."""

    def __init__(self, marks: Log, clock: Clock) -> None:
        self._marks, self._clock = marks, clock
        self._marked = False
        self._looked: float | None = None

    @property
    def passed(self) -> bool:
        stale = self._looked is None or self._clock.seconds() - self._looked > _STALE_SECONDS
        return self._marked or stale

    async def look(self) -> bool:
        """Ask now. Raises `Away`."""
        at = self._clock.seconds()
        # Once passed it stays so: no tombstone comes back.
        self._marked = self._marked or HORIZON in await self._marks.last([HORIZON])
        self._looked = at
        return self._marked

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
            except Away as away:
                log.warning("horizon.unknown", reason=str(away))
            await asyncio.sleep(_LOOK_SECONDS if self._looked is not None else 1.0)


class PastRuns:
    """For one run at a time: what the archive knows, once tombstones have left; below the horizon it costs nothing."""

    def __init__(self, run_ids: RunIds, horizon: Horizon) -> None:
        self._run_ids, self._horizon = run_ids, horizon

    async def of(self, org: str, run: str) -> PastRun | None:
        """Raises `Away`."""
        return (await self._run_ids.find(org, [run])).get(run) if self._horizon.passed else None


def may_be_past(start: StartRun, horizon: Horizon, now: float) -> bool:
    """Whether the history of the run that is asked for may have left the log whole; `now` in Unix seconds."""
    if start.dedupe is not None:
        return horizon.passed
    made = received_at(start.receipt)
    return made is None or now - made > FRESH_SECONDS
