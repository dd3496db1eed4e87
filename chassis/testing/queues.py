"""Simulated messaging: signals, the partitioned inbox with its owners and timers, the work queue of tasks.

They lose, double and reorder as the real ones may: a task or an inbox message comes again unless it was acknowledged, a
signal is heard at most once, an owner who was paused wakes up and still believes that it owns.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from chassis.ports import Ambiguous, Arrival, NobodyThere, TaskDelivery
from chassis.testing.loop import PROCESS, name_of
from chassis.testing.world import START, World
from contracts.codec import encode
from contracts.limits import LEASE_SECONDS, PARTITIONS
from contracts.messages import Wake
from contracts.subjects import call, partition, timer

Heard = Callable[[str, bytes, Callable[[bytes], None]], None]

PIN_SECONDS: Final = 1.5
REDELIVERY_SECONDS: Final = 5.0
"""Shorter than the real inbox's, so that a schedule sees many."""


def _matches(pattern: str, subject: str) -> bool:
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(words) >= len(wanted) and all(
            w in ("*", s) for w, s in zip(wanted[:-1], words, strict=False)
        )
    return len(wanted) == len(words) and all(w in ("*", s) for w, s in zip(wanted, words, strict=True))


class MemorySignals:
    """Core NATS: whoever listens hears it, once, if at all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._listeners: list[tuple[str, str, str, Heard]] = []

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        if not self._world.happens(self._world.rates.signal_lost):
            self._send(subject, body, lambda _: None)

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        world = self._world
        await world.moment()
        if not self._hearers(subject):
            raise NobodyThere(subject)
        answered: asyncio.Future[bytes] = world.loop.create_future()

        def answer(reply: bytes) -> None:
            if not answered.done() and not world.happens(world.rates.signal_lost):
                answered.set_result(reply)

        if not world.happens(world.rates.signal_lost):
            self._send(subject, body, answer)
            if world.happens(world.rates.delivered_twice):
                self._send(subject, body, answer)
        try:
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise Ambiguous(f"no answer on {subject}") from None

    @asynccontextmanager
    async def listen(self, subject: str, heard: Heard, group: str = "") -> AsyncIterator[None]:
        listener = (subject, group, PROCESS.get(), heard)
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners = [other for other in self._listeners if other is not listener]

    def _hearers(self, subject: str) -> list[tuple[str, str, str, Heard]]:
        found = [
            listener
            for listener in self._listeners
            if _matches(listener[0], subject) and self._world.loop.alive(listener[2])
        ]
        grouped = [listener for listener in found if listener[1]]
        if grouped:
            return [self._world.random.choice(grouped), *(listener for listener in found if not listener[1])]
        return found

    def _send(self, subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        for _, _, process, heard in self._hearers(subject):
            self._world.loop.call_in(
                process, self._world.random.random() * 0.01, heard, subject, body, answer
            )


class _Letter:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.deliveries = 0
        self.due = 0.0


class _Arrival:
    def __init__(
        self, number: int, body: bytes, *, direct: bool, deliveries: int, answer: Callable[[bytes], None]
    ) -> None:
        self.partition = number
        self.body = body
        self.direct = direct
        self.deliveries = deliveries
        self._answer = answer

    def answer(self, body: bytes) -> None:
        self._answer(body)


class MemoryInbox:
    """INBOX: what lies in each partition, who owns it, and which timers are set."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.letters: list[list[_Letter]] = [[] for _ in range(PARTITIONS)]
        self.timers: dict[str, tuple[float, Wake]] = {}
        self.owners: dict[int, MemoryOwnership] = {}

    async def put(self, partition: int, bundle: bytes) -> None:
        await self._world.operation(lambda: self._lay(partition, bundle))

    async def look(self, partition: int, org: str, run: str, message: bytes) -> None:
        await self._world.operation(lambda: self._lay(partition, message))

    async def wake_at(self, wakes: Sequence[tuple[Wake, datetime]]) -> None:
        def act() -> None:
            for wake, due in wakes:
                at = (due - START).total_seconds()
                self.timers[timer(wake.org, wake.run, wake.wait)] = (at, wake)

        await self._world.operation(act)

    def _lay(self, number: int, body: bytes) -> None:
        self.letters[number].append(_Letter(body))
        if self._world.happens(self._world.rates.delivered_twice):
            self.letters[number].append(_Letter(body))

    async def run(self) -> None:
        """The server's own life: fires timers, delivers, hands partitions of silent owners to others."""
        while True:
            await asyncio.sleep(0.05)
            now = self._world.loop.time()
            for subject, (at, wake) in list(self.timers.items()):
                if at <= now:
                    del self.timers[subject]
                    self._lay(partition(wake.run), encode(wake))
            for number, owner in list(self.owners.items()):
                if now - owner.seen > PIN_SECONDS:
                    del self.owners[number]
                else:
                    self._deliver(number, owner, now)

    def _deliver(self, number: int, owner: "MemoryOwnership", now: float) -> None:
        due = [letter for letter in self.letters[number] if letter.due <= now]
        self._world.random.shuffle(due)
        for letter in due:
            letter.deliveries += 1
            letter.due = now + REDELIVERY_SECONDS
            owner.deliver(number, letter)

    def acknowledged(self, number: int, letter: _Letter) -> None:
        if letter in self.letters[number] and not self._world.happens(self._world.rates.ack_lost):
            self.letters[number].remove(letter)


class MemoryOwnership:
    """One orchestrator's claim on partitions. Create it inside the process that it stands for."""

    def __init__(self, world: World, inbox: MemoryInbox, signals: MemorySignals) -> None:
        self._world = world
        self._inbox = inbox
        self._signals = signals
        self._arrived: asyncio.Queue[Arrival | int | None] = asyncio.Queue()
        self._released = False
        self._generation = 0
        self.process = PROCESS.get()
        self.seen = 0.0

    async def arrivals(self) -> AsyncIterator[Sequence[Arrival] | int]:
        async with asyncio.TaskGroup() as group:
            pulling = group.create_task(self._pull())
            listening = [group.create_task(self._listen(number)) for number in range(PARTITIONS)]
            while (arrived := await self._arrived.get()) is not None:
                if isinstance(arrived, int):
                    yield arrived
                else:
                    yield [arrived]
            for task in [pulling, *listening]:
                task.cancel()

    async def _pull(self) -> None:
        """Ask for messages all the time: whoever asks first gets the pin, whoever stops asking loses it."""
        while True:
            self.seen = self._world.loop.time()
            for number in range(PARTITIONS):
                if not self._released and number not in self._inbox.owners:
                    self._own(number)
            await asyncio.sleep(0.3 + self._world.random.random() * 0.2)

    def _own(self, number: int) -> None:
        self._inbox.owners[number] = self
        for letter in self._inbox.letters[number]:
            letter.due = 0.0
        self._arrived.put_nowait(number)

    async def _listen(self, number: int) -> None:
        def heard(_subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
            if self._inbox.owners.get(number) is self and not self._released:
                self._arrived.put_nowait(_Arrival(number, body, direct=True, deliveries=1, answer=answer))

        async with self._signals.listen(call(number), heard):
            await asyncio.Event().wait()

    def deliver(self, number: int, letter: _Letter) -> None:
        """Called by the inbox; heard after a moment, in this owner's process."""
        generation = self._generation

        def heard() -> None:
            if generation == self._generation:
                self._arrived.put_nowait(
                    _Arrival(
                        number,
                        letter.body,
                        direct=False,
                        deliveries=letter.deliveries,
                        answer=lambda _: self._inbox.acknowledged(number, letter),
                    )
                )

        self._world.loop.call_in(self.process, self._world.random.random() * 0.01, heard)

    async def forget(self) -> None:
        await self._world.moment()
        self._generation += 1
        for number, owner in self._inbox.owners.items():
            if owner is self:
                self._own(number)

    async def caught_up(self, partition: int) -> None:
        while any(letter.deliveries == 0 for letter in self._inbox.letters[partition]):  # noqa: ASYNC110  # As the real one polls.
            await asyncio.sleep(0.05)
        await self._world.moment()

    async def release(self) -> None:
        self._released = True
        for number, owner in list(self._inbox.owners.items()):
            if owner is self:
                del self._inbox.owners[number]
        self._arrived.put_nowait(None)


class _Task:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.free_at = 0.0


class _Lease:
    def __init__(self, queue: "MemoryTasks", subject: str, task: _Task) -> None:
        self._queue = queue
        self._subject = subject
        self._task = task
        self.body = task.body

    def working(self) -> None:
        self._task.free_at = self._queue.world.loop.time() + LEASE_SECONDS

    def done(self) -> None:
        self._queue.acknowledged(self._subject, self._task)

    def give_back(self, delay: float = 0.0) -> None:
        self._task.free_at = self._queue.world.loop.time() + delay


class MemoryTasks:
    """TASKS: one message per subject, leased to one executor at a time; both sides of the port."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: dict[str, _Task] = {}
        self.since: dict[str, float] = defaultdict(float)

    def emit(self, pool: str, subject: str, body: bytes) -> None:
        if not self.world.happens(self.world.rates.timed_out):
            self.tasks.setdefault(subject, _Task(body))

    async def waiting(self, subjects: Sequence[str]) -> set[str]:
        return await self.world.operation(lambda: {subject for subject in subjects if subject in self.tasks})

    async def take(self, room: Callable[[], int]) -> AsyncIterator[Sequence[TaskDelivery]]:
        while True:
            await asyncio.sleep(0.02 + self.world.random.random() * 0.03)
            now = self.world.loop.time()
            free = [(subject, task) for subject, task in self.tasks.items() if task.free_at <= now]
            self.world.random.shuffle(free)
            leased: list[TaskDelivery] = []
            for subject, task in free[: room()]:
                task.free_at = now + LEASE_SECONDS
                leased.append(_Lease(self, subject, task))
            if leased:
                yield leased

    @property
    def connected_since(self) -> float:
        return START.timestamp() + self.since[name_of(PROCESS.get())]

    def acknowledged(self, subject: str, task: _Task) -> None:
        if self.tasks.get(subject) is task and not self.world.happens(self.world.rates.ack_lost):
            del self.tasks[subject]
