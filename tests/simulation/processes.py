"""The processes of an installation, and what befalls them: kills, pauses, orderly stops, clocks that jump."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from msgspec import structs

from chassis.testing.lives import Life, Process, current
from chassis.testing.world import SimulatedClock, World
from tests.promises.evidence import Outage

DRAIN_SECONDS: Final = 12.0
HOUR: Final = 3600.0
JUMPS: Final = (-HOUR, -120.0, 0.0, 120.0, 120.0, HOUR)
LONGEST_PAUSE: Final = 6.0


class Stop:
    """Tells a process that it shall end in order."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    def request(self) -> None:
        self._asked.set()

    async def wait(self) -> None:
        await self._asked.wait()


Main = Callable[[Stop], Coroutine[Any, Any, None]]


class Processes:
    """Starts processes, and starts them again whatever ended them, as a supervisor does."""

    def __init__(self, world: World, clock: SimulatedClock) -> None:
        self._world = world
        self._clock = clock
        self._mains: dict[str, Main] = {}
        self._stops: dict[str, Stop] = {}
        self._must_end: dict[str, float] = {}
        """By when a process that was asked to stop must have done so; time in which it was paused does not count."""
        self._halted = False
        self.kills = 0
        self.stops = 0
        self.cut_off: list[str] = []
        """Processes that were asked to stop and did not."""
        self.outages: dict[str, list[Outage]] = {}
        world.loop.misfortune = self._strike

    def start(self, name: str, main: Main) -> None:
        if name in self._mains:
            return
        self._mains[name] = main
        self._spawn(name)

    @property
    def all_are_back(self) -> bool:
        return all(of_name[-1].back is not None for of_name in self.outages.values())

    def calm(self) -> None:
        """Nothing befalls anybody any more, and the clocks are right again."""
        self._world.calm()
        self._clock.skew.clear()

    def power_cut(self) -> None:
        """Every process dies at once, and comes again."""
        for name in self._mains:
            if self._world.loop.process(name).life is not None:
                self.kills += 1
                self._kill(name)

    def halt(self) -> None:
        """Switch everything off, until `resume`."""
        self._halted = True
        for name in self._mains:
            self._world.loop.kill(name)

    def resume(self, but: Collection[str] = ()) -> None:
        """Switch on what is off, but for some."""
        self._halted = False
        for name in self._mains:
            if name not in but:
                self._spawn(name)

    def _spawn(self, name: str) -> None:
        if self._halted or self._world.loop.process(name).life is not None:
            return
        stop = self._stops[name] = Stop()
        self._must_end.pop(name, None)
        self._world.loop.spawn(name, self._run(name, stop))
        self._world.plan_misfortune(self._world.loop.process(name))

    async def _run(self, name: str, stop: Stop) -> None:
        of_name = self.outages.get(name)
        if of_name and of_name[-1].back is None:
            of_name[-1] = structs.replace(of_name[-1], back=self._world.loop.time())
        await self._mains[name](stop)
        self._world.loop.call_in("", 0.0, self._ended, name, current())

    def _ended(self, name: str, life: Life) -> None:
        if life.alive:
            self._kill(name)

    def _kill(self, name: str) -> None:
        self._world.loop.kill(name)
        of_name = self.outages.setdefault(name, [])
        if not of_name or of_name[-1].back is not None:  # Else it was not yet back from the last time.
            of_name.append(Outage(process=name, at=self._world.loop.time()))
        self._world.loop.call_in("", 0.1 + self._world.random.random(), self._spawn, name)

    def _strike(self, process: Process) -> None:
        world, life = self._world, process.life
        kind = world.misfortune(process)
        if life is not None and kind:
            match kind:
                case "killed":
                    self.kills += 1
                    self._kill(process.name)
                case "paused":
                    seconds = world.measure().random() ** 2 * LONGEST_PAUSE
                    world.loop.pause(process.name, seconds)
                    if process.name in self._must_end:
                        self._must_end[process.name] += seconds
                    of_name = self.outages.get(process.name)
                    if of_name and of_name[-1].back is None:
                        # It stood still on its way back: that time is not the supervisor's.
                        of_name[-1] = structs.replace(of_name[-1], at=of_name[-1].at + seconds)
                case "stopped":
                    self._stop(process.name, life)
                case "clock_jumped":
                    self._clock.skew[process.name] = world.measure().choice(JUMPS)
        world.plan_misfortune(process)

    def _stop(self, name: str, life: Life) -> None:
        self.stops += 1
        self._must_end[name] = self._world.loop.time() + DRAIN_SECONDS
        self._world.loop.call_in(life, 0.0, self._stops[name].request)
        self._world.loop.call_in("", DRAIN_SECONDS, self._cut_off, name, life)

    def _cut_off(self, name: str, life: Life) -> None:
        if not life.alive:
            return
        left = self._must_end[name] - self._world.loop.time()
        if left > 0:
            self._world.loop.call_in("", left, self._cut_off, name, life)
            return
        self.cut_off.append(name)
        self._kill(name)
