"""Reads triggers and their deliveries."""

from typing import Any

from msgspec import Raw
from sqlalchemy import select

from chassis.postgres import Pool
from chassis.tables import DELIVERIES, TRIGGERS
from gateway.pages import Page, cursor_of, fetch, newest_first
from gateway.rejected import absent
from gateway.triggers.views import DeliveryView, TriggerView

_T = TRIGGERS.c
_D = DELIVERIES.c


class TriggerQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, org: str, workflow: str | None, cursor: str | None, limit: int) -> Page[TriggerView]:
        query = select(TRIGGERS).where(_T.org == org, _T.deleted.is_(None))
        if workflow is not None:
            query = query.where(_T.workflow == workflow)
        rows = await fetch(self._pool, org, newest_first(query, _T.created, _T.id, cursor, limit))
        following = (
            cursor_of(rows[limit - 1]["created"], rows[limit - 1]["id"]) if len(rows) > limit else None
        )
        return Page(items=[_view(row) for row in rows[:limit]], next=following)

    async def get(self, org: str, trigger_id: str) -> TriggerView:
        query = select(TRIGGERS).where(_T.org == org, _T.id == trigger_id, _T.deleted.is_(None))
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

    async def _ever(self, org: str, trigger_id: str) -> None:
        if not await fetch(self._pool, org, select(_T.id).where(_T.org == org, _T.id == trigger_id)):
            raise absent("trigger")


def _view(row: Any) -> TriggerView:
    return TriggerView(
        id=row["id"],
        name=row["name"],
        workflow=row["workflow"],
        webhook=Raw(row["webhook"].encode()),
        enabled=row["enabled"],
        bound_version=row["version"],
        created=row["created"],
        created_by=row["created_by"],
        updated=row["updated"],
    )


def _delivery(row: Any) -> DeliveryView:
    return DeliveryView(**{name: row[name] for name in DeliveryView.__struct_fields__})
