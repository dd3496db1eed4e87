"""What is remembered of one run, and which status follows from which event.

The two tables are the transitions of a run and of a step as data; docs/ draws its pages from them.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from contracts.errors import Failure
from contracts.gates import OrgLimit, SlotWanted
from contracts.limits import PortName, Sha256, SignalKey, StepPath
from contracts.nodes import Repeat
from contracts.payloads import NULL, Blob, Inline, Payload
from contracts.runs import (
    Actor,
    ApprovalDecided,
    AttemptCancelled,
    AttemptDoubted,
    AttemptFailed,
    AttemptScheduled,
    CallReceived,
    CancelRequested,
    Cause,
    ChildAsked,
    ChildBegan,
    ChildEnded,
    DoubtResolved,
    HandlerAsked,
    HandlerRefused,
    ItemsOpened,
    Mode,
    Parent,
    RunCancelled,
    RunCompensating,
    RunCompleted,
    RunFailed,
    RunParked,
    RunReopened,
    RunResponded,
    RunStarted,
    RunStatus,
    RunStopping,
    SignalReceived,
    SlotRefused,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSkipped,
    StepStatus,
    StepSucceeded,
    UndoKept,
    Undone,
    Unfinished,
    WaitOpened,
)

Phase: TypeAlias = Literal[
    "queued", "running", "stopping", "compensating", "completed", "failed", "cancelled"
]
"""A run's status without `waiting` (running, with nothing under way) and `parked` (any phase, held)."""

ERROR_PORT: Final = "error"
DONE: Final[frozenset[StepStatus]] = frozenset({"succeeded", "failed", "skipped"})
"""A step that will not change any more in this opening: its edges are taken or dead."""

RUN_STATUSES: Final[Mapping[type, Mapping[Phase, Phase]]] = {
    RunStarted: {"queued": "running"},
    RunStopping: {"running": "stopping"},
    RunCompensating: {"running": "compensating", "stopping": "compensating"},
    # From `queued` when only the tombstone of an archived history is left to fold.
    RunCompleted: {"running": "completed", "queued": "completed"},
    RunFailed: {"running": "failed", "stopping": "failed", "compensating": "failed", "queued": "failed"},
    RunCancelled: {
        "running": "cancelled",
        "stopping": "cancelled",
        "compensating": "cancelled",
        "queued": "cancelled",
    },
    RunReopened: {"failed": "running", "cancelled": "running"},
}
"""event → {phase before: phase after}. Every event that is not here, or not from this phase, leaves the phase alone."""


def _from_every(after: StepStatus) -> Mapping[StepStatus, StepStatus]:
    return dict.fromkeys(("pending", "scheduled", "waiting", "running", "in_doubt"), after)


STEP_STATUSES: Final[Mapping[type, Mapping[StepStatus, StepStatus]]] = {
    AttemptScheduled: {
        "pending": "scheduled",
        "scheduled": "scheduled",
        "waiting": "scheduled",
        "in_doubt": "scheduled",
    },
    AttemptDoubted: {"scheduled": "in_doubt"},
    # From `in_doubt` when the doubtful attempt turns out to have failed and is made again after a pause.
    # From `waiting` when the run that the step waited for failed and another one begins after a pause.
    WaitOpened: {"pending": "waiting", "scheduled": "waiting", "waiting": "waiting", "in_doubt": "waiting"},
    ItemsOpened: {"pending": "running"},
    ChildAsked: {"waiting": "waiting"},
    StepSucceeded: _from_every("succeeded"),
    StepFailed: _from_every("failed"),
    StepSkipped: {"pending": "skipped"},
    StepCancelled: _from_every("cancelled"),
    # `in_doubt` again when the last attempt may have touched the world and must not be repeated blindly; `running`
    # when it is a container whose items go on.
    RunReopened: {"failed": "pending", "cancelled": "pending"},
}
"""event → {status before: status after}, for the step that the event names."""

News: TypeAlias = (
    StepReported
    | AttemptFailed
    | AttemptCancelled
    | DoubtResolved
    | WaitOpened
    | SignalReceived
    | CallReceived
    | ApprovalDecided
    | ChildBegan
    | ChildEnded
)
"""What a step learnt and nobody has decided on yet: how its attempt ended, which wait of it is over, what it was told."""


class Heard(Struct, frozen=True, kw_only=True):
    """What ended a step's wait, so that the same is nothing new when it is said again."""

    by: Actor
    request: Sha256


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node in this run, or in one item of a container: the path tells."""

    status: StepStatus = "pending"
    attempt: int = 0
    """The newest attempt; numbers grow through every opening, so that no two attempts share one."""
    first: int = 1
    """The first attempt of this opening: the retry policy counts from it."""
    repeat: Repeat = "no"
    ports: tuple[PortName, ...] = ()
    """The ports that were taken."""
    output: Payload | None = None
    error: Failure | None = None
    effect: Literal["none", "possible", "done"] | None = None
    """What an attempt that was under way when the run stopped did to the world."""
    detail: str = ""
    heard: Heard | None = None


class Lost(Struct, frozen=True, kw_only=True, tag_field="in", tag="failed"):
    """Nothing came of an item, and why."""

    error: Failure


Result: TypeAlias = Inline | Blob | Lost
"""What came of an item."""


class Items(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A container under way: which of its items have begun, and what came of those that are over."""

    count: int | None = None
    """None: a loop, which goes on until its condition holds."""
    pages: tuple[Payload, ...] = ()
    """A map's items, `ITEMS_PER_PAGE` in each page but the last."""
    begun: int = 0
    """So many have begun, in their order."""
    open: dict[int, Failure | None] = {}
    """Those that are not over. With a failure, nothing begins in it any more."""
    last: Payload = NULL
    """What a loop's next round is given: what came of the one before."""
    results: dict[int, dict[int, Result]] = {}
    """By page: what came of its items, until the page is kept."""
    kept: dict[int, Payload] = {}
    """Pages of which every item is over."""

    @property
    def fails(self) -> bool:
        """Whether some item that is not over fails."""
        return any(error is not None for error in self.open.values())

    @property
    def failure(self) -> Failure | None:
        """Why the first of the items that are not over fails."""
        return next((self.open[item] for item in sorted(self.open) if self.open[item] is not None), None)


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything we remember about one run."""

    org: str
    id: str
    status: RunStatus = "queued"
    phase: Phase = "queued"
    opening: int = 0
    """How often the run was opened: 1 by its start, one more by each retry. 0: it has not started."""
    rules: int = 1
    plan: str = ""
    workflow: str = ""
    version: int = 0
    trigger: str | None = None
    cause: Cause | None = None
    parent: Parent | None = None
    mode: Mode = "live"
    receipt: str = ""
    request: str | None = None
    input: Payload = NULL
    org_vars: dict[str, Any] = {}
    priority: int | None = None
    """What the expression of its workflow gave."""
    org_limit: OrgLimit | None = None
    """What the org said of all its runs when this one was asked for."""
    started_at: datetime | None = None
    opened_at: datetime | None = None
    deadline: datetime | None = None
    steps: dict[StepPath, Step] = {}
    """Steps that something happened to; every other one is pending."""
    items: dict[StepPath, Items] = {}
    """Of the containers that are not done."""
    attempts: dict[StepPath, AttemptScheduled] = {}
    """Attempts under way: scheduled, and no outcome is known."""
    doubts: dict[StepPath, int] = {}
    """Steps in doubt, and which attempt of theirs is."""
    children: dict[StepPath, ChildAsked] = {}
    """Runs that steps have asked for: of those that are waited for no end is known, of the others no beginning."""
    waits: dict[str, WaitOpened] = {}
    signals: tuple[SignalReceived, ...] = ()
    """Said, and nothing has waited for them yet; the oldest first."""
    heard: dict[SignalKey, Sha256 | None] = {}
    """Keys of the signals that were said last, and the hash of what each said, so that each counts once."""
    news: dict[StepPath, News] = {}
    """Recorded and not yet decided on; empty after every commit of a run that is not parked."""
    responded: RunResponded | None = None
    cancel: CancelRequested | None = None
    overdue: bool = False
    slots: tuple[SlotWanted, ...] = ()
    """The gates that have let it in, since it was opened last."""
    batch: str = ""
    """The gate at which it was given what started its whole batch."""
    turned_away: SlotRefused | None = None
    """A gate had no room for it, not even to wait."""
    failed: StepPath | None = None
    """The step whose failure nothing handles."""
    stopping: RunStopping | None = None
    undos: dict[StepPath, UndoKept] = {}
    """What undoes the steps that have succeeded, by the step that would do it: the oldest success first."""
    compensating: RunCompensating | None = None
    """How the run ends once what it had done is undone. It is never opened again after that."""
    undone: Undone = Undone()
    """What came of undoing so far."""
    parked: RunParked | None = None
    output: Payload = NULL
    error: Failure | None = None
    unfinished: tuple[Unfinished, ...] = ()
    handler: HandlerAsked | HandlerRefused | None = None
    """What became of its error workflow, when the run failed."""
    handlers: tuple[HandlerAsked, ...] = ()
    """Of the openings that failed last, this one included."""

    @staticmethod
    def new(org: str, run_id: str) -> "Run":
        """A run with no history."""
        return Run(org=org, id=run_id)

    @property
    def needs_release(self) -> str | None:
        """The release that a parked run waits for."""
        return self.parked.needs_release if self.parked else None

    @property
    def active(self) -> bool:
        """It has begun and has not ended."""
        return self.phase in ("running", "stopping", "compensating")

    @property
    def acts(self) -> bool:
        """Something may begin in it: a step, or an undo."""
        return self.phase in ("running", "compensating")

    def step(self, path: StepPath) -> Step:
        return self.steps.get(path, PENDING)


PENDING: Final = Step()
