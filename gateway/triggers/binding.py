"""Keeps triggers and workflows together: a trigger follows what its workflow has published, and goes when it goes."""

import asyncio
from typing import Final

import structlog

from chassis.edge.problems import unavailable
from chassis.ids import receipt
from chassis.ports import Away
from contracts.subjects import DOMAIN
from gateway.directory import Directory
from gateway.domain import Cause, Domain, Place
from gateway.places import Places
from gateway.rejected import Rejected
from gateway.triggers import rules
from gateway.triggers.looks import Looks
from gateway.triggers.rules import TRIGGER
from gateway.workflows.rules import WORKFLOW

log = structlog.get_logger()

PATIENCE_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 5.0


class Binding:
    """One per process. `run` repairs what a process that died left undone."""

    def __init__(self, domain: Domain, directory: Directory, places: Places, looks: Looks) -> None:
        self._domain, self._directory, self._places, self._looks = domain, directory, places, looks
        self.repaired = 0

    async def follow(self, cause: Cause, workflow_id: str, place: Place) -> int:
        """Every trigger that the workflow had at `place` follows its published plan now."""
        await self._seen(place)
        triggers = self._directory.triggers_of(cause.org, workflow_id)
        for trigger_id in triggers:
            await self.bind(cause, workflow_id, trigger_id)
        return len(triggers)

    async def bind(self, cause: Cause, workflow_id: str, trigger_id: str) -> None:
        """Look at the workflow again after each change: of two who publish at once the later one must win."""
        bound = ""
        while True:
            workflow = await self._domain.load(WORKFLOW, cause.org, workflow_id)
            if not workflow.exists or workflow.plan == bound:
                return
            command = rules.Bind(version=workflow.published, plan=workflow.plan)
            if not await self._change(cause, trigger_id, command):
                return
            bound = workflow.plan

    def followers_in(self, org: str) -> int:
        """How many triggers of an org follow its events."""
        return self._directory.followers_in(org)

    async def remove(self, cause: Cause, workflow_id: str, place: Place | None = None) -> None:
        """Delete the workflow's triggers."""
        if place is not None:
            await self._seen(place)
        for trigger_id in self._directory.triggers_of(cause.org, workflow_id):
            await self._change(cause, trigger_id, rules.Delete())

    async def run(self) -> None:
        """For ever: what is not bound as it should be, is bound."""
        await self._directory.complete.wait()
        while True:
            await self.repair()
            await asyncio.sleep(LOOK_SECONDS)

    async def repair(self) -> None:
        """Bind whatever does not follow what its workflow has published."""
        for org, workflow_id, trigger_id in list(self._directory.unbound()):
            cause = Cause(org=org, actor="system", request=receipt())
            try:
                await self.bind(cause, workflow_id, trigger_id)
                self.repaired += 1
            except (Away, Rejected) as reason:
                log.warning("binding.later", org=org, trigger=trigger_id, reason=str(reason))

    async def _change(self, cause: Cause, trigger_id: str, command: rules.Command) -> bool:
        """False when the trigger is gone: there is nothing to do then."""
        try:
            changed = await self._domain.change(
                TRIGGER, trigger_id, lambda state: rules.decide(state, command), cause
            )
        except Rejected as rejected:
            if rejected.code == "not_found":
                return False
            raise
        self._places.wrote(cause.org, DOMAIN, changed.place)
        await self._looks.changed(cause.org, trigger_id, changed.state)
        return True

    async def _seen(self, place: Place) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._directory.reached(place.sequence)
        except TimeoutError:
            raise unavailable(
                "It is recorded, but the triggers follow later. Repeat the call to be sure."
            ) from None
