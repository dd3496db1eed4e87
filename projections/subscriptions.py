"""Which triggers follow which events: folded from DOMAIN into memory, and followed for ever.

A trigger wants what happened while it was enabled and its workflow published: its history is cut into stretches, each with
what it followed then. So which events it wants does not depend on when they are read, or how often.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Final, TypeAlias

from msgspec import Struct, structs

from chassis.followed import DomainFollowed
from chassis.ports import Away, Reader
from contracts.commits import DomainCommit
from contracts.triggers import (
    Happening,
    OccasionChanged,
    OccasionCreated,
    Poll,
    RunEnd,
    TriggerBound,
    TriggerDeleted,
    TriggerDisabled,
    TriggerEnabled,
    TriggerEvent,
)
from contracts.workflows import OrgEvent, OrgSays, said

ENDS: Final = {"completed": "run.completed", "failed": "run.failed", "cancelled": "run.cancelled"}
PATIENCE_SECONDS: Final = 5.0
Watched: TypeAlias = RunEnd | Happening | Poll
"""What is started by something that stands in the log."""


class Stretch(Struct, frozen=True):
    """From a moment on, until the next stretch begins: this is wanted, or nothing."""

    since: datetime
    on: Watched | None


class Subscription(Struct, frozen=True, kw_only=True):
    """A trigger that follows events."""

    org: str
    trigger: str
    on: Watched
    """As it was written last."""
    workflow: str
    enabled: bool = True
    version: int = 0
    plan: str = ""
    """Empty: the workflow was never published, so there is nothing that could start."""
    stretches: tuple[Stretch, ...] = ()

    @property
    def active(self) -> Watched | None:
        """What starts runs now."""
        return self.on if self.enabled and self.plan else None

    def wanted(self, moment: datetime) -> Watched | None:
        """What it followed then. Nothing is started for a trigger that is disabled or gone by now."""
        if self.active is None:
            return None
        found = None
        for stretch in self.stretches:
            if stretch.since > moment:
                break
            found = stretch.on
        return found

    @property
    def types(self) -> frozenset[str]:
        """Every type of events that it ever wanted."""
        return frozenset(
            kind for stretch in self.stretches if stretch.on is not None for kind in types_of(stretch.on)
        )


def types_of(on: Watched) -> Sequence[str]:
    match on:
        case RunEnd(outcomes=outcomes):
            return [ENDS[outcome] for outcome in outcomes]
        case Happening(types=types):
            return types
        case Poll():
            return [*ENDS.values()]  # Of the runs that look.


def add(before: Subscription | None, commit: DomainCommit[TriggerEvent]) -> Subscription | None:
    """The subscription after one more commit of its trigger; None for a trigger of another kind."""
    after = before
    for event in commit.events:
        after = _evolve(after, event, commit.org, commit.aggregate_id)
    if after is None:
        return None
    newest = after.stretches[-1] if after.stretches else None
    if after.active == (newest.on if newest is not None else None):
        return after
    # The gateways' clocks differ a little: no stretch begins before the one before it.
    since = commit.time if newest is None else max(commit.time, newest.since)
    return structs.replace(after, stretches=(*after.stretches, Stretch(since, after.active)))


def _evolve(before: Subscription | None, event: TriggerEvent, org: str, trigger: str) -> Subscription | None:
    if isinstance(event, OccasionCreated) and isinstance(event.on, Watched):
        return Subscription(org=org, trigger=trigger, on=event.on, workflow=event.workflow)
    if before is None:
        return None
    match event:
        case OccasionChanged(on=RunEnd() | Happening() | Poll() as on):
            return structs.replace(before, on=on)
        case TriggerBound():
            return structs.replace(before, version=event.version, plan=event.plan)
        case TriggerEnabled():
            return structs.replace(before, enabled=True)
        case TriggerDisabled() | TriggerDeleted():
            return structs.replace(before, enabled=False)
        case _:
            return before


_NOTHING: Final = OrgSays()


class _Org(Struct):
    """What is known of one org."""

    subscriptions: dict[str, Subscription] = {}
    by_type: dict[str, tuple[str, ...]] = {}
    """Triggers by the types of events that they want: nothing else is looked at when an event comes."""
    says: OrgSays = _NOTHING


class Subscriptions:
    """Every trigger that follows events, and what every org says of its runs."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._orgs: dict[str, _Org] = {}
        self._domain = DomainFollowed(reader, {"trigger": self._take_trigger, "org": self._take_org})

    @property
    def any(self) -> bool:
        """Whether anybody wants any event now."""
        return any(
            each.active is not None for org in self._orgs.values() for each in org.subscriptions.values()
        )

    def types_in(self, org: str) -> Mapping[str, Sequence[str]]:
        """Which types of events are wanted in an org, and by which triggers."""
        known = self._orgs.get(org)
        return known.by_type if known is not None else {}

    def of(self, org: str, trigger: str) -> Subscription:
        return self._orgs[org].subscriptions[trigger]

    def says(self, org: str) -> OrgSays:
        """What an org says of all its runs."""
        known = self._orgs.get(org)
        return known.says if known is not None else _NOTHING

    async def follow(self) -> None:
        """Read DOMAIN from its beginning, and go on for ever."""
        await self._domain.follow()

    async def up_to_date(self) -> None:
        """Return when all that was recorded before the call is known here. Raises `Away`."""
        end = await self._reader.end()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._domain.reached(end)
        except TimeoutError:
            raise Away(f"DOMAIN is read to {self._domain.sequence}, and ends at {end}") from None

    def _take_org(self, org: str, _id: str, commit: DomainCommit[OrgEvent]) -> None:
        known = self._orgs.setdefault(org, _Org())
        known.says = reduce(said, commit.events, known.says)

    def _take_trigger(self, org: str, id_: str, commit: DomainCommit[TriggerEvent]) -> None:
        known = self._orgs.get(org)
        after = add(known.subscriptions.get(id_) if known is not None else None, commit)
        if after is None:
            return
        known = self._orgs.setdefault(org, _Org())
        known.subscriptions[id_] = after
        found: dict[str, list[str]] = {}
        for trigger, each in known.subscriptions.items():
            for kind in each.types if each.active is not None else ():
                found.setdefault(kind, []).append(trigger)
        known.by_type = {kind: tuple(triggers) for kind, triggers in found.items()}
