"""What the API takes and tells about test runs and cases."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct, field

from contracts.cases import CaseName, Condition, Ending, Outline, Selection
from contracts.errors import Failure
from contracts.limits import (
    EXPECTATIONS,
    HEADER_FIELDS,
    NODES,
    PORTS_PER_NODE,
    Id,
    NodeId,
    PortName,
    Positive,
)


def _null() -> Raw:
    return Raw(b"null")


def _absent() -> Raw:
    """Nothing was given, not even null."""
    return Raw()


class GivenPin(Struct, frozen=True, kw_only=True):
    """What stands for a node, which is not done then: its output and the ports it goes on by, or its error."""

    output: Raw = field(default_factory=_null)
    ports: Annotated[tuple[PortName, ...], Meta(max_length=PORTS_PER_NODE)] | None = None
    """Null: by `main`, where the node has it."""
    error: Failure | None = None
    skipped: bool = False
    """No path led to it."""


class GivenTrigger(Struct, frozen=True, kw_only=True):
    """What expressions see as `trigger`."""

    body: Raw = field(default_factory=_null)
    headers: Annotated[dict[str, str], Meta(max_length=HEADER_FIELDS)] = {}
    query: dict[str, Any] = {}
    method: Annotated[str, Meta(max_length=16)] = "TEST"
    content_type: Annotated[str, Meta(max_length=200)] = "application/json"
    received_at: Annotated[str, Meta(max_length=64)] = ""


class Sample(Struct, frozen=True, kw_only=True):
    """A delivery of a trigger: a captured one, or one that started a run."""

    trigger: Id
    receipt: Id


class SampleView(Struct, frozen=True, kw_only=True):
    """A delivery that was captured."""

    receipt: str
    time: datetime
    method: str
    size: int
    trigger: Raw
    """What expressions would see as `trigger`; sealed values stay sealed, and a large one stands as its reference."""


class SampleList(Struct, frozen=True, kw_only=True):
    items: list[SampleView]


class StartTest(Struct, frozen=True, kw_only=True):
    """Which part of which version runs, and what stands for the rest.

    What starts it is `trigger`, else `sample`, else what started `from_run`.
    """

    version: Positive | None = None
    """Null: the newest, published or not."""
    definition: Raw = field(default_factory=_absent)
    """A workflow that is not saved, in place of a version."""
    selection: Selection = Selection()
    pins: Annotated[dict[NodeId, GivenPin], Meta(max_length=NODES)] = {}
    input: Raw = field(default_factory=_absent)
    """What comes into the one node that runs, with `"part": "node"`."""
    from_run: Id | None = None
    """What came of the nodes in that run stands for those before the part; for a whole workflow, for those that act."""
    sample: Sample | None = None
    trigger: GivenTrigger | None = None


class StartedTest(Struct, frozen=True, kw_only=True):
    run: str
    receipt: str
    status: Literal["accepted", "queued", "duplicate"]
    outline: Outline


class GivenExpected(Struct, frozen=True, kw_only=True):
    """What must be so when the run has ended."""

    status: Ending = "completed"
    output: Raw = field(default_factory=_absent)
    """The run's output, whole; left out, it may be any."""
    steps: Annotated[dict[NodeId, Raw], Meta(max_length=NODES)] = {}
    """The outputs of single nodes, whole."""
    sent: Annotated[dict[NodeId, Raw], Meta(max_length=NODES)] = {}
    """The configurations with which attempts at single nodes are made, or would be, whole."""
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=EXPECTATIONS)] = ()
    """In CEL, about `run` (`status`, `output`, `error`), `steps` and `trigger`: each must hold."""


class KeepCase(Struct, frozen=True, kw_only=True):
    """A case as it is written. What is null of one that exists already stays as it is."""

    trigger: GivenTrigger | None = None
    selection: Selection | None = None
    pins: Annotated[dict[NodeId, GivenPin], Meta(max_length=NODES)] | None = None
    expected: GivenExpected | None = None


class RecordCase(Struct, frozen=True, kw_only=True):
    """A case made of a run that has ended: what started it, what came of its nodes, how it ended. Sealed values are left out."""

    name: CaseName
    from_run: Id
    selection: Selection = Selection()
    conditions: Annotated[tuple[Condition, ...], Meta(max_length=EXPECTATIONS)] = ()


class CaseSummary(Struct, frozen=True, kw_only=True):
    name: str
    revision: int
    from_run: str | None


class CaseList(Struct, frozen=True, kw_only=True):
    items: list[CaseSummary]


class ShownPin(Struct, frozen=True, kw_only=True):
    output: Raw
    """A value that lies in the object store stands as its reference."""
    ports: tuple[str, ...] | None
    error: Failure | None
    skipped: bool


class ShownExpected(Struct, frozen=True, kw_only=True):
    status: Ending
    output: Raw | None
    any_output: bool
    """Nothing is expected of the output."""
    steps: dict[str, Raw]
    sent: dict[str, Raw]
    conditions: tuple[str, ...]


class CaseView(Struct, frozen=True, kw_only=True):
    workflow: str
    name: str
    revision: int
    """It never changes; what is kept later is another one."""
    from_run: str | None
    trigger: Raw
    selection: Selection
    pins: dict[str, ShownPin]
    recorded: dict[str, ShownPin]
    """What came of the nodes in the run of which the case was made."""
    expected: ShownExpected


class KeptCase(Struct, frozen=True, kw_only=True):
    workflow: str
    name: str
    revision: int


class RunCase(Struct, frozen=True, kw_only=True):
    """`version`: null for the newest, published or not."""

    version: Positive | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """One expectation that does not hold."""

    expectation: str
    """JSON pointer into the case's expectations."""
    message: str
    step: str | None = None
    pointer: str = ""
    """Where in the value the first difference is."""
    expected: Raw | None = None
    got: Raw | None = None
    """Both as far as they can be shown; null: there is nothing."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What came of a case."""

    workflow: str
    case: str
    revision: int
    run: str
    version: int
    state: Literal["running", "passed", "failed"]
    status: str
    """Of the run."""
    took_s: float
    differences: tuple[Difference, ...]
