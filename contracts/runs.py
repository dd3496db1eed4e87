"""The life of a run, told as events.

Two kinds stand in one history. A **fact** says what happened outside the decision: a start, an outcome, a
wake-up, a wish that was granted. A **consequence** follows from the facts before it by `decide` alone; replay
computes it anew and compares. The tag of an event is chosen for ever and never names Python.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from contracts import limits
from contracts.errors import Failure
from contracts.gates import OrgLimit, SlotRefusal, SlotWanted
from contracts.limits import (
    CAUSES_DEEP,
    UNDOS_SHOWN,
    AttemptNumber,
    Comment,
    Count,
    HttpStatus,
    Id,
    NodeId,
    NodeType,
    PoolName,
    PortName,
    Positive,
    Priority,
    SaidName,
    SchemaVersion,
    Seconds,
    Sha256,
    SignalKey,
    SignalName,
    StepPath,
    Text,
    WaitName,
)
from contracts.nodes import Repeat
from contracts.payloads import Payload, null
from contracts.waits import Approval, AwaitedCall, Deciders, Verdict

RunStatus: TypeAlias = Literal[
    "queued",
    "running",
    "waiting",
    "stopping",
    "compensating",
    "completed",
    "failed",
    "cancelled",
    "parked",
    "archived",
]
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
StepStatus: TypeAlias = Literal[
    "pending", "scheduled", "waiting", "running", "in_doubt", "succeeded", "failed", "skipped", "cancelled"
]
"""`running`: a map or a loop, some of whose items are not over."""
WaitKind: TypeAlias = Literal[
    "delay", "retry", "grace", "signal", "turn", "call", "approval", "escalation", "child", "start", "slot"
]
"""`delay`: a delay node; `retry`: the pause before the next attempt; `grace`: cancelled attempts may still report;
`signal`: somebody has to say something; `turn`: a container goes on in a commit of its own; `call`: a resumption
address has to be called; `approval`: somebody has to decide; `escalation`: until then, or others are asked as well;
`child`: a run that the step started must end; `start`: a run that the step starts must be there; `slot`: a gate before
the workflow must let the run in."""

Actor: TypeAlias = limits.Actor
"""Who caused a commit, as an opaque id: `trigger:…`, `key:…`, `executor:…`, `timer`, `sweeper`, `system`."""
Mode: TypeAlias = Literal["live", "test"]
"""`test`: somebody tries the workflow out; whoever looks after real runs leaves it out."""


class Cause(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What started the run: the chain trigger → run → child → effect → next trigger is read from here."""

    kind: Literal["webhook", "manual", "api", "redelivery", "schedule", "run", "event", "agent", "test"]
    id: Annotated[str, Meta(max_length=128)] = ""
    depth: Count = 0
    """How many runs came before it in the chain."""
    chain: Annotated[tuple[Id, ...], Meta(max_length=CAUSES_DEEP)] = ()
    """Their workflows, the oldest first."""
    run: Id | None = None
    """Of a delivery or a call: the run that made it, at our own address."""


class Parent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The step of another run that started this one."""

    run: Id
    step: StepPath
    waits: bool = True
    """Whether the step waits for its end, so that it is told, and has it stopped when nobody waits any more."""


class Unfinished(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt that was under way when the run stopped, and what is known of its effect."""

    step: StepPath
    attempt: AttemptNumber
    effect: Literal["none", "possible", "done"]
    detail: Text = ""


class Undone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of undoing what a run had done."""

    steps: Count = 0
    """So many were undone."""
    left: Annotated[tuple[StepPath, ...], Meta(max_length=UNDOS_SHOWN)] = ()
    """Those that were not, as far as they are shown: their undo failed, or nobody could begin it."""
    left_in_all: Count = 0


class RunFact(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something the run learnt. The commit it lies in says when."""

    schema_version: SchemaVersion = 1
    is_fact: ClassVar[bool] = True


class Consequence(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something that follows from what the run knows."""

    schema_version: SchemaVersion = 1
    is_fact: ClassVar[bool] = False


# --- Facts ------------------------------------------------------------------------------------


class RunStarted(RunFact, frozen=True, kw_only=True, tag="run.started"):
    """The run was accepted; its plan and its input are fixed."""

    plan: Sha256
    workflow: Id
    version: Count
    trigger: Id | None = None
    receipt: Id
    cause: Cause
    input: Payload
    """What expressions see as `trigger`: body, headers, query, method."""
    org_vars: dict[str, Any] = field(default_factory=dict)
    """The org's variables as they were at this moment; the version's own win over them."""
    dedupe: Sha256 | None = None
    request: Sha256 | None = None
    """Hash of the request that asked for the run: the same key with another one is refused."""
    parent: Parent | None = None
    deadline: datetime | None = None
    rules: SchemaVersion = 1
    """Which rules of decision this run keeps for its whole life."""
    mode: Mode = "live"
    priority: Priority | UnsetType = UNSET
    """What the expression of its workflow gave for this run. Not there: the workflow has none, or it cannot be told."""
    org_limit: OrgLimit | UnsetType = UNSET
    """What the org said then of all its runs. Not there: nothing."""


class StepReported(RunFact, frozen=True, kw_only=True, tag="step.reported"):
    """An executor brought the output of an attempt."""

    step: StepPath
    attempt: AttemptNumber
    output: Payload
    ports: tuple[PortName, ...] = ("main",)
    took_ms: Count = 0


class AttemptFailed(RunFact, frozen=True, kw_only=True, tag="attempt.failed"):
    """An attempt ended badly. Whether to try again is decided after it."""

    step: StepPath
    attempt: AttemptNumber
    error: Failure
    retry_after_s: Seconds | None = None
    took_ms: Count = 0


class AttemptDoubted(RunFact, frozen=True, kw_only=True, tag="attempt.doubted"):
    """Nobody can say whether the attempt's effect happened, and repeating it is not safe."""

    step: StepPath
    attempt: AttemptNumber
    error: Failure


class AttemptCancelled(RunFact, frozen=True, kw_only=True, tag="attempt.cancelled"):
    """The executor let go of the attempt because the run is stopping."""

    step: StepPath
    attempt: AttemptNumber
    effect: Literal["none", "possible", "done"]
    detail: Text = ""


class DoubtResolved(RunFact, frozen=True, kw_only=True, tag="doubt.resolved"):
    """A person looked and said what is so: do it again, or it is done and this is the output."""

    step: StepPath
    attempt: AttemptNumber
    resolution: Literal["retry", "done", "failed"]
    output: Payload = field(default_factory=null)
    by: Actor


class WaitEnded(RunFact, frozen=True, kw_only=True, tag="wait.ended"):
    """The moment that a wait named has come."""

    wait: WaitName


class SignalReceived(RunFact, frozen=True, kw_only=True, tag="signal.received"):
    """Somebody said something to the run. It is for the first wait that listens to the name, also one that comes later."""

    signal: SignalName
    key: SignalKey
    request: Sha256 | None = None
    """The hash of what was said, where somebody chose the key."""
    by: Actor
    body: Payload = field(default_factory=null)
    step: StepPath | None = None
    """The step that waited for it. None: no one yet; it is kept."""


class CallReceived(RunFact, frozen=True, kw_only=True, tag="call.received"):
    """Somebody called the resumption address for which a step waits. The first call counts."""

    wait: WaitName
    step: StepPath
    request: Sha256
    """The hash of what was said: said again it is the same call."""
    by: Actor
    body: Payload
    """Body, headers, query and method, as a webhook's input has them."""


class ApprovalDecided(RunFact, frozen=True, kw_only=True, tag="approval.decided"):
    """Somebody who was asked has decided. The first decision counts."""

    wait: WaitName
    step: StepPath
    decision: Verdict
    by: Actor
    on: datetime
    """When it was decided; a parked run goes on with it later."""
    request: Sha256
    fields: Payload
    """What was filled in."""
    comment: Comment = ""
    name: SaidName = ""
    """Of a decision by link: whom they named themselves who had it. Nothing proves it."""


class ChildBegan(RunFact, frozen=True, kw_only=True, tag="child.began"):
    """A run that the step started, and does not wait for, is there."""

    step: StepPath
    child: Id


class ChildEnded(RunFact, frozen=True, kw_only=True, tag="child.ended"):
    """The run that the step waits for has ended."""

    step: StepPath
    child: Id
    outcome: Literal["completed", "failed", "cancelled"]
    output: Payload = field(default_factory=null)
    error: Failure | None = None


class SlotTaken(RunFact, frozen=True, kw_only=True, tag="slot.taken"):
    """A gate has let the run in."""

    wait: WaitName
    gate: Id
    input: Payload | None = None
    """What it has started with from now on, where it stands for a batch."""


class SlotRefused(RunFact, frozen=True, kw_only=True, tag="slot.refused"):
    """A gate does not let the run in, and it may not wait there."""

    wait: WaitName
    gate: Id
    why: SlotRefusal
    by: Id | None = None
    """The run that goes on in its place."""


class CancelRequested(RunFact, frozen=True, kw_only=True, tag="run.cancel-requested"):
    """Somebody with the right to do so wants the run to stop."""

    by: Actor
    reason: Text = ""


class DeadlinePassed(RunFact, frozen=True, kw_only=True, tag="run.deadline-passed"):
    """The run's time is over."""


class RunReopened(RunFact, frozen=True, kw_only=True, tag="run.reopened"):
    """An ended run goes on: these steps are tried again, and all that was skipped after them is open again."""

    by: Actor
    steps: tuple[StepPath, ...]


class RunParked(RunFact, frozen=True, kw_only=True, tag="run.parked"):
    """No code of this release can go on with the run. It waits for one that can, or for a person."""

    reason: Text
    needs_release: Annotated[str, Meta(max_length=64)] | None = None


class RunUnparked(RunFact, frozen=True, kw_only=True, tag="run.unparked"):
    """A release or a person took the run up again."""

    by: Actor


class RunContinued(RunFact, frozen=True, kw_only=True, tag="run.continued"):
    """A new segment of the history begins here: who goes on with the run need not read what is before it.

    Learnt from the history's length, not from the world. What it says is the fold of all events before it, and only that;
    what was under way stands in words of its own for readers that decide nothing.
    """

    segment: Positive
    """The number of the segment that begins: 2, 3 …"""
    events: Positive
    """So many stand before this one, in all segments."""
    opening: Count
    stopping: bool = False
    attempts: dict[StepPath, AttemptNumber] = field(default_factory=dict)
    """The attempts under way, by step."""
    doubts: dict[StepPath, AttemptNumber] = field(default_factory=dict)
    format: SchemaVersion = 1
    """How `state` is to be read. A release that cannot goes back to the events before it."""
    state: Payload
    """The run as the engine remembers it."""


# --- Consequences -----------------------------------------------------------------------------


class AttemptScheduled(Consequence, frozen=True, kw_only=True, tag="attempt.scheduled"):
    """An executor of the pool shall make this attempt now."""

    step: StepPath
    node: NodeId
    node_type: NodeType
    attempt: AttemptNumber
    key: Annotated[str, Meta(max_length=640)]
    """The idempotency key: the same for every attempt at this step."""
    pool: PoolName
    repeat: Repeat
    timeout_s: Seconds
    config: Payload
    """The configuration with every expression evaluated; secret references stay references."""


class StepPinned(Consequence, frozen=True, kw_only=True, tag="step.pinned"):
    """In a test: an attempt would be made now, with this configuration. What came of it is said by the pin."""

    step: StepPath
    node: NodeId
    config: Payload


class StepSucceeded(Consequence, frozen=True, kw_only=True, tag="step.succeeded"):
    """The step's output is final, and these ports are taken.

    `output` stands here for control nodes, which nobody reports on; an action's output stands in the
    `step.reported` (or `doubt.resolved`, or `child.ended`) before it, once.
    """

    step: StepPath
    node: NodeId
    ports: tuple[PortName, ...] = ("main",)
    output: Payload | None = None


class UndoRun(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The run that undoes a step: of this version, however much later it is asked for."""

    workflow: Id
    version: Count
    plan: Sha256
    waits: bool = True
    """Until it has ended; else until it is there."""
    timeout_s: Annotated[float, Meta(ge=0)] | None = None


class UndoKept(Consequence, frozen=True, kw_only=True, tag="undo.kept"):
    """A step has succeeded, and this is what undoes it, said while everything that it is made of is at hand."""

    step: StepPath
    """The step that undoes."""
    node: NodeId
    undoes: StepPath
    config: Payload | None = None
    """With every expression evaluated; secret references stay references. Where a run undoes: what that sees as `trigger`."""
    run: UndoRun | None = None
    """Where another run undoes the step."""
    error: Failure | None = None
    """Why there is none: then nobody can undo the step."""


class StepFailed(Consequence, frozen=True, kw_only=True, tag="step.failed"):
    """The step will not be tried again. `handled`: something takes over, its error path unless `ports` says another."""

    step: StepPath
    node: NodeId
    error: Failure
    handled: bool = False
    ports: tuple[PortName, ...] | None = None
    """By which it goes on in spite of the failure."""


class StepSkipped(Consequence, frozen=True, kw_only=True, tag="step.skipped"):
    """No path that leads here was taken."""

    step: StepPath
    node: NodeId


class StepCancelled(Consequence, frozen=True, kw_only=True, tag="step.cancelled"):
    """The run stopped before the step was done."""

    step: StepPath
    node: NodeId


class ItemsOpened(Consequence, frozen=True, kw_only=True, tag="items.opened"):
    """A container begins: a map with its items, or a loop that goes on until its condition holds."""

    step: StepPath
    node: NodeId
    count: Count | None = None
    """Items of a map, which follow in pages. None: a loop."""
    input: Payload | None = None
    """What a loop's first round is given."""


class ItemsPaged(Consequence, frozen=True, kw_only=True, tag="items.paged"):
    """The next items of a map, `ITEMS_PER_PAGE` of them but for the last page."""

    step: StepPath
    items: Payload


class ItemsBegan(Consequence, frozen=True, kw_only=True, tag="items.began"):
    """These items of a container, or this round of a loop, begin now."""

    step: StepPath
    first: Count
    """Counted from 0."""
    count: Positive = 1


class ItemDone(Consequence, frozen=True, kw_only=True, tag="item.done"):
    """Every step of an item is done. Its own steps are remembered no longer, only what came of it."""

    step: StepPath
    item: Count
    leaf: NodeId | None = None
    """The one last node inside, whose output is the item's; it stands with that node's step."""
    output: Payload | None = None
    """What came of it where there is no such node."""


class ItemFailed(Consequence, frozen=True, kw_only=True, tag="item.failed"):
    """An item failed and the container goes on without it."""

    step: StepPath
    item: Count
    error: Failure


class ItemsKept(Consequence, frozen=True, kw_only=True, tag="items.kept"):
    """All items of a page are over: what came of them, in their order, so that nobody needs to remember each."""

    step: StepPath
    page: Count
    results: Payload


class ChildAsked(Consequence, frozen=True, kw_only=True, tag="child.asked"):
    """A run of this version of a workflow shall be there: its id follows from this run, the step and the attempt."""

    step: StepPath
    node: NodeId
    attempt: AttemptNumber
    child: Id
    workflow: Id
    version: Count
    plan: Sha256
    waits: bool = True
    """Until it has ended; else until it is there."""
    input: Payload
    """What its expressions see as `trigger`."""


class HandlerAsked(Consequence, frozen=True, kw_only=True, tag="handler.asked"):
    """The run fails, and a run of the workflow that its own names for that shall be there: its error workflow."""

    child: Id
    """That run; its id follows from this one and the opening."""
    workflow: Id
    version: Count
    plan: Sha256
    input: Payload
    """What its expressions see as `trigger`: the failure."""


class HandlerRefused(Consequence, frozen=True, kw_only=True, tag="handler.refused"):
    """The run fails, and its error workflow cannot be started."""

    workflow: Id
    error: Failure


class WaitOpened(Consequence, frozen=True, kw_only=True, tag="wait.opened"):
    """The run waits for something that has a name."""

    wait: WaitName
    kind: WaitKind
    due: datetime | None = None
    """None: it has no end of its own."""
    step: StepPath | None = None
    signal: SignalName | None = None
    """What is waited for, by kind `signal`."""
    call: AwaitedCall | None = None
    """By kind `call`."""
    approval: Approval | None = None
    """By kind `approval`."""
    slot: SlotWanted | None = None
    """By kind `slot`."""


class ApprovalEscalated(Consequence, frozen=True, kw_only=True, tag="approval.escalated"):
    """Nobody has decided for so long: these may decide now as well."""

    wait: WaitName
    step: StepPath
    to: Deciders


class WaitDropped(Consequence, frozen=True, kw_only=True, tag="wait.dropped"):
    """Nothing waits for this moment any more; its wake-up will find nothing to do."""

    wait: WaitName


class RunResponded(Consequence, frozen=True, kw_only=True, tag="run.responded"):
    """The answer for whoever waits for one; recorded, so that a duplicate gets the same."""

    step: StepPath
    status: HttpStatus
    headers: dict[str, str] = field(default_factory=dict)
    body: Payload = field(default_factory=null)


class RunStopping(Consequence, frozen=True, kw_only=True, tag="run.stopping"):
    """No new step begins. Attempts under way are told to let go and have until the grace ends."""

    outcome: Literal["failed", "cancelled"]
    error: Failure | None = None


class RunCompensating(Consequence, frozen=True, kw_only=True, tag="run.compensating"):
    """Nothing goes on any more, and what the run had done is undone before it ends so: the last step first."""

    outcome: Literal["failed", "cancelled"]
    error: Failure | None = None
    step: StepPath | None = None
    """Whose failure nothing handled."""
    reason: Text = ""
    unfinished: tuple[Unfinished, ...] = ()


class RunCompleted(Consequence, frozen=True, kw_only=True, tag="run.completed"):
    """Every step is done or skipped."""

    output: Payload = field(default_factory=null)


class RunFailed(Consequence, frozen=True, kw_only=True, tag="run.failed"):
    """A step failed and nothing handles it, or the run itself could not go on."""

    error: Failure
    step: StepPath | None = None
    unfinished: tuple[Unfinished, ...] = ()
    undone: Undone | None = None
    """Where it had done something that can be undone."""


class RunCancelled(Consequence, frozen=True, kw_only=True, tag="run.cancelled"):
    """The run was stopped by somebody. What could not be undone is listed."""

    reason: Text = ""
    unfinished: tuple[Unfinished, ...] = ()
    undone: Undone | None = None


Fact: TypeAlias = (
    RunStarted
    | StepReported
    | AttemptFailed
    | AttemptDoubted
    | AttemptCancelled
    | DoubtResolved
    | WaitEnded
    | SignalReceived
    | CallReceived
    | ApprovalDecided
    | ChildBegan
    | ChildEnded
    | SlotTaken
    | SlotRefused
    | CancelRequested
    | DeadlinePassed
    | RunReopened
    | RunParked
    | RunUnparked
    | RunContinued
)
Decision: TypeAlias = (
    AttemptScheduled
    | StepPinned
    | StepSucceeded
    | UndoKept
    | StepFailed
    | StepSkipped
    | StepCancelled
    | ItemsOpened
    | ItemsPaged
    | ItemsBegan
    | ItemDone
    | ItemFailed
    | ItemsKept
    | ChildAsked
    | HandlerAsked
    | HandlerRefused
    | WaitOpened
    | ApprovalEscalated
    | WaitDropped
    | RunResponded
    | RunStopping
    | RunCompensating
    | RunCompleted
    | RunFailed
    | RunCancelled
)
RunEvent: TypeAlias = Fact | Decision


def beginning(events: Iterable[RunEvent]) -> RunStarted | None:
    """How a run began, if that is told here. One that nobody could go on with began parked, and that was said first."""
    return next((event for event in events if isinstance(event, RunStarted)), None)
