"""How long the chain is of runs that start each other, and when it is too long.

What a person, the clock or a stranger starts stands at the beginning, at depth 0. Whatever a run brings about, a child or a
run of a trigger that follows its events, stands one deeper than the run itself.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from contracts.limits import CAUSES_ALIKE, CAUSES_DEEP
from contracts.runs import Cause

Link: TypeAlias = Literal["run", "event"]
BEGINNING: Final = Cause(kind="api")
"""Of what nobody knows what brought it about."""


def behind(before: Cause, kind: Link, id_: str) -> Cause:
    """The cause of a run that `before`'s run brings about."""
    return Cause(kind=kind, id=id_, depth=before.depth + 1)


def too_deep(cause: Cause) -> bool:
    """Whether a run of this cause is one too many: then it is not started, and whoever wanted it is told."""
    return cause.depth > CAUSES_DEEP


def goes_round(chain: Sequence[str]) -> bool:
    """Whether the last of these workflows has started itself too often. Each was started by the one before.

    The bound on depth alone would let two triggers that each start for the other's runs start tens of thousands.
    """
    return chain.count(chain[-1]) > CAUSES_ALIKE
