"""Has the owners look at runs, and schedules, that should have moved: the net under everything that may get lost on the way.

A shell over ports, so that the simulator runs it too. A look is a message like any other: for a run that is well it
changes nothing, so this may be wrong as often as it likes, but it must never miss a run for good.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

import structlog
from msgspec import Struct

from chassis.clock import Clock
from chassis.ports import Away
from chassis.tasks import side_by_side
from contracts.messages import Answer, CancelRun, Look, Said, ScheduleLook
from projections.figures import Figures

log = structlog.get_logger()

SWEEP_SECONDS: Final = 5.0
FIRST_SWEEPS: Final = (1.0, 1.5, 2.0)
AHEAD_AT_FIRST: Final = timedelta(seconds=28.5)
"""At first a run is due that was still for 1.5 s. A look too many changes nothing, but it has a price: what waits for its time
is not looked at before, however many do (a wake-up that its owner died before arming comes with what it did not answer)."""
PAGE: Final = 500
FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 300.0


class Straggler(Struct, frozen=True):
    """A run that should have moved by now, and its last commit; or a schedule, by its trigger's id."""

    org: str
    run: str
    sequence: int
    unwanted: bool = False
    """A run that goes on, and the one that waited for it does so no longer."""


Key: TypeAlias = tuple[str, str]


class Stragglers(Protocol):
    """Knows who should have moved: still for 30 s without a wait, or 5 s behind a wait, a deadline, or another run."""

    async def due(
        self, at: datetime, after: Key | None, most: int, ahead: timedelta = timedelta()
    ) -> Sequence[Straggler]:
        """Runs that are due at this time, by org and id, beginning behind a key; still ones `ahead` of it."""
        ...


class Sender(Protocol):
    """`chassis.dispatch.Dispatch`, or its like."""

    async def send(self, message: Said) -> Answer: ...

    async def run(self) -> None:
        """Carry what is sent, for ever."""
        ...


def look_at_run(straggler: Straggler) -> Said:
    if straggler.unwanted:
        # Its first opening alone is its parent's: what a person opened again is that person's.
        reason = "The run that waited for this one does so no longer."
        return CancelRun(org=straggler.org, run=straggler.run, actor="sweeper", opening=1, reason=reason)
    return Look(org=straggler.org, run=straggler.run)


def look_at_schedule(straggler: Straggler) -> Said:
    return ScheduleLook(org=straggler.org, run=straggler.run)


class _Looked(Struct, frozen=True):
    sequence: int
    again: float
    pause: float
    ahead: bool
    """It was ahead of the run's time, so it is none for when that has come."""


class Sweeper:
    """Sends looks, to the same standing run less and less often."""

    def __init__(
        self,
        stragglers: Stragglers,
        sender: Sender,
        clock: Clock,
        figures: Figures,
        lag: Callable[[], float] = lambda: 0.0,
        look: Callable[[Straggler], Said] = look_at_run,
    ) -> None:
        self._stragglers, self._sender, self._clock = stragglers, sender, clock
        self._figures, self._lag, self._look_of = figures, lag, look
        self._looked: dict[Key, _Looked] = {}

    async def run(self) -> None:
        """Sweep for ever, and carry what is sent. A store that is away is tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sender.run())
            # We start anew, so others may have died with us, and what they owed: look sooner than at other times.
            for pause in FIRST_SWEEPS:
                await self._sweep_after(pause, ahead=AHEAD_AT_FIRST)
            while True:
                await self._sweep_after(SWEEP_SECONDS)

    async def _sweep_after(self, pause: float, ahead: timedelta = timedelta()) -> None:
        await asyncio.sleep(pause)
        try:
            await self.sweep(ahead)
        except Away as away:
            log.warning("sweep.put-off", reason=str(away))

    async def sweep(self, ahead: timedelta = timedelta()) -> int:
        """One round over all that are due, or are still and will be `ahead` of now; how many looks were sent."""
        # While the rows are behind the log, runs look stiller than they are: judge by the time of the rows.
        at = self._clock.now() - timedelta(seconds=self._lag())
        standing: dict[Key, _Looked] = {}
        sent, after = 0, None
        while page := await self._stragglers.due(at, after, PAGE, ahead):
            after = page[-1].org, page[-1].run
            wanted = [straggler for straggler in page if self._wants(straggler, standing, ahead=bool(ahead))]
            await self._look_at(wanted)
            sent += len(wanted)
        self._looked = standing
        return sent

    def _wants(self, straggler: Straggler, standing: dict[Key, _Looked], *, ahead: bool) -> bool:
        """Whether it is time for a look; what stands still is remembered either way."""
        key, now = (straggler.org, straggler.run), self._clock.seconds()
        before = self._looked.get(key)
        if before is None or before.sequence != straggler.sequence or before.ahead > ahead:
            pause = FIRST_PAUSE
        elif now < before.again:
            standing[key] = before
            return False
        else:
            pause = min(before.pause * 2, LONGEST_PAUSE)
        standing[key] = _Looked(straggler.sequence, now + pause, pause, ahead)
        return True

    async def _look(self, straggler: Straggler) -> None:
        await self._sender.send(self._look_of(straggler))

    async def _look_at(self, stragglers: Sequence[Straggler]) -> None:
        """All at once: the dispatch makes bundles of what is waiting."""
        await side_by_side(self._look(straggler) for straggler in stragglers)
        self._figures.looks += len(stragglers)
