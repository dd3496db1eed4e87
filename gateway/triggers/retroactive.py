"""Past deliveries once more, through a workflow that is new or was repaired: the oldest first, a page at a time.

Whoever calls says how fast: one call starts no more runs than it was asked for, and tells where to go on. A run's id follows from
the name of the whole undertaking and the delivery's receipt, so a page that is asked for again starts nothing again,
and another name begins anew.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from chassis.edge.problems import Problem
from chassis.expressions import Language
from chassis.filters import FilterFailed, holds
from chassis.ids import digest, run_id
from chassis.ids import receipt as new_receipt
from chassis.ports import Blobs
from contracts.runs import Cause
from contracts.workflows import Fault
from gateway.callers import Caller
from gateway.pages import cursor_of
from gateway.payloads import bytes_of
from gateway.rejected import Rejected
from gateway.runs.store import Runs, Wanted
from gateway.triggers.occasions import CODE, flaws_of_filter
from gateway.triggers.queries import TriggerQueries
from gateway.triggers.redelivery import Recorded, Redelivery
from gateway.triggers.rules import bound
from gateway.triggers.store import Triggers
from gateway.triggers.views import RanAgain, RunAgain, Skipped


class Target(Struct, frozen=True, kw_only=True):
    """What is started: the published version of a workflow."""

    workflow: str
    version: int
    plan: str


class Retroactive:
    """Runs past deliveries again."""

    def __init__(
        self,
        *,
        triggers: Triggers,
        queries: TriggerQueries,
        redelivery: Redelivery,
        runs: Runs,
        blobs: Blobs,
        language: Language,
    ) -> None:
        self._triggers, self._queries, self._redelivery = triggers, queries, redelivery
        self._runs, self._blobs, self._language = runs, blobs, language

    async def page(self, caller: Caller, trigger_id: str, wanted: RunAgain) -> RanAgain:
        """The next page of what was delivered in this span."""
        self._check(wanted)
        target = await self._target(caller.org, trigger_id, wanted)
        rows = await self._queries.past(caller.org, trigger_id, wanted)
        following = None
        if len(rows) > wanted.limit:
            rows = rows[: wanted.limit]
            following = cursor_of(rows[-1]["time"], rows[-1]["receipt"])
        skipped, told = list[Skipped](), list[str]()
        for row in rows:
            try:
                told.append(await self._one(caller, trigger_id, wanted, target, row["receipt"]))
            except (Rejected, FilterFailed) as reason:
                skipped.append(Skipped(receipt=row["receipt"], reason=str(reason)[:500]))
            except Problem as problem:
                if problem.code != "payload.missing":
                    raise
                skipped.append(Skipped(receipt=row["receipt"], reason=str(problem)))
        return _ran(rows, told, skipped, following)

    async def _one(
        self, caller: Caller, trigger_id: str, wanted: RunAgain, target: Target, receipt: str
    ) -> str:
        """What became of one delivery: `unwanted`, `would` (start), `accepted` or `duplicate`."""
        if wanted.dry_run and not wanted.filter:
            return "would"
        recorded = await self._redelivery.recorded(caller.org, trigger_id, receipt)
        given = await bytes_of(recorded.input, self._blobs)
        if not holds(wanted.filter, self._language, given):
            return "unwanted"
        if wanted.dry_run:
            return "would"
        source = f"{trigger_id}:again:{wanted.name}:{target.workflow}"
        return await self._start(caller, source, target, receipt, recorded)

    async def _start(
        self, caller: Caller, source: str, target: Target, receipt: str, recorded: Recorded
    ) -> str:
        run = run_id(caller.org, source, f"idempotency:{receipt}")
        given, sealed_as = await self._redelivery.resealed(recorded, caller.org, run)
        started = await self._runs.want(
            caller,
            Wanted(
                workflow_id=target.workflow,
                version=target.version,
                plan=target.plan,
                source=source,
                cause=Cause(kind="redelivery", id=receipt),
                input=given,
                key=receipt,
                request=digest(receipt.encode()),
                receipt=new_receipt(),
                sealed_as=sealed_as,
            ),
        )
        return "duplicate" if started.status == "duplicate" else "accepted"

    def _check(self, wanted: RunAgain) -> None:
        if wanted.until <= wanted.since:
            raise Rejected("malformed", "The span has no length: `until` is not behind `since`.")
        flaws = flaws_of_filter(wanted.filter, self._language) if wanted.filter else ()
        if flaws:
            faults = [
                Fault(code=CODE, pointer="/filter", message=flaw.message, position=flaw.offset)
                for flaw in flaws
            ]
            raise Problem(CODE, flaws[0].message, faults=faults)

    async def _target(self, org: str, trigger_id: str, wanted: RunAgain) -> Target:
        trigger = await self._triggers.state(org, trigger_id)
        if wanted.workflow is None or wanted.workflow == trigger.workflow:
            trigger = bound(trigger)
            return Target(workflow=trigger.workflow, version=trigger.version, plan=trigger.plan)
        workflow = self._runs.published(org, wanted.workflow)
        return Target(workflow=wanted.workflow, version=workflow.published, plan=workflow.plan)


def _ran(
    rows: Sequence[Any], told: Sequence[str], skipped: Sequence[Skipped], following: str | None
) -> RanAgain:
    through: datetime | None = rows[-1]["time"] if rows else None
    return RanAgain(
        deliveries=len(rows),
        wanted=sum(each != "unwanted" for each in told),
        started=told.count("accepted"),
        known=told.count("duplicate"),
        skipped=tuple(sorted(skipped, key=lambda each: each.receipt)),
        through=through,
        next=following,
    )
