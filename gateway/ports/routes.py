"""Ports over HTTP."""

from typing import Annotated, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.types import ControllerRouterHandler

from contracts.subjects import RUNS
from gateway.callers import Caller
from gateway.places import Places
from gateway.ports.store import Ports
from gateway.ports.views import PortsView


@get("/workflows/{workflow_id:str}/ports")
async def get_ports(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    ports: NamedDependency[Ports],
    workflow_id: FromPath[str],
    newest: Annotated[int, QueryParameter(ge=1, le=50, description="So many of the newest runs.")] = 10,
) -> PortsView:
    """What its nodes have brought: for each port a JSON Schema, inferred from its newest runs. No value is told."""
    await places.caught_up(caller, RUNS)
    return await ports.of(caller.org, workflow_id, newest)


ROUTES: Final[list[ControllerRouterHandler]] = [get_ports]
