"""Strikes: one or two faults at a time, each written down with when it began and ended."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from tests.chaos.faults import Fault
from tests.chaos.field import Field
from tests.promises.evidence import Outage

_AT_ONCE: Final = 2


class Struck(Struct, kw_only=True):
    """A fault that happened."""

    kind: str
    name: str
    began: float
    ended: float = 0.0
    kills: bool = False
    alone: bool = False
    """Nothing else was wrong when it began, nor while it lasted."""
    said: dict[str, Any] = {}

    def moments(self) -> list[float]:
        """When something died of it."""
        return [self.began, *([self.said["again"]] if "again" in self.said else [])]


class Striker:
    """Strikes a field until it has done enough."""

    def __init__(
        self, field: Field, faults: Sequence[Fault], *, seconds: float, longest: float, patient: bool = True
    ) -> None:
        """`seconds`: over how long the faults shall be spread. `patient`: those that want to be alone are."""
        self._field, self._faults, self._longest, self._patient = field, faults, longest, patient
        self._gap = seconds / max(1, len(faults))
        self.struck: list[Struck] = []

    async def run(self) -> None:
        """All of them; returns when the last one has ended."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        room = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for number, fault in enumerate(self._faults):
                fault.alone = fault.alone and self._patient
                places = _AT_ONCE if fault.alone else 1
                for _ in range(places):
                    await room.acquire()
                pause = began + (number + 0.5) * self._gap - loop.time()
                await asyncio.sleep(max(0.05, pause))
                if fault.alone:
                    await self._field.calm()
                striking = group.create_task(self._strike(fault))
                striking.add_done_callback(lambda _, places=places: _leave(room, places))

    async def _strike(self, fault: Fault) -> None:
        struck = Struck(
            kind=fault.kind,
            name=fault.name,
            began=time.time(),
            kills=fault.kills,
            alone=fault.alone,
            said={},
        )
        self.struck.append(struck)
        struck.said = await fault.begin(self._field)
        struck.name = fault.name  # Some find their victim only when they begin.
        try:
            await asyncio.sleep(min(fault.seconds, self._longest))
        finally:
            struck.said |= await fault.end(self._field)
            struck.ended = time.time()


def _leave(room: asyncio.Semaphore, places: int) -> None:
    for _ in range(places):
        room.release()


def outages(struck: Sequence[Struck]) -> list[Outage]:
    """The deaths that had nothing beside them: of the others nobody knows what kept them away."""
    return [
        Outage(
            process=each.said["victim"],
            at=each.began,
            back=each.began + each.said["back_s"] if each.said["back_s"] is not None else None,
        )
        for each in struck
        if each.alone and "back_s" in each.said
    ]
