"""Read-your-writes: a reader who has written waits, for a bounded time, until what it reads from has caught up.

One poller per process asks `read.positions` while somebody waits; nobody waits, nobody asks.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Protocol

from chassis.ports import Away
from chassis.postgres import Pool, connected
from contracts.limits import MAX_INTEGER
from gateway.callers import Caller
from gateway.domain import Place

HEADER: Final = "AutomateOS-Position"
PATIENCE_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.01
REMEMBERED_ORGS: Final = 10_000

_POSITIONS: Final = (
    "select stream, epoch, sequence from read.positions "
    "where projection not in ('triggers', 'domain_triggers', 'schedule_triggers')"
)
"""Of what fills tables. Who starts runs for events reads the same streams at another pace."""
_ONE: Final = re.compile(r"(RUNS|DOMAIN):([0-9]{1,15})-([0-9]{1,16})")


class Positions(Protocol):
    """How far the read models are."""

    async def read(self) -> Mapping[str, Place]:
        """Per stream the place that every projection of it has reached. Raises `Away`."""
        ...


class PostgresPositions:
    """`read.positions`: the slowest projection of a stream counts."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self) -> Mapping[str, Place]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_POSITIONS)
        slowest: dict[str, Place] = {}
        for row in rows:
            place = Place(row["epoch"], row["sequence"])
            slowest[row["stream"]] = min(place, slowest.get(row["stream"], place))
        return slowest


class Places:
    """Where each org has written last, and how far the read models are."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._written: OrderedDict[str, dict[str, Place]] = OrderedDict()
        self._read: Mapping[str, Place] = {}
        self._moved = asyncio.Condition()
        self._wanted = asyncio.Event()
        self._waiting = 0
        self._failures = 0
        self.gave_up = 0
        """Reads that were answered before the read models had caught up."""

    def wrote(self, org: str, stream: str, place: Place) -> None:
        """Remember a write of this org."""
        written = self._written.setdefault(org, {})
        self._written.move_to_end(org)
        written[stream] = max(place, written.get(stream, place))
        while len(self._written) > REMEMBERED_ORGS:
            self._written.popitem(last=False)

    def header(self, org: str) -> str:
        """What a write's answer carries: the newest writes of the org that this process knows of."""
        written = self._written.get(org, {})
        return ", ".join(
            f"{stream}:{place.epoch}-{place.sequence}" for stream, place in sorted(written.items())
        )

    def written(self, org: str, stream: str) -> Place | None:
        return self._written.get(org, {}).get(stream)

    async def caught_up(self, caller: Caller, stream: str) -> bool:
        """Wait until what the caller's org wrote to the stream can be read. False: it took too long, or Postgres is away."""
        places = (self.written(caller.org, stream), _said(caller.position, stream))
        wanted = [place for place in places if place is not None]
        if not wanted:
            return True
        return await self.reached(stream, max(wanted))

    async def reached(self, stream: str, wanted: Place) -> bool:
        """Wait until the read models have this place of the stream."""
        if self._has(stream, wanted):
            return True
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._moved:
                failures = self._failures
                await self._moved.wait_for(lambda: self._has(stream, wanted) or self._failures > failures)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        caught_up = self._has(stream, wanted)
        self.gave_up += not caught_up
        return caught_up

    def _has(self, stream: str, wanted: Place) -> bool:
        read = self._read.get(stream)
        return read is not None and read >= wanted

    async def run(self) -> None:
        """Poll for ever, while somebody waits."""
        while True:
            await self._wanted.wait()
            try:
                self._read = await self._positions.read()
            except Away:
                self._failures += 1  # There is nothing to wait for: what is read from is away as well.
            async with self._moved:
                self._moved.notify_all()
            if not self._waiting:
                self._wanted.clear()
            await asyncio.sleep(POLL_SECONDS)


def _said(text: str | None, stream: str) -> Place | None:
    """A stranger's word about a position: bounded, and it costs them at most their own patience."""
    for found in _ONE.finditer(text or ""):
        if found[1] == stream and int(found[3]) <= MAX_INTEGER:
            return Place(int(found[2]), int(found[3]))
    return None
