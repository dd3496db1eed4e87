"""The simulated outside of every service: what is stored, what is under way, and what goes wrong.

Faults are Temporal's set: refused, timed out and not done, timed out although done; deliveries come twice, late and in
another order; acknowledgements get lost. `calm()` ends them: from then on everything must finish.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from msgspec import Struct

from chassis.ports import Ambiguous, Away
from chassis.testing.loop import PROCESS, SimulatedLoop, name_of

T = TypeVar("T")

START: Final = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


class Rates(Struct, frozen=True, kw_only=True):
    """How often each fault happens, per operation."""

    refused: float = 0.02
    timed_out: float = 0.05
    done_but_timed_out: float = 0.05
    delivered_twice: float = 0.10
    ack_lost: float = 0.10
    signal_lost: float = 0.05
    killed: float = 0.002
    paused: float = 0.002


CALM: Final = Rates(
    refused=0,
    timed_out=0,
    done_but_timed_out=0,
    delivered_twice=0,
    ack_lost=0,
    signal_lost=0,
    killed=0,
    paused=0,
)


class World:
    """One simulated machine room: a loop, chance, and the rates of misfortune."""

    def __init__(self, seed: int, rates: Rates = CALM) -> None:
        self.random = random.Random(seed)  # noqa: S311  # Chance that can be repeated is the point.
        self.loop = SimulatedLoop(self.random)  # type: ignore[abstract]  # What asyncio never asks of it stays away.
        self.rates = rates
        self.faults = 0
        self.kills = 0

    def calm(self) -> None:
        """No more faults: the liveness phase."""
        self.rates = CALM

    def happens(self, rate: float) -> bool:
        """Whether a fault of this rate strikes now."""
        struck = rate > 0 and self.random.random() < rate
        self.faults += struck
        return struck

    async def operation(self, act: Callable[[], T], undone: Callable[[], T] | None = None) -> T:
        """One call of a store: time passes before and after it, and it may fail in any of the three ways.

        `undone`: what may be left of the act when its caller is told that it timed out (half a batch, say).
        """
        await self.moment()
        if self.happens(self.rates.refused):
            raise Away("refused by the simulation")
        if self.happens(self.rates.timed_out):
            if undone is not None:
                undone()
            await asyncio.sleep(self.random.random())
            raise Ambiguous("timed out in the simulation")
        result = act()
        await self.moment()
        if self.happens(self.rates.done_but_timed_out):
            await asyncio.sleep(self.random.random())
            raise Ambiguous("done, but timed out in the simulation")
        return result

    async def moment(self) -> None:
        """A little time passes: others may act, this process may die."""
        await asyncio.sleep(self.random.random() * 0.01)


class SimulatedClock:
    """The loop's time, with an error of its own for every process."""

    def __init__(self, world: World) -> None:
        self._loop = world.loop
        self.skew: dict[str, float] = {}
        """Seconds by which a process' wall clock is wrong."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time() + self.skew.get(name_of(PROCESS.get()), 0.0))

    def seconds(self) -> float:
        return self._loop.time()
