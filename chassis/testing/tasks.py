"""Simulated TASKS: one message per subject, leased to one executor at a time; both sides of the port.

A task comes again when its lease runs out, when its acknowledgement was lost, and sometimes after a restart of the
servers although it was acknowledged. Or it lies there again as a ghost: nobody is given it, and it keeps the place of its
subject until somebody purges what is acknowledged.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from msgspec import Struct

from chassis.ports import Lying, TaskDelivery
from chassis.testing.lives import Life, current
from chassis.testing.world import SimulatedClock, World
from contracts.limits import LEASE_SECONDS

_REMEMBERED: Final = 50
_NO_ROOM_SECONDS: Final = 0.1
_PURGE_SECONDS: Final = 30.0


class _Task:
    __slots__ = ("body", "free_at", "leases", "subject")

    def __init__(self, subject: str, body: bytes) -> None:
        self.subject = subject
        self.body = body
        self.free_at = 0.0
        self.leases = 0


class _Lease:
    """A task in the hands of an executor."""

    __slots__ = ("_queue", "_task", "body")

    def __init__(self, queue: "MemoryTasks", task: _Task) -> None:
        self._queue = queue
        self._task = task
        self.body = task.body

    def working(self) -> None:
        self._queue.extend(self._task)

    def done(self) -> None:
        self._queue.acknowledge(self._task)

    def give_back(self, delay: float = 0.0) -> None:
        self._queue.free(self._task, delay)


class _Pull(Struct, eq=False):
    life: Life
    most: int
    answered: "asyncio.Future[list[TaskDelivery]]"


class MemoryTasks:
    """The work queue of every pool."""

    def __init__(self, world: World, clock: SimulatedClock | None = None) -> None:
        self._world = world
        self._clock = clock or SimulatedClock(world)
        self.tasks: dict[str, _Task] = {}
        self.ghosts: set[str] = set()
        """Subjects of tasks that are acknowledged and lie there all the same."""
        self.connected: dict[str, float] = {}
        """When each process connected last, by its own clock."""
        self._pulls: list[_Pull] = []
        self._acknowledged: deque[_Task] = deque(maxlen=_REMEMBERED)
        world.after_restart.append(self._restarted)

    # --- The orchestrator's side --------------------------------------------------------------

    def emit(self, pool: str, subject: str, body: bytes) -> None:
        kind = self._world.strikes("operation")
        if self._world.down or kind in ("refused", "timed_out"):
            return
        late = 3.0 if kind == "done_later" else 0.01
        self._world.loop.call_in("", self._world.random.random() * late, self._lay, subject, body)

    def _lay(self, subject: str, body: bytes) -> None:
        if subject not in self.tasks and subject not in self.ghosts and not self._world.down:
            self.tasks[subject] = _Task(subject, body)
            self._hand_out()

    async def waiting(self, subjects: Sequence[str]) -> set[str]:
        return await self._world.operation(
            lambda: {subject for subject in subjects if subject in self.tasks or subject in self.ghosts}
        )

    async def forget(self, subjects: Sequence[str]) -> None:
        def gone() -> None:
            for subject in subjects:
                self.tasks.pop(subject, None)
                self.ghosts.discard(subject)

        await self._world.operation(gone)

    async def lying(self, pool: str, org: str = "") -> Lying:
        def look() -> Lying:
            now, there = (
                self._world.loop.time(),
                [task for name, task in self.tasks.items() if f"task.{pool}.{org}" in name],
            )
            leased = sum(task.free_at > now for task in there)
            return Lying(len(there) - leased, leased)

        return await self._world.operation(look)

    # --- The executors' side ------------------------------------------------------------------

    async def take(self, room: Callable[[], int]) -> AsyncIterator[Sequence[TaskDelivery]]:
        life = current()
        self.connected[life.name] = self._clock.now().timestamp()
        while True:
            most = room()
            if most <= 0:
                await asyncio.sleep(_NO_ROOM_SECONDS)
                continue
            pull = _Pull(life, most, self._world.loop.create_future())
            self._pulls.append(pull)
            self._hand_out()
            try:
                leased = await pull.answered
            finally:
                if pull in self._pulls:
                    self._pulls.remove(pull)
            yield leased

    @property
    def connected_since(self) -> float:
        return self.connected.get(current().name, 0.0)

    def _hand_out(self) -> None:
        """Give what is free to whoever asks; a paused process' socket asks, too."""
        now, random = self._world.loop.time(), self._world.random
        self._pulls = [pull for pull in self._pulls if pull.life.alive]
        free = [task for task in self.tasks.values() if task.free_at <= now]
        if self._world.down or not free or not self._pulls:
            return
        random.shuffle(free)
        while free and self._pulls:
            pull = self._pulls.pop(int(random.random() * len(self._pulls)))
            leased = [self._lease(free.pop()) for _ in range(min(len(free), random.randint(1, pull.most)))]
            self._world.loop.resolve_in(pull.life, random.random() * 0.01, pull.answered, leased)

    def _lease(self, task: _Task) -> TaskDelivery:
        task.leases += 1
        self._hold(task)
        return _Lease(self, task)

    def _hold(self, task: _Task) -> None:
        task.free_at = self._world.loop.time() + LEASE_SECONDS
        self._world.loop.call_in("", LEASE_SECONDS, self._hand_out)

    def extend(self, task: _Task) -> None:
        if (
            self.tasks.get(task.subject) is task
            and not self._world.down
            and not self._world.strikes("signal")
        ):
            self._hold(task)

    def free(self, task: _Task, delay: float) -> None:
        if self.tasks.get(task.subject) is task and not self._world.down:
            task.free_at = self._world.loop.time() + delay
            self._world.loop.call_in("", delay, self._hand_out)

    def acknowledge(self, task: _Task) -> None:
        if self._world.down or self._world.strikes("ack"):
            return
        if self.tasks.get(task.subject) is task:
            del self.tasks[task.subject]
            self._acknowledged.append(task)

    def power_cut(self) -> None:
        """TASKS is written to disk a little later than it says: the newest of it may be lost."""
        for task in [task for task in self.tasks.values() if self._world.random.random() < 0.3]:
            del self.tasks[task.subject]

    def _restarted(self) -> None:
        """Every process has a new connection; leases are forgotten, and some acknowledgements."""
        random = self._world.random
        for name, process in self._world.loop.processes.items():
            if name in self.connected and process.life is not None:
                skew = self._clock.skew.get(name, 0.0)
                self.connected[name] = self._clock.now().timestamp() + skew
        for task in self._acknowledged:
            drawn = random.random()
            if drawn < 0.3:
                task.free_at = 0.0
                self.tasks.setdefault(task.subject, task)
                self.ghosts.discard(task.subject)
            elif drawn < 0.6 and task.subject not in self.tasks:
                self.ghosts.add(task.subject)
                self._world.loop.call_in("", _PURGE_SECONDS, self.ghosts.discard, task.subject)
        for task in self.tasks.values():
            if random.random() < 0.5:
                task.free_at = 0.0
        self._hand_out()
