"""Strikes: faults drawn from a deck by a seed, one or two at a time, each written down with when it began and ended."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from tests.chaos.faults import DECK, Fault
from tests.chaos.field import Field

_OVERLAP: Final = 0.25
"""How often the next fault does not wait for the end of the one before."""


class Struck(Struct, kw_only=True):
    """A fault that happened."""

    kind: str
    name: str
    began: float
    ended: float = 0.0
    kills: bool = False
    said: dict[str, Any] = {}


class Striker:
    """Strikes a field until it has done enough."""

    def __init__(
        self, field: Field, seed: str, *, faults: int, seconds: float, only: Sequence[str] = ()
    ) -> None:
        """`seconds`: over how long the faults shall be spread. `only`: kinds to draw from; empty: all."""
        self._field = field
        self._random = random.Random(f"{seed}/faults")
        self._faults = faults
        self._gap = seconds / max(1, faults)
        self._deck = [
            (weight, make) for weight, make in DECK if not only or make(random.Random(0)).kind in only
        ]
        self.struck: list[Struck] = []

    async def run(self) -> None:
        """All of them; returns when the last one has ended."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            before: asyncio.Task[None] | None = None
            for number, fault in enumerate(self._drawn()):
                pause = began + (number + self._random.uniform(0.2, 0.8)) * self._gap - loop.time()
                await asyncio.sleep(max(0.05, pause))
                if before is not None and self._random.random() > _OVERLAP:
                    await asyncio.wait((before,))
                before = group.create_task(self._strike(fault))

    def _drawn(self) -> list[Fault]:
        """Whole decks first, so that no kind is left out by chance."""
        cards = [make for weight, make in self._deck for _ in range(weight)]
        drawn: list[Fault] = []
        while len(drawn) < self._faults:
            self._random.shuffle(cards)
            drawn += [make(self._random) for make in cards]
        return drawn[: self._faults]

    async def _strike(self, fault: Fault) -> None:
        struck = Struck(kind=fault.kind, name=fault.name, began=time.time(), kills=fault.kills, said={})
        self.struck.append(struck)
        struck.said = await fault.begin(self._field)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            struck.said |= await fault.end(self._field)
            struck.ended = time.time()
