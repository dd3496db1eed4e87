"""Gates over HTTP."""

from typing import Annotated, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.types import ControllerRouterHandler

from contracts.subjects import RUNS
from gateway.callers import Caller
from gateway.domain import Domain
from gateway.gates.queries import GateQueries
from gateway.gates.views import AtGateView, GateView, Standing
from gateway.orgs.rules import ORG
from gateway.pages import DEFAULT_ROWS, Page
from gateway.parameters import Cursor, Limit
from gateway.places import Places


@get("/gates")
async def list_gates(  # What a list needs.
    *,
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    domain: NamedDependency[Domain],
    gate_queries: NamedDependency[GateQueries],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[GateView]:
    """The gates at which runs of the org are: how many are inside, how many wait, and since when."""
    await places.caught_up(caller, RUNS)
    limits = dict((await domain.load(ORG, caller.org, caller.org)).limits)
    return await gate_queries.list(caller.org, limits, cursor, limit)


@get("/gates/{gate_id:str}")
async def show_gate(  # noqa: PLR0913  # Filters of a list.
    *,
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    gate_queries: NamedDependency[GateQueries],
    gate_id: FromPath[str],
    standing: Annotated[
        Standing | None, QueryParameter(description="Only those inside, or who wait.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[AtGateView]:
    """The runs at a gate: first who is inside, then who waits, in the order in which they come in. 404 when nobody is there."""
    await places.caught_up(caller, RUNS)
    return await gate_queries.at(caller.org, gate_id, standing, cursor, limit)


ROUTES: Final[list[ControllerRouterHandler]] = [list_gates, show_gate]
