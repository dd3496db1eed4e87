"""A plan: what the compiler makes of a workflow version, immutable and named by its hash.

All that a decision needs from node specs is copied into it, so that a run started today is decided
the same way after every node type has changed.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.cases import Pin
from contracts.limits import (
    AttemptNumber,
    Count,
    Id,
    NodeId,
    NodeType,
    Pointer,
    PoolName,
    PortName,
    SchemaVersion,
    Seconds,
)
from contracts.nodes import Place, Repeat
from contracts.workflows import Flow, OnError, Retry

Join: TypeAlias = Literal["all", "any"]
"""`all`: wait until every edge that can still be taken was taken. `any`: the first one is enough."""


class PlanEdge(Struct, frozen=True, kw_only=True):
    source: NodeId
    port: PortName
    target: NodeId
    into: PortName


class Reads(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node's expressions look at, so that only this is fetched before it is evaluated."""

    trigger: bool = False
    item: bool = False
    nodes: tuple[NodeId, ...] = ()


class PlanNode(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node with everything a decision needs."""

    id: NodeId
    type: NodeType
    type_version: AttemptNumber = 1
    place: Place
    pool: PoolName = "default"
    repeat: Repeat = "no"
    join: Join = "all"
    retry: Retry = Retry()
    on_error: OnError = "fail"
    compensate: Annotated[str, Meta(max_length=64)] = ""
    """The node that undoes it; empty where none does."""
    undoes: Annotated[str, Meta(max_length=64)] = ""
    """The node that it undoes: it has no place in the order of the others."""
    timeout_s: Seconds
    config: dict[str, Any]
    """As written: templates in `{{ }}`, conditions bare."""
    conditions: tuple[str, ...] = ()
    """JSON pointers of the fields that are bare CEL conditions (`*` stands for every item of a list)."""
    literal: tuple[str, ...] = ()
    """JSON pointers of the fields that are never templates."""
    secrets: tuple[str, ...] = ()
    """JSON pointers of the fields that hold a secret reference."""
    sensitive: tuple[Pointer, ...] = ()
    """Places in the output that are sealed before it is told."""
    outputs: tuple[PortName, ...] = ("main",)
    reads: Reads = Reads()
    inside: Annotated[str, Meta(max_length=64)] = ""
    """The container in which it lies; empty for the workflow itself."""
    contains: bool = False
    """Whether other nodes lie inside of it."""
    pin: Pin | None = None
    """What came of it, in a run that tries the workflow out: it is not done."""
    order: Count = 0
    """Topological rank: ready steps are decided in this order."""


class Plan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The immutable plan of one workflow version."""

    format: SchemaVersion = 1
    org: str
    workflow: str
    version: Annotated[int, Meta(ge=0)]
    nodes: tuple[PlanNode, ...]
    edges: tuple[PlanEdge, ...]
    vars: dict[str, Any]
    timeout_s: Seconds | None = None
    flow: Flow | None = None
    """None: as everybody's flow."""
    on_failure: Id | None = None
    """The workflow that is told when a run fails: its published version of that moment."""
