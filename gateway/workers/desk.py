"""Where workers outside ask for work and say what came of it: the shell around the rules, for HTTPS and gRPC alike.

Rules that hold here:
  * a worker holds its tasks itself, by the leases it was given; a gateway that dies takes none with it;
  * an outcome is accepted before its task is acknowledged, so what is lost in between is said again, and is an echo;
  * redelivery is harmless: what may have been done already is looked up, in the ledger and in the history.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import structlog
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.dispatch import Dispatch
from chassis.edge.problems import Problem
from chassis.ids import receipt
from chassis.ports import Away, Blobs, Given, Handing, Letters, Log, Signals
from chassis.standing import Standing, standing_of, told_by
from chassis.unwanted import Unwanted
from contracts.codec import Decoder, Malformed, decode_json, depth_exceeds
from contracts.limits import (
    JSON_DEPTH,
    WORKER_INPUT_BYTES,
    WORKER_LEASE_SECONDS,
    WORKER_POLLS,
    WORKER_POLLS_IN_ALL,
)
from contracts.messages import CancelAttempts, Look, Outcome, Task
from contracts.nodes import NodeSpec
from contracts.payloads import Inline, Payload, null
from contracts.streams import worker_consumer
from contracts.subjects import CANCEL_ALL, TASKS, dead_letter
from contracts.subjects import run as run_subject
from contracts.subjects import task as task_subject
from contracts.workers import (
    BeginTask,
    BegunTask,
    Failed,
    FetchBlob,
    FetchedBlob,
    GaveBack,
    GoneLease,
    KeepLeases,
    KeptLeases,
    LetGo,
    PollTasks,
    ReportedTask,
    ReportTask,
    Succeeded,
    WorkerTask,
    WorkerTasks,
)
from gateway.payloads import payload_of
from gateway.rejected import absent
from gateway.workers import rules
from gateway.workers.claims import Claims
from gateway.workers.leases import Leases
from gateway.workers.rules import Claimed, Held
from gateway.workers.types import Types

CLOCKS_APART_SECONDS: Final = 1.0
"""How far the clock of whoever scheduled an attempt may be ahead of or behind ours."""
AGAIN_SECONDS: Final = 1.0
"""After so long another may have a task that could not be given."""
_LOOKED_MOST: Final = 20_000

log = structlog.get_logger()
_decode_task: Final = Decoder[Task](Task)
_decode_cancel: Final = Decoder[CancelAttempts](CancelAttempts)


class Worker(Struct, frozen=True, kw_only=True):
    """Who speaks: a token of one pool of one org."""

    org: str
    pool: str
    token: str


class Means(Struct, frozen=True, kw_only=True):
    """What the desk works with."""

    handing: Handing
    leases: Leases
    claims: Claims
    types: Types
    runs: Log
    tasks: Log
    blobs: Blobs
    dispatch: Dispatch
    letters: Letters
    signals: Signals
    clock: Clock


class _Asking(Struct, frozen=True):
    """A worker that waits, and what it may be given."""

    worker: Worker
    asked: PollTasks
    specs: Mapping[str, NodeSpec]


class Desk:
    """One per process. `run` hears of cancelled attempts."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._unwanted = Unwanted()
        self._looked: dict[str, float] = {}
        self._polls: Counter[str] = Counter()
        self._waits: set[asyncio.Timeout] = set()
        self._closed = False
        self.asked_at: dict[tuple[str, str], float] = {}
        """When a worker of each org and pool asked last: unix seconds."""
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Hear for ever which attempts nobody wants any more."""
        async with self._means.signals.listen(CANCEL_ALL, self._heard):
            await asyncio.Event().wait()

    def close(self) -> None:
        """Answer everybody who waits for work."""
        self._closed = True
        for wait in self._waits:
            _end(wait)

    @property
    def waiting(self) -> int:
        return self._polls.total()

    # --- Asking for work ------------------------------------------------------------------------

    async def poll(self, worker: Worker, asked: PollTasks, gone: "Gone | None" = None) -> WorkerTasks:
        """Tasks, as soon as there are some; none when the wait is over, or when the worker has gone."""
        specs = await self._means.types.of_pool(worker.org, worker.pool)
        self.asked_at[worker.org, worker.pool] = self._now()
        asking = _Asking(worker, asked, specs)
        with self._room(worker):
            end = self._means.clock.seconds() + asked.wait_s
            while True:
                left = max(0.0, end - self._means.clock.seconds())
                given = await self._fetched(asking, left, gone)
                tasks = await self._offered(asking, given)
                if tasks or not given:
                    return WorkerTasks(tasks=tuple(tasks))

    async def _fetched(self, asking: _Asking, seconds: float, gone: "Gone | None") -> list[Given]:
        consumer = worker_consumer(asking.worker.org, asking.worker.pool)
        if self._closed or (gone is not None and gone.is_gone):
            return []
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                if gone is not None:
                    gone.tell = lambda: _end(wait)
                try:
                    return await self._means.handing.fetch(consumer, asking.asked.most, seconds)
                finally:
                    self._waits.discard(wait)
                    if gone is not None:
                        gone.tell = _nobody_waits
        except TimeoutError:
            return []

    async def _offered(self, asking: _Asking, given: Sequence[Given]) -> list[WorkerTask]:
        """What of it the worker gets. What fails in the middle is there for others soon."""
        tasks: list[WorkerTask] = []
        room = WORKER_INPUT_BYTES
        for place, each in enumerate(given):
            try:
                offered = await self._offer(asking, each, room if tasks else WORKER_INPUT_BYTES)
            except BaseException as error:
                for rest in given[place:]:
                    self._means.handing.give_back(rest.name, AGAIN_SECONDS)
                if tasks and isinstance(error, Away | Problem):
                    break  # What was given is the worker's already.
                raise
            if offered is not None:
                tasks.append(offered)
                room -= len(offered.config)
        return tasks

    async def _offer(self, asking: _Asking, given: Given, room: int) -> WorkerTask | None:
        try:
            task = _decode_task(given.body)
        except Malformed as error:
            await self._bury(asking.worker, given, str(error))
            return None
        held = self._held(asking.worker, task, given)
        claimed = await self._claimed(held)
        match rules.verdict(task, await self._standing(task, given), claimed):
            case "echo":
                # Whoever recorded the outcome may have died before it asked for what follows: have the owner look.
                self.counts["echoes"] += 1
                await self._means.dispatch.send(Look(org=task.org, run=task.run, trace=task.trace))
                self._means.handing.done(held.delivery)
            case "doubt":
                await self._settle(
                    held,
                    rules.in_doubt(held, "The call was begun before, and nobody knows how it ended."),
                )
            case "let_go":
                await self._deny(held, rules.let_go(held))
            case "give":
                return await self._give(asking, task, held, room)
        return None

    async def _give(self, asking: _Asking, task: Task, held: Held, room: int) -> WorkerTask | None:
        if task.node_type not in asking.specs:
            message = "No worker of this pool has announced the node type."
            await self._deny(held, rules.refused(held, "workflow.unknown_node_type", message))
            return None
        config = await self._config(task)
        if config is None or len(config) > WORKER_INPUT_BYTES:
            code = "payload.missing" if config is None else "payload.too_large"
            await self._deny(
                held, rules.refused(held, code, "The configuration cannot be given to a worker.")
            )
            return None
        if len(config) > room:
            self._means.handing.give_back(held.delivery)
            return None
        lease = await self._means.leases.seal(held)
        if held.repeat == "no" and not asking.asked.begins and not await self._means.claims.claim(held):
            await self._settle(held, rules.in_doubt(held, "Another has begun the call."))
            return None
        self.counts["given"] += 1
        return WorkerTask(
            lease=lease,
            lease_s=WORKER_LEASE_SECONDS,
            run=task.run,
            step=task.step,
            node=task.node,
            type=task.node_type,
            attempt=task.attempt,
            key=task.key,
            repeat=task.repeat,
            timeout_s=task.timeout_s,
            config=Raw(config),
        )

    async def _config(self, task: Task) -> bytes | None:
        if isinstance(task.config, Inline):
            return bytes(task.config.value)
        if task.config.size > WORKER_INPUT_BYTES:
            return b" " * (WORKER_INPUT_BYTES + 1)
        try:
            return await self._means.blobs.get(task.config)
        except KeyError:
            return None

    def _held(self, worker: Worker, task: Task, given: Given) -> Held:
        return Held(
            org=worker.org,
            pool=worker.pool,
            run=task.run,
            step=task.step,
            node=task.node,
            node_type=task.node_type,
            attempt=task.attempt,
            repeat=task.repeat,
            timeout_s=task.timeout_s,
            given_at=self._now(),
            delivery=given.name,
            claim=f"worker:{worker.pool}.{receipt()}",
            trace=task.trace,
        )

    async def _standing(self, task: Task, given: Given) -> Standing:
        """By the history where the task may be an echo, or somebody else's until a moment ago."""
        known_since = max(self._means.handing.connected_since, self._unwanted.forgot_until)
        if given.times > 1 or task.scheduled_at < known_since + CLOCKS_APART_SECONDS:
            return await standing_of(task, self._means.runs)
        name = (task.org, task.run, task.step, task.attempt)
        return "stopping" if name in self._unwanted else "open"

    # --- Holding --------------------------------------------------------------------------------

    async def keep(self, worker: Worker, asked: KeepLeases) -> KeptLeases:
        """Prolong these leases, and say which need not be held any longer."""
        means = self._means
        held = {lease: await means.leases.open(worker.org, worker.pool, lease) for lease in asked.leases}
        subjects = sorted({run_subject(each.org, each.run) for each in held.values()})
        newest = await means.runs.last(subjects)
        gone: list[GoneLease] = []
        for lease, each in held.items():
            standing = told_by(each, newest.get(run_subject(each.org, each.run)))
            if standing is None:
                standing = await self._looked_up(each)
            if standing == "closed":
                means.handing.done(each.delivery)
                gone.append(GoneLease(lease=lease, why="ended"))
            elif rules.is_late(each, self._now()):
                await self._deny(each, rules.too_late(each, await self._claimed(each)))
                gone.append(GoneLease(lease=lease, why="late"))
            else:
                means.handing.keep(each.delivery)
                if standing == "stopping" or each.name in self._unwanted:
                    gone.append(GoneLease(lease=lease, why="cancelled"))
        return KeptLeases(gone=tuple(gone), lease_s=WORKER_LEASE_SECONDS)

    async def _looked_up(self, held: Held) -> Standing:
        """Once for each lease and connection: what was cancelled while we did not hear."""
        since = max(self._means.handing.connected_since, self._unwanted.forgot_until)
        if held.given_at > since + CLOCKS_APART_SECONDS or self._looked.get(held.claim) == since:
            return "open"
        standing = await standing_of(held, self._means.runs)
        if standing == "open":
            self._looked[held.claim] = since
            while len(self._looked) > _LOOKED_MOST:
                del self._looked[next(iter(self._looked))]
        return standing

    async def begin(self, worker: Worker, asked: BeginTask) -> BegunTask:
        """Claim the call for this worker; said again it is the same claim."""
        held = await self._means.leases.open(worker.org, worker.pool, asked.lease)
        begun = held.repeat != "no" or await self._means.claims.claim(held)
        self.counts["begun" if begun else "not_begun"] += 1
        return BegunTask(begun=begun)

    async def fetch(self, worker: Worker, asked: FetchBlob) -> FetchedBlob:
        """The bytes that the task's configuration names. Nothing else of the store is anybody's to ask for."""
        held = await self._means.leases.open(worker.org, worker.pool, asked.lease)
        subject = task_subject(held.pool, held.org, held.run, held.step, held.attempt)
        lying = (await self._means.tasks.last([subject])).get(subject)
        config = await self._config(_decode_task(lying.body)) if lying is not None else None
        blob = rules.named_blob(decode_json(config), asked.sha256) if config is not None else None
        if blob is None:
            raise absent("value")
        if blob.size > WORKER_INPUT_BYTES:
            raise Problem("too_large", f"A worker is given {WORKER_INPUT_BYTES} bytes at the most.")
        try:
            return FetchedBlob(content_type=blob.content_type, data=await self._means.blobs.get(blob))
        except KeyError:
            raise Problem("payload.missing") from None

    # --- What came of it ------------------------------------------------------------------------

    async def report(self, worker: Worker, said: ReportTask) -> ReportedTask:
        """Tell the run's owner; when it has accepted, the task is done. Said again it changes nothing."""
        held = await self._means.leases.open(worker.org, worker.pool, said.lease)
        report = said.report
        if isinstance(report, GaveBack) and rules.may_give_back(held, await self._claimed(held)):
            self._means.handing.give_back(held.delivery)
            return ReportedTask(result="accepted")
        denies = isinstance(report, Failed) or (isinstance(report, LetGo) and report.effect == "none")
        output: Payload = null()
        if isinstance(report, Succeeded):
            await self._check(held, report)
            output = await payload_of(bytes(report.output), self._means.blobs)
        claimed = await (self._vouched(held) if denies else self._claimed(held))
        took_ms = max(0, int((self._now() - held.given_at) * 1000))
        accepted = await self._settle(held, rules.outcome(held, report, claimed, output, took_ms))
        self.counts[report.__struct_config__.tag if accepted else "lost"] += 1  # type: ignore[index]  # Every report has a tag.
        return ReportedTask(result="accepted" if accepted else "lost")

    async def _check(self, held: Held, report: Succeeded) -> None:
        """Raises `Problem` for an output that no history can keep, and for ports that the node does not have."""
        output = bytes(report.output)
        try:
            if depth_exceeds(output, JSON_DEPTH):
                raise Problem("malformed", f"The output is nested deeper than {JSON_DEPTH} levels.")
            decode_json(output)
        except Malformed:
            raise Problem("malformed", "The output is no JSON.") from None
        spec = (await self._means.types.of_pool(held.org, held.pool)).get(held.node_type)
        if spec is not None and not {port.name for port in spec.outputs}.issuperset(report.ports):
            raise Problem("malformed", "The node has no such port.")

    async def _deny(self, held: Held, outcome: Outcome) -> None:
        """Say that nothing happened; that is ours to say only when nobody else may begin it."""
        if await self._vouched(held) == "another":
            outcome = rules.in_doubt(held, "Another has begun the call.")
        await self._settle(held, outcome)

    async def _claimed(self, held: Held) -> Claimed:
        """Only what must not be repeated is claimed by anybody."""
        return await self._means.claims.whose(held) if held.repeat == "no" else "nobody"

    async def _vouched(self, held: Held) -> Claimed:
        """The same, and when nobody has begun, our claim keeps it so."""
        claimed = await self._claimed(held)
        if held.repeat == "no" and claimed == "nobody" and not await self._means.claims.claim(held):
            return "another"
        return claimed

    async def _settle(self, held: Held, outcome: Outcome) -> bool:
        """Whether the history took it. Raises `Away` when nobody did: the task stays."""
        answer = await self._means.dispatch.send(outcome)
        self._means.handing.done(held.delivery)
        if answer.result == "refused":
            log.warning("outcome.refused", org=held.org, run=held.run, step=held.step, reason=answer.error)
        return answer.result == "accepted"

    async def _bury(self, worker: Worker, given: Given, reason: str) -> None:
        """No code can handle this task, and none will: keep it where people look."""
        subject = dead_letter(TASKS, worker.org, "_")
        await self._means.letters.store(subject, given.body, {"error": reason[:1_000]})
        log.error("task.dead-letter", org=worker.org, reason=reason)
        self.counts["dead_letters"] += 1
        self._means.handing.done(given.name)

    # --- Bounds -----------------------------------------------------------------------------------

    @contextmanager
    def _room(self, worker: Worker) -> Iterator[None]:
        if self._polls[worker.token] >= WORKER_POLLS or self._polls.total() >= WORKER_POLLS_IN_ALL:
            raise Problem(
                "rate_limited",
                f"{WORKER_POLLS} calls of a token may wait for work at once.",
                headers={"retry-after": "1"},
            )
        self._polls[worker.token] += 1
        try:
            yield
        finally:
            self._polls[worker.token] -= 1
            if not self._polls[worker.token]:
                del self._polls[worker.token]

    def _now(self) -> float:
        return self._means.clock.now().timestamp()

    def _heard(self, _subject: str, body: bytes, _answer: Any) -> None:
        try:
            cancel = _decode_cancel(body)
        except Malformed as error:
            log.error("cancel.malformed", reason=str(error))
            return
        for step, number in cancel.attempts:
            self._unwanted.add((cancel.org, cancel.run, step, number), self._now())


class Gone:
    """Tells the desk that whoever asked has gone."""

    def __init__(self) -> None:
        self.is_gone = False
        self.tell: Callable[[], None] = _nobody_waits

    def set(self) -> None:
        self.is_gone = True
        self.tell()


def _nobody_waits() -> None:
    """Nothing is to be ended."""


def _end(wait: asyncio.Timeout) -> None:
    if not wait.expired():
        wait.reschedule(asyncio.get_running_loop().time())
