"""The simulated inbox: what lies in each partition, who owns it, and which timers are set.

It loses, doubles and reorders as the real one may: a message comes again unless it was acknowledged, and an owner who was
paused or lost its pin goes on believing for a while that it owns.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from chassis.ports import Arrival, Away
from chassis.testing.lives import Happening, current
from chassis.testing.signals import MemorySignals
from chassis.testing.world import START, World
from contracts.codec import encode
from contracts.limits import PARTITIONS
from contracts.messages import Timed
from contracts.subjects import call, partition, timer

__all__ = ["MemoryInbox", "MemoryOwnership", "MemorySignals"]

PIN_SECONDS: Final = 1.5
REDELIVERY_SECONDS: Final = 5.0
"""Shorter than the real inbox's, so that a schedule sees many."""
_TOLD_SECONDS: Final = 0.005
_REMEMBERED: Final = 20
_NOTICES_SECONDS: Final = 0.5
"""By when an owner whose pin is gone has been told so."""


class _Letter:
    """One message in a partition of INBOX."""

    __slots__ = ("body", "deliveries", "number", "seen_in")

    def __init__(self, number: int, body: bytes) -> None:
        self.number = number
        self.body = body
        self.deliveries = 0
        self.seen_in = 0
        """The term in which it was delivered last."""


class _Arrival(Struct, eq=False):
    partition: int
    body: bytes
    direct: bool
    deliveries: int
    answer: Callable[[bytes], None]


class MemoryInbox:
    """INBOX: what lies in each partition, who owns it, and which timers are set."""

    def __init__(self, world: World, *, ack_all: bool = False) -> None:
        """`ack_all`: acknowledging a message acknowledges all before it, and a take-over begins behind what was delivered.

        JetStream can do that; it loses messages. Here it shows that the checker notices.
        """
        self._world = world
        self._ack_all = ack_all
        self.letters: list[dict[int, _Letter]] = [{} for _ in range(PARTITIONS)]
        self.timers: dict[str, tuple[float, int, Timed]] = {}
        self.owners: dict[int, MemoryOwnership] = {}
        self.terms = [0] * PARTITIONS
        """How often each partition was taken over; what was delivered in an earlier term is not heard."""
        self._pulled = [False] * PARTITIONS
        self._candidates: list[MemoryOwnership] = []
        self._acknowledged: deque[tuple[int, _Letter]] = deque(maxlen=_REMEMBERED)
        self._numbers = itertools.count(1)
        world.after_restart.append(self._restarted)

    # --- The sending side ---------------------------------------------------------------------

    async def put(self, partition: int, bundle: bytes) -> None:
        await self._world.operation(lambda: self.lay(partition, bundle))

    async def look(self, partition: int, org: str, run: str, message: bytes) -> None:
        await self._world.operation(lambda: self.lay(partition, message))

    async def wake_at(self, wakes: Sequence[tuple[Timed, datetime]]) -> None:
        def act() -> None:
            for wake, due in wakes:
                at, number = (due - START).total_seconds(), next(self._numbers)
                subject = timer(wake.org, wake.run, wake.wait)
                self.timers[subject] = (at, number, wake)
                self._world.loop.call_in(
                    "", max(0.0, at - self._world.loop.time()), self._fire, subject, number
                )

        await self._world.operation(act)

    def clock_jumped(self, seconds: float) -> None:
        """The server's clock is wrong from now on: what is due by it comes at once, or so much later."""
        for subject, (at, _, wake) in list(self.timers.items()):
            number = next(self._numbers)
            self.timers[subject] = (at - seconds, number, wake)
            due = max(self._world.random.random(), at - seconds - self._world.loop.time())
            self._world.loop.call_in("", due, self._fire, subject, number)

    def _fire(self, subject: str, number: int) -> None:
        timer_ = self.timers.get(subject)
        if timer_ is None or timer_[1] != number:
            return
        if self._world.down:
            self._world.loop.call_in("", 1.0, self._fire, subject, number)
            return
        del self.timers[subject]
        self.lay(partition(timer_[2].run), encode(timer_[2]))

    def lay(self, number: int, body: bytes) -> None:
        """Store a message in a partition."""
        for _ in range(2 if self._world.strikes("delivery") else 1):
            letter = _Letter(next(self._numbers), body)
            self.letters[number][letter.number] = letter
            self._deliver(number, letter)

    # --- Delivery -----------------------------------------------------------------------------

    def _deliver(self, number: int, letter: _Letter) -> None:
        owner = self.owners.get(number)
        if owner is None or not self._pulled[number] or letter.number not in self.letters[number]:
            return
        world, term = self._world, self.terms[number]
        if world.down:
            return
        letter.deliveries += 1
        letter.seen_in = term
        world.loop.call_in(owner.life, world.random.random() * 0.01, owner.heard, number, term, letter)
        world.loop.call_in("", REDELIVERY_SECONDS, self._deliver_again, number, letter, letter.deliveries)

    def _deliver_again(self, number: int, letter: _Letter, deliveries: int) -> None:
        if letter.deliveries == deliveries:
            self._deliver(number, letter)

    def acknowledge(self, number: int, letter: _Letter) -> None:
        if self._world.down or self._world.strikes("ack"):
            return
        lying = self.letters[number]
        if lying.pop(letter.number, None) is not None:
            self._acknowledged.append((number, letter))
        if self._ack_all:
            for older in [old for old in lying.values() if old.number < letter.number and old.deliveries]:
                del lying[older.number]

    # --- Owners -------------------------------------------------------------------------------

    def register(self, ownership: "MemoryOwnership") -> None:
        """A process asks for partitions, for ever: it gets those that are free or become so."""
        self._candidates.append(ownership)
        ownership.life.watchers.append(lambda happening: self._noticed(ownership, happening))
        self._assign_all()

    def _noticed(self, ownership: "MemoryOwnership", happening: Happening) -> None:
        if happening == "killed":
            self._candidates.remove(ownership)
        if happening == "resumed":
            self._assign_all()
        else:
            self._world.loop.call_in("", PIN_SECONDS, self._silent, ownership)

    def _silent(self, ownership: "MemoryOwnership") -> None:
        if not ownership.breathes:
            for number in [number for number, owner in self.owners.items() if owner is ownership]:
                self.unpin(number)

    def unpin(self, number: int) -> None:
        """Take a partition from its owner, who notices it a little later, and give it to whoever asks."""
        owner = self.owners.pop(number, None)
        if owner is not None:
            delay = self._world.random.random() * _NOTICES_SECONDS
            self._world.loop.call_in(owner.life, delay, owner.lost, number, self.terms[number])
        self._pulled[number] = False
        self._world.loop.call_in("", self._world.random.random() * 0.2, self._assign, number)

    def _assign_all(self) -> None:
        if len(self.owners) < PARTITIONS:
            self._world.loop.call_in("", self._world.random.random() * 0.1, self._assign_free)

    def _assign_free(self) -> None:
        for number in range(PARTITIONS):
            self._assign(number)

    def _assign(self, number: int) -> None:
        willing = [
            candidate for candidate in self._candidates if candidate.breathes and not candidate.released
        ]
        if number not in self.owners and willing:
            self.owners[number] = self._world.random.choice(willing)
            self.begin(number, self.owners[number])

    def begin(self, number: int, owner: "MemoryOwnership") -> None:
        """A new term: its owner subscribes first, then pulls; then everything that lies there comes anew."""
        if self.owners.get(number) is owner:
            self.terms[number] += 1
            self._pulled[number] = False
            # As long for one as for the next: what is taken over together is told together.
            self._world.loop.call_in(owner.life, _TOLD_SECONDS, owner.took, number, self.terms[number])

    def pull(self, number: int, term: int) -> None:
        if self.terms[number] == term and number in self.owners:
            self._pulled[number] = True
            letters = list(self.letters[number].values())
            if self._ack_all:
                letters = [letter for letter in letters if not letter.deliveries]
            self._world.random.shuffle(letters)
            for letter in letters:
                self._deliver(number, letter)

    def power_cut(self) -> None:
        """No message is lost; of what was acknowledged last, some was not yet on disk and comes again."""
        for number, letter in self._acknowledged:
            if self._world.random.random() < 0.3:
                self.letters[number][letter.number] = letter
        self._acknowledged.clear()

    def _restarted(self) -> None:
        """Pins and delivery counts are gone; what was acknowledged is acknowledged."""
        for number in range(PARTITIONS):
            for letter in self.letters[number].values():
                letter.deliveries = 0
            self.unpin(number)


class MemoryOwnership:
    """One orchestrator's claim on partitions. Create it inside the process that it stands for."""

    def __init__(self, world: World, inbox: MemoryInbox, signals: MemorySignals) -> None:
        self._world = world
        self._inbox = inbox
        self._signals = signals
        self._arrived: deque[Arrival | int | None] = deque()
        self._any = asyncio.Event()
        self._believed: dict[int, int] = {}
        """The partitions that we believe to own, and since which term."""
        self._unsubscribe: dict[int, Callable[[], None]] = {}
        self.released = False
        self.life = current()

    @property
    def breathes(self) -> bool:
        """Whether the servers hear from this process."""
        return self.life.alive and self.life.paused_until <= self._world.loop.time()

    @property
    def owned(self) -> list[int]:
        return list(self._believed)

    async def arrivals(self) -> AsyncIterator[Sequence[Arrival] | int]:
        self._inbox.register(self)
        while True:
            await self._any.wait()
            bunch: list[Arrival] = []
            while self._arrived:
                arrived = self._arrived.popleft()
                if isinstance(arrived, _Arrival):
                    bunch.append(arrived)
                    continue
                if bunch:
                    yield bunch
                    bunch = []
                if arrived is None:
                    return
                yield arrived  # type: ignore[misc]  # A number: no other arrival is not an `_Arrival`.
            self._any.clear()
            if bunch:
                yield bunch

    def _put(self, arrived: Arrival | int | None) -> None:
        self._arrived.append(arrived)
        self._any.set()

    def took(self, number: int, term: int) -> None:
        """A partition is ours from this term on."""
        if self.released or self._inbox.terms[number] != term:
            return
        self._believe(number, term)
        self._put(number)
        self._world.loop.call_in("", self._world.random.random() * 0.01, self._inbox.pull, number, term)

    def lost(self, number: int, term: int) -> None:
        """The servers say that a partition is not ours any more."""
        if self._believed.get(number) == term:
            self._disbelieve(number)

    def _believe(self, number: int, term: int) -> None:
        self._disbelieve(number)
        self._believed[number] = term

        def heard(_subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
            if self._believed.get(number) == term:
                self._put(_Arrival(number, body, direct=True, deliveries=1, answer=answer))

        self._unsubscribe[number] = self._signals.subscribe(call(number), heard)

    def _disbelieve(self, number: int) -> None:
        self._believed.pop(number, None)
        self._unsubscribe.pop(number, lambda: None)()

    def heard(self, number: int, term: int, letter: _Letter) -> None:
        """A message from INBOX; what was sent in an earlier term of ours is not listened to."""
        if self._believed.get(number) != term:
            return

        def acknowledge(_: bytes) -> None:
            delay = self._world.random.random() * 0.01
            self._world.loop.call_in("", delay, self._inbox.acknowledge, number, letter)

        self._put(
            _Arrival(
                number, letter.body, direct=False, deliveries=max(1, letter.deliveries), answer=acknowledge
            )
        )

    async def forget(self) -> None:
        believed = list(self._believed)
        for number in believed:
            self._disbelieve(number)
        self._arrived = deque(arrived for arrived in self._arrived if arrived is None)
        await self._world.moment()
        for number in believed:
            self._inbox.begin(number, self)

    async def caught_up(self, partition: int) -> None:
        term = self._believed.get(partition)
        lying = list(self._inbox.letters[partition].values())
        while any(
            letter.seen_in != term and letter.number in self._inbox.letters[partition] for letter in lying
        ):
            if term is None or self._believed.get(partition) != term:
                break
            await asyncio.sleep(0.05)
        await self._world.moment()
        if term is None or self._believed.get(partition) != term:
            raise Away("the partition is another's")

    async def release(self) -> None:
        self.released = True
        for number in list(self._believed):
            self._disbelieve(number)
            if self._inbox.owners.get(number) is self:
                self._inbox.unpin(number)
        self._put(None)
