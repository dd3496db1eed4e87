"""The org's variables, and its limits, over HTTP."""

from typing import Annotated, Any, Final

from litestar import get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from contracts.gates import LimitName, OrgLimit
from contracts.limits import ORG_LIMITS
from contracts.subjects import DOMAIN
from gateway.callers import Caller
from gateway.domain import Domain, cause_of
from gateway.orgs.rules import ORG, set_limits, set_vars
from gateway.places import Places


class Vars(Struct, frozen=True, kw_only=True):
    """Variables that every workflow of the org may read as `vars`. A run keeps those of its start."""

    vars: dict[str, Any]


@get("/vars")
async def get_vars(caller: NamedDependency[Caller], domain: NamedDependency[Domain]) -> Vars:
    """The org's variables."""
    state = await domain.load(ORG, caller.org, caller.org)
    return Vars(vars=dict(state.vars))


@put("/vars")
async def put_vars(
    caller: NamedDependency[Caller],
    domain: NamedDependency[Domain],
    places: NamedDependency[Places],
    data: JSONBody[Vars],
) -> Vars:
    """Replace all of them."""
    changed = await domain.change(ORG, caller.org, lambda state: set_vars(state, data.vars), cause_of(caller))
    places.wrote(caller.org, DOMAIN, changed.place)
    return data


class Limits(Struct, frozen=True, kw_only=True):
    """What the gates that workflows of the org share let in, by the limit's name, whatever they say; by `all-runs`: that of every run."""

    limits: Annotated[dict[LimitName, OrgLimit], Meta(max_length=ORG_LIMITS)]


@get("/limits")
async def get_limits(caller: NamedDependency[Caller], domain: NamedDependency[Domain]) -> Limits:
    """The org's limits."""
    state = await domain.load(ORG, caller.org, caller.org)
    return Limits(limits=dict(state.limits))


@put("/limits")
async def put_limits(
    caller: NamedDependency[Caller],
    domain: NamedDependency[Domain],
    places: NamedDependency[Places],
    data: JSONBody[Limits],
) -> Limits:
    """Replace all of them. They hold within seconds, for whoever waits as well; lowered, they send nobody out."""
    changed = await domain.change(
        ORG, caller.org, lambda state: set_limits(state, data.limits), cause_of(caller)
    )
    places.wrote(caller.org, DOMAIN, changed.place)
    return data


ROUTES: Final[list[ControllerRouterHandler]] = [get_vars, put_vars, get_limits, put_limits]
