"""What the API says of ports."""

from typing import Any

from msgspec import Struct


class PortView(Struct, frozen=True, kw_only=True):
    """What came by one port."""

    seen: int
    """How many values."""
    schema: dict[str, Any]
    """JSON Schema that fits all of them: kinds and names, never a value. `x-sealed`: a part that is marked as sensitive;
    `x-file`: a stored file."""


class NodePorts(Struct, frozen=True, kw_only=True):
    node: str
    ports: dict[str, PortView]


class PortsView(Struct, frozen=True, kw_only=True):
    """Inferred from the newest runs: another run may bring something else."""

    workflow: str
    runs: int
    """How many were looked at."""
    left_out: int
    """Values that were too large to be looked at, or more than are."""
    trigger: PortView | None
    """What started them, as expressions see it."""
    nodes: list[NodePorts]
