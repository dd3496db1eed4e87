"""From a delivery that has a name to the owner of its run, and to what is known of that run by now."""

from collections.abc import Awaitable, Callable
from typing import Literal

import structlog
from msgspec import Struct

from chassis.admission import Sender
from chassis.chains import HEADER as CAUSE
from chassis.crash import crash
from chassis.dispatch import QUEUED
from chassis.edge.trails import Trails
from chassis.ids import digest
from chassis.past import PastRun
from chassis.ports import Away, Log
from contracts.messages import Answer, Responded, StartRun
from contracts.payloads import Payload
from contracts.runs import Cause
from contracts.subjects import run as run_subject
from ingress.deliveries import Request
from ingress.directory import Directory, Trigger
from ingress.histories import correlation_of, responded_in

log = structlog.get_logger()


class Delivery(Struct, frozen=True, kw_only=True):
    """Which run this stands for, and what that run is given."""

    receipt: str
    run: str
    key: str | None
    """What its sender calls it; None: it has a run of its own."""
    cause: Cause
    input: Payload
    key_id: str
    """Names the salt under which what is sensitive in the input is sealed; empty: nothing is."""
    trace: str


class Starts:
    """One per process. Whoever takes deliveries has their runs started here."""

    def __init__(
        self,
        *,
        directory: Directory,
        dispatch: Sender,
        history: Log,
        trails: Trails,
        past: Callable[[str, str], Awaitable[PastRun | None]] | None = None,
    ) -> None:
        """`past`: what the archive knows of a run whose history has left the log; raises `Away`."""
        self._directory = directory
        self._dispatch = dispatch
        self._log = history
        self._trails = trails
        self._past = past

    def cause(self, trigger: Trigger, receipt: str, request: Request) -> Cause:
        """Why the run of a delivery begins, behind the run that sent it, where one did. Raises `Problem` for a loop."""
        cause = Cause(kind="webhook", id=receipt)
        return self._trails.behind(cause, request.headers.get(CAUSE), trigger.org, trigger.workflow)

    def message(self, trigger: Trigger, delivery: Delivery, reply: str = "") -> StartRun:
        """What the run's owner is told. `reply`: the subject on which somebody waits for the run's own answer."""
        says = self._directory.says(trigger.org)
        return StartRun(
            org=trigger.org,
            run=delivery.run,
            trace=delivery.trace,
            plan=trigger.plan,
            workflow=trigger.workflow,
            version=trigger.version,
            receipt=delivery.receipt,
            cause=delivery.cause,
            input=delivery.input,
            trigger=trigger.id,
            org_vars=says.vars,
            org_limit=says.limit,
            dedupe=digest(delivery.key.encode()) if delivery.key is not None else None,
            actor=f"trigger:{trigger.id}",
            key_id=delivery.key_id,
            reply=reply,
        )

    async def begin(self, start: StartRun) -> Answer:
        """The owner's answer; through INBOX nobody told us yet whether the run was there before, so we look.

        Raises `Away` when the start could not be stored, or its owner refused it.
        """
        crash("accept.before_dispatch")
        answer = await self._dispatch.send(start)
        crash("accept.after_dispatch")
        if answer is QUEUED:
            return await self._looked_up(start)
        if answer.result == "refused":
            raise Away(answer.error.message if answer.error else "refused")
        return answer

    async def responded(self, start: StartRun) -> Responded | None:
        """What the history says, once, when no answer came: whoever owed it may have died."""
        return responded_in(await self._log.history(run_subject(start.org, start.run)), start.run)

    async def _looked_up(self, start: StartRun) -> Answer:
        known, gone = start.receipt, False
        if start.dedupe is not None:
            found = await self._log.last([run_subject(start.org, start.run)])
            for stored in found.values():
                known = correlation_of(stored.body)
            if not found and (past := await self._past_of(start)) is not None:
                known, gone = past.receipt, True
        result: Literal["accepted", "duplicate"] = "accepted" if known == start.receipt else "duplicate"
        return Answer(run=start.run, result=result, receipt=known, gone=gone)

    async def _past_of(self, start: StartRun) -> PastRun | None:
        """What the archive knows. With Postgres away nobody is told of a duplicate: INBOX has the start under its id."""
        if self._past is None:
            return None
        try:
            return await self._past(start.org, start.run)
        except Away as reason:
            log.warning("delivery.past-unknown", run=start.run, reason=str(reason))
            return None
