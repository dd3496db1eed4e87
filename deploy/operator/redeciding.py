"""Decides an installation's own past again with the release that is installed, and tells every place where that differs.

Histories come from the archive a page at a time, in the order in which their runs first moved in the asked-for time; what
the archive does not have yet is taken from the log. A run is always decided from its beginning.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import asyncpg
from msgspec import Struct

from chassis.archive import archived_commits
from chassis.jetstream.alongside import alongside
from chassis.postgres import connected
from contracts.codec import Decoder, Malformed, Unknown, decode_commit, decode_envelope
from contracts.commits import Commit
from contracts.limits import MIB
from contracts.payloads import Blob
from contracts.plans import Plan
from contracts.runs import RunEvent, beginning
from contracts.subjects import RUNS
from deploy.operator.reach import Stores
from deploy.refusals import Refused
from orchestrator.history import Divergence, replay
from orchestrator.readiness import Graph

RunKey: TypeAlias = tuple[str, str]
Bodies: TypeAlias = dict[RunKey, list[bytes]]

PAGE: Final = 500
SKEW: Final = timedelta(hours=1)
"""Clocks of two machines may differ by as much; what is exactly in time is told by each commit itself."""
_TAIL_BYTES: Final = 128 * MIB
_PLANS: Final = 256

_POSITION: Final = "select epoch, sequence from read.positions where projection = 'runs' and stream = $1"
_NEXT: Final = """
select epoch, sequence, time from archive.commits where (epoch, sequence) >= ($1, $2) order by epoch, sequence limit 1
"""
_LAST: Final = """
select epoch, sequence from archive.commits where epoch = $1 order by epoch desc, sequence desc limit 1
"""
# A run is named by its first commit in the asked-for time: within a history time never goes back.
_PAGE: Final = """
with named as materialized (
    select c.epoch, c.sequence, c.week, c.org, c.run from archive.commits c
    where (c.epoch, c.sequence) > ($1, $2) and c.version > 0 and c.time >= $3 and ($4 = '' or c.org = $4)
    and not exists (
        select from archive.commits p
        where p.week = c.week and p.org = c.org and p.run = c.run and p.version = c.version - 1 and p.time >= $3
    )
    order by c.epoch, c.sequence limit $5
)
select n.epoch, n.sequence, n.org, n.run, c.body from named n
join archive.commits c on c.week = n.week and c.org = n.org and c.run = n.run
where c.version > 0 order by n.epoch, n.sequence, c.version
"""

_decode_plan = Decoder[Plan](Plan)


class Parting(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that this release would not have decided so, or cannot read."""

    org: str
    run: str
    divergence: Divergence | None = None
    reason: str = ""


class Tally(Struct, kw_only=True):
    """What was decided again."""

    runs: int = 0
    commits: int = 0
    events: int = 0
    diverged: int = 0
    seconds: float = 0.0
    """Without what it took to connect."""
    cpu_seconds: float = 0.0
    """Of this process, on its one core."""

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


class Redeciding:
    """One pass over the past."""

    def __init__(self, stores: Stores, since: datetime, org: str = "") -> None:
        """`org`: the empty one means all of them."""
        self._stores, self._since, self._org = stores, since, org
        self._graphs: dict[str, Graph | None] = {}
        self._tail: Bodies = {}
        self.tally = Tally()

    async def partings(self) -> AsyncIterator[Parting]:
        """Every run that parts from its history."""
        began, cpu = time.perf_counter(), time.process_time()
        self._tail = await self._newer_than_the_archive()
        async for page in self._pages():
            for key, bodies in page.items():
                parting = await self._judged(key, bodies + _newer(self._tail.pop(key, []), bodies))
                if parting is not None:
                    yield parting
        for (org, run), tail in self._tail.items():
            kept = [commit.body for commit in await archived_commits(self._stores.archive, org, run)]
            parting = await self._judged((org, run), kept + _newer(tail, kept))
            if parting is not None:
                yield parting
        self.tally.seconds = time.perf_counter() - began
        self.tally.cpu_seconds = time.process_time() - cpu

    # --- Reading ------------------------------------------------------------------------------

    async def _newer_than_the_archive(self) -> Bodies:
        """What lies in the log behind the archive's last commit, by run."""
        async with connected(self._stores.archive) as connection:
            position = await connection.fetchrow(_POSITION, RUNS)
        epoch = self._stores.log.log.epoch
        if position is not None and position["epoch"] != epoch:
            raise Refused(f"The archive has not yet followed {RUNS} into its epoch {epoch}: try again soon.")
        tail: Bodies = defaultdict(list)
        size, reader = 0, self._stores.log.reader(RUNS)
        async for batch in reader.read(position["sequence"] if position is not None else 0):
            if not batch:
                return tail
            for stored in batch:
                _, org, run = stored.subject.split(".")
                if self._org in ("", org):
                    tail[org, run].append(stored.body)
                    size += len(stored.body)
            if size > _TAIL_BYTES:
                raise Refused(
                    "The archive is far behind the log: try again when the projections have caught up."
                )
        return tail

    async def _pages(self) -> AsyncIterator[Bodies]:
        """Histories as the archive has them; Postgres gathers a page while the one before is worked on."""
        rows = await self._rows(await self._beginning())
        while rows:
            async with alongside() as beside:
                coming = beside.create_task(self._rows(tuple(rows[-1])[:2]))
                await asyncio.sleep(0)  # So that it has been asked before we keep the loop busy.
                page: Bodies = defaultdict(list)
                for _, _, org, run, body in rows:
                    page[org, run].append(body)
                yield page
            rows = coming.result()

    async def _rows(self, place: tuple[int, int]) -> Sequence[asyncpg.Record]:
        async with connected(self._stores.archive) as connection:
            return await connection.fetch(_PAGE, *place, self._since, self._org, PAGE)

    async def _beginning(self) -> tuple[int, int]:
        """A place in the archive before everything that is asked for. Within an epoch later places are later in time."""
        after = self._since - SKEW
        async with connected(self._stores.archive) as connection:
            row = await connection.fetchrow(_NEXT, 0, 0)
            while row is not None:
                last = await connection.fetchrow(_LAST, row["epoch"])
                low, high = row["sequence"], last["sequence"] + 1 if last is not None else row["sequence"]
                while low < high:
                    middle = (low + high) // 2
                    found = await connection.fetchrow(_NEXT, row["epoch"], middle)
                    if found is None or found["epoch"] != row["epoch"] or found["time"] >= after:
                        high = middle
                    else:
                        low = found["sequence"] + 1
                if last is not None and low <= last["sequence"]:
                    return row["epoch"], low - 1
                row = await connection.fetchrow(_NEXT, row["epoch"] + 1, 0)
        return 2**62, 0

    # --- Deciding -----------------------------------------------------------------------------

    async def _judged(self, key: RunKey, bodies: Sequence[bytes]) -> Parting | None:
        org, run = key
        self.tally.runs += 1
        self.tally.commits += len(bodies)
        try:
            first = [decode_commit(body) for body in bodies[:1]]
            if not first or first[0].version != 1:
                return self._parted(Parting(org=org, run=run, reason="its first commits are not there"))
            plan, graph = await self._graph(first)
            # One after the other: a history may be of any length.
            divergence = replay(org, run, self._counted(bodies), graph)
        except (Unknown, Malformed) as error:
            return self._parted(Parting(org=org, run=run, reason=f"it cannot be read: {error}"))
        if divergence is None:
            return None
        reason = f"its plan {plan} is not there" if plan and graph is None else ""
        return self._parted(Parting(org=org, run=run, divergence=divergence, reason=reason))

    def _counted(self, bodies: Sequence[bytes]) -> Iterator[Commit[RunEvent]]:
        for body in bodies:
            commit = decode_commit(body)
            self.tally.events += len(commit.events)
            yield commit

    def _parted(self, parting: Parting) -> Parting:
        self.tally.diverged += 1
        return parting

    async def _graph(self, commits: Sequence[Commit[RunEvent]]) -> tuple[str, Graph | None]:
        started = beginning(event for commit in commits for event in commit.events)
        if started is None:
            return "", None
        if started.plan not in self._graphs:
            if len(self._graphs) >= _PLANS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[started.plan] = await self._fetched(started.plan)
        return started.plan, self._graphs[started.plan]

    async def _fetched(self, plan: str) -> Graph | None:
        """None where the engine had none either: the plan is gone, or no release could read it."""
        try:
            return Graph.of(_decode_plan(await self._stores.log.blobs.get(Blob(sha256=plan, size=0))))
        except (KeyError, Malformed):
            return None


def _newer(tail: Sequence[bytes], archived: Sequence[bytes]) -> list[bytes]:
    """What the log has beyond the archive's last commit."""
    if not tail:
        return []
    known = decode_envelope(archived[-1]).version if archived else 0
    return [body for version, body in _versions(tail) if version > known]


def _versions(bodies: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    for body in bodies:
        try:
            yield decode_envelope(body).version, body
        except Malformed:
            continue  # Not a commit: it is among the dead letters, and no part of the history.


_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since(text: str, now: datetime) -> datetime:
    """A moment as `2026-11-20`, `2026-11-20T12:00:00Z`, a time ago as `36h` or `7d`, or `beginning`."""
    if text == "beginning":
        return datetime.min.replace(year=1970, tzinfo=now.tzinfo)
    if text[:-1].isdecimal() and len(text) < 8 and text[-1] in _UNITS:
        return now - min(timedelta(**{_UNITS[text[-1]]: int(text[:-1])}), timedelta(days=365 * 50))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"{text!r} is no moment: say 7d, 36h, 2026-11-20 or 2026-11-20T12:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo)
