"""A small history with one owner, as its newest commit tells it; and one commit more. What many ask at once is asked together.

Rules that hold here:
  * the newest commit has the state whole: whoever owns the history reads nothing else, and old commits may go;
  * the expected sequence is the fence between two owners, and each commit names the one before it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ids import commit_id, digest
from chassis.ports import Log, Proposal, Stored
from chassis.together import Together
from contracts.cloudevents import headers_of
from contracts.codec import encode
from contracts.commits import FIRST_HASH
from contracts.gates import GateCommit
from contracts.limits import BATCH_COMMITS
from contracts.schedules import ScheduleCommit
from orchestrator.commits import ENGINE_VERSION

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
E = TypeVar("E")

READ_AT_ONCE: Final = 256


class Newest(Protocol[S_co]):
    """What of a history's newest commit its owner needs."""

    @property
    def state(self) -> S_co: ...

    @property
    def version(self) -> int: ...


class Frame(Struct, frozen=True, kw_only=True):
    """What a commit says about itself besides its events and the state after them."""

    id: str
    org: str
    version: int
    prev_hash: str
    time: datetime
    engine_version: str = ENGINE_VERSION


class Kind(Struct, Generic[S, E], frozen=True, kw_only=True):
    """Whose histories they are: how their commits are read, and how one is made."""

    subject: Callable[[str, str], str]
    new: S
    decode: Callable[[bytes], Newest[S]]
    evolve: Callable[[S, E, datetime], S]
    commit: Callable[[Frame, str, Sequence[E], S], ScheduleCommit | GateCommit]
    """Told whose history it is, the events, and the state after them."""
    crash_before: str
    crash_after: str
    """Where a test has the owner die: around the append."""


class Known(Struct, Generic[S], frozen=True, kw_only=True):
    """The history of one of them, as its newest commit tells it."""

    state: S
    sequence: int = 0
    version: int = 0
    hash: str = FIRST_HASH


class Book(Generic[S, E]):
    """The histories of one kind, in their log."""

    def __init__(self, kind: Kind[S, E], log: Log, clock: Clock) -> None:
        self._kind, self._log, self._clock = kind, log, clock
        self._append_together = Together(log.append, BATCH_COMMITS)
        self._last_together = Together(self._last, READ_AT_ONCE)

    async def load(self, org: str, of: str) -> Known[S]:
        """Raises `Away`, or `Unknown` when a newer release has decided."""
        stored = await self._last_together.ask(self._kind.subject(org, of))
        if stored is None:
            return Known(state=self._kind.new)
        commit = self._kind.decode(stored.body)
        return Known(
            state=commit.state, sequence=stored.sequence, version=commit.version, hash=digest(stored.body)
        )

    async def is_newest(self, org: str, of: str, known: Known[S]) -> bool:
        """Whether nobody has decided since. Raises `Away`."""
        stored = await self._last_together.ask(self._kind.subject(org, of))
        return (stored.sequence if stored is not None else 0) == known.sequence

    async def append(self, org: str, of: str, known: Known[S], events: Sequence[E]) -> Known[S] | None:
        """What is known then; None when another owner was there first. Raises `Away` when nobody knows."""
        kind, subject, version = self._kind, self._kind.subject(org, of), known.version + 1
        state, now = known.state, self._clock.now()
        for event in events:
            state = kind.evolve(state, event, now)
        id_ = commit_id(subject, version, known.hash, encode(events))
        frame = Frame(id=id_, org=org, version=version, prev_hash=known.hash, time=now)
        commit = kind.commit(frame, of, events, state)
        body = encode(commit)
        crash(kind.crash_before)
        proposal = Proposal(subject, body, known.sequence, headers_of(commit))
        sequence = await self._append_together.ask(proposal)
        crash(kind.crash_after)
        if sequence is None:
            return None
        return Known(state=state, sequence=sequence, version=version, hash=digest(body))

    async def _last(self, subjects: Sequence[str]) -> list[Stored | None]:
        found = await self._log.last(subjects)
        return [found.get(subject) for subject in subjects]
