"""Reads triggers and their deliveries."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from sqlalchemy import select, tuple_

from chassis.postgres import Pool
from chassis.tables import DELIVERIES, SCHEDULES, TRIGGERS
from contracts.limits import SAMPLES
from gateway.pages import Page, cursor_of, fetch, newest_first, parse_cursor
from gateway.rejected import absent
from gateway.triggers.views import DeliveryView, Fires, RunAgain, TriggerView

_T = TRIGGERS.c
_D = DELIVERIES.c
_S = SCHEDULES.c
_WITH_FIRES = select(
    TRIGGERS, _S.id.label("looked_at"), *(_S[name] for name in Fires.__struct_fields__)
).select_from(TRIGGERS.outerjoin(SCHEDULES, (_S.org == _T.org) & (_S.id == _T.id)))


class TriggerQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, org: str, workflow: str | None, cursor: str | None, limit: int) -> Page[TriggerView]:
        query = _WITH_FIRES.where(_T.org == org, _T.deleted.is_(None))
        if workflow is not None:
            query = query.where(_T.workflow == workflow)
        rows = await fetch(self._pool, org, newest_first(query, _T.created, _T.id, cursor, limit))
        following = (
            cursor_of(rows[limit - 1]["created"], rows[limit - 1]["id"]) if len(rows) > limit else None
        )
        return Page(items=[_view(row) for row in rows[:limit]], next=following)

    async def get(self, org: str, trigger_id: str) -> TriggerView:
        query = _WITH_FIRES.where(_T.org == org, _T.id == trigger_id, _T.deleted.is_(None))
        rows = await fetch(self._pool, org, query)
        if not rows:
            raise absent("trigger")
        return _view(rows[0])

    async def deliveries(
        self, org: str, trigger_id: str, result: str | None, cursor: str | None, limit: int
    ) -> Page[DeliveryView]:
        """The trigger's inbox. What came for a deleted trigger can still be looked at."""
        query = select(DELIVERIES).where(_D.org == org, _D.trigger == trigger_id)
        if result is not None:
            query = query.where(_D.result == result)
        rows = await fetch(self._pool, org, newest_first(query, _D.time, _D.receipt, cursor, limit))
        if not rows:
            await self._ever(org, trigger_id)
        following = (
            cursor_of(rows[limit - 1]["time"], rows[limit - 1]["receipt"]) if len(rows) > limit else None
        )
        return Page(items=[_delivery(row) for row in rows[:limit]], next=following)

    async def delivery(self, org: str, trigger_id: str, receipt: str) -> Any:
        """The row of one delivery."""
        query = select(DELIVERIES).where(_D.org == org, _D.trigger == trigger_id, _D.receipt == receipt)
        rows = await fetch(self._pool, org, query)
        if not rows:
            raise absent("delivery")
        return rows[0]

    async def past(self, org: str, trigger_id: str, wanted: RunAgain) -> Sequence[Any]:
        """The receipts and times of what was delivered in a span, the oldest first, and one row more than is asked for."""
        query = select(_D.receipt, _D.time).where(
            _D.org == org,
            _D.trigger == trigger_id,
            _D.time >= wanted.since,
            _D.time < wanted.until,
            _D.result.in_(wanted.results),
        )
        if wanted.cursor is not None:
            query = query.where(tuple_(_D.time, _D.receipt) > tuple_(*parse_cursor(wanted.cursor)))
        return await fetch(self._pool, org, query.order_by(_D.time, _D.receipt).limit(wanted.limit + 1))

    async def captured(self, org: str, trigger_id: str) -> Sequence[Any]:
        """The rows of the newest captured samples, the newest first."""
        query = select(DELIVERIES).where(_D.org == org, _D.trigger == trigger_id, _D.result == "captured")
        rows = await fetch(self._pool, org, query.order_by(_D.time.desc(), _D.receipt.desc()).limit(SAMPLES))
        if not rows:
            await self._ever(org, trigger_id)
        return rows

    async def _ever(self, org: str, trigger_id: str) -> None:
        if not await fetch(self._pool, org, select(_T.id).where(_T.org == org, _T.id == trigger_id)):
            raise absent("trigger")


def _view(row: Any) -> TriggerView:
    return TriggerView(
        id=row["id"],
        name=row["name"],
        workflow=row["workflow"],
        kind=row["kind"],
        webhook=Raw(row["webhook"].encode()) if row["kind"] == "webhook" else None,
        schedule=None if row["schedule"] is None else Raw(row["schedule"].encode()),
        on=None if row["occasion"] is None else Raw(row["occasion"].encode()),
        fires=_fires(row),
        enabled=row["enabled"],
        bound_version=row["version"],
        created=row["created"],
        created_by=row["created_by"],
        updated=row["updated"],
    )


def _fires(row: Any) -> Fires | None:
    if row["looked_at"] is None:
        return None
    told = {name: row[name] for name in Fires.__struct_fields__}
    # What a disabled schedule would have fired next is nobody's business.
    return Fires(**told | ({} if row["enabled"] else {"next": None}))


def _delivery(row: Any) -> DeliveryView:
    return DeliveryView(**{name: row[name] for name in DeliveryView.__struct_fields__})
