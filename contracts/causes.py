"""How long the chain is of runs that start each other, and when it is too long.

What a person, the clock or a stranger starts stands at the beginning, at depth 0. Whatever a run brings about, a child or a
run of a trigger that follows its events, stands one deeper than the run itself.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from contracts.errors import Failure
from contracts.limits import CAUSES_ALIKE, CAUSES_DEEP, Id
from contracts.runs import Cause

Link: TypeAlias = Literal["run", "event"]
BEGINNING: Final = Cause(kind="api")
"""Of what nobody knows what brought it about."""
LOOP: Final = "cause.too_deep"

_NAMED: Final = 8
"""Workflows of a chain that a message names."""


def behind(before: Cause, kind: Link, id_: str, workflow: Id | None = None) -> Cause:
    """The cause of a run that `before`'s run brings about. `workflow`: of that run, where it is known."""
    chain = before.chain if workflow is None else (*before.chain, workflow)[-CAUSES_DEEP:]
    return Cause(kind=kind, id=id_, depth=before.depth + 1, chain=chain)


def too_deep(cause: Cause) -> bool:
    """Whether a run of this cause is one too many: then it is not started, and whoever wanted it is told."""
    return cause.depth > CAUSES_DEEP


def goes_round(chain: Sequence[str]) -> bool:
    """Whether the last of these workflows has started itself too often. Each was started by the one before.

    The bound on depth alone would let two triggers that each start for the other's runs start tens of thousands.
    """
    return chain.count(chain[-1]) > CAUSES_ALIKE


def stopped(cause: Cause, workflow: Id, *, always: bool = False) -> Failure | None:
    """Why no child of this workflow may begin by this cause; None: it may.

    A workflow that calls itself as often as the bound allows is no loop: unlike an event, a call is meant.
    `always`: what is wanted is no call, and goes round.
    """
    if not always and not too_deep(cause):
        return None
    way = " → ".join(_loop((*cause.chain, workflow)))
    return Failure(
        code=LOOP,
        message=f"{cause.depth} runs have started one another, at most may be "
        f"{CAUSES_ALIKE if always else CAUSES_DEEP}: {way}.",
    )


def _loop(chain: Sequence[Id]) -> Sequence[Id]:
    """The workflows by which the chain came back to where it had been; where it never did, its end."""
    again = next((place for place in range(len(chain) - 2, -1, -1) if chain[place] == chain[-1]), None)
    found = chain[again:] if again is not None else ("…", *chain[-_NAMED:])
    return found if len(found) <= _NAMED + 1 else (*found[: _NAMED // 2], "…", *found[-_NAMED // 2 :])
