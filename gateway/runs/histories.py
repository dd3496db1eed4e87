"""The history of a run for readers: from the archive's bytes, and what is newer from the log."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import Raw, Struct

from chassis.archive import LAST_SEGMENT, Lying, Since, pages_of
from chassis.ports import Log
from chassis.postgres import Pool
from contracts.codec import decode_envelope
from contracts.commits import Envelope

BEGINNING = Since()
NEWEST = Since(events=LAST_SEGMENT)
"""From where the newest segment begins: enough for who goes on with the run."""


class Kept(Struct, frozen=True):
    """One commit, where it lies in RUNS (or lay, before it moved to the archive)."""

    epoch: int
    sequence: int
    body: bytes


@runtime_checkable
class Histories(Protocol):
    def pages(self, org: str, run_id: str, since: Since = BEGINNING) -> AsyncIterator[Sequence[Lying]]:
        """A page of commits after the other, from `since` or from before it. None: there is no such run. Raises `Away`."""
        ...


class StoredHistories:
    """Archive and log as one history."""

    def __init__(self, pool: Pool, log: Log) -> None:
        self._pool, self._log = pool, log

    def pages(self, org: str, run_id: str, since: Since = BEGINNING) -> AsyncIterator[Sequence[Lying]]:
        return pages_of(self._pool, self._log, org, run_id, since)


async def first_of(histories: Histories, org: str, run_id: str) -> Lying | None:
    """The first commit that is left of a history; None: there is no such run. Raises `Away`."""
    async for page in histories.pages(org, run_id):
        return page[0]
    return None


class Told(Struct, frozen=True, kw_only=True):
    """One event of a history as readers see it."""

    number: int
    """1, 2, 3 … over the whole history."""
    id: str
    """`epoch-sequence-index`: what a live stream calls it, and where one goes on from."""
    version: int
    """The commit in which it lies."""
    time: datetime
    actor: str
    type: str
    event: Raw
    """The event as it was stored. What was sealed stays sealed."""


class _Frame(Struct, frozen=True):
    time: datetime
    actor: str = ""


class _Typed(Struct, frozen=True):
    type: str = ""


async def events_after(
    histories: Histories, org: str, run_id: str, after: int, most: int
) -> list[Told] | None:
    """The events behind number `after`, at most so many; None: there is no such run. Raises `Away`."""
    told: list[Told] | None = None
    async for page in histories.pages(org, run_id, Since(events=after)):
        told = told or []
        for lying in page:
            told += [each for each in told_of(lying) if each.number > after]
            if len(told) >= most:
                return told[:most]
    return told


def told_of(lying: Lying) -> list[Told]:
    """The events of one commit, numbered. A type that this release does not know is told like any other."""
    return events_in(Kept(lying.epoch, lying.sequence, lying.body), lying.before)


def events_in(kept: Kept, before: int = 0) -> list[Told]:
    """The events of one commit; `before` is the number of the last one before it."""
    envelope: Envelope = decode_envelope(kept.body)
    frame = msgspec.json.decode(kept.body, type=_Frame)
    return [
        Told(
            number=before + index + 1,
            id=f"{kept.epoch}-{kept.sequence}-{index}",
            version=envelope.version,
            time=frame.time,
            actor=frame.actor,
            type=msgspec.json.decode(event, type=_Typed).type,
            event=event,
        )
        for index, event in enumerate(envelope.events)
    ]
