"""What is paused, org by org: folded from DOMAIN into memory, and followed for ever."""

import asyncio
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Final, TypeAlias

import structlog

from chassis.ports import Reader, Stored
from contracts.codec import Malformed, Unknown, decode_domain_commit
from contracts.pauses import PauseBegan, Paused, PauseEnded, PauseEvent

log = structlog.get_logger()

AGGREGATE: Final = "pauses"
"""One history for each org, under the org's own id."""
Pauses: TypeAlias = Mapping[tuple[Paused, str], PauseBegan]
NONE: Final[Pauses] = {}


def evolve(pauses: Pauses, event: PauseEvent) -> Pauses:
    """What is paused after one more fact. Total."""
    match event:
        case PauseBegan():
            return {**pauses, (event.what, event.name): event}
        case PauseEnded():
            return {key: pause for key, pause in pauses.items() if key != (event.what, event.name)}


class PausesFollowed:
    """The pauses of every org. `changed` is told an org, and all that is paused of it."""

    def __init__(
        self,
        reader: Reader,
        changed: Callable[[str, Pauses], None] = lambda _org, _pauses: None,
    ) -> None:
        self._reader, self._changed = reader, changed
        self._orgs: dict[str, Pauses] = {}
        self.is_complete = asyncio.Event()
        """The past was read."""

    def of(self, org: str) -> Pauses:
        return self._orgs.get(org, NONE)

    def stops(self, org: str, workflow: str, pool: str) -> PauseBegan | None:
        """The pause that holds an attempt, if one does."""
        pauses = self._orgs.get(org)
        if not pauses:
            return None
        return pauses.get(("org", org)) or pauses.get(("workflow", workflow)) or pauses.get(("pool", pool))

    async def follow(self) -> None:
        """Read for ever."""
        async for batch in self._reader.read(0):
            for stored in batch:
                self._take(stored)
            if not batch:
                self.is_complete.set()

    def _take(self, stored: Stored) -> None:
        _, org, aggregate, _ = stored.subject.split(".")
        if aggregate != AGGREGATE:
            return
        try:
            events = decode_domain_commit(stored.body, AGGREGATE).events
        except (Malformed, Unknown) as error:
            # It stays as it was: a release that can read the commit will also heed it.
            log.error("pauses.unreadable", org=org, reason=str(error))
            return
        self._orgs[org] = reduce(evolve, events, self.of(org))
        self._changed(org, self._orgs[org])
