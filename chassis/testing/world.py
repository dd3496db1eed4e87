"""The simulated outside of every service: what is stored, what is under way, and what goes wrong.

Faults are Temporal's set: refused, timed out and not done, timed out although done (now or a little later); deliveries
come twice, late and in another order; acknowledgements get lost; servers restart. `calm()` ends them: from then on
everything must finish.

Every fault has a name: what kind of thing it struck, in which process, and the how-manieth of them it was. A schedule can
be played again with some of its faults only, and chance for anything else does not notice.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import log
from typing import Any, Final, TypeVar

from msgspec import Struct

from chassis.ports import Ambiguous, Away
from chassis.testing.lives import Life, Process, current
from chassis.testing.loop import SimulatedLoop

T = TypeVar("T")

START: Final = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


class Rates(Struct, frozen=True, kw_only=True):
    """How often each fault strikes: per operation, per message, per step of a process, per second."""

    refused: float = 0.02
    timed_out: float = 0.03
    done_later: float = 0.02
    done_but_timed_out: float = 0.05
    delivered_twice: float = 0.10
    ack_lost: float = 0.10
    signal_lost: float = 0.05
    stale: float = 0.05
    """A process remembers less than it knew."""
    killed: float = 0.006
    paused: float = 0.008
    stopped: float = 0.002
    clock_jumped: float = 0.001
    restarted: float = 0.03
    """The servers, and with them every connection."""
    power_cut: float = 0.02
    """A restart after which what was acknowledged before it was on disk (tasks, and their acknowledgements) is gone."""
    database_died: float = 0.02
    """Postgres alone comes back without its newest transactions: they were not on disk yet."""
    unpinned: float = 0.05
    """A partition is handed to another owner although this one lives."""
    servers_clock_jumped: float = 0.01
    """The clock by which wake-ups are sent is an hour ahead or behind from now on."""
    poisoned: float = 0.02
    """Something that nobody can read lies in INBOX."""


CALM: Final = Rates(**dict.fromkeys(Rates.__struct_fields__, 0.0))


class Fault(Struct, frozen=True, order=True):
    """One misfortune. The first three fields are its name."""

    family: str
    process: str
    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.family}:{self.process}:{self.number}:{self.kind}"


_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "operation": ("refused", "timed_out", "done_later", "done_but_timed_out"),
    "delivery": ("delivered_twice",),
    "ack": ("ack_lost",),
    "signal": ("signal_lost",),
    "memory": ("stale",),
    "step": ("killed", "paused", "stopped", "clock_jumped"),
    "second": ("restarted", "power_cut", "unpinned", "servers_clock_jumped", "poisoned", "database_died"),
}


_NEVER: Final = 2**62


class _Count:
    """How many of one kind of thing one process did, and the how-manieth is struck next."""

    __slots__ = ("due", "number")

    def __init__(self) -> None:
        self.number = 0
        self.due = _NEVER


class World:
    """One simulated machine room: a loop, chance, and the rates of misfortune."""

    def __init__(self, seed: int, rates: Rates = CALM, only: Collection[Fault] | None = None) -> None:
        """`only`: these faults strike and no others, whatever the rates are."""
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  # Chance that can be repeated is the point.
        self.loop = SimulatedLoop(self.random)  # type: ignore[abstract]  # What asyncio never asks of it stays away.
        self.struck: list[tuple[float, Fault]] = []
        self.struck_at: Counter[tuple[str, str]] = Counter()
        """Which stores the faults of operations have struck, by kind."""
        self.down_until = 0.0
        self.after_restart: list[Callable[[], None]] = []
        """What the servers do when they are there again."""
        self._chance = random.Random(f"{seed}/faults")  # noqa: S311  # Seeded on purpose.
        self._only = None if only is None else {(f.family, f.process, f.number): f.kind for f in only}
        self._counts: dict[tuple[str, str], _Count] = {}
        self._is_calm = rates == CALM and only is None
        self._odds = {
            family: list(zip(accumulate(getattr(rates, kind) for kind in kinds), kinds, strict=True))
            for family, kinds in _FAMILIES.items()
        }

    def calm(self) -> None:
        """No more faults: the liveness phase."""
        self._is_calm = True
        for process in self.loop.processes.values():
            process.due = _NEVER

    @property
    def down(self) -> bool:
        """Whether the servers cannot be reached."""
        return self.loop.time() < self.down_until

    # --- Faults -------------------------------------------------------------------------------

    def strikes(self, family: str) -> str:
        """Which fault of this family strikes the running process now; empty for none."""
        if self._is_calm:
            return ""
        process = self.running()
        count = self._counts.get((family, process))
        if count is None:
            count = self._counts[family, process] = _Count()
            count.due = self._next(family, process, 0)
        count.number += 1
        if count.number < count.due:
            return ""
        count.due = self._next(family, process, count.number)
        return self._strike(family, process, count.number)

    def _next(self, family: str, process: str, after: int) -> int:
        """The how-manieth of this family is the next to be struck in this process."""
        if self._only is not None:
            named = (n for of, name, n in self._only if of == family and name == process)
            return min((n for n in named if n > after), default=_NEVER)
        rate = self._odds[family][-1][0]
        return after + 1 + int(log(1.0 - self._chance.random()) / log(1.0 - rate)) if rate > 0 else _NEVER

    def _strike(self, family: str, process: str, number: int) -> str:
        if self._only is not None:
            kind = self._only.get((family, process, number), "")
        else:
            odds = self._odds[family]
            drawn = self._chance.random() * odds[-1][0]
            kind = next(name for bound, name in odds if drawn < bound)
        if kind:
            self.struck.append((self.loop.time(), Fault(family, process, number, kind)))
        return kind

    def running(self) -> str:
        """The process whose code is running; empty for the simulation's own."""
        try:
            return current().name
        except LookupError:
            return ""

    def plan_misfortune(self, process: Process) -> None:
        """Decide at which of its steps a process is struck next."""
        process.due = _NEVER if self._is_calm else self._next("step", process.name, process.steps)

    def misfortune(self, process: Process) -> str:
        """Which fault strikes a process at this step, where one was planned; empty when all is calm by now."""
        return "" if self._is_calm else self._strike("step", process.name, process.steps)

    def measure(self) -> random.Random:
        """Chance for the size of the fault that struck last: the same in every schedule that has this fault."""
        return random.Random(f"{self.seed}/{self.struck[-1][1]}")  # noqa: S311  # Seeded on purpose.

    def restart_servers(self, seconds: float) -> None:
        """Nobody is answered for a while; then every connection is a new one."""
        self.down_until = self.loop.time() + seconds
        for act in self.after_restart:
            self.loop.call_in("", seconds, act)

    # --- Operations ---------------------------------------------------------------------------

    async def operation(
        self,
        act: Callable[[], T],
        undone: Callable[[], object] | None = None,
        refusals: Sequence[type[Away]] = (Away,),
    ) -> T:
        """One call of a store: it travels there and back, and may fail on its way in any of the ways.

        What has left a process happens although the process died meanwhile. `undone`: what may be left of the act when
        its caller is told that it timed out (half a batch, say). `refusals`: as what a refusal may come.
        """
        kind = self.strikes("operation")
        if kind:
            self.struck_at[act.__qualname__.partition(".")[0], kind] += 1
        if kind == "refused" or self.down:
            await self.moment()
            raise self.random.choice(refusals)("refused by the simulation")
        answered = _Answered(self, act, undone, kind)
        self.loop.call_in("", self.random.random() * 0.01, answered.arrive)
        result: T = await answered.future
        return result

    async def moment(self) -> None:
        """A little time passes: others may act, this process may die."""
        future = self.loop.create_future()
        self.loop.resolve_in(current(), self.random.random() * 0.01, future, None)
        await future


class _Answered:
    """One operation under way: what the servers do with it, and what its caller hears of it."""

    __slots__ = ("act", "future", "kind", "life", "undone", "world")

    def __init__(
        self, world: World, act: Callable[[], Any], undone: Callable[[], object] | None, kind: str
    ) -> None:
        self.world = world
        self.act = act
        self.undone = undone
        self.kind = kind
        self.life: Life = current()
        self.future = world.loop.create_future()

    def arrive(self) -> None:
        """At the servers."""
        if self.kind == "timed_out" or self.world.down:
            if self.undone is not None:
                self.undone()
            self._fail("timed out in the simulation")
        elif self.kind == "done_later":
            self.world.loop.call_in("", self.world.random.random() * 3, self._late)
            self._fail("timed out in the simulation, and done later")
        else:
            self._do()

    def _do(self) -> None:
        try:
            result = self.act()
        except Exception as error:
            self._answer(error)
            return
        if self.kind:
            self._fail("done, but timed out in the simulation")
        else:
            self._answer(result)

    def _late(self) -> None:
        """Whatever comes of it now, nobody waits for it any more."""
        if not self.world.down:
            with suppress(Exception):
                self.act()

    def _fail(self, reason: str) -> None:
        world = self.world
        world.loop.resolve_in(self.life, world.random.random(), self.future, Ambiguous(reason))

    def _answer(self, result: object) -> None:
        world = self.world
        world.loop.resolve_in(self.life, world.random.random() * 0.01, self.future, result)


class SimulatedClock:
    """The loop's time, with an error of its own for every process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.skew: dict[str, float] = {}
        """Seconds by which a process' wall clock is wrong."""

    def now(self) -> datetime:
        seconds = self._world.loop.time()
        if self.skew:
            seconds += self.skew.get(self._world.running(), 0.0)
        return START + timedelta(seconds=seconds)

    def seconds(self) -> float:
        return self._world.loop.time()
