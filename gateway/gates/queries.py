"""Reads who is at gates."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import (
    Boolean,
    DateTime,
    Integer,
    Select,
    Text,
    cast,
    column,
    func,
    literal_column,
    not_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from chassis.ids import derived
from chassis.postgres import Pool
from chassis.tables import RUNS
from contracts.gates import ALL_RUNS, GateLimit, OrgLimits, bounded, everybodys
from contracts.limits import Id
from gateway.gates.views import AtGateView, GateView, Standing
from gateway.pages import Page, encoded, fetch, parsed
from gateway.rejected import absent

_R: Final = RUNS.c
_PLACES: Final = (
    func.jsonb_to_recordset(cast(_R.gates, JSONB))
    .table_valued(
        column("gate", Text),
        column("name", Text),
        column("key", Text),
        column("rank", Integer),
        column("bounds", JSONB),
        column("inside", Boolean),
        column("since", DateTime(timezone=True)),
    )
    .render_derived(name="places", with_types=True)
)
_P: Final = _PLACES.c
_NEWEST_BOUNDS: Final[Any] = literal_column("(array_agg(places.bounds::text order by places.since desc))[1]")
_RUNS_AT_GATES: Final = RUNS.join(_PLACES, true())
_OPENED: Final = func.coalesce(_R.opened, _R.started)
"""By this a gate goes, at whichever the run stands."""
_bounds: Final = msgspec.json.Decoder(GateLimit)


class _AfterGate(Struct, array_like=True, frozen=True):
    gate: Id


class _AfterRun(Struct, array_like=True, frozen=True):
    """In the order in which they are told: those inside, then those who come in, as they will."""

    waits: bool
    rank: Annotated[int, Meta(ge=0, le=100)]
    opened: Annotated[datetime, Meta(tz=True)]
    run: Id


_gate_cursor: Final = msgspec.json.Decoder(_AfterGate)
_run_cursor: Final = msgspec.json.Decoder(_AfterRun)


class GateQueries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, org: str, limits: OrgLimits, cursor: str | None, limit: int) -> Page[GateView]:
        """Every gate at which somebody is, by its id. `limits`: what the org says of those that its workflows share."""
        query = select(
            _P.gate,
            func.min(_P.name).label("name"),
            func.min(_P.key).label("key"),
            _NEWEST_BOUNDS.label("bounds"),
            func.count().filter(_P.inside).label("inside"),
            func.count().filter(not_(_P.inside)).label("waiting"),
            func.min(_P.since).filter(_P.inside).label("inside_since"),
            func.min(_P.since).filter(not_(_P.inside)).label("waiting_since"),
        )
        query = query.select_from(_RUNS_AT_GATES).where(*_at_gates(org))
        if cursor is not None:
            query = query.where(_P.gate > parsed(cursor, _gate_cursor).gate)
        query = query.group_by(_P.gate).order_by(_P.gate).limit(limit + 1)
        rows = await fetch(self._pool, org, query)
        following = encoded(_AfterGate(rows[limit - 1]["gate"])) if len(rows) > limit else None
        return Page(items=[_gate(org, limits, row) for row in rows[:limit]], next=following)

    async def at(
        self, org: str, gate: str, standing: Standing | None, cursor: str | None, limit: int
    ) -> Page[AtGateView]:
        """Who is inside, and who waits, in the order in which they come in. Raises `Rejected` where nobody is."""
        waits = not_(_P.inside)
        rows = await fetch(self._pool, org, _ordered(places_of(org, gate, standing), waits, cursor, limit))
        if (
            not rows
            and cursor is None
            and not await fetch(self._pool, org, places_of(org, gate, None).limit(1))
        ):
            raise absent("gate")
        last = rows[limit - 1] if len(rows) > limit else None
        following = (
            encoded(_AfterRun(not last["inside"], last["rank"], last["opened"], last["id"])) if last else None
        )
        return Page(items=[_run(row) for row in rows[:limit]], next=following)


def _at_gates(org: str) -> tuple[Any, ...]:
    return _R.org == org, _R.gates != ""


def places_of(org: str, gate: str, standing: Standing | None) -> Select[Any]:
    query = select(_R.id, _R.workflow, _P.inside, _P.since, _P.rank, _OPENED.label("opened"))
    query = query.select_from(_RUNS_AT_GATES).where(*_at_gates(org), _P.gate == gate)
    if standing is not None:
        query = query.where(_P.inside if standing == "inside" else not_(_P.inside))
    return query


def _ordered(query: Select[Any], waits: Any, cursor: str | None, limit: int) -> Select[Any]:
    order = waits, _P.rank, _OPENED, _R.id
    if cursor is not None:
        after = parsed(cursor, _run_cursor)
        query = query.where(tuple_(*order) > tuple_(after.waits, after.rank, after.opened, after.run))
    return query.order_by(*order).limit(limit + 1)


def _gate(org: str, limits: OrgLimits, row: Any) -> GateView:
    bounds = _bounds.decode(row["bounds"])
    if row["gate"] == derived("gate", org, ALL_RUNS, ALL_RUNS, ""):
        bounds = everybodys(limits.get(ALL_RUNS))
    elif row["gate"] == derived("gate", org, "", row["name"], row["key"]):
        bounds = bounded(bounds, limits.get(row["name"]))
    told = {name: row[name] for name in ("inside", "waiting", "inside_since", "waiting_since", "key", "gate")}
    return GateView(limit=row["name"], bounds=bounds, **told)


def _run(row: Any) -> AtGateView:
    return AtGateView(
        run=row["id"],
        workflow=row["workflow"],
        standing="inside" if row["inside"] else "waiting",
        since=row["since"],
        rank=row["rank"],
    )
