"""Removes from the object store what nothing names any more: no history, no record, no letter, no stored value.

Rules that hold here: nothing is removed before everything that could name it was read, in this order. First what lies in
INBOX (an accepted start may wait there for days), then the ends of RUNS and DOMAIN: what has left INBOX lies before
them. The archive must have reached these ends. Records and dead letters next, and every stored value that one of all
these names and that may name others. Only then the old objects are asked about; one that is stored again meanwhile is
young and stays. A run that left the archive counts for a day more, for whoever just passed on what it named.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog

from chassis.clock import Clock
from chassis.jetstream.blobs import Collected
from chassis.ports import Away, Reader, Stored
from chassis.tasks import side_by_side
from contracts.payloads import Blob
from contracts.subjects import DLQ, DOMAIN, HOOKS, RUNS
from projections.figures import Figures
from projections.reference_tables import Place, ReferenceTables
from projections.references import Reference, names
from projections.streams import Streams

log = structlog.get_logger()

ROUND_SECONDS: Final = 60.0
REST_SECONDS: Final = 3600.0
"""After all objects were asked about."""
OLD_SECONDS: Final = 24 * 3600.0
PAGE: Final = 5_000
PAGES: Final = 80
VALUES: Final = 2_000
SIDE_BY_SIDE: Final = 4
CATCH_UP_TRIES: Final = 40
CATCH_UP_PAUSE: Final = 0.25
INBOX_DAYS: Final = 2
HOOK_DAYS: Final = 31


class Objects(Protocol):
    """The object store."""

    async def get(self, blob: Blob) -> bytes: ...

    async def collect_from(
        self, keep: Callable[[set[str]], Awaitable[set[str]]], older_than: float, after: int
    ) -> Collected:
        """Remove some of the objects that are so old and that `keep` does not name."""
        ...


class Collector:
    """One per installation: two would do the same work twice, and no harm. Bounded work per round."""

    def __init__(  # noqa: PLR0913  # Everything that can name an object.
        self,
        *,
        tables: ReferenceTables,
        streams: Streams,
        objects: Objects,
        readers: Mapping[str, Reader],
        inbox: Callable[[], AsyncIterator[Sequence[Stored]]],
        clock: Clock,
        figures: Figures,
        older_than: float = OLD_SECONDS,
    ) -> None:
        """`readers` of HOOKS and DLQ; `inbox` gives what lies there now."""
        self._tables, self._streams, self._objects = tables, streams, objects
        self._readers, self._inbox = readers, inbox
        self._clock, self._figures, self._older_than = clock, figures, older_than
        self._after = 0

    async def run(self) -> None:
        """Work for ever, a round at a time. A store that is away is tried again."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            try:
                if await self.round() and not self._after:
                    await asyncio.sleep(REST_SECONDS)
            except Away as away:
                self._figures.archiver_failures += 1
                log.warning("collector.put-off", reason=str(away))

    async def round(self) -> bool:
        """Whether everything was read that can name an object, and some objects were asked about."""
        await self._note_inbox()
        ends = {name: await self._end_of(name) for name in (RUNS, DOMAIN)}
        await self._tables.expire(self._clock.now())
        if not await self._archived(ends):
            return False
        for stream, end in ends.items():
            if not await self._note_archive(stream, end):
                return False
        for stream in (HOOKS, DLQ):
            await self._note_letters(stream)
        if not await self._look_into_values():
            return False
        await self._collect()
        return True

    # --- Who names what -----------------------------------------------------------------------

    async def _end_of(self, stream: str) -> Place:
        facts = await self._streams.facts(stream)
        return Place(facts.epoch, facts.last)

    async def _archived(self, ends: Mapping[str, Place]) -> bool:
        for _ in range(CATCH_UP_TRIES):
            if await self._tables.reached(ends):
                return True
            await asyncio.sleep(CATCH_UP_PAUSE)
        return False

    async def _note_inbox(self) -> None:
        until = self._clock.now() + timedelta(days=INBOX_DAYS)
        async for messages in self._inbox():
            await self._tables.note(
                [
                    Reference(org="_", sha256=name, holder="inbox", opens=opens, until=until)
                    for message in messages
                    for name, opens in names(message.body).items()
                ]
            )

    async def _note_archive(self, stream: str, end: Place) -> bool:
        """Whether all of it is noted."""
        place = await self._tables.place(stream)
        for _ in range(PAGES):
            page = await self._tables.page(stream, place, PAGE)
            if page is None:
                return True
            await self._tables.note(page.references, stream, page.end)
            place = page.end
            if place >= end:
                return True
        return False

    async def _note_letters(self, stream: str) -> None:
        """Records of HOOKS count as long as they lie there; dead letters for ever, since they may be driven again."""
        facts = await self._streams.facts(stream)
        place = await self._tables.place(stream)
        same = place.epoch == facts.epoch and place.sequence <= facts.last
        until = self._clock.now() + timedelta(days=HOOK_DAYS) if stream == HOOKS else None
        async for messages in self._readers[stream].read(place.sequence if same else 0, PAGE):
            if not messages:
                return
            found = [
                Reference(
                    org=message.subject.split(".")[-2],
                    sha256=name,
                    holder=f"{stream.lower()}.{facts.epoch}.{message.sequence}",
                    opens=opens,
                    until=until,
                )
                for message in messages
                for name, opens in names(message.body).items()
            ]
            await self._tables.note(found, stream, Place(facts.epoch, messages[-1].sequence))

    async def _look_into_values(self) -> bool:
        """Whether every stored value that may name others was looked into."""
        looked = 0
        while looked < VALUES:
            unread = await self._tables.unread(SIDE_BY_SIDE)
            if not unread:
                return True
            await side_by_side(self._look_into(org, name) for org, name in unread)
            looked += len(unread)
        return False

    async def _look_into(self, org: str, name: str) -> None:
        try:
            body = await self._objects.get(Blob(sha256=name, size=0))
        except KeyError:
            await self._tables.is_none(name)
        else:
            await self._tables.looked_into(org, name, names(body))

    # --- What nobody names --------------------------------------------------------------------

    async def _collect(self) -> None:
        unnamed: set[str] = set()

        async def keep(asked: set[str]) -> set[str]:
            held = await self._tables.held(asked, self._clock.now()) if asked else set[str]()
            unnamed.update(asked - held)
            return held

        collected = await self._objects.collect_from(keep, self._older_than, self._after)
        self._after = collected.after
        self._figures.collected += collected.gone
        if unnamed:
            await self._tables.forget(unnamed)
            log.info("collector.collected", objects=collected.gone)
