"""What may happen to an org."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field, structs

from contracts.limits import VARS
from contracts.workflows import OrgCreated, OrgEvent, OrgVarsSet
from gateway.domain import Aggregate
from gateway.rejected import Rejected


class OrgState(Struct, frozen=True, kw_only=True):
    name: str = ""
    vars: Mapping[str, Any] = field(default_factory=dict)


def evolve(state: OrgState, event: OrgEvent) -> OrgState:
    match event:
        case OrgCreated():
            return structs.replace(state, name=event.name)
        case OrgVarsSet():
            return structs.replace(state, vars=event.vars)


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


ORG: Final = Aggregate[OrgState, OrgEvent](name="org", new=OrgState(), evolve=evolve)
