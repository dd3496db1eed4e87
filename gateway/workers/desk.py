"""Where workers outside ask for work and say what came of it: the shell around the rules, for HTTPS and gRPC alike.

Rules that hold here:
  * a worker holds its tasks itself, by the leases it was given; a gateway that dies takes none with it;
  * redelivery is harmless: what may have been done already is looked up, in the ledger and in the history.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from msgspec import Raw, Struct

from chassis.clock import CLOCKS_APART_SECONDS
from chassis.edge.problems import Problem
from chassis.ids import receipt
from chassis.ports import Away, Given
from chassis.standing import Standing, standing_of, told_by
from chassis.unwanted import Unwanted
from contracts.codec import Decoder, Malformed, decode_json
from contracts.limits import WORKER_INPUT_BYTES, WORKER_LEASE_SECONDS
from contracts.messages import CancelAttempts, Look, Task
from contracts.nodes import NodeSpec
from contracts.payloads import Inline
from contracts.streams import worker_consumer
from contracts.subjects import CANCEL_ALL, TASKS, dead_letter
from contracts.subjects import run as run_subject
from contracts.subjects import task as task_subject
from contracts.workers import (
    BeginTask,
    BegunTask,
    FetchBlob,
    FetchedBlob,
    GoneLease,
    KeepLeases,
    KeptLeases,
    PollTasks,
    ReportedTask,
    ReportTask,
    WorkerTask,
    WorkerTasks,
)
from gateway.rejected import absent
from gateway.workers import rules
from gateway.workers.means import Means, Worker
from gateway.workers.outcomes import Outcomes
from gateway.workers.rules import Held
from gateway.workers.waiting import Gone, Waiting

AGAIN_SECONDS: Final = 1.0
"""After so long another may have a task that could not be given."""
_LOOKED_MOST: Final = 20_000

log = structlog.get_logger()
_decode_task: Final = Decoder[Task](Task)
_decode_cancel: Final = Decoder[CancelAttempts](CancelAttempts)


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
        self.asked_at: dict[tuple[str, str], float] = {}
        """When a worker of each org and pool asked last: unix seconds."""
        self.counts: Counter[str] = Counter()
        self._waiting = Waiting(means.handing)
        self._outcomes = Outcomes(means, self.counts)

    async def run(self) -> None:
        """Hear for ever which attempts nobody wants any more."""
        async with self._means.signals.listen(CANCEL_ALL, self._heard):
            await asyncio.Event().wait()

    def close(self) -> None:
        """Answer everybody who waits for work."""
        self._waiting.close()

    @property
    def waiting(self) -> int:
        return self._waiting.calls

    # --- Asking for work ------------------------------------------------------------------------

    async def poll(self, worker: Worker, asked: PollTasks, gone: Gone | None = None) -> WorkerTasks:
        """Tasks, as soon as there are some; none when the wait is over, or when the worker has gone."""
        specs = await self._means.types.of_pool(worker.org, worker.pool)
        self.asked_at[worker.org, worker.pool] = self._now()
        asking = _Asking(worker, asked, specs)
        consumer = worker_consumer(worker.org, worker.pool)
        with self._waiting.room(worker.token):
            end = self._means.clock.seconds() + asked.wait_s
            while True:
                left = max(0.0, end - self._means.clock.seconds())
                given = await self._waiting.fetch(consumer, asked.most, left, gone)
                tasks = await self._offered(asking, given)
                if tasks or not given:
                    return WorkerTasks(tasks=tuple(tasks))

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
        claimed = await self._outcomes.claimed(held)
        match rules.verdict(task, await self._standing(task, given), claimed):
            case "echo":
                # Whoever recorded the outcome may have died before it asked for what follows: have the owner look.
                self.counts["echoes"] += 1
                await self._means.dispatch.send(Look(org=task.org, run=task.run, trace=task.trace))
                self._means.handing.done(held.delivery)
            case "doubt":
                await self._outcomes.settle(
                    held,
                    rules.in_doubt(held, "The call was begun before, and nobody knows how it ended."),
                )
            case "let_go":
                await self._outcomes.deny(held, rules.let_go(held))
            case "give":
                return await self._give(asking, task, held, room)
        return None

    async def _give(self, asking: _Asking, task: Task, held: Held, room: int) -> WorkerTask | None:
        if task.node_type not in asking.specs:
            message = "No worker of this pool has announced the node type."
            await self._outcomes.deny(held, rules.refused(held, "workflow.unknown_node_type", message))
            return None
        config = await self._config(task)
        if config is None or len(config) > WORKER_INPUT_BYTES:
            code = "payload.missing" if config is None else "payload.too_large"
            await self._outcomes.deny(
                held, rules.refused(held, code, "The configuration cannot be given to a worker.")
            )
            return None
        if len(config) > room:
            self._means.handing.give_back(held.delivery)
            return None
        lease = await self._means.leases.seal(held)
        if held.repeat == "no" and not asking.asked.begins and not await self._means.claims.claim(held):
            await self._outcomes.settle(held, rules.in_doubt(held, "Another has begun the call."))
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
            sensitive=task.sensitive,
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
                await self._outcomes.deny(each, rules.too_late(each, await self._outcomes.claimed(each)))
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

    async def report(self, worker: Worker, said: ReportTask) -> ReportedTask:
        """Tell the run's owner; when it has accepted, the task is done. Said again it changes nothing."""
        return await self._outcomes.report(worker, said)

    async def _bury(self, worker: Worker, given: Given, reason: str) -> None:
        """No code can handle this task, and none will: keep it where people look."""
        subject = dead_letter(TASKS, worker.org, "_")
        await self._means.letters.store(subject, given.body, {"error": reason[:1_000]})
        log.error("task.dead-letter", org=worker.org, reason=reason)
        self.counts["dead_letters"] += 1
        self._means.handing.done(given.name)

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
