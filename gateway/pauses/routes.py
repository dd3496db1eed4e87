"""Pauses over HTTP."""

from typing import Final

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler

from gateway.callers import Caller
from gateway.pauses.store import OrgPauses
from gateway.pauses.views import BeginPause, EndPause, PausesView, PauseView


@get("/pauses")
async def list_pauses(caller: NamedDependency[Caller], pauses: NamedDependency[OrgPauses]) -> PausesView:
    """What of the org is paused, by whom and why; and how many attempts are held, pool by pool."""
    return await pauses.told(caller.org)


@post("/pauses/begin", status_code=200)
async def begin_pause(
    caller: NamedDependency[Caller], pauses: NamedDependency[OrgPauses], data: JSONBody[BeginPause]
) -> PauseView:
    """Pause the org, a workflow of it, or what it wants of a pool. Runs start and wait; what is under way ends."""
    return await pauses.begin(caller, data.what, data.name, data.reason)


@post("/pauses/end", status_code=204)
async def end_pause(
    caller: NamedDependency[Caller], pauses: NamedDependency[OrgPauses], data: JSONBody[EndPause]
) -> None:
    """Take it up again: what was held is asked for."""
    await pauses.end(caller, data.what, data.name)


ROUTES: Final[list[ControllerRouterHandler]] = [list_pauses, begin_pause, end_pause]
