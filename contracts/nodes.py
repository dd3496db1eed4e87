"""What a node type tells about itself: the catalogue that compiler, gateway and builder see."""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.limits import (
    PORTS_PER_NODE,
    SENSITIVE,
    Name,
    NodeType,
    Pointer,
    PoolName,
    PortName,
    Positive,
    Seconds,
    Text,
)

Repeat: TypeAlias = Literal["yes", "no", "by-key"]
"""May an attempt be made again when nobody knows whether the last one happened?"""

Place: TypeAlias = Literal["orchestrator", "executor"]
"""Control nodes are decided where the run is decided; action nodes travel to an executor."""


class Port(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named way in or out of a node."""

    name: PortName
    title: Name
    help: Text = ""


class NodeSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of one node type."""

    type: NodeType
    version: Positive = 1
    title: Name
    help: Text
    icon: Annotated[str, Meta(max_length=64)]
    category: Annotated[str, Meta(max_length=64)]
    place: Place = "executor"
    pool: PoolName = "default"
    repeat: Repeat = "no"
    config: dict[str, Any]
    """JSON Schema (2020-12) of the configuration; forms are drawn from it. A field marked
    `"x-secret": true` holds a secret reference `{"$secret": id}`; `"x-expression": "condition"`
    marks a bare CEL condition; other text fields are templates unless `"x-expression": "none"`."""
    inputs: Annotated[tuple[Port, ...], Meta(max_length=PORTS_PER_NODE)] = (Port(name="main", title="Input"),)
    outputs: Annotated[tuple[Port, ...], Meta(max_length=PORTS_PER_NODE)] = (
        Port(name="main", title="Output"),
    )
    outputs_from: Annotated[str, Meta(max_length=200)] | None = None
    """JSON pointer to a list in the configuration whose items name further outputs (a switch's cases)."""
    contains: bool = False
    """Other nodes lie inside of it, and are done once for each of its items."""
    timeout_s: Seconds = 900.0
    sensitive: Annotated[tuple[Pointer, ...], Meta(max_length=SENSITIVE)] = ()
    """Places in its output that are sealed before anything is kept of it, where a workflow does not say otherwise."""
