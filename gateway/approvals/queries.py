"""Reads open approvals."""

from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Select, literal_column, select

from chassis.postgres import Pool
from chassis.tables import RUNS, STEPS
from gateway.approvals.views import ApprovalView
from gateway.pages import Page, cursor_of, fetch, newest_first

_S = STEPS.c
ID: Final[Any] = literal_column("read.steps.run || '/' || read.steps.path")
"""As the index has it."""


class _Asks(Struct, frozen=True, kw_only=True):
    """`steps.asks`."""

    question: str
    details: str = ""
    form: dict[str, Any] = {}
    deciders: tuple[str, ...] = ()
    by_link: bool = True
    escalate_to: tuple[str, ...] = ()
    due: Any = None
    escalates: Any = None
    escalated: Any = None


class ApprovalQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(
        self, org: str, run: str | None, workflow: str | None, cursor: str | None, limit: int
    ) -> Page[ApprovalView]:
        """The newest question first."""
        query = newest_first(open_of(org, run, workflow), _S.asked, ID, cursor, limit)
        rows = await fetch(self._pool, org, query)
        last = rows[limit - 1] if len(rows) > limit else None
        following = cursor_of(last["asked"], last["id"]) if last else None
        return Page(items=[_view(row) for row in rows[:limit]], next=following)


def open_of(org: str, run: str | None = None, workflow: str | None = None) -> Select[Any]:
    """The open questions of an org, of one run, or of one workflow."""
    query = (
        select(_S.run, _S.path, _S.asks, _S.asked, RUNS.c.workflow, ID.label("id"))
        .join(RUNS, (RUNS.c.org == _S.org) & (RUNS.c.id == _S.run))
        .where(_S.org == org, _S.asks.is_not(None))
    )
    if run is not None:
        query = query.where(_S.run == run)
    if workflow is not None:
        query = query.where(RUNS.c.workflow == workflow)
    return query


def _view(row: Any) -> ApprovalView:
    asks = msgspec.json.decode(row["asks"], type=_Asks)
    told = {name: getattr(asks, name) for name in _Asks.__struct_fields__}
    return ApprovalView(
        run=row["run"], step=row["path"], workflow=row["workflow"], asked=row["asked"], **told
    )
