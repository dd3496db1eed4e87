"""The history of a run for readers: from the archive's bytes, and what is newer from the log."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import Raw, Struct

from chassis.archive import archived_commits
from chassis.ports import Log, Stored
from chassis.postgres import Pool
from contracts.codec import decode_envelope
from contracts.commits import Envelope
from contracts.subjects import run as run_subject


class Kept(Struct, frozen=True):
    """One commit, where it lies in RUNS (or lay, before it moved to the archive)."""

    epoch: int
    sequence: int
    body: bytes


@runtime_checkable
class Histories(Protocol):
    async def commits(self, org: str, run_id: str) -> list[Kept]:
        """From the first commit on; none: there is no such run. Raises `Away`."""
        ...


class StoredHistories:
    """Archive and log as one history."""

    def __init__(self, pool: Pool, log: Log) -> None:
        self._pool, self._log = pool, log

    async def commits(self, org: str, run_id: str) -> list[Kept]:
        live = await self._log.history(run_subject(org, run_id))
        kept = [Kept(self._log.epoch, stored.sequence, stored.body) for stored in live]
        if live and _version(live[0]) == 1:
            return kept  # Nothing of it has moved to the archive.
        archived = await archived_commits(self._pool, org, run_id)
        known = archived[-1].version if archived else 0
        newer = [each for each, stored in zip(kept, live, strict=True) if _version(stored) > known]
        return [Kept(commit.epoch, commit.sequence, commit.body) for commit in archived] + newer


def _version(stored: Stored) -> int:
    return decode_envelope(stored.body).version


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


def events_of(commits: Sequence[Kept]) -> Iterator[Told]:
    """Every event, numbered. A type that this release does not know is told like any other."""
    number = 0
    for kept in commits:
        for told in events_in(kept, number):
            number = told.number
            yield told


def events_in(kept: Kept, before: int = 0) -> Iterator[Told]:
    """The events of one commit; `before` is the number of the last one before it."""
    envelope: Envelope = decode_envelope(kept.body)
    frame = msgspec.json.decode(kept.body, type=_Frame)
    for index, event in enumerate(envelope.events):
        yield Told(
            number=before + index + 1,
            id=f"{kept.epoch}-{kept.sequence}-{index}",
            version=envelope.version,
            time=frame.time,
            actor=frame.actor,
            type=msgspec.json.decode(event, type=_Typed).type,
            event=event,
        )
