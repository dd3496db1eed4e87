"""Trying a workflow out: which part of it runs, what stands for the rest, and what is expected of it."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from contracts.errors import Failure
from contracts.limits import (
    CEL_SOURCE_BYTES,
    EXPECTATIONS,
    NODES,
    PORTS_PER_NODE,
    NodeId,
    NodeType,
    PortName,
)
from contracts.nodes import Repeat
from contracts.payloads import Payload, null

Part: TypeAlias = Literal["whole", "until", "node", "from"]
"""The workflow; a node and what leads to it; a node alone; a node and what follows from it."""
CaseName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""One part of an address, and the name of a test in a report."""
Condition: TypeAlias = Annotated[str, Meta(min_length=1, max_length=CEL_SOURCE_BYTES)]
Ending: TypeAlias = Literal["completed", "failed", "cancelled"]


class Selection(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a workflow that a test runs."""

    part: Part = "whole"
    node: NodeId | None = None
    """The node by which the part is named; none for the whole."""


class Pin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a node, said before the run begins: the node itself is not done."""

    output: Payload = field(default_factory=null)
    ports: Annotated[tuple[PortName, ...], Meta(max_length=PORTS_PER_NODE)] | None = None
    """By which it goes on. None: by `main`, where the node has it."""
    error: Failure | None = None
    """It failed, with this."""
    skipped: bool = False
    """No path led to it."""
    waited: bool = False
    """Of an earlier run: the node waited for the clock, a person or another program, so it is not done anew."""
    evaluated: bool = False
    """In a plan: what an attempt would be given is said before what came of it."""


Pins: TypeAlias = dict[NodeId, Pin]


class Given(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands for nodes that a test does not run."""

    pins: Annotated[Pins, Meta(max_length=NODES)] = {}
    recorded: Pins = {}
    """What came of them in an earlier run: taken where it is needed and no pin says something else."""
    input: Payload | None = None
    """What comes into the one node that runs."""


class Trial(Struct, frozen=True, kw_only=True):
    """A workflow is compiled to be tried out."""

    selection: Selection
    given: Payload
    """A `Given` as JSON."""


class Act(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node that will really be done: by an executor, or by a run of another workflow."""

    node: NodeId
    type: NodeType
    repeat: Repeat
    inside: str = ""
    """The map or loop in which it lies: it is done for each item."""


class Outline(Struct, frozen=True, kw_only=True):
    """What a test is going to do, told before it does."""

    acts: tuple[Act, ...]
    decides: tuple[NodeId, ...]
    """Nodes that touch nothing."""
    pinned: tuple[NodeId, ...]
    left_out: tuple[NodeId, ...]


class Expected(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What must be so when the run of a case has ended."""

    status: Ending = "completed"
    output: Payload | None = None
    """The run's output, whole. None: any."""
    steps: Annotated[dict[NodeId, Payload], Meta(max_length=NODES)] = {}
    """The outputs of single nodes, whole."""
    sent: Annotated[dict[NodeId, Payload], Meta(max_length=NODES)] = {}
    """The configurations with which attempts at single nodes are made, or would be, whole."""
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=EXPECTATIONS)] = ()
    """In CEL, about `run` (`status`, `output`, `error`), `steps` and `trigger`: each must hold."""


class Case(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a workflow is given, and what is expected of it."""

    trigger: Payload
    """What expressions see as `trigger`: body, headers, query, method."""
    selection: Selection = Selection()
    pins: Annotated[Pins, Meta(max_length=NODES)] = {}
    recorded: Pins = {}
    """What came of the nodes in the run of which the case was made: it stands for those that would act."""
    expected: Expected = Expected()
