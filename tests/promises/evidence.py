"""What is left after a schedule, for the promises to be judged by. Nothing here knows of the simulator."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

from chassis.ports import Stored
from contracts.codec import decode_commit
from contracts.commits import Commit
from contracts.limits import SEGMENT_EVENTS
from contracts.nodes import Repeat
from contracts.plans import Plan
from contracts.runs import RunEvent, RunStarted
from contracts.triggers import Hook
from orchestrator.history import state_at
from orchestrator.run import Run
from tests.promises.tables import Tables

Kind: TypeAlias = Literal["cancel", "retry", "resolve", "unpark"]


class Entry(Struct, frozen=True, kw_only=True):
    """One line of the ledger: a delivery was sent, and this came of it."""

    at: float
    trigger: str
    key: str
    result: Literal["accepted", "duplicate", "refused", "unknown"]
    """`unknown`: no answer came; the run may be there or not."""
    status: int = 0
    run: str = ""
    receipt: str = ""
    answer: bytes | None = None
    """What the run answered, in respond mode."""
    forged: bool = False
    """Sent by somebody who does not have the secret."""
    org: str = ""
    """Whose trigger it is; empty: nobody looked."""
    sent: float | None = None
    """Unix seconds, by the log's clock; None: nobody looked."""
    says_when: bool | None = None
    """Whether a refusal says when to come again; None: nobody looked."""


class Effect(Struct, frozen=True, kw_only=True):
    """Something that happened in the world."""

    at: float
    run: str
    step: str
    attempt: int
    key: str
    repeat: Repeat
    process: str
    result: Any
    org: str = ""
    """For whom it was asked for; empty: nobody looked."""


class Wish(Struct, frozen=True, kw_only=True):
    """Something that a person asked for, once."""

    at: float
    run: str
    kind: Kind
    step: str = ""
    resolution: str = ""


class Said(Struct, frozen=True, kw_only=True):
    """A signal to which a run's owner gave an answer."""

    run: str
    key: str
    result: str
    """`accepted`, or `nothing`: it was known already."""


class Meant(Struct, frozen=True, kw_only=True):
    """A decision or a call that somebody made, whatever became of it."""

    run: str
    step: str
    by: str
    request: str


class Answered(Meant, frozen=True, kw_only=True):
    """One to which the run's owner gave an answer."""

    result: str
    """`accepted`, or `nothing`: it was known already."""


class Again(Struct, frozen=True, kw_only=True):
    """A past delivery that somebody wanted to run again, and what he was told."""

    org: str
    run: str
    receipt: str
    """Of the delivery."""
    undertaking: str
    taken: bool = True
    """He was told that it runs; else that it cannot go on, and whether it is there nobody said."""


class Outage(Struct, frozen=True, kw_only=True):
    """A process died, by whatever hand."""

    process: str
    at: float
    back: float | None = None
    """When it was at work again; None: it never was."""


class Violation(Struct, frozen=True):
    """A promise that was not kept."""

    promise: str
    what: str
    run: str = ""

    def __str__(self) -> str:
        return f"{self.promise} {self.run}: {self.what}"


class Decoded(dict[bytes, Commit[RunEvent]]):
    """Commits by their stored bytes: each is decoded once, however many promises look at it."""

    def __missing__(self, body: bytes) -> Commit[RunEvent]:
        commit = self[body] = decode_commit(body)
        return commit


class History:
    """One run as the log tells it."""

    def __init__(self, org: str, run: str, stored: Sequence[Stored], decoded: Decoded | None = None) -> None:
        self.org = org
        self.run = run
        self.stored = stored
        self._decoded = Decoded() if decoded is None else decoded

    @cached_property
    def commits(self) -> list[Commit[RunEvent]]:
        return [self._decoded[message.body] for message in self.stored]

    @cached_property
    def events(self) -> list[RunEvent]:
        return [event for commit in self.commits for event in commit.events]

    @cached_property
    def state(self) -> Run:
        return state_at(self.org, self.run, self.commits)

    @property
    def start(self) -> RunStarted | None:
        return next((event for event in self.events if isinstance(event, RunStarted)), None)

    def of_step(self, step: str) -> list[RunEvent]:
        """What was said about a step, and what was said about the whole run."""
        return [event for event in self.events if getattr(event, "step", step) == step]


class Evidence(Struct, kw_only=True):
    """Everything that the promises are judged by."""

    messages: Sequence[Stored]
    """RUNS, in its order."""
    ledger: Sequence[Entry]
    effects: Sequence[Effect]
    claims: Mapping[str, int]
    """How many messages lie on each subject of EFFECTS."""
    wishes: Sequence[Wish]
    said: Sequence[Said] = ()
    answered: Sequence[Answered] = ()
    meant: Sequence[Meant] | None = None
    """Written down by whoever answers before anybody heard it; None: nobody has."""
    plans: Mapping[str, Plan]
    values: Mapping[str, bytes] = {}
    """Stored values by hash, as far as anybody has looked."""
    tables: Tables
    now: datetime
    everything_over: bool = True
    """Faults have stopped long ago and people have done what they were asked: nothing may be left."""
    left: Sequence[str] = ()
    """What still lies in INBOX and TASKS."""
    poison: int = 0
    dead_letters: Sequence[str] = ()
    outages: Sequence[Outage] = ()
    seed: int = 0
    triggers: Sequence[Stored] = ()
    """DOMAIN, in its order."""
    fires: Sequence[Stored] = ()
    """SCHEDULES, in its order."""
    again: Sequence[Again] = ()
    gates: Sequence[Stored] = ()
    """GATES, in its order."""
    hooks: Sequence[Hook] = ()
    """Deliveries that started no run, as far as anybody has looked."""
    segment: int = SEGMENT_EVENTS
    """How many events a segment of a history holds."""
    decoded: Decoded = field(default_factory=Decoded)

    def histories(self) -> list[History]:
        found: dict[str, list[Stored]] = defaultdict(list)
        for message in self.messages:
            found[message.subject].append(message)
        histories: list[History] = []
        for subject, stored in found.items():
            _, org, run = subject.split(".")
            histories.append(History(org, run, stored, self.decoded))
        return histories
