"""What workers outside and the worker API say to each other: one contract for HTTPS and for gRPC.

A worker holds a task by its lease: a sealed text that says all there is to know, so that any gateway understands it, and
none needs to remember whom it gave what. Every step may be repeated.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Raw, Struct

from contracts.limits import (
    WORKER_LEASE_CHARS,
    WORKER_LEASES,
    WORKER_MOST,
    WORKER_TYPES,
    WORKER_WAIT_SECONDS,
    AttemptNumber,
    Id,
    Name,
    NodeId,
    NodeType,
    PoolName,
    PortName,
    SchemaVersion,
    Seconds,
    Sha256,
    StepPath,
)
from contracts.nodes import NodeSpec, Repeat
from contracts.payloads import Blob

PREFIX: Final = "work"
"""The first word of every node type of a worker outside: `work.resize_image`."""

Lease: TypeAlias = Annotated[str, Meta(min_length=1, max_length=WORKER_LEASE_CHARS)]
Words: TypeAlias = Annotated[str, Meta(max_length=2_000)]


class WorkerTypes(Struct, frozen=True, kw_only=True):
    """The node types that a pool's workers make attempts of."""

    specs: Annotated[tuple[NodeSpec, ...], Meta(max_length=WORKER_TYPES)]


class OrgWorkersAnnounced(Struct, frozen=True, kw_only=True, tag_field="type", tag="org.workers-announced"):
    """A pool's workers make attempts of these node types from now on. What was published keeps what it has."""

    schema_version: SchemaVersion = 1
    pool: PoolName
    kinds: Annotated[tuple[NodeType, ...], Meta(max_length=WORKER_TYPES)]
    types: Blob
    """`WorkerTypes` as JSON. Never inline: the org's history is read whole, and often."""


# --- What a worker says, and what it is told ------------------------------------------------------


class AnnounceTypes(Struct, frozen=True, kw_only=True):
    """All node types of the pool; those that are not named are offered no more."""

    specs: Annotated[tuple[NodeSpec, ...], Meta(max_length=WORKER_TYPES)]


class AnnouncedTypes(Struct, frozen=True, kw_only=True):
    pool: PoolName
    types: tuple[NodeType, ...]


class PollTasks(Struct, frozen=True, kw_only=True):
    """Ask for work; answered when there is some, or when the wait is over."""

    most: Annotated[int, Meta(ge=1, le=WORKER_MOST)] = 1
    wait_s: Annotated[float, Meta(ge=0, le=WORKER_WAIT_SECONDS)] = WORKER_WAIT_SECONDS
    begins: bool = False
    """The worker says `begin` before it acts. Else an attempt that must not be repeated counts as begun when it is given."""


class WorkerTask(Struct, frozen=True, kw_only=True):
    """One attempt to make."""

    lease: Lease
    """Names the task in everything that is said about it."""
    lease_s: float
    """So long it is this worker's; `keep` prolongs it."""
    run: Id
    step: StepPath
    node: NodeId
    type: NodeType
    attempt: AttemptNumber
    key: str
    """The idempotency key: the same for every attempt at this step."""
    repeat: Repeat
    timeout_s: Seconds
    config: Raw
    """The configuration, every expression evaluated. What the run sealed stays sealed."""


class WorkerTasks(Struct, frozen=True, kw_only=True):
    tasks: tuple[WorkerTask, ...]


class KeepLeases(Struct, frozen=True, kw_only=True):
    leases: Annotated[tuple[Lease, ...], Meta(min_length=1, max_length=WORKER_LEASES)]


class GoneLease(Struct, frozen=True, kw_only=True):
    lease: Lease
    why: Literal["cancelled", "late", "ended"]
    """`cancelled`: nobody wants the attempt any more; stop, and report `let_go`. `late`: its time is over, that was told for
    you. `ended`: another has told its outcome, or its run is over."""


class KeptLeases(Struct, frozen=True, kw_only=True):
    """Those that are not named here are kept."""

    gone: tuple[GoneLease, ...]
    lease_s: float


class BeginTask(Struct, frozen=True, kw_only=True):
    """I act now. Say it before the first byte of a call that must not be repeated."""

    lease: Lease


class BegunTask(Struct, frozen=True, kw_only=True):
    begun: bool
    """False: somebody else has begun it. Do not act; report nothing."""


class FetchBlob(Struct, frozen=True, kw_only=True):
    """The bytes behind a `{"blob": {"sha256": …}}` of the task's configuration."""

    lease: Lease
    sha256: Sha256


class FetchedBlob(Struct, frozen=True, kw_only=True):
    content_type: Annotated[str, Meta(max_length=200)]
    data: bytes


class Succeeded(Struct, frozen=True, kw_only=True, tag_field="kind", tag="succeeded"):
    output: Raw
    ports: Annotated[tuple[PortName, ...], Meta(max_length=64)] = ("main",)


class Failed(Struct, frozen=True, kw_only=True, tag_field="kind", tag="failed"):
    """The attempt failed, and what it may have done outside is known: nothing, or what the message says."""

    message: Words
    retryable: bool = False
    retry_after_s: Seconds | None = None
    touched: bool = False
    """It had begun and nobody knows how far it came: where repeating is not safe, the step is in doubt."""


class InDoubt(Struct, frozen=True, kw_only=True, tag_field="kind", tag="in_doubt"):
    """Nobody knows whether the call took effect."""

    message: Words


class LetGo(Struct, frozen=True, kw_only=True, tag_field="kind", tag="let_go"):
    """The attempt was stopped because it was cancelled."""

    effect: Literal["none", "possible", "done"] = "possible"
    message: Words = ""


class GaveBack(Struct, frozen=True, kw_only=True, tag_field="kind", tag="gave_back"):
    """The worker ends, say: others shall have it. Only for what was not begun."""


Report: TypeAlias = Succeeded | Failed | InDoubt | LetGo | GaveBack


class ReportTask(Struct, frozen=True, kw_only=True):
    lease: Lease
    report: Report


class ReportedTask(Struct, frozen=True, kw_only=True):
    """`accepted`: it is in the history. `lost`: the attempt had ended already, by this report said before or by another's."""

    result: Literal["accepted", "lost"]


class IssueToken(Struct, frozen=True, kw_only=True):
    """A token opens the worker API of one pool, and nothing else."""

    name: Name
    expires: Annotated[datetime, Meta(tz=True)] | None = None
