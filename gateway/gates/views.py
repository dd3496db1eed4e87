"""Gates as the API tells them."""

from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from contracts.gates import GateLimit

Standing: TypeAlias = Literal["inside", "waiting"]


class GateView(Struct, frozen=True, kw_only=True):
    """A gate at which somebody is. One that nobody is at is not told of."""

    gate: str
    limit: str
    """What the limit is called in the workflow."""
    key: str
    """Whose gate it is, where each key has its own."""
    bounds: GateLimit
    """What the run that came last says of it, and the org, where its workflows share the gate."""
    inside: int
    waiting: int
    inside_since: datetime | None
    """Since when the one that came in first is inside."""
    waiting_since: datetime | None
    """Since when the one that came first waits."""


class AtGateView(Struct, frozen=True, kw_only=True):
    """A run at a gate."""

    run: str
    workflow: str
    standing: Standing
    since: datetime
    """When it was let in, or when it began to wait."""
    rank: int
    """The lower, the sooner."""
