"""What is paused, org by org: folded from DOMAIN into memory, and followed for ever."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Final, TypeAlias

from chassis.followed import DomainFollowed
from chassis.ports import Reader
from contracts.commits import DomainCommit
from contracts.pauses import PauseBegan, Paused, PauseEnded, PauseEvent

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
        self._changed = changed
        self._orgs: dict[str, Pauses] = {}
        self._domain = DomainFollowed(reader, {AGGREGATE: self._take})
        self.complete = self._domain.complete

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
        await self._domain.follow()

    def _take(self, org: str, _id: str, commit: DomainCommit[PauseEvent]) -> None:
        self._orgs[org] = reduce(evolve, commit.events, self.of(org))
        self._changed(org, self._orgs[org])
