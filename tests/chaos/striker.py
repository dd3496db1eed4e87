"""Strikes: faults drawn from a deck by a seed, one or two at a time, each written down with when it began and ended."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from tests.chaos.deck import drawn
from tests.chaos.faults import Fault
from tests.chaos.field import Field

_AT_ONCE: Final = 2


class Struck(Struct, kw_only=True):
    """A fault that happened."""

    kind: str
    name: str
    began: float
    ended: float = 0.0
    kills: bool = False
    said: dict[str, Any] = {}

    def moments(self) -> list[float]:
        """When something died of it."""
        return [self.began, *([self.said["again"]] if "again" in self.said else [])]


class Striker:
    """Strikes a field until it has done enough."""

    def __init__(
        self,
        field: Field,
        seed: str,
        *,
        faults: int,
        seconds: float,
        only: Sequence[str] = (),
        clock: bool = False,
    ) -> None:
        """`seconds`: over how long the faults shall be spread. `only`: kinds to draw from; empty: all."""
        self._field = field
        self._random = random.Random(f"{seed}/faults")
        self._faults = faults
        self._gap = seconds / max(1, faults)
        self._only, self._clock = tuple(only), clock
        self.struck: list[Struck] = []

    async def run(self) -> None:
        """All of them; returns when the last one has ended."""
        loop = asyncio.get_running_loop()
        faults = drawn(self._random, self._faults, self._only, clock=self._clock)
        began = loop.time()
        room = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for number, fault in enumerate(faults):
                await room.acquire()
                pause = began + (number + self._random.uniform(0.2, 0.8)) * self._gap - loop.time()
                await asyncio.sleep(max(0.05, pause))
                striking = group.create_task(self._strike(fault))
                striking.add_done_callback(lambda _: room.release())

    async def _strike(self, fault: Fault) -> None:
        struck = Struck(kind=fault.kind, name=fault.name, began=time.time(), kills=fault.kills, said={})
        self.struck.append(struck)
        struck.said = await fault.begin(self._field)
        struck.name = fault.name  # Some find their victim only when they begin.
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            struck.said |= await fault.end(self._field)
            struck.ended = time.time()
