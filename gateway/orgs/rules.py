"""What may happen to an org."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field, structs

from contracts.apis import OrgApiImported, OrgApiRemoved
from contracts.gates import ALL_RUNS, OrgLimit, OrgLimits
from contracts.limits import API_VERSIONS, APIS, APIS_BYTES, VARS, WORKER_POOLS
from contracts.workers import OrgWorkersAnnounced
from contracts.workflows import OrgCreated, OrgEvent, OrgLimitsSet, OrgVarsSet
from gateway.domain import Aggregate
from gateway.rejected import Rejected, absent


class ApiState(Struct, frozen=True, kw_only=True):
    """One imported API."""

    imports: tuple[OrgApiImported, ...] = ()
    """By version: the first one is version 1."""
    removed: bool = False


class OrgState(Struct, frozen=True, kw_only=True):
    name: str = ""
    vars: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, OrgLimit] = field(default_factory=dict)
    """What gates that its workflows share let in, by the limit's name, and that of all its runs."""
    apis: Mapping[str, ApiState] = field(default_factory=dict)
    workers: Mapping[str, OrgWorkersAnnounced] = field(default_factory=dict)
    """By pool what its workers outside announced last."""

    def api(self, name: str) -> ApiState:
        """Raises `Rejected` for one that is not offered."""
        found = self.apis.get(name)
        if found is None or found.removed:
            raise absent("imported API")
        return found


def evolve(state: OrgState, event: OrgEvent) -> OrgState:
    match event:
        case OrgCreated():
            return structs.replace(state, name=event.name)
        case OrgVarsSet():
            return structs.replace(state, vars=event.vars)
        case OrgLimitsSet():
            return structs.replace(state, limits=event.limits)
        case OrgApiImported():
            known = state.apis.get(event.name, ApiState())
            api = ApiState(imports=(*known.imports, event))
            return structs.replace(state, apis={**state.apis, event.name: api})
        case OrgApiRemoved():
            api = structs.replace(state.apis.get(event.name, ApiState()), removed=True)
            return structs.replace(state, apis={**state.apis, event.name: api})
        case OrgWorkersAnnounced():
            return structs.replace(state, workers={**state.workers, event.pool: event})


def set_vars(state: OrgState, wanted: dict[str, Any]) -> list[OrgEvent]:
    """Replace all variables. Their names are names in expressions."""
    if len(wanted) > VARS:
        raise Rejected("malformed", f"An org may have {VARS} variables at the most.")
    for name in wanted:
        if not (name.isidentifier() and name.isascii()):
            raise Rejected(
                "malformed", f"A variable's name is a word of letters, digits and _: {name[:64]!r}."
            )
    return [] if state.vars == wanted else [OrgVarsSet(vars=wanted)]


def set_limits(state: OrgState, wanted: OrgLimits) -> list[OrgEvent]:
    """Replace all limits."""
    for name, limit in wanted.items():
        if limit == OrgLimit():
            raise Rejected("malformed", f"Limit {name} says `at_once`, `rate`, or `queue`.")
        if name == ALL_RUNS and limit.at_once is None and limit.rate is None:
            raise Rejected("malformed", f"Limit {name} says `at_once`, or `rate`.")
    return [] if state.limits == wanted else [OrgLimitsSet(limits=wanted)]


def import_api(state: OrgState, wanted: OrgApiImported) -> list[OrgEvent]:
    """A further version; its number was decided with the document."""
    known = state.apis.get(wanted.name, ApiState())
    others = [api for name, api in state.apis.items() if name != wanted.name and not api.removed]
    if len(others) >= APIS:
        raise Rejected("conflict", f"An org has {APIS} imported APIs at the most.")
    if sum(api.imports[-1].types.size for api in others) + wanted.types.size > APIS_BYTES:
        raise Rejected(
            "too_large", f"All node types that an org imports have {APIS_BYTES:,} bytes at the most."
        )
    if wanted.version > API_VERSIONS:
        raise Rejected("conflict", f"An API is imported {API_VERSIONS} times at the most.")
    if wanted.version != len(known.imports) + 1:
        raise Rejected("conflict", "The API was imported by somebody else at the same time. Try again.")
    return [wanted]


def remove_api(state: OrgState, name: str) -> list[OrgEvent]:
    state.api(name)
    return [OrgApiRemoved(name=name)]


def announce_workers(state: OrgState, wanted: OrgWorkersAnnounced) -> list[OrgEvent]:
    """From now on the pool offers these node types. A type is offered by one pool."""
    if state.workers.get(wanted.pool) == wanted:
        return []
    others = [known for pool, known in state.workers.items() if pool != wanted.pool]
    if len(others) >= WORKER_POOLS:
        raise Rejected("conflict", f"An org has {WORKER_POOLS} pools of workers at the most.")
    for known in others:
        taken = sorted(set(known.kinds).intersection(wanted.kinds))
        if taken:
            raise Rejected("conflict", f"The pool {known.pool} offers {taken[0]} already.")
    return [wanted]


ORG: Final = Aggregate[OrgState, OrgEvent](name="org", new=OrgState(), evolve=evolve)
