"""DOMAIN, read from its beginning and followed for ever by whoever keeps what is small of it in memory.

Rule that holds here: what cannot be read changes nothing and stops nobody. A release that can read it will act on it.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import structlog

from chassis.ports import Reader, Stored
from contracts.codec import Malformed, Unknown, decode_domain_commit
from contracts.commits import DomainCommit

log = structlog.get_logger()

Take: TypeAlias = Callable[[str, str, DomainCommit[Any]], None]
"""Told an org, the id of something of it, and one commit more of that."""


class DomainFollowed:
    """Hands on each commit, in the order of the log, to whoever takes those of its aggregate."""

    def __init__(self, reader: Reader, takes: Mapping[str, Take]) -> None:
        self._reader, self._takes = reader, takes
        self._moved = asyncio.Condition()
        self.sequence = 0
        """Up to here it was read."""
        self.complete = asyncio.Event()
        """The past was read."""
        self.unreadable = 0

    async def follow(self) -> None:
        """Read for ever."""
        async for batch in self._reader.read(0):
            for stored in batch:
                self._hand_on(stored)
            if batch:
                async with self._moved:
                    self.sequence = batch[-1].sequence
                    self._moved.notify_all()
            else:
                self.complete.set()

    async def reached(self, sequence: int) -> None:
        """Return when everything up to this sequence has been read."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.sequence >= sequence)

    def _hand_on(self, stored: Stored) -> None:
        _, org, aggregate, id_ = stored.subject.split(".")
        take = self._takes.get(aggregate)
        if take is None:
            return
        try:
            commit = decode_domain_commit(stored.body, aggregate)
        except (Malformed, Unknown) as error:
            self.unreadable += 1
            log.error("domain.unreadable", org=org, aggregate=aggregate, id=id_, reason=str(error))
            return
        take(org, id_, commit)
