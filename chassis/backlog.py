"""How many attempts wait for an executor: the sign that more is taken in than goes out.

A pool from which nobody takes anything is an outage and no overload: what is meant for it lies safely on disk, and must not
keep the other pools from working. Nor is it our overload when workers outside are slow: they are one org's own.
"""

import asyncio
from typing import Final, Protocol

import msgspec
import structlog
from msgspec import Struct

from chassis.ports import Away
from contracts.subjects import TASKS, WORKER_DURABLES

_LOOK_SECONDS: Final = 0.25
STILL_SECONDS: Final = 5.0
"""A pool from which nothing was taken for so long stands still."""

log = structlog.get_logger()


class Api(Protocol):
    """Asks JetStream's API."""

    async def api(self, subject: str) -> dict[str, object]: ...


class _Taken(Struct, frozen=True):
    consumer_seq: int = 0


class _Pool(Struct, frozen=True):
    name: str
    delivered: _Taken = _Taken()
    num_pending: int = 0


class _Pools(Struct, frozen=True):
    consumers: list[_Pool] = []


class Backlog:
    """Looks four times a second while `run` runs. While nobody answers the last number stands."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._moved: dict[str, tuple[int, float]] = {}
        self.waiting = 0
        """Attempts that no executor has fetched yet, in pools that move."""

    async def run(self) -> None:
        while True:
            await self.look(asyncio.get_running_loop().time())
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self, now: float) -> int:
        try:
            pools = msgspec.convert(await self._api.api(f"CONSUMER.LIST.{TASKS}"), _Pools).consumers
        except (Away, msgspec.ValidationError) as error:
            log.warning("backlog.unknown", reason=str(error))
            return self.waiting
        ours = [pool for pool in pools if not pool.name.startswith(WORKER_DURABLES)]
        self.waiting = sum(pool.num_pending for pool in ours if self._moves(pool, now))
        return self.waiting

    def _moves(self, pool: _Pool, now: float) -> bool:
        taken, since = self._moved.get(pool.name, (-1, now))
        if pool.delivered.consumer_seq != taken:
            since = now
        self._moved[pool.name] = (pool.delivered.consumer_seq, since)
        return now - since < STILL_SECONDS
