"""Reads workflows."""

from typing import Any

from sqlalchemy import select

from chassis.postgres import Pool
from chassis.tables import WORKFLOW_VERSIONS, WORKFLOWS
from gateway.pages import Page, cursor_of, fetch, newest_first
from gateway.rejected import absent
from gateway.workflows.views import VersionView, WorkflowView

_W = WORKFLOWS.c
_V = WORKFLOW_VERSIONS.c


class WorkflowQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, org: str, cursor: str | None, limit: int) -> Page[WorkflowView]:
        query = select(WORKFLOWS).where(_W.org == org, _W.deleted.is_(None))
        rows = await fetch(self._pool, org, newest_first(query, _W.created, _W.id, cursor, limit))
        following = (
            cursor_of(rows[limit - 1]["created"], rows[limit - 1]["id"]) if len(rows) > limit else None
        )
        return Page(items=[_view(row) for row in rows[:limit]], next=following)

    async def get(self, org: str, workflow_id: str) -> WorkflowView:
        query = select(WORKFLOWS).where(_W.org == org, _W.id == workflow_id, _W.deleted.is_(None))
        rows = await fetch(self._pool, org, query)
        if not rows:
            raise absent("workflow")
        return _view(rows[0])

    async def versions(self, org: str, workflow_id: str, before: int | None, limit: int) -> Page[VersionView]:
        """The newest first."""
        await self.get(org, workflow_id)
        query = select(
            _V.version, _V.definition_size, _V.drafted, _V.drafted_by, _V.published, _V.plan
        ).where(_V.org == org, _V.workflow == workflow_id)
        if before is not None:
            query = query.where(_V.version < before)
        rows = await fetch(self._pool, org, query.order_by(_V.version.desc()).limit(limit + 1))
        following = str(rows[limit - 1]["version"]) if len(rows) > limit else None
        return Page(items=[_version(row) for row in rows[:limit]], next=following)


def _view(row: Any) -> WorkflowView:
    return WorkflowView(**{name: row[name] for name in WorkflowView.__struct_fields__})


def _version(row: Any) -> VersionView:
    return VersionView(
        version=row["version"],
        size=row["definition_size"],
        drafted=row["drafted"],
        drafted_by=row["drafted_by"],
        published=row["published"],
        plan=row["plan"],
    )
