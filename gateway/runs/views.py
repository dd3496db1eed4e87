"""What the API says about runs."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from contracts.limits import BUNDLE_MESSAGES, Id, Positive, SignalName, StepPath, Text
from contracts.runs import Mode, RunStatus, StepStatus
from gateway.runs.histories import Told


def _null() -> Raw:
    return Raw(b"null")


class StartRun(Struct, frozen=True, kw_only=True):
    """Start the published version of a workflow. `input` is what its expressions see as `trigger.body`."""

    workflow: Id
    input: Raw = field(default_factory=_null)


class StartedRun(Struct, frozen=True, kw_only=True):
    run: str
    receipt: str
    status: Literal["accepted", "queued", "duplicate"]
    """`queued`: it is on disk and will start; no owner has taken it up yet. `duplicate`: the key's first call started it."""


class CancelRun(Struct, frozen=True, kw_only=True):
    """`opening`: which one is meant, counted from 1; without it the one that is open now."""

    reason: Text = ""
    opening: Positive | None = None


class RetryRun(Struct, frozen=True, kw_only=True):
    """Try an ended run again from its failed and cancelled steps. Naming steps makes sure that they are among them.

    `opening`: which end is meant, so that a call that is repeated cannot mean the next one; without it the last.
    """

    opening: Positive | None = None
    steps: Annotated[tuple[StepPath, ...], Meta(max_length=BUNDLE_MESSAGES)] = ()


class SendSignal(Struct, frozen=True, kw_only=True):
    """Something that the run waits for, or will wait for: the first wait that listens to the name takes it."""

    signal: SignalName
    body: Raw = field(default_factory=_null)


class ResolveDoubt(Struct, frozen=True, kw_only=True):
    """Say what is so: do it again, it is done (with this output), or it failed. `attempt`: the one in doubt, if named."""

    step: StepPath
    attempt: Positive | None = None
    resolution: Literal["retry", "done", "failed"]
    output: Raw = field(default_factory=_null)


class Wished(Struct, frozen=True, kw_only=True):
    run: str
    status: Literal["accepted", "unchanged", "queued"]
    """`unchanged`: it already is what was asked for, or knows what was said. `queued`: its owner will see the wish."""


class RunError(Struct, frozen=True, kw_only=True):
    code: str
    message: str
    step: str | None = None


class Value(Struct, frozen=True, kw_only=True):
    """A glance at a value; the whole of it stands in the events."""

    preview: str
    size: int
    blob: str | None = None
    """SHA-256, when the value lies in the object store."""


class ParentRun(Struct, frozen=True, kw_only=True):
    """The step that started a run."""

    run: str
    step: str
    waits: bool
    """Whether the step waits for its end."""


class UndoneView(Struct, frozen=True, kw_only=True):
    """Of a run that failed or was cancelled and had done what can be undone."""

    steps: int = 0
    """So many steps were undone."""
    left: tuple[str, ...] = ()
    """Steps that were not: their undo failed, or could not begin. The first hundred."""
    left_in_all: int = 0


class RunView(Struct, frozen=True, kw_only=True):
    id: str
    status: RunStatus
    workflow: str
    version: int
    trigger: str | None
    mode: Mode
    """`test`: it tried the workflow out."""
    cause: str
    cause_id: str
    receipt: str
    actor: str
    started: datetime
    ended: datetime | None
    deadline: datetime | None
    opening: int
    events: int
    steps_total: int
    steps_done: int
    steps_running: int
    steps_in_doubt: int
    error: RunError | None
    unfinished: Raw | None
    """What was under way when the run stopped, and what is known of its effect."""
    waiting_since: datetime | None
    next_due: datetime | None
    parked_reason: str | None
    needs_release: str | None
    input: Value
    output: Value | None
    parent: ParentRun | None = None
    """Null for a run that no other run started."""
    handler: str | None = None
    """The run of its error workflow, which was told that this one failed last."""
    handler_error: str | None = None
    """Why there is none."""
    undone: UndoneView | None = None
    """What came of undoing what the run had done, told at its end; nothing yet while it does. Null where there was nothing."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a map or a loop is."""

    total: int | None
    """Null for a loop, which does not know."""
    done: int
    """Items that are over, failed ones too."""
    failed: int


class StepView(Struct, frozen=True, kw_only=True):
    path: str
    node: str
    node_type: str | None
    status: StepStatus
    attempt: int
    pool: str | None
    scheduled: datetime | None
    ended: datetime | None
    took_ms: int | None
    ports: tuple[str, ...] | None
    error: Raw | None
    output: Value | None
    items: Progress | None = None
    """Null for a step that is neither a map nor a loop."""
    child: str | None = None
    """The run that the step started last."""


class Events(Struct, frozen=True, kw_only=True):
    """A part of a history."""

    run: str
    items: list[Told]
    next: int | None = None
    """Ask again with `after` set to this; null at the end of what is there."""


class StateView(Struct, frozen=True, kw_only=True):
    """The run as the engine folds it."""

    run: str
    at: int | None
    state: Raw


class WaitingFor(Struct, frozen=True, kw_only=True):
    """What must come before the run goes on, by name: attempts, delays, decisions of people."""

    run: str
    waiting_for: Raw
