"""What an executor holds: room in its pools, leases on tasks, and the names of attempts that nobody wants."""

import asyncio
from collections import OrderedDict
from typing import Final, TypeAlias

from chassis.ports import TaskDelivery, TaskSource
from executor.attempt import Attempt

UNWANTED_MOST: Final = 20_000

AttemptId: TypeAlias = tuple[str, str, str, int]
"""Org, run, step, attempt."""


class Pool:
    """The tasks of one pool and the room for them."""

    def __init__(self, source: TaskSource, capacity: int) -> None:
        self.source = source
        self.busy = 0
        self._capacity = capacity
        self._freed = asyncio.Event()

    def room(self) -> int:
        return self._capacity - self.busy

    def free(self) -> None:
        self.busy -= 1
        self._freed.set()

    async def has_room(self) -> None:
        while self.room() <= 0:
            self._freed.clear()
            await self._freed.wait()


class Lease:
    """An attempt with the tasks that asked for it: a task can be delivered again while it is being worked on."""

    def __init__(self, attempt: Attempt, pool: Pool, delivery: TaskDelivery) -> None:
        self.attempt = attempt
        self.pool = pool
        self.deliveries = [delivery]
        self.work: list[asyncio.Task[None]] = []
        self.told = False
        """An outcome is on its way. The first one counts; another is not heard."""

    def working(self) -> None:
        for delivery in self.deliveries:
            delivery.working()

    def done(self) -> None:
        for delivery in self.deliveries:
            delivery.done()

    def give_back(self, delay: float = 0.0) -> None:
        for delivery in self.deliveries:
            delivery.give_back(delay)


class Unwanted:
    """Attempts that were cancelled before their task came. What was forgotten for lack of room is looked up instead."""

    def __init__(self, most: int = UNWANTED_MOST) -> None:
        self._most = most
        self._names: OrderedDict[AttemptId, float] = OrderedDict()
        self.forgot_until = 0.0

    def add(self, name: AttemptId, now: float) -> None:
        self._names[name] = now
        if len(self._names) > self._most:
            self.forgot_until = self._names.popitem(last=False)[1]

    def __contains__(self, name: object) -> bool:
        return name in self._names
