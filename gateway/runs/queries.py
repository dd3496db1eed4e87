"""Reads runs."""

from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from sqlalchemy import select

from chassis.postgres import Pool
from chassis.tables import RUNS, STEPS
from contracts.runs import Mode, RunStatus
from gateway.domain import Place
from gateway.pages import Page, cursor_of, fetch, newest_first
from gateway.rejected import absent
from gateway.runs.views import ParentRun, Progress, RunError, RunView, StepView, UndoneView, Value

_R = RUNS.c
_S = STEPS.c


class RunFilter(Struct, frozen=True, kw_only=True):
    """Which runs; what is None is not asked."""

    status: tuple[RunStatus, ...] = ()
    workflow: str | None = None
    trigger: str | None = None
    parent: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    mode: Mode | None = None


class RunQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, org: str, wanted: RunFilter, cursor: str | None, limit: int) -> Page[RunView]:
        query = select(RUNS).where(_R.org == org)
        if wanted.status:
            query = query.where(_R.status.in_(wanted.status))
        for column, value in (
            (_R.workflow, wanted.workflow),
            (_R.trigger, wanted.trigger),
            (_R.mode, wanted.mode),
            (_R.parent_run, wanted.parent),
        ):
            if value is not None:
                query = query.where(column == value)
        if wanted.since is not None:
            query = query.where(_R.started >= wanted.since)
        if wanted.until is not None:
            query = query.where(_R.started < wanted.until)
        rows = await fetch(self._pool, org, newest_first(query, _R.started, _R.id, cursor, limit))
        following = (
            cursor_of(rows[limit - 1]["started"], rows[limit - 1]["id"]) if len(rows) > limit else None
        )
        return Page(items=[_run(row) for row in rows[:limit]], next=following)

    async def get(self, org: str, run_id: str) -> RunView:
        return _run(await self._row(org, run_id))

    async def children(self, org: str, run_id: str, cursor: str | None, limit: int) -> Page[RunView]:
        """The runs that its steps started, the newest first."""
        await self._row(org, run_id)
        return await self.list(org, RunFilter(parent=run_id), cursor, limit)

    async def place_of(self, org: str, run_id: str) -> Place:
        row = await self._row(org, run_id)
        return Place(row["epoch"], row["sequence"])

    async def steps(self, org: str, run_id: str, after: int | None, limit: int) -> Page[StepView]:
        """In the order in which the history names them; `next` is the position to go on after."""
        await self._row(org, run_id)
        query = select(STEPS).where(_S.org == org, _S.run == run_id)
        if after is not None:
            query = query.where(_S.position > after)
        rows = await fetch(self._pool, org, query.order_by(_S.position, _S.path).limit(limit + 1))
        following = str(rows[limit - 1]["position"]) if len(rows) > limit else None
        return Page(items=[_step(row) for row in rows[:limit]], next=following)

    async def _row(self, org: str, run_id: str) -> Any:
        rows = await fetch(self._pool, org, select(RUNS).where(_R.org == org, _R.id == run_id))
        if not rows:
            raise absent("run")
        return rows[0]


_PLAIN = [
    name
    for name in RunView.__struct_fields__
    if name not in ("error", "unfinished", "input", "output", "parent", "handler", "undone")
]


def _run(row: Any) -> RunView:
    error = None
    if row["error_code"] is not None:
        error = RunError(code=row["error_code"], message=row["error_message"] or "", step=row["error_step"])
    return RunView(
        error=error,
        unfinished=_json(row["unfinished"]),
        input=Value(preview=row["input_preview"], size=row["input_size"], blob=row["input_blob"]),
        output=_output(row),
        parent=_parent(row),
        handler=row["handlers"].rpartition(",")[2] or None,
        undone=None if row["undone"] is None else _undone(row["undone"]),
        **{name: row[name] for name in _PLAIN},
    )


_undone: Final = msgspec.json.Decoder(UndoneView).decode


def _parent(row: Any) -> ParentRun | None:
    if row["parent_run"] is None:
        return None
    return ParentRun(run=row["parent_run"], step=row["parent_step"] or "", waits=row["parent_waits"])


def _step(row: Any) -> StepView:
    return StepView(
        path=row["path"],
        node=row["node"],
        node_type=row["node_type"],
        status=row["status"],
        attempt=row["attempt"],
        pool=row["pool"],
        scheduled=row["scheduled"],
        ended=row["ended"],
        took_ms=row["took_ms"],
        ports=None if row["ports"] is None else tuple(filter(None, row["ports"].split(","))),
        error=_json(row["error"]),
        output=_output(row),
        items=None if row["items_done"] is None else _progress(row),
        child=row["child"],
    )


def _progress(row: Any) -> Progress:
    return Progress(total=row["items_total"], done=row["items_done"], failed=row["items_failed"] or 0)


def _output(row: Any) -> Value | None:
    if row["output_size"] is None:
        return None
    return Value(preview=row["output_preview"] or "", size=row["output_size"], blob=row["output_blob"])


def _json(text: str | None) -> Raw | None:
    return None if text is None else Raw(text.encode())
