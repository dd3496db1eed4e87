"""Approvals over HTTP."""

from typing import Annotated, Final

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from contracts.subjects import RUNS
from gateway.approvals.queries import ApprovalQueries
from gateway.approvals.store import Approvals
from gateway.approvals.views import ApprovalView, Decide, DecidedView
from gateway.callers import Caller
from gateway.pages import DEFAULT_ROWS, Page
from gateway.parameters import Cursor, Limit
from gateway.places import Places
from gateway.runs.routes import told


@get("/approvals")
async def list_approvals(  # noqa: PLR0913  # Filters of a list.
    *,
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    approval_queries: NamedDependency[ApprovalQueries],
    run: Annotated[str | None, QueryParameter(max_length=64)] = None,
    workflow: Annotated[str | None, QueryParameter(max_length=64)] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[ApprovalView]:
    """What the org's runs ask people and nobody has decided yet, the newest question first."""
    await places.caught_up(caller, RUNS)
    return await approval_queries.open(caller.org, run, workflow, cursor, limit)


@post("/approvals/{run_id:str}/decide", status_code=202)
async def decide_approval(
    caller: NamedDependency[Caller],
    approvals: NamedDependency[Approvals],
    run_id: FromPath[str],
    data: JSONBody[Decide],
) -> Response[DecidedView]:
    """Approve or reject. The first decision counts: 200 when it is the one that you made before, 409 when it is another."""
    decided = await approvals.decide(caller, run_id, data)
    return told(decided, decided.status)


ROUTES: Final[list[ControllerRouterHandler]] = [list_approvals, decide_approval]
