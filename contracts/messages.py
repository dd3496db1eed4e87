"""What is said to a run's owner, and what the owner answers. A message says when to look; the state says what to do."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta, Raw, Struct, field

from contracts.apis import ApiImports
from contracts.cases import Outline, Trial
from contracts.errors import Failure
from contracts.gates import OrgLimit, SlotRefusal, SlotWanted
from contracts.limits import (
    BUNDLE_MESSAGES,
    CAUSES_DEEP,
    WORKER_POOLS,
    AttemptNumber,
    Comment,
    Count,
    HttpStatus,
    Id,
    NodeId,
    NodeType,
    OrgId,
    Pointer,
    PortName,
    Positive,
    SaidName,
    Seconds,
    Sha256,
    SignalKey,
    SignalName,
    StepPath,
    Text,
    WaitName,
)
from contracts.nodes import Repeat
from contracts.payloads import Blob, Payload, null
from contracts.runs import Actor, Cause, Mode, Parent
from contracts.waits import Verdict


class RunMessage(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Addressed to one run."""

    org: OrgId
    run: Id
    trace: Annotated[str, Meta(max_length=64)] = ""
    """W3C `traceparent` of whoever caused the message."""


class StartRun(RunMessage, frozen=True, kw_only=True, tag="run.start"):
    """Somebody wants a run. Its id is derived from the dedupe key, so a second wish finds the first."""

    plan: Sha256
    workflow: Id
    version: Count
    receipt: Id
    cause: Cause
    input: Payload
    trigger: Id | None = None
    org_vars: dict[str, Any] = field(default_factory=dict)
    org_limit: OrgLimit | None = None
    """What the org says of all its runs; None: nothing."""
    dedupe: Sha256 | None = None
    request: Sha256 | None = None
    parent: Parent | None = None
    mode: Mode = "live"
    actor: Actor = "system"
    key_id: Annotated[str, Meta(max_length=64)] = ""
    """Names the salt under which values of this run are sealed; empty when nothing is."""
    reply: Annotated[str, Meta(max_length=128)] = ""
    """Where the run's answer is awaited: a subject of its own, for respond mode."""


class StepDone(RunMessage, frozen=True, kw_only=True, tag="outcome.succeeded"):
    step: StepPath
    attempt: AttemptNumber
    executor: Actor
    output: Payload
    ports: tuple[PortName, ...] = ("main",)
    took_ms: Count = 0


class StepBroken(RunMessage, frozen=True, kw_only=True, tag="outcome.failed"):
    step: StepPath
    attempt: AttemptNumber
    executor: Actor
    error: Failure
    retry_after_s: Seconds | None = None
    took_ms: Count = 0


class StepInDoubt(RunMessage, frozen=True, kw_only=True, tag="outcome.in-doubt"):
    step: StepPath
    attempt: AttemptNumber
    executor: Actor
    error: Failure


class StepLetGo(RunMessage, frozen=True, kw_only=True, tag="outcome.cancelled"):
    step: StepPath
    attempt: AttemptNumber
    executor: Actor
    effect: Literal["none", "possible", "done"]
    detail: Text = ""


class Wake(RunMessage, frozen=True, kw_only=True, tag="wake"):
    """The moment of a wait has come. If the wait is closed, nothing happens."""

    wait: WaitName


class Look(RunMessage, frozen=True, kw_only=True, tag="look"):
    """Look at the run: emit again what nobody answered, close what is overdue."""


class ScheduleLook(RunMessage, frozen=True, kw_only=True, tag="schedule.look"):
    """Look at a schedule, whose trigger's id stands as `run`: fire what is due, have us woken for what comes next."""

    wait: ClassVar[WaitName] = "schedule"
    """There is one wake-up for each schedule: the next one."""
    due: datetime | None = None
    """Set in a wake-up: the planned time for which it was armed."""


class CancelRun(RunMessage, frozen=True, kw_only=True, tag="run.cancel"):
    actor: Actor
    opening: Count = 0
    """The opening that is meant, so that the same wish heard again later cannot mean the next one; 0: whichever is."""
    reason: Text = ""


class RetryRun(RunMessage, frozen=True, kw_only=True, tag="run.retry"):
    """Try an ended run again from its failed steps (or from the ones named)."""

    actor: Actor
    opening: Count = 0
    """The opening that ended; 0: whichever did."""
    steps: tuple[StepPath, ...] = ()


class ResolveDoubt(RunMessage, frozen=True, kw_only=True, tag="doubt.resolve"):
    actor: Actor
    step: StepPath
    attempt: Count = 0
    """The attempt that is in doubt; 0: whichever is."""
    resolution: Literal["retry", "done", "failed"]
    output: Payload = field(default_factory=null)


class SendSignal(RunMessage, frozen=True, kw_only=True, tag="signal.send"):
    """Say something that the run waits for, or will wait for. Said again under the same key it changes nothing."""

    actor: Actor
    signal: SignalName
    key: SignalKey
    request: Sha256 | None = None
    """The hash of what was said, where somebody chose the key: under the same one nothing else may be said."""
    body: Payload = field(default_factory=null)
    is_sealed: bool = False
    """Whoever says it has looked at what the run's plan marks, and sealed that. Else it is refused where something is
    marked."""


class CallWait(RunMessage, frozen=True, kw_only=True, tag="wait.call"):
    """The resumption address of a step was called, by somebody who had its link. Said again it changes nothing."""

    actor: Actor
    step: StepPath
    request: Sha256
    body: Payload


class DecideApproval(RunMessage, frozen=True, kw_only=True, tag="approval.decide"):
    """Decide what a step asks. What was filled in was checked where it came in."""

    actor: Actor
    step: StepPath
    decision: Verdict
    request: Sha256
    fields: Payload = field(default_factory=null)
    comment: Comment = ""
    name: SaidName = ""
    """Whom they named themselves who had the link."""


class ChildStarted(RunMessage, frozen=True, kw_only=True, tag="child.started"):
    """To a run: the one that its step started, and does not wait for, is there."""

    step: StepPath
    child: Id


class ChildOver(RunMessage, frozen=True, kw_only=True, tag="child.over"):
    """To a run: the one that its step started, and may wait for, has ended. Said again it says nothing new."""

    step: StepPath
    child: Id
    outcome: Literal["completed", "failed", "cancelled"]
    output: Payload = field(default_factory=null)
    error: Failure | None = None


class GiveSlot(RunMessage, frozen=True, kw_only=True, tag="slot.give"):
    """To a run: a gate has let it in. Said again it says nothing new; one that has ended tells the gate so."""

    gate: Id
    opening: Positive
    input: Payload | None = None
    """What it has started with from now on: all that its batch was started with."""


class RefuseSlot(RunMessage, frozen=True, kw_only=True, tag="slot.refuse"):
    """To a run: a gate does not let it in, and it may not wait there."""

    gate: Id
    opening: Positive
    why: SlotRefusal
    by: Id | None = None
    """The run that goes on in its place."""


class AskSlot(RunMessage, frozen=True, kw_only=True, tag="slot.ask"):
    """To a gate, whose id stands as `run`: let a run in. Asked again it is the same question."""

    holder: Id
    opening: Positive
    since: datetime
    """When the run began to wait."""
    wanted: SlotWanted
    size: Count = 0
    """Bytes of what it was started with, as far as a batch would have to carry them."""
    is_shared: bool = False
    """The gate is the org's: workflows share it."""


class FreeSlot(RunMessage, frozen=True, kw_only=True, tag="slot.free"):
    """To a gate: a run is inside no longer, with this opening and those before it."""

    holder: Id
    opening: Positive
    let_in: bool = True
    """Whether it ever was inside, in this opening."""


class GateLook(RunMessage, frozen=True, kw_only=True, tag="gate.look"):
    """Look at a gate, whose id stands as `run`: have those ask who are next. A wake-up for whoever waits for a rate."""

    wait: ClassVar[WaitName] = "gate"
    """There is one wake-up for each gate: the next one."""


class UnparkRun(RunMessage, frozen=True, kw_only=True, tag="run.unpark"):
    actor: Actor


Outcome: TypeAlias = StepDone | StepBroken | StepInDoubt | StepLetGo
Message: TypeAlias = (
    StartRun
    | StepDone
    | StepBroken
    | StepInDoubt
    | StepLetGo
    | Wake
    | Look
    | CancelRun
    | RetryRun
    | ResolveDoubt
    | SendSignal
    | CallWait
    | DecideApproval
    | ChildStarted
    | ChildOver
    | GiveSlot
    | RefuseSlot
    | UnparkRun
)

ToGate: TypeAlias = AskSlot | FreeSlot | GateLook
Timed: TypeAlias = Wake | ScheduleLook | GateLook
"""What is said at a time."""
Said: TypeAlias = Message | ScheduleLook | AskSlot | FreeSlot | GateLook
"""Whatever is said to the owner of a partition."""


class Responded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run answers to whoever waits for it."""

    run: Id
    state: Literal["responded", "completed", "failed", "cancelled"]
    status: HttpStatus = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Payload = field(default_factory=null)
    error: Failure | None = None


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The owner's answer to one message: the commit is in RUNS, or why there is none."""

    run: Annotated[str, Meta(max_length=64)]
    """Empty when the message could not be read."""
    result: Literal["accepted", "duplicate", "nothing", "refused"]
    """`duplicate`: a start of a run that another receipt started. `nothing`: the state asks for no change."""
    epoch: Count = 0
    sequence: Count = 0
    """Where the run's last commit lies in RUNS: a read that waits for it sees this message's effect."""
    receipt: str = ""
    """The receipt that started the run."""
    request: str | None = None
    error: Failure | None = None
    responded: Responded | None = None
    gone: bool = False
    """Nothing is left of the run but its id: nobody knows any more what it answered."""


Bundle: TypeAlias = Annotated[list[Raw], Meta(max_length=BUNDLE_MESSAGES)]


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Asks an executor for one attempt. Derivable from the history: losing it loses nothing."""

    org: OrgId
    run: Id
    step: StepPath
    node: NodeId
    node_type: NodeType
    attempt: AttemptNumber
    key: str
    repeat: Repeat
    timeout_s: Seconds
    config: Payload
    secrets: tuple[str, ...] = ()
    """JSON pointers of the fields that may hold a secret reference."""
    scheduled_at: float
    """Unix seconds; an attempt scheduled before the executor's last reconnect is checked against the history first."""
    key_id: str = ""
    trace: str = ""
    plan: str = ""
    """Of the run: a resumption link is made only from a mark that was made with it."""
    sensitive: tuple[Pointer, ...] = ()
    """Places in the output that are sealed before it is told."""
    seals: bool = False
    """Whether some step of the run seals a part of its output: then the configuration may hold such a part."""
    depth: Count = 0
    """Of a run that this attempt brings about by our own addresses."""
    chain: Annotated[tuple[Id, ...], Meta(max_length=CAUSES_DEEP)] = ()
    """The workflows before such a run, the attempt's own the last."""


class CancelAttempts(Struct, frozen=True, kw_only=True):
    """Let go of these attempts of a run; sent to every executor, stored nowhere."""

    org: OrgId
    run: Id
    attempts: tuple[tuple[StepPath, AttemptNumber], ...]


class EffectClaim(Struct, frozen=True, kw_only=True):
    """An executor begins the call now. The first claim wins; a second one finds the effect in doubt."""

    org: OrgId
    run: Id
    step: StepPath
    attempt: AttemptNumber
    executor: Actor
    at: float


class CompileRequest(Struct, frozen=True, kw_only=True):
    """Ask the orchestrator whether it could run this workflow; it stores the plan when it could."""

    org: OrgId
    workflow: Id
    version: Count
    definition: Raw
    keep: bool = False
    """Store the plan under its hash."""
    imports: ApiImports = ()
    """The org's own node types that the workflow names."""
    trial: Trial | None = None
    """Only so much of it, to be tried out."""
    workers: Annotated[tuple[Blob, ...], Meta(max_length=WORKER_POOLS)] = ()
    """Those of its workers: a `WorkerTypes` of each pool that the workflow names a type of."""


class CompileAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    plan: Sha256 | None = None
    faults: tuple[Any, ...] = ()
    """`contracts.workflows.Fault`s, all of them at once."""
    outline: Outline | None = None
    """Of a workflow that is tried out."""
    error: Failure | None = None


class InspectRequest(Struct, frozen=True, kw_only=True):
    """Ask what the state of a run was after event `at` (counted from 1; None: now), or whether it replays."""

    org: OrgId
    run: Id
    at: Count | None = None
    replay: bool = False
