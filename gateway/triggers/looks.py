"""Tells a schedule's owner to look at it, when something was changed.

A convenience and no promise: the change is in the log, and the sweeper finds a schedule whose owner has not seen it.
"""

from typing import Protocol

import structlog

from chassis.ports import Away
from contracts.messages import Answer, Said, ScheduleLook
from contracts.triggers import Poll
from gateway.triggers.rules import TriggerState

log = structlog.get_logger()


class Sender(Protocol):
    """`chassis.dispatch.Dispatch`, or its like."""

    async def send(self, message: Said) -> Answer: ...


class Looks:
    """One per process."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def changed(self, org: str, trigger_id: str, state: TriggerState) -> None:
        """Returns when the owner has decided by what is written now, or INBOX will say so."""
        if state.schedule is None and not isinstance(state.on, Poll):
            return
        try:
            await self._sender.send(ScheduleLook(org=org, run=trigger_id))
        except Away as away:
            log.warning("look.not-told", org=org, trigger=trigger_id, reason=str(away))
