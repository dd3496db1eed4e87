"""Lets histories leave: first the log, for the archive; long after, the archive.

Rules that hold here: a history leaves the log only when the archive has every byte of it on disk and its last commit is
still the log's last; that last commit stays as the tombstone that refuses a second start. Whatever is killed half-way
is done again.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal, TypeAlias

import structlog

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ports import Away, Log, Stored
from contracts import subjects
from projections.figures import Figures
from projections.shelf import EndedRun, Shelf
from projections.streams import Streams

log = structlog.get_logger()

ROUND_SECONDS: Final = 30.0
PAGE: Final = 200
SIDE_BY_SIDE: Final = 16
DROPS: Final = 500
HOOK_DAYS: Final = 30
Days: TypeAlias = float | Literal["never"]


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
    ) -> None:
        self._shelf, self._streams, self._runs = shelf, streams, runs
        self._clock, self._figures = clock, figures
        self._log_days, self._archive_days = log_days, archive_days

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
            await self._purge_all(self._log_days)
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
            after = page[-1]
            whole = [run for run in page if run.whole]
            self._figures.incomplete += len(page) - len(whole)
            for run in page:
                if not run.whole:
                    log.error("archive.incomplete", org=run.org, run=run.run)
            if whole:
                await self._purge(whole)

    async def _purge(self, runs: Sequence[EndedRun]) -> None:
        # Before anything leaves: what we saw in the archive survives a power cut.
        await self._shelf.flush()
        last = await self._runs.last([subjects.run(run.org, run.run) for run in runs])
        limit = asyncio.Semaphore(SIDE_BY_SIDE)
        gone: list[EndedRun] = []

        async def purge(run: EndedRun) -> None:
            async with limit:
                if await self._purge_one(run, last.get(subjects.run(run.org, run.run))):
                    gone.append(run)

        try:
            async with asyncio.TaskGroup() as purges:
                for run in runs:
                    purges.create_task(purge(run))
        except* Away as aways:
            raise Away(str(aways.exceptions[0])) from aways
        finally:
            if gone:
                await self._shelf.mark_purged(gone, self._clock.now())
                self._figures.purged += len(gone)

    async def _purge_one(self, run: EndedRun, last: Stored | None) -> bool:
        """Whether the run has left. It stays when its history went on after what the archive calls its end."""
        if last is not None:
            if hashlib.sha256(last.body).digest() != run.hash:
                return False
            await self._streams.purge(subjects.RUNS, last.subject, before=last.sequence)
        await self._streams.purge(subjects.EFFECTS, _effects_of(run))
        crash("archive.after_purge")
        return True


def _effects_of(run: EndedRun) -> str:
    """The claims of every attempt of a run."""
    return subjects.effect(run.org, run.run, "", 1).rsplit(".", 2)[0] + ".>"
