"""The format of a conformance case: one behaviour of the engine, as a file that can be read from its first line to its last.

The types are the format: its JSON Schema is made of them, and a file that does not fit is refused with the place. A new
thing that can happen to a run is one more class here and one more row in `sayings.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from contracts.cases import Part
from contracts.gates import OrgLimit, SlotRefusal
from contracts.limits import (
    SEGMENT_EVENTS,
    AttemptNumber,
    Count,
    Id,
    NodeId,
    NodeType,
    PortName,
    Positive,
    Seconds,
    SignalKey,
    SignalName,
    StepPath,
    WaitName,
)
from contracts.nodes import Repeat
from contracts.runs import Actor, RunStatus, StepStatus
from contracts.waits import Verdict

HERE: Final = Path(__file__).parent

Topic: TypeAlias = Literal[
    "control nodes",
    "joins and branches",
    "maps",
    "loops",
    "outputs",
    "expressions",
    "variables and secrets",
    "large values",
    "errors and retries",
    "time",
    "signals",
    "approvals and calls",
    "runs of other workflows",
    "gates",
    "in doubt",
    "cancelling",
    "undoing",
    "opening again",
    "said twice",
    "parked",
    "trying out",
    "segments",
    "compiling",
]
"""In the order of the index."""

Event: TypeAlias = str | dict[str, Any]
"""An event by its type alone, or with the fields that matter: `{"type": "step.skipped", "step": "big"}`. Fields that are
not named may be anything; a value (an output, a configuration) that is named is compared whole, of an object such as
`error` what is named in it. Moments are seconds since the run's start. `{"times": 9, "events": [...]}`: so often these."""


def _null() -> Raw:
    return Raw(b"null")


class Happening(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="happens"
):
    """Something that the world does; `then` holds every event that the history has more after it."""

    then: tuple[Event, ...] = ()
    refused: str | None = None
    """The code of the error with which it is refused. Nothing is recorded then."""


class Delivery(Happening, frozen=True, kw_only=True, tag="delivery"):
    """Somebody wants a run: a webhook, or a start by the API. The input is the case's."""

    key: str = "order-1"
    """The dedupe key: the same key names the same run. After another one, `then` is about that other run."""
    receipt: str = "receipt-1"
    answer: Literal["accepted", "duplicate"] | UnsetType = UNSET
    stumbles: str = ""
    """The engine's own code raises on it, five times, with this message."""


class Success(Happening, frozen=True, kw_only=True, tag="success"):
    """An executor brings the output of the attempt at a step; of the newest one, where none is named."""

    step: StepPath
    attempt: AttemptNumber | None = None
    output: Raw = field(default_factory=_null)
    large_output: Count = 0
    """In place of `output`: a text of so many letters x."""
    ports: tuple[PortName, ...] = ("main",)


class Error(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Why an attempt ended badly."""

    code: str
    message: str = "It did not work."
    retryable: bool = False


class Failure(Happening, frozen=True, kw_only=True, tag="failure"):
    """An executor says that the attempt failed, and what of it is known not to have happened."""

    step: StepPath
    attempt: AttemptNumber | None = None
    error: Error
    retry_after_s: Seconds | None = None
    """What the other side asked for."""


class Doubt(Happening, frozen=True, kw_only=True, tag="doubt"):
    """Nobody can say whether the attempt's effect happened, and repeating it is not safe."""

    step: StepPath
    attempt: AttemptNumber | None = None
    error: Error = field(default_factory=lambda: Error(code="unreachable", message="No answer came."))


class LettingGo(Happening, frozen=True, kw_only=True, tag="letting go"):
    """An executor ends the attempt because the run stops."""

    step: StepPath
    attempt: AttemptNumber | None = None
    effect: Literal["none", "possible", "done"]


class Time(Happening, frozen=True, kw_only=True, tag="time"):
    """Seconds pass. The run is woken at the moment of each of its waits, unless the wake-ups are lost."""

    seconds: Seconds
    wakes_are_lost: bool = False


class WakeUp(Happening, frozen=True, kw_only=True, tag="wake-up"):
    """The wake-up for a wait comes now, too early or late as it may be."""

    wait: WaitName


class Look(Happening, frozen=True, kw_only=True, tag="look"):
    """The sweeper looks at the run, as it does at every run that stands still or is beyond its deadline."""


class Cancellation(Happening, frozen=True, kw_only=True, tag="cancellation"):
    """A person wants the run to stop. `opening`: the one that is meant, where it is not the newest."""

    reason: str = ""
    opening: Count | None = None


class Retry(Happening, frozen=True, kw_only=True, tag="retry"):
    """A person wants an ended run to go on from where it failed."""

    steps: tuple[StepPath, ...] = ()
    opening: Count | None = None


class Resolution(Happening, frozen=True, kw_only=True, tag="resolution"):
    """A person says what is so about a step in doubt."""

    step: StepPath
    resolution: Literal["retry", "done", "failed"]
    attempt: AttemptNumber | None = None
    output: Raw = field(default_factory=_null)


class Saying(Happening, frozen=True, kw_only=True, tag="signal"):
    """Somebody says something to the run. The same key makes it the same saying."""

    signal: SignalName
    key: SignalKey = "said-1"
    body: Raw = field(default_factory=_null)
    is_sealed: bool = False
    """What the run marks was sealed where it came in, as `body` shows it."""


class Decision(Happening, frozen=True, kw_only=True, tag="decision"):
    """Somebody decides what a step asks. The same decision of the same person is said again."""

    step: StepPath
    decision: Verdict
    by: Actor = "key:1"
    fields: Raw = field(default_factory=lambda: Raw(b"{}"))
    comment: str = ""
    name: str = ""
    """Whom they name themselves who have the link."""


class Call(Happening, frozen=True, kw_only=True, tag="call"):
    """Somebody calls the resumption address of a step. The same body makes it the same call."""

    step: StepPath
    body: Raw = field(default_factory=_null)


class ChildBegun(Happening, frozen=True, kw_only=True, tag="child is there"):
    """The run that a step started, and does not wait for, is there."""

    step: StepPath
    attempt: AttemptNumber | None = None


class ChildEnd(Happening, frozen=True, kw_only=True, tag="child ends"):
    """The run that a step started has ended; the one of the newest attempt, where none is named."""

    step: StepPath
    attempt: AttemptNumber | None = None
    outcome: Literal["completed", "failed", "cancelled"] = "completed"
    output: Raw = field(default_factory=_null)
    error: Error | None = None


class LettingIn(Happening, frozen=True, kw_only=True, tag="gate lets in"):
    """A gate lets the run in: the one at which it stands, where none is named."""

    limit: str = ""
    opening: Positive | None = None
    batch: tuple[Raw, ...] | None = None
    """The bodies of all for which it stands, at a gate that makes batches."""


class TurningAway(Happening, frozen=True, kw_only=True, tag="gate turns away"):
    """The gate at which the run stands does not let it in, and it may not wait there."""

    why: SlotRefusal
    by: Id | None = None
    """The run that goes on in its place."""


class Parking(Happening, frozen=True, kw_only=True, tag="parking"):
    """The engine's own code cannot go on: it raises on what it is told, or the history needs a newer release."""

    reason: str
    needs_release: str | None = None


class Unparking(Happening, frozen=True, kw_only=True, tag="unparking"):
    """A person takes a parked run up again."""


class Upgrade(Happening, frozen=True, kw_only=True, tag="upgrade"):
    """The engine is of this release from now on."""

    release: str


class Loss(Happening, frozen=True, kw_only=True, tag="loss"):
    """The object store loses the run's plan, or every large value that it keeps."""

    of: Literal["plan", "values"]


World: TypeAlias = (
    Delivery
    | Success
    | Failure
    | Doubt
    | LettingGo
    | Time
    | WakeUp
    | Look
    | Cancellation
    | Retry
    | Resolution
    | Saying
    | Decision
    | Call
    | ChildBegun
    | ChildEnd
    | LettingIn
    | TurningAway
    | Parking
    | Unparking
    | Upgrade
    | Loss
)


class CaseNodeType(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node type that only this case has."""

    type: NodeType
    repeat: Repeat = "no"
    outputs: tuple[PortName, ...] = ("main",)
    timeout_s: Seconds = 60.0
    config: dict[str, Any] = {}
    """JSON Schema of its configuration."""


class Expected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is so at the end."""

    status: RunStatus
    steps: dict[StepPath, StepStatus]
    """Every step of the workflow, and those in items that are not over: `each[2].call`."""
    output: Raw | UnsetType = UNSET
    """Of a completed run, compared whole."""
    error: dict[str, Any] | None = None
    """Of a failed or cancelled run: what is named of it."""
    answer: dict[str, Any] | None = None
    """What the caller in mode respond is told: `status`, `headers`, `body`."""
    waiting_for: tuple[str, ...] = ()
    """Kind and name of everything that must come before the run goes on. Empty once it has ended."""


class ExpectedFault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault of a workflow that does not compile."""

    code: str
    pointer: str
    message: str | None = None
    node: str | None = None
    position: int | None = None


class CasePin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What stands for a node that is not done."""

    output: Raw = field(default_factory=_null)
    ports: tuple[PortName, ...] | None = None
    error: Error | None = None
    skipped: bool = False
    waited: bool = False
    """In an earlier run it waited for the world."""


class Trial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The workflow is tried out: so much of it runs, and this stands for the rest."""

    part: Part = "whole"
    node: NodeId | None = None
    pins: dict[NodeId, CasePin] = {}
    recorded: dict[NodeId, CasePin] = {}
    """What came of the nodes in an earlier run."""
    input: Raw | UnsetType = UNSET


class Case(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One behaviour. It has a script and what is expected of it, or the faults that the compiler finds."""

    title: str
    """One sentence that is true."""
    why: str
    """What somebody would lose if it were otherwise."""
    topic: Topic
    installation: bool = False
    """Whether it is also played against a running installation: nothing in it needs power over time or misfortune."""
    node_types: tuple[CaseNodeType, ...] = ()
    org_vars: dict[str, Any] = {}
    org_limit: OrgLimit | None = None
    """What the org says of all its runs."""
    workflows: dict[Id, tuple[Positive, ...]] = {}
    """Workflows besides this one, and which versions of them were published, in that order."""
    came_by: tuple[Id, ...] = ()
    """The workflows of the runs before this one, where it is not the first in its chain of causes."""
    segment: Positive = SEGMENT_EVENTS
    """How many events a segment of the history holds, before the next commit begins a new one."""
    workflow: Raw
    """As the API takes it."""
    trial: Trial | None = None
    input: Raw = field(default_factory=_null)
    """What expressions see as `trigger.body`."""
    script: tuple[World, ...] = ()
    expected: Expected | UnsetType = UNSET
    faults: tuple[ExpectedFault, ...] = ()


HAPPENINGS: Final[Sequence[type[Happening]]] = get_args(World)


def files() -> list[Path]:
    return sorted(HERE.glob("*.json"))


def read(path: Path) -> Case:
    """The case in a file. Raises `msgspec.ValidationError` with the place for what does not fit."""
    return msgspec.json.decode(path.read_bytes(), type=Case)


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a case."""
    made = msgspec.json.schema(Case)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A conformance case of AutomateOS",
        **made,
    }
