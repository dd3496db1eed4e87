"""Strikes: one or two faults at a time, each written down with when it began and ended."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

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

    def __init__(self, field: Field, faults: Sequence[Fault], *, seconds: float, longest: float) -> None:
        """`seconds`: over how long the faults shall be spread."""
        self._field, self._faults, self._longest = field, faults, longest
        self._gap = seconds / max(1, len(faults))
        self.struck: list[Struck] = []

    async def run(self) -> None:
        """All of them; returns when the last one has ended."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        room = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for number, fault in enumerate(self._faults):
                await room.acquire()
                pause = began + (number + 0.5) * self._gap - loop.time()
                await asyncio.sleep(max(0.05, pause))
                striking = group.create_task(self._strike(fault))
                striking.add_done_callback(lambda _: room.release())

    async def _strike(self, fault: Fault) -> None:
        struck = Struck(kind=fault.kind, name=fault.name, began=time.time(), kills=fault.kills, said={})
        self.struck.append(struck)
        struck.said = await fault.begin(self._field)
        struck.name = fault.name  # Some find their victim only when they begin.
        try:
            await asyncio.sleep(min(fault.seconds, self._longest))
        finally:
            struck.said |= await fault.end(self._field)
            struck.ended = time.time()
