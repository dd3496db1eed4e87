"""What an executor holds: room in its pools, and leases on tasks."""

import asyncio

from chassis.ports import TaskDelivery, TaskSource
from executor.attempt import Attempt


class Pool:
    """The tasks of one pool and the room for them."""

    def __init__(self, source: TaskSource, capacity: int) -> None:
        self.source = source
        self.busy = 0
        self.capacity = capacity
        self._freed = asyncio.Event()

    def room(self) -> int:
        return self.capacity - self.busy

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
