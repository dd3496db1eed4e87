"""Lets histories leave: first the log, for the archive; long after, the archive.

Rules that hold here: a history leaves the log only when the archive has every byte of it on disk, its last commit is
still the log's last, and whoever starts runs for its events has read it; of a run that goes on, what is before a seam may
leave as well. That last commit stays as the tombstone that refuses a second start. Tombstones leave too: without a dedupe
key a day after the run's end, with one past the horizon, and then the archive's list of ids refuses the start
(`chassis.past` says why nothing slips through). Whatever is killed half-way is done again.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar

import structlog
from msgspec import Struct

from chassis.clock import Clock
from chassis.crash import crash
from chassis.past import MARKED_SECONDS, SETTLED_SECONDS
from chassis.ports import Away, Log, Proposal, Stored
from chassis.tasks import side_by_side
from contracts import subjects
from contracts.limits import MAX_INTEGER
from projections.figures import Figures
from projections.models import Position
from projections.shelf import ClosedSegment, EndedRun, Shelf
from projections.streams import Streams

log = structlog.get_logger()

ROUND_SECONDS: Final = 30.0
PAGE: Final = 200
SIDE_BY_SIDE: Final = 16
DROPS: Final = 500
HOOK_DAYS: Final = 30
T = TypeVar("T")
PATIENCE: Final = timedelta(days=2)
"""So long a history stays beyond its time when its events have not started yet what they start."""
Days: TypeAlias = float | Literal["never"]


class Tombstones(Struct, frozen=True, kw_only=True):
    """When last commits leave the log."""

    marks: Log
    """Where it is written that the horizon was passed."""
    most: int | Literal["never"]
    """So many of runs with a dedupe key stay."""
    settled_seconds: float = SETTLED_SECONDS
    marked_seconds: float = MARKED_SECONDS


class Archiver:
    """One per installation: two would do the same work twice, and no harm."""

    def __init__(  # noqa: PLR0913  # Its four stores, and the two retentions.
        self,
        shelf: Shelf,
        streams: Streams,
        runs: Log,
        clock: Clock,
        figures: Figures,
        *,
        log_days: Days,
        archive_days: Days,
        tombstones: Tombstones | None = None,
        followed: Callable[[], Awaitable[Position]] | None = None,
    ) -> None:
        """Without `tombstones` every last commit stays.

        `followed`: up to where the events of RUNS have started the runs that triggers want for them.
        """
        self._shelf, self._streams, self._runs = shelf, streams, runs
        self._clock, self._figures = clock, figures
        self._log_days, self._archive_days = log_days, archive_days
        self._tombstones, self._followed = tombstones, followed
        self._marked_since: float | None = None

    async def run(self) -> None:
        """Work for ever, a round at a time. A store that is away is tried again."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            try:
                await self.round()
            except Away as away:
                self._figures.archiver_failures += 1
                log.warning("archiver.put-off", reason=str(away))

    async def round(self) -> None:
        """Everything that is due now."""
        now = self._clock.now()
        if self._log_days != "never":
            await self._let_segments_go(now - timedelta(days=self._log_days))
            await self._purge_all(self._log_days)
            if self._tombstones is not None:
                await self._forget(self._tombstones, now)
        if self._archive_days != "never" and self._log_days != "never":
            before = now - timedelta(days=self._archive_days)
            while gone := await self._shelf.drop(before, now, DROPS):
                self._figures.dropped += gone
            await self._shelf.drop_weeks(before.date())
        await self._shelf.prune_hooks(now - timedelta(days=HOOK_DAYS))

    async def _purge_all(self, days: float) -> None:
        before = self._clock.now() - timedelta(days=days)
        after: EndedRun | None = None
        while page := await self._shelf.ended(before, after, PAGE):
            safe = await self._on_disk(page, partial(self._shelf.ended, before, after, PAGE))
            after = page[-1]
            whole = [run for run in safe if run.whole]
            self._figures.incomplete += len(safe) - len(whole)
            for run in safe:
                if not run.whole:
                    log.error("archive.incomplete", org=run.org, run=run.run)
            if whole:
                await self._purge(whole, before - PATIENCE)

    async def _purge(self, runs: Sequence[EndedRun], patience: datetime) -> None:
        async def done(gone: Sequence[EndedRun]) -> None:
            await self._shelf.mark_purged(gone, self._clock.now())
            self._figures.purged += len(gone)

        # Read before the runs are looked at: a run that is reopened meanwhile keeps the claims of its new attempts.
        claims = (await self._streams.facts(subjects.EFFECTS)).last
        through = await self._read_through()
        # What ended so long ago goes whoever has read it: a follower that stands still must not fill the disk.
        waits = frozenset(run for run in runs if run.ended > patience)
        await self._each(runs, partial(self._purge_one, claims, through, waits), done)

    async def _read_through(self) -> int:
        """The last sequence whose events have started what they start."""
        if self._followed is None:
            return MAX_INTEGER
        position = await self._followed()
        return position.sequence if position.epoch == self._runs.epoch else 0

    async def _on_disk(self, seen: Sequence[T], ask: Callable[[], Awaitable[Sequence[T]]]) -> Sequence[T]:
        """What of that still stands when everything before it is on disk: a Postgres that crashes forgets its newest rows."""
        await self._shelf.flush()
        stands = await ask()
        return [run for run in seen if run in stands]

    async def _each(
        self,
        runs: Sequence[EndedRun],
        act: Callable[[EndedRun, Stored | None], Awaitable[bool]],
        done: Callable[[Sequence[EndedRun]], Awaitable[None]],
    ) -> None:
        """Act on every run, given its last commit in the log; then `done` hears for which the act came true."""
        last = await self._runs.last([subjects.run(run.org, run.run) for run in runs])
        limit = asyncio.Semaphore(SIDE_BY_SIDE)
        gone: list[EndedRun] = []

        async def act_on(run: EndedRun) -> None:
            async with limit:
                if await act(run, last.get(subjects.run(run.org, run.run))):
                    gone.append(run)

        failed: Away | None = None
        try:
            await side_by_side(act_on(run) for run in runs)
        except Away as away:
            failed = away
        # Not in a `finally`: who is told to stop, stops. What was not marked is done again.
        if gone:
            await done(gone)
        if failed is not None:
            raise failed

    async def _purge_one(
        self, claims: int, through: int, waits: frozenset[EndedRun], run: EndedRun, last: Stored | None
    ) -> bool:
        """Whether the run has left. It stays when its history went on after what the archive calls its end."""
        if last is not None:
            if not _is_end_of(run, last) or (run in waits and last.sequence > through):
                return False
            await self._streams.purge(subjects.RUNS, last.subject, before=last.sequence)
        await self._streams.purge(subjects.EFFECTS, _effects_of(run), before=claims + 1)
        crash("archive.after_purge")
        return True

    # --- Segments of runs that go on -----------------------------------------------------------

    async def _let_segments_go(self, before: datetime) -> None:
        after: ClosedSegment | None = None
        broken: set[tuple[str, str]] = set()
        through: int | None = None
        while page := await self._shelf.segments(before, after, PAGE):
            safe = await self._on_disk(page, partial(self._shelf.segments, before, after, PAGE))
            after = page[-1]
            through = await self._read_through() if through is None else through
            whole: list[ClosedSegment] = []
            for segment in page:
                key = segment.org, segment.run
                if not segment.whole:
                    log.error("archive.incomplete", org=segment.org, run=segment.run, before=segment.version)
                unread = segment.sequence > through and segment.time > before - PATIENCE
                stays = segment not in safe or unread
                if not segment.whole or stays or key in broken:
                    broken.add(key)  # What is behind it takes it along when it leaves: it waits.
                else:
                    whole.append(segment)
            if whole:
                await self._let_go(whole)

    async def _let_go(self, segments: Sequence[ClosedSegment]) -> None:
        # First it is written down: whoever compares the stores must not miss in the log what has just left. What a kill
        # leaves there leaves with the next segment, or with the run.
        await self._shelf.mark_segments(segments, self._clock.now())
        newest = {(each.org, each.run): each for each in segments}
        last = await self._runs.last([subjects.run(*key) for key in newest])
        epoch = (await self._streams.facts(subjects.RUNS)).epoch
        limit = asyncio.Semaphore(SIDE_BY_SIDE)

        async def purge(segment: ClosedSegment) -> None:
            subject = subjects.run(segment.org, segment.run)
            # A place of an older epoch says nothing of the log that there is now.
            if subject in last and segment.epoch == epoch and last[subject].sequence >= segment.sequence:
                async with limit:
                    await self._streams.purge(subjects.RUNS, subject, before=segment.sequence)

        await side_by_side(purge(segment) for segment in newest.values())
        self._figures.segments += len(segments)

    # --- Tombstones ---------------------------------------------------------------------------

    async def _forget(self, tombstones: Tombstones, now: datetime) -> None:
        before = now - timedelta(seconds=tombstones.settled_seconds)
        await self._forget_all(before, keyed=False, beyond=0)
        if tombstones.most == "never":
            return
        if await self._shelf.tombstones(before, None, 1, keyed=True, beyond=tombstones.most):
            await self._mark(tombstones)
            if self._is_known_to_all(tombstones):
                await self._forget_all(before, keyed=True, beyond=tombstones.most)
        elif self._marked_since is None and await self._shelf.has_forgotten():
            await self._mark(tombstones)  # The log is not the one that had the mark.

    async def _mark(self, tombstones: Tombstones) -> None:
        """Tell everybody who starts runs to ask the archive first, and remember since when they were told."""
        if self._marked_since is not None:
            return
        if subjects.HORIZON not in await tombstones.marks.last([subjects.HORIZON]):
            log.warning("archiver.horizon-passed", tombstones=tombstones.most)
            await tombstones.marks.append([Proposal(subjects.HORIZON, b"passed", 0)])
        self._marked_since = self._clock.seconds()

    def _is_known_to_all(self, tombstones: Tombstones) -> bool:
        since = self._marked_since
        return since is not None and self._clock.seconds() - since >= tombstones.marked_seconds

    async def _forget_all(self, before: datetime, *, keyed: bool, beyond: int) -> None:
        after: EndedRun | None = None
        while page := await self._shelf.tombstones(before, after, PAGE, keyed=keyed, beyond=beyond):
            ask = partial(self._shelf.tombstones, before, after, PAGE, keyed=keyed, beyond=beyond)
            safe = await self._on_disk(page, ask)
            after = page[-1]
            await self._each(safe, self._forget_one, self._forgotten)

    async def _forgotten(self, gone: Sequence[EndedRun]) -> None:
        await self._shelf.mark_forgotten(gone, self._clock.now())
        self._figures.forgotten += len(gone)

    async def _forget_one(self, run: EndedRun, last: Stored | None) -> bool:
        """Whether nothing is left of the run. It stays when it was reopened: what follows lies behind its last commit."""
        if last is not None:
            if not _is_end_of(run, last):
                return False
            await self._streams.purge(subjects.RUNS, last.subject, before=last.sequence + 1)
        return True


def _is_end_of(run: EndedRun, last: Stored) -> bool:
    return hashlib.sha256(last.body).digest() == run.hash


def _effects_of(run: EndedRun) -> str:
    """The claims of every attempt of a run."""
    return subjects.effect(run.org, run.run, "", 1).rsplit(".", 2)[0] + ".>"
