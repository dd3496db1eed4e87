"""Pauses what an org has, takes it up again, and tells what is held."""

from re import fullmatch
from typing import Final

from chassis.clock import Clock
from chassis.edge.problems import unavailable
from chassis.held import HeldEverywhere
from contracts.pauses import PauseBegan, Paused
from contracts.subjects import DOMAIN
from gateway.callers import Caller
from gateway.directory import Directory
from gateway.domain import Domain, cause_of
from gateway.pauses.rules import ORG_PAUSES, What, begin, end
from gateway.pauses.views import HeldView, PausesView, PauseView
from gateway.places import Places
from gateway.rejected import absent

_POOL: Final = r"[a-z][a-z0-9-]{0,31}"
"""As `contracts.limits.PoolName` has it."""


class OrgPauses:
    def __init__(
        self, domain: Domain, directory: Directory, places: Places, held: HeldEverywhere, clock: Clock
    ) -> None:
        self._domain, self._directory, self._places = domain, directory, places
        self._held, self._clock = held, clock

    async def told(self, org: str) -> PausesView:
        pauses = await self._domain.load(ORG_PAUSES, org, org)
        lanes = self._held.of(org)
        return PausesView(
            pauses=[_view(pauses[key]) for key in sorted(pauses)],
            held=[
                HeldView(pool=pool, waiting=lane.waiting, paused=lane.paused, out=lane.out)
                for pool, lane in sorted(lanes.items())
            ],
        )

    async def begin(self, caller: Caller, what: Paused, name: str, reason: str) -> PauseView:
        """Raises `Rejected` for what the org does not have."""
        self._check(caller.org, what, name)
        meant, at = What(what, name, caller.actor), self._clock.now()
        changed = await self._domain.change(
            ORG_PAUSES, caller.org, lambda pauses: begin(pauses, meant, reason, at), cause_of(caller)
        )
        self._places.wrote(caller.org, DOMAIN, changed.place)
        return _view(changed.state[what, name])

    async def end(self, caller: Caller, what: Paused, name: str) -> None:
        """Also of what is gone by now."""
        if (what, name) not in await self._domain.load(ORG_PAUSES, caller.org, caller.org):
            self._check(caller.org, what, name)
        meant = What(what, name, caller.actor)
        changed = await self._domain.change(
            ORG_PAUSES, caller.org, lambda pauses: end(pauses, meant), cause_of(caller)
        )
        self._places.wrote(caller.org, DOMAIN, changed.place)

    def _check(self, org: str, what: Paused, name: str) -> None:
        match what:
            case "org" if name != org:
                raise absent("org")
            case "pool" if fullmatch(_POOL, name) is None:
                raise absent("pool")
            case "workflow" if not self._directory.complete.is_set():
                raise unavailable("The gateway is starting.")
            case "workflow" if self._directory.workflow(org, name) is None:
                raise absent("workflow")


def _view(pause: PauseBegan) -> PauseView:
    return PauseView(what=pause.what, name=pause.name, by=pause.by, since=pause.since, reason=pause.reason)
