"""What control nodes come to, and what comes into them. They touch nothing: they are decided on the spot, in the same commit.

A node that passes data on (filter, if, switch, delay) gives what its one taken predecessor gave, or the trigger's body
where nothing comes before it; with several taken predecessors, an object of their outputs by node id.
"""

from datetime import datetime
from typing import Protocol, TypeAlias

from msgspec import Raw, Struct

from contracts.limits import Id, NodeId, PortName, SignalName
from contracts.payloads import Payload
from contracts.waits import Approval, AwaitedCall


class Passed(Struct, frozen=True, kw_only=True):
    """The node is done, with this output, by these ports."""

    output: Payload
    ports: tuple[PortName, ...] = ("main",)


class Delayed(Struct, frozen=True, kw_only=True):
    """The node is done when this moment has come."""

    due: datetime


class Listening(Struct, frozen=True, kw_only=True):
    """The node is done when somebody has said this, or when the moment has come."""

    signal: SignalName
    due: datetime | None = None


class Expecting(Struct, frozen=True, kw_only=True):
    """The node is done when its resumption address was called, or when the moment has come."""

    call: AwaitedCall
    due: datetime | None = None


class Asking(Struct, frozen=True, kw_only=True):
    """The node is done when somebody has decided, or when the moment has come."""

    approval: Approval
    due: datetime | None = None


class Answered(Struct, frozen=True, kw_only=True):
    """The node answers whoever waits for the run."""

    status: int
    headers: dict[str, str]
    body: Payload


class Fanned(Struct, frozen=True, kw_only=True):
    """The nodes inside are done once for each of these items."""

    count: int
    pages: tuple[Payload, ...]
    """`ITEMS_PER_PAGE` items in each but the last."""


class Looped(Struct, frozen=True, kw_only=True):
    """The nodes inside are done until the condition holds."""

    input: Payload


class Called(Struct, frozen=True, kw_only=True):
    """A run of another workflow begins; the node is done when that run is."""

    workflow: Id
    version: int = 0
    """0: the one that was published last, until somebody has looked which that is."""
    plan: str = ""
    input: Payload
    waits: bool = True
    """Until it has ended; else until it is there."""
    due: datetime | None = None


Outcome: TypeAlias = Passed | Delayed | Listening | Expecting | Asking | Answered | Fanned | Looped | Called


class Given(Protocol):
    """What comes into a node by its taken edges."""

    def payload(self) -> Payload:
        """What a node that passes on gives to the next one."""
        ...

    def first(self) -> Payload:
        """The output of the first of the taken predecessors alone, in topological order."""
        ...

    def json(self) -> Raw:
        """The same as JSON text."""
        ...

    def members(self) -> dict[str, Raw]:
        """The input's members, when it is an object. Raises `Unfit` when it is not."""
        ...

    def by_node(self) -> dict[NodeId, Raw]:
        """The outputs of the taken predecessors, in topological order."""
        ...


class Unfit(Exception):
    """A value that an expression gave does not fit its field, or the input does not fit the node."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def kind_of(value: object) -> str:
    """In the words of whoever reads why it does not fit."""
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "nothing")
