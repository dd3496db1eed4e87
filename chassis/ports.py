"""The ports of every service: log, inbox, tasks, blobs, signals. Real ones stand on JetStream, fakes in the simulator.

Three things can come of an operation: it happened, it did not (`Away`, `Refusal`), or nobody knows (`Ambiguous`).
Whoever gets `Ambiguous` must look before it acts again; the fakes make sure that it does.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from contracts.messages import Timed
from contracts.payloads import Blob
from contracts.streams import Consumer


class Away(Exception):
    """The other side is not there; nothing was stored. Trying again helps."""


class Ambiguous(Away):
    """No answer came: it may or may not have happened. Look before acting again."""


class Full(Away):
    """The log's disk quota is used up; nothing was stored."""


class NobodyThere(Away):
    """No process answers on that subject."""


class Stored(Struct, frozen=True):
    """A message of a stream, where it lies and when it came to lie there."""

    subject: str
    sequence: int
    body: bytes
    headers: Mapping[str, str] = {}
    time: float = 0.0
    """Unix seconds, by the server's clock."""


class Proposal(Struct, frozen=True):
    """A message to append, on condition that the subject's last message is still the expected one (0: none)."""

    subject: str
    body: bytes
    expected: int
    headers: Mapping[str, str] = {}


class Log(Protocol):
    """One stream of histories with optimistic concurrency per subject."""

    @property
    def epoch(self) -> int:
        """Grows by one when the log was restored: sequences of different epochs are not comparable."""
        ...

    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        """Store each proposal whose expectation holds: its sequence, or None where another was first.

        A proposal that is already stored (an exact repeat) gives its sequence. Raises `Ambiguous` when nobody knows,
        `Full` or `Away` when nothing was stored. Several proposals cost one sync; no subject may stand twice.
        """
        ...

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        """Every message of a subject beyond sequence `after`, oldest first, read from the leader."""
        ...

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        """The newest message of each subject that has one."""
        ...


class Reader(Protocol):
    """Reads a stream in order, whole or by one filter, and goes on for ever."""

    def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        """Batches of consecutive messages beyond sequence `after`. Survives reconnects; never skips.

        An empty batch says that the reader has caught up with what was there when it looked.
        """
        ...

    async def end(self) -> int:
        """The stream's last sequence now."""
        ...


class Signals(Protocol):
    """Core NATS: at most once, stored nowhere."""

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send and forget. Loses the message when the connection is down."""
        ...

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        """Ask one responder. Raises `NobodyThere`, or `Ambiguous` when no answer came in time."""
        ...

    def listen(
        self, subject: str, heard: Callable[[str, bytes, Callable[[bytes], None]], None], group: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Call `heard(subject, body, answer)` for every message while the context is open. `heard` must not raise."""
        ...


class Inbox(Protocol):
    """The sending side of INBOX: what could not be said directly, and what shall be said later."""

    async def put(self, partition: int, bundle: bytes) -> None:
        """Store a bundle for the partition's owner. Returning means that it is on disk."""
        ...

    async def look(self, partition: int, org: str, run: str, message: bytes) -> None:
        """Store one message for one run."""
        ...

    async def wake_at(self, wakes: Sequence[tuple[Timed, datetime]]) -> None:
        """Have each wake-up delivered to its run's owner at its time; at once when the time is past.

        One wake-up per wait: arming the same wait again replaces it. Never cancelled; a late one finds nothing to do.
        """
        ...


class Arrival(Protocol):
    """Messages for one partition that this process owns: from a direct call or from INBOX."""

    @property
    def partition(self) -> int: ...

    @property
    def body(self) -> bytes: ...

    @property
    def direct(self) -> bool:
        """From a call: somebody awaits `answer`. Otherwise it is INBOX's, and stays ours until `answer`."""
        ...

    @property
    def deliveries(self) -> int:
        """How often INBOX has delivered it, this time included, as far as the server remembers. 1 for a call."""
        ...

    def answer(self, body: bytes) -> None:
        """Answer the call, or acknowledge the message. Nothing after `answer` may fail."""
        ...


class Ownership(Protocol):
    """Which partitions this process owns, and what arrives for them."""

    @property
    def owned(self) -> Collection[int]:
        """The partitions that are ours, as far as we know."""
        ...

    def arrivals(self) -> AsyncIterator[Sequence[Arrival] | int]:
        """Arrivals in bunches, as many as there are. Ends after `release`.

        A bare number says: this partition is ours anew from here on; forget what you remember of its runs.
        """
        ...

    async def forget(self) -> None:
        """After an `Ambiguous` append: give everything up and take it over anew, as a new owner would."""
        ...

    async def caught_up(self, partition: int) -> None:
        """Return when everything that lay in the partition of INBOX at the call was delivered to us."""
        ...

    async def release(self) -> None:
        """Hand every partition to whoever waits, at once."""
        ...


class Lying(Struct, frozen=True):
    """How many tasks of a pool lie in TASKS."""

    unread: int
    """No executor has had room for them yet."""
    leased: int


class Tasks(Protocol):
    """The orchestrator's side of TASKS."""

    def emit(self, pool: str, subject: str, body: bytes) -> None:
        """Ask for an attempt, without waiting. A task that is already there is not doubled."""
        ...

    async def waiting(self, subjects: Sequence[str]) -> set[str]:
        """Which of these tasks still lie in TASKS: unread, or leased to an executor."""
        ...

    async def forget(self, subjects: Sequence[str]) -> None:
        """Take these tasks out: nobody waits for their attempts. Raises `Away`; safe to repeat."""
        ...

    async def lying(self, pool: str, org: str = "") -> Lying:
        """How many tasks of a pool lie in TASKS, whoever asked for them. `org`: whose workers outside the pool is."""
        ...


class TaskDelivery(Protocol):
    """One task, leased to this executor until it is acknowledged or the lease runs out."""

    @property
    def body(self) -> bytes: ...

    def working(self) -> None:
        """Extend the lease."""
        ...

    def done(self) -> None:
        """Acknowledge: the outcome is stored."""
        ...

    def give_back(self, delay: float = 0.0) -> None:
        """Let another executor have it, after a pause in seconds."""
        ...


class TaskSource(Protocol):
    """The executor's side of TASKS."""

    def take(self, room: Callable[[], int]) -> AsyncIterator[Sequence[TaskDelivery]]:
        """Tasks of the pools, never more at once than `room()` says there is place for."""
        ...

    @property
    def connected_since(self) -> float:
        """Unix seconds of the last (re)connect: what was scheduled before may have been done meanwhile."""
        ...


class Given(Struct, frozen=True, kw_only=True):
    """A task that was given to somebody, until it is acknowledged or the lease runs out."""

    body: bytes
    name: str
    """Names this very delivery, to any process."""
    times: int
    """How often the task was given, this time included, as far as the server remembers."""


class Handing(Protocol):
    """The side of TASKS from which workers outside are given theirs."""

    async def fetch(self, consumer: Consumer, most: int, seconds: float) -> list[Given]:
        """So many tasks at most; waits so long for the first one. Who is cancelled has taken nothing. Raises `Away`."""
        ...

    @property
    def connected_since(self) -> float:
        """Unix seconds of the last (re)connect: what was scheduled before may have been done meanwhile."""
        ...

    def keep(self, name: str) -> None:
        """Extend the lease. What is said while the connection is down is lost: the task comes again."""
        ...

    def done(self, name: str) -> None:
        """Acknowledge: the outcome is stored."""
        ...

    def give_back(self, name: str, delay: float = 0.0) -> None:
        """Let another have it, after a pause in seconds."""
        ...


class Blobs(Protocol):
    """Bytes named by their SHA-256."""

    async def put(self, data: bytes, content_type: str = "application/json") -> Blob:
        """Store; returning means that the bytes are on disk. Storing the same twice keeps one."""
        ...

    async def get(self, blob: Blob) -> bytes:
        """The bytes, verified against their hash. Raises `KeyError` when they are gone."""
        ...


class Letters(Protocol):
    """Plain stores without an expectation: dead letters, hooks, log lines."""

    async def store(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Append; returning the sequence means that JetStream has it."""
        ...
