"""The executor's shell: takes tasks, keeps their leases alive, has attempts made, says what came of them.

Rules that hold here:
  * a lease is kept from the moment a task is fetched until its outcome was accepted; only then is it acknowledged;
  * never more attempts at once than there is room for, pool by pool;
  * redelivery is harmless: what may be done already is looked up in the history first;
  * whoever drains takes nothing more and gives nothing back: it leaves when the last attempt has ended by itself.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import structlog
from msgspec import Struct

from chassis.clock import CLOCKS_APART_SECONDS, Clock
from chassis.crash import crash
from chassis.dispatch import Dispatch
from chassis.ports import Letters, Signals, TaskDelivery, TaskSource
from chassis.unwanted import AttemptId, Unwanted
from contracts.codec import Decoder, Malformed
from contracts.limits import HEARTBEAT_SECONDS, Id, OrgId
from contracts.messages import CancelAttempts, Look, Outcome, Task
from contracts.subjects import CANCEL_ALL, NOBODY, TASKS, dead_letter
from executor.attempt import Attempt, Means
from executor.leases import Lease, Pool
from executor.patience import insist

STUBBORN_SECONDS: Final = 0.6
"""How long a node may ignore that it was told to stop; after that its outcome is told without it."""
UNKNOWN_NODE_SECONDS: Final = 5.0
"""How long a task for a node type that is not installed here is left to other executors of its pool."""

log = structlog.get_logger()

_decode_task: Final = Decoder[Task](Task)
_decode_cancel: Final = Decoder[CancelAttempts](CancelAttempts)


class _Address(Struct, frozen=True):
    """As much of a task as is needed to file it away when the rest cannot be read."""

    org: OrgId
    run: Id


_decode_address: Final = Decoder[_Address](_Address)


class Asked(Protocol):
    """Tells when the service shall end."""

    async def wait(self) -> None: ...


class Executor:
    """One process' share of the work. Whoever starts it also runs its `Dispatch`."""

    def __init__(
        self,
        *,
        means: Means,
        pools: Mapping[str, tuple[TaskSource, int]],
        dispatch: Dispatch,
        signals: Signals,
        letters: Letters,
        drain_seconds: float = 10.0,
    ) -> None:
        """`pools`: by name, where the tasks come from and how many are attempted at once."""
        self._means = means
        self._clock: Clock = means.clock
        self._pools = {name: Pool(source, capacity) for name, (source, capacity) in pools.items()}
        self._dispatch = dispatch
        self._signals = signals
        self._letters = letters
        self._drain_seconds = drain_seconds
        self._leases: dict[AttemptId, Lease] = {}
        self._unwanted = Unwanted()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._leaving = asyncio.Event()
        self.counts: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        return len(self._leases)

    @property
    def draining(self) -> bool:
        """It takes nothing more."""
        return self._leaving.is_set()

    def shares(self) -> Iterator[tuple[str, int, int]]:
        """Of each pool: its name, how many attempts are made at once, how many are under way."""
        for name, pool in self._pools.items():
            yield name, pool.capacity, pool.busy

    def drain(self) -> None:
        """Take nothing more, and leave when what is under way has ended. Safe to say twice."""
        self._leaving.set()

    async def serve(self, asked: Asked) -> None:
        """Work until asked to stop; then finish what is under way, and give back what does not end in time.

        Returns also after `drain`, without giving anything back.
        """
        async with self._signals.listen(CANCEL_ALL, self._heard), self._tasks:
            heartbeats = self._tasks.create_task(self._heartbeats())
            pumps = [self._tasks.create_task(self._pump(pool)) for pool in self._pools.values()]
            stopping = self._tasks.create_task(self._until_asked(asked))
            await self._leaving.wait()
            for pump in pumps:
                pump.cancel()
            await self._ended(pumps)
            finishing = self._tasks.create_task(self._finish())
            await asyncio.wait((stopping, finishing), return_when=asyncio.FIRST_COMPLETED)
            finishing.cancel()
            stopping.cancel()
            await self._drain()
            heartbeats.cancel()

    async def _until_asked(self, asked: Asked) -> None:
        await asked.wait()
        self._leaving.set()

    async def _ended(self, pumps: Sequence[asyncio.Task[None]]) -> None:
        """From here on nothing is taken: what one of them had in its hands is a lease now, or given back."""
        if pumps:
            await asyncio.wait(pumps)

    async def _finish(self) -> None:
        await self._idle.wait()

    # --- Tasks --------------------------------------------------------------------------------

    async def _pump(self, pool: Pool) -> None:
        async for deliveries in pool.source.take(pool.room):
            for delivery in deliveries:
                self._take(pool, delivery)
            await pool.has_room()

    def _take(self, pool: Pool, delivery: TaskDelivery) -> None:
        self.counts["taken"] += 1
        try:
            task = _decode_task(delivery.body)
        except Malformed as error:
            self._tasks.create_task(self._bury([delivery], str(error)))
            return
        name = (task.org, task.run, task.step, task.attempt)
        held = self._leases.get(name)
        if held is not None:
            held.deliveries.append(delivery)
        elif self._is_for_others(task):
            delivery.give_back(HEARTBEAT_SECONDS)
        else:
            self._start(name, Lease(Attempt(task, self._means), pool, delivery))

    def _is_for_others(self, task: Task) -> bool:
        """A neighbour may have the plug-in; when none took it for a while, the step is told that nobody has."""
        if self._means.registry.find(task.node_type) is not None:
            return False
        return self._clock.now().timestamp() - task.scheduled_at < UNKNOWN_NODE_SECONDS

    def _start(self, name: AttemptId, lease: Lease) -> None:
        lease.attempt.unwanted = name in self._unwanted
        self._leases[name] = lease
        lease.pool.busy += 1
        self._idle.clear()
        self._busy.set()
        lease.work.append(self._tasks.create_task(self._attend(name, lease)))

    async def _attend(self, name: AttemptId, lease: Lease) -> None:
        """Make the attempt, have its outcome accepted, acknowledge the task: in this order."""
        attempt = lease.attempt
        outcome: Outcome | None
        try:
            outcome = await attempt.make(doubtful=self._may_be_an_echo(lease))
        except Malformed as error:
            if not lease.told:
                lease.told = True
                await self._bury(lease.deliveries, f"The run's history cannot be read: {error}")
                self._end(name, lease)
            return
        except Exception as error:
            # One attempt must not end its neighbours; it is logged and told.
            outcome = await attempt.crashed(error)
        if not lease.told:
            lease.told = True
            await self._settle(name, lease, outcome)

    def _may_be_an_echo(self, lease: Lease) -> bool:
        """Whether the task was there before we last connected: then it may have been done meanwhile."""
        known_since = max(lease.pool.source.connected_since, self._unwanted.forgot_until)
        return lease.attempt.task.scheduled_at < known_since + CLOCKS_APART_SECONDS

    async def _settle(self, name: AttemptId, lease: Lease, outcome: Outcome | None) -> None:
        """Tell the outcome until it is accepted; only then is the task done."""
        if outcome is None:
            # Whoever recorded the outcome may have died before it asked for what follows: have the owner look.
            self.counts["echoes"] += 1
            task = lease.attempt.task
            look = Look(org=task.org, run=task.run, trace=task.trace)
            await insist(lambda: self._dispatch.send(look))
        else:
            answer = await insist(lambda: self._dispatch.send(outcome))
            self.counts[type(outcome).__name__] += 1
            if answer.result == "refused":
                log.warning("outcome.refused", **lease.attempt.names(), reason=answer.error)
        crash("outcome.after_told")
        lease.done()
        self._end(name, lease)

    def _end(self, name: AttemptId, lease: Lease) -> None:
        del self._leases[name]
        lease.pool.free()
        if not self._leases:
            self._idle.set()
            self._busy.clear()

    async def _bury(self, deliveries: Sequence[TaskDelivery], reason: str) -> None:
        """No code can handle this task, and none will: keep it where people look."""
        body = deliveries[0].body
        try:
            address = _decode_address(body)
        except Malformed:
            address = _Address(NOBODY, NOBODY)
        subject = dead_letter(TASKS, address.org, address.run)
        await insist(lambda: self._letters.store(subject, body, {"error": reason[:1_000]}))
        log.error("task.dead-letter", org=address.org, run=address.run, reason=reason)
        self.counts["dead_letters"] += 1
        for delivery in deliveries:
            delivery.done()

    # --- Leases -------------------------------------------------------------------------------

    async def _heartbeats(self) -> None:
        while True:
            await self._busy.wait()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            now = self._clock.seconds()
            for name, lease in list(self._leases.items()):
                lease.working()
                if lease.attempt.overdue_by(now) > STUBBORN_SECONDS and not lease.told:
                    lease.work.append(self._tasks.create_task(self._give_up_on(name, lease)))

    async def _give_up_on(self, name: AttemptId, lease: Lease) -> None:
        """The node does not stop: tell the outcome without it. Whatever it still brings is not heard."""
        if lease.told or lease.attempt.overdue_by(self._clock.seconds()) < 0:
            return  # It ended meanwhile, and what it brought is told.
        lease.told = True
        log.error("attempt.stubborn", **lease.attempt.names())
        self.counts["stubborn"] += 1
        await self._settle(name, lease, await lease.attempt.given_up())

    def _heard(self, _subject: str, body: bytes, _answer: object) -> None:
        try:
            cancel = _decode_cancel(body)
        except Malformed as error:
            log.error("cancel.malformed", reason=str(error))
            return
        now = self._clock.now().timestamp()
        for step, number in cancel.attempts:
            name = (cancel.org, cancel.run, step, number)
            self._unwanted.add(name, now)
            lease = self._leases.get(name)
            if lease is not None:
                lease.attempt.let_go()

    # --- The end --------------------------------------------------------------------

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("executor.gives-back", attempts=len(self._leases))
        for name, lease in list(self._leases.items()):
            lease.told = True
            lease.give_back()
            self._end(name, lease)
            for work in lease.work:
                work.cancel()
