"""The ports of an executor, in memory, with the failures that real ones have."""

import asyncio
import contextlib
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from chassis.chains import Chains
from chassis.dispatch import Dispatch
from chassis.egress import AllowedTarget, Egress, parse_allowed
from chassis.egress.own import OwnAddresses
from chassis.ids import digest
from chassis.links import Links
from chassis.ports import Ambiguous, Away, NobodyThere, Proposal, Stored
from chassis.sealing import SALT_BYTES, DataKey, Opener, Place, Sealer, new_data_key
from chassis.secret import Secret, SecretValue
from chassis.telemetry import Tracer
from chassis.vault import NoSuchSecret, OpenedSecret, Shredded
from contracts.cloudevents import headers_of
from contracts.codec import decode_bundle, encode
from contracts.commits import Commit
from contracts.logs import LogRecord
from contracts.messages import Answer, CancelAttempts, Look, Outcome, StartRun, Task
from contracts.payloads import Blob, Inline, Payload
from contracts.runs import AttemptScheduled, RunEvent
from contracts.subjects import cancel, run
from executor.attempt import Means
from executor.effects import Effects
from executor.journal import Journal
from executor.opening import Opening
from executor.registry import Installed, Registry, installed, registry
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox
from executor.service import Executor

T = TypeVar("T")

LINKS = Links("https://hooks.example", Secret(b"k" * 32))
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ORG, RUN, STEP = "org_default", "run-1", "call"


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose sleeps take no time: when nothing is ready, its clock jumps to the next timer."""

    def __init__(self) -> None:
        self._ahead = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._ahead

    def jump(self, seconds: float) -> None:
        self._ahead += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("nothing will ever happen any more")
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready


def simulated(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class LoopClock:
    """The loop's own time, wall clock included."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds())

    def seconds(self) -> float:
        return asyncio.get_running_loop().time()


class MemoryLog:
    """A stream. `failing` are the exceptions of the next appends, each with whether it happened all the same."""

    epoch = 1

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self.failing: list[tuple[Exception, bool]] = []
        self.reads = 0

    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        await asyncio.sleep(0)
        failure, happens = self.failing.pop(0) if self.failing else (None, True)
        placed = [self._place(proposal) for proposal in proposals] if happens else []
        if failure is not None:
            raise failure
        return placed

    def _place(self, proposal: Proposal) -> int | None:
        last = [stored for stored in self.stored if stored.subject == proposal.subject]
        if any(stored.body == proposal.body for stored in last):
            return next(stored.sequence for stored in last if stored.body == proposal.body)
        if (last[-1].sequence if last else 0) != proposal.expected:
            return None
        self.stored.append(Stored(proposal.subject, len(self.stored) + 1, proposal.body, proposal.headers))
        return len(self.stored)

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        self.reads += 1
        await asyncio.sleep(0)
        return [stored for stored in self.stored if stored.subject == subject and stored.sequence > after]

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        self.reads += 1
        await asyncio.sleep(0)
        return {stored.subject: stored for stored in self.stored if stored.subject in subjects}

    def commit(self, *events: RunEvent, run_id: str = RUN) -> None:
        """Write history as the orchestrator would."""
        version = sum(stored.subject == run(ORG, run_id) for stored in self.stored) + 1
        commit = Commit[RunEvent](
            id=f"c{version}",
            org=ORG,
            run=run_id,
            version=version,
            events=events,
            time=START,
            actor="system",
            causation_id="",
            correlation_id="",
            engine_version="1",
            key_id="",
            prev_hash="",
        )
        self.stored.append(Stored(run(ORG, run_id), len(self.stored) + 1, encode(commit), headers_of(commit)))


class Delivery:
    """One delivery of a task, and what was said about it."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.beats: list[float] = []
        self.acknowledged = 0
        self.given_back: list[float] = []

    def working(self) -> None:
        self.beats.append(asyncio.get_running_loop().time())

    def done(self) -> None:
        self.acknowledged += 1

    def give_back(self, delay: float = 0.0) -> None:
        self.given_back.append(delay)


class Source:
    """Hands out what is put in, never more than there is room for."""

    def __init__(self, connected_since: float = 0.0) -> None:
        self.connected_since = connected_since
        self.waiting: list[Delivery] = []
        self.most = 0
        self._came = asyncio.Event()

    def put(self, *bodies: Task | bytes) -> list[Delivery]:
        deliveries = [Delivery(body if isinstance(body, bytes) else encode(body)) for body in bodies]
        self.waiting += deliveries
        self._came.set()
        return deliveries

    async def take(self, room: Callable[[], int]) -> AsyncIterator[Sequence[Delivery]]:
        while True:
            while not self.waiting:
                self._came.clear()
                await self._came.wait()
            free = room()
            assert free > 0
            taken, self.waiting = self.waiting[:free], self.waiting[free:]
            self.most = max(self.most, len(taken))
            yield taken


class Owner:
    """The other end of the wire: signals, the runs' owner that hears outcomes, and INBOX."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.looks: list[Look] = []
        self.inbox: list[bytes] = []
        self.deaf = False
        self.inbox_away = False
        self._ears: list[Callable[[str, bytes, Callable[[bytes], None]], None]] = []

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        for heard in self._ears:
            heard(subject, body, lambda _: None)

    def listen(
        self, subject: str, heard: Callable[[str, bytes, Callable[[bytes], None]], None], group: str = ""
    ) -> AbstractAsyncContextManager[None]:
        return self._listen(heard)

    @asynccontextmanager
    async def _listen(
        self, heard: Callable[[str, bytes, Callable[[bytes], None]], None]
    ) -> AsyncIterator[None]:
        self._ears.append(heard)
        yield
        self._ears.remove(heard)

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        await asyncio.sleep(0.001)
        if self.deaf:
            raise NobodyThere(subject)
        return encode([self._hear(message) for message in decode_bundle(body)])

    def _hear(self, message: Any) -> Answer:
        assert not isinstance(message, StartRun | Exception), message
        if isinstance(message, Look):
            self.looks.append(message)
        else:
            self.outcomes.append(message)
        return Answer(run=message.run, result="accepted")

    async def put(self, partition: int, bundle: bytes) -> None:
        await asyncio.sleep(0)
        if self.inbox_away:
            raise Away("INBOX")
        self.inbox.append(bundle)

    async def look(self, partition: int, org: str, run: str, message: bytes) -> None:
        raise AssertionError("an executor looks at nothing")

    async def wake_at(self, wakes: object) -> None:
        raise AssertionError("an executor wakes nobody")

    def cancel(self, *attempts: tuple[str, int]) -> None:
        """What the orchestrator sends when a run stops."""
        self.publish(cancel(ORG, RUN), encode(CancelAttempts(org=ORG, run=RUN, attempts=attempts)))


class Shelf:
    """Blobs and letters in memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.letters: list[tuple[str, bytes, Mapping[str, str]]] = []
        self.away = 0

    async def put(self, data: bytes, content_type: str = "application/json") -> Blob:
        await self._there()
        self.blobs[digest(data)] = data
        return Blob(sha256=digest(data), size=len(data), content_type=content_type)

    async def get(self, blob: Blob) -> bytes:
        await self._there()
        return self.blobs[blob.sha256]

    async def store(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        await self._there()
        self.letters.append((subject, body, headers or {}))
        return len(self.letters)

    async def _there(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Away("the object store")


class Safe:
    """The vault: opened secrets by id, and what opens a run's sealed values by key id."""

    def __init__(self) -> None:
        self.secrets: dict[str, OpenedSecret] = {}
        self.openers: dict[str, Opener] = {}
        self._data_keys: dict[str, DataKey] = {}
        self.failing: list[Exception] = []

    def keep(self, name: str, value: SecretValue, *hosts: str) -> None:
        self.secrets[name] = OpenedSecret(kind="test", values=(value,), allowed_hosts=hosts, revision=1)

    async def open(self, org: str, secret_id: str) -> OpenedSecret:
        if self.failing:
            raise self.failing.pop(0)
        if secret_id not in self.secrets:
            raise NoSuchSecret(secret_id)
        return self.secrets[secret_id]

    async def sealer(self, org: str, run: str) -> tuple[str, Sealer]:
        """The same salt whenever this run is asked for."""
        key, salt = self._data_keys.setdefault(org, new_data_key(org, 1)), b"s" * SALT_BYTES
        place = Place(org=org, object=run, field="value")
        self.openers[f"salt_{run}"] = Opener({1: key}, salt, "run.value", place)
        return f"salt_{run}", Sealer(key, salt, "run.value", place)

    async def opener(self, org: str, run: str, key_id: str) -> Opener:
        if key_id not in self.openers:
            raise Shredded
        return self.openers[key_id]


def task(config: Any = None, **changes: Any) -> Task:
    """A task for the step that tests work on."""
    settings: dict[str, Any] = {
        "org": ORG,
        "run": RUN,
        "step": STEP,
        "node": "call",
        "node_type": "echo",
        "attempt": 1,
        "key": f"{RUN}/{STEP}",
        "repeat": "yes",
        "timeout_s": 60.0,
        "scheduled_at": START.timestamp() + 10.0,
    }
    return Task(**{**settings, "config": inline({} if config is None else config), **changes})


def inline(value: Any) -> Payload:
    return Inline(value=Raw(value if isinstance(value, bytes) else encode(value)))


def scheduled(attempt: int = 1, step: str = STEP) -> AttemptScheduled:
    return AttemptScheduled(
        step=step,
        node="call",
        node_type="echo",
        attempt=attempt,
        key=f"{RUN}/{step}",
        pool="default",
        repeat="no",
        timeout_s=60.0,
        config=inline({}),
    )


class World:
    """Everything around executors: what outlives each of them."""

    def __init__(self, *nodes: Any, allow: str = "", capacity: int = 100) -> None:
        self.runs = MemoryLog()
        self.ledger = MemoryLog()
        self.source = Source()
        self.owner = Owner()
        self.shelf = Shelf()
        self.safe = Safe()
        self.capacity = capacity
        self.relay = ("127.0.0.1", 1)
        self.sandbox = Sandbox(Path("/nonexistent"), at_once=1)
        self.own = OwnAddresses()
        self._allow: tuple[AllowedTarget, ...] = parse_allowed(allow)
        self.logs = Shelf()
        self.disk_is_full = False
        self.journal = Journal(self.logs, LoopClock(), "executor:test", lambda: not self.disk_is_full)
        self._nodes: dict[str, Installed] = dict(registry([], self.journal).nodes)
        self._nodes.update((node.spec.type, installed(node, self.journal)) for node in nodes)
        self._lives = 0

    @property
    def outcomes(self) -> list[Outcome]:
        return self.owner.outcomes

    @property
    def looks(self) -> list[Look]:
        """What the owner was asked to look at."""
        return self.owner.looks

    @property
    def said(self) -> list[LogRecord]:
        """What the attempts said, as it was stored."""
        return [msgspec.json.decode(body, type=LogRecord) for _, body, _ in self.logs.letters]

    @contextlib.contextmanager
    def means(self) -> Iterator[Means]:
        """What one executor's attempts are made with."""
        self._lives += 1
        clock = LoopClock()
        relay, egress = (
            Relay(*self.relay, "AutomateOS <robot@example.org>"),
            Egress(self._allow, own=self.own),
        )
        try:
            yield Means(
                actor="executor:test",
                registry=Registry(self._nodes),
                effects=Effects(self.ledger, clock, f"executor:test.{self._lives}"),
                runs=self.runs,
                opening=Opening(self.safe),
                links=LINKS,
                chains=Chains(Secret(b"k" * 32), clock),
                blobs=self.shelf,
                egress=egress,
                relay=relay,
                sandbox=self.sandbox,
                clock=clock,
                tracer=Tracer(),
            )
        finally:
            for thing in (relay, egress):
                thing.close()

    @asynccontextmanager
    async def executor(self, drain_seconds: float = 5.0) -> AsyncIterator["Running"]:
        """A running executor; it is asked to stop at the end of the block unless it was killed before."""
        with self.means() as means:
            dispatch = Dispatch(self.owner, self.owner)
            shell = Executor(
                means=means,
                pools={"default": (self.source, self.capacity)},
                dispatch=dispatch,
                signals=self.owner,
                letters=self.shelf,
                drain_seconds=drain_seconds,
            )
            running = Running(shell)
            carrying = asyncio.get_running_loop().create_task(dispatch.run())
            hearing = asyncio.get_running_loop().create_task(self.journal.run())
            serving = running.serving = asyncio.get_running_loop().create_task(shell.serve(running))
            await asyncio.sleep(0.01)  # It listens now.
            try:
                yield running
                running.stop()
                if not running.killed:
                    await serving
            finally:
                await self.journal.drained(1.0)
                for work in (serving, carrying, hearing):
                    work.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await work


class Running:
    """A started executor."""

    def __init__(self, shell: Executor) -> None:
        self.shell = shell
        self.killed = False
        self.serving: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def wait(self) -> None:
        await self._stop.wait()

    def stop(self) -> None:
        self._stop.set()

    async def kill(self) -> None:
        """Like kill -9: whatever was under way ends here, and nothing more is said."""
        assert self.serving is not None
        self.killed = True
        self.serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.serving


async def until(holds: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for something to become so."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


__all__ = [
    "Ambiguous",
    "Away",
    "Delivery",
    "MemoryLog",
    "Owner",
    "Running",
    "Safe",
    "Shelf",
    "Source",
    "World",
    "inline",
    "scheduled",
    "simulated",
    "task",
    "until",
]
