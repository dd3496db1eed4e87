"""How much is held where: what every orchestrator says about itself, added up. A glance, and no promise."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from msgspec import Struct

from chassis.clock import Clock
from chassis.ports import Signals
from contracts.codec import Decoder, Malformed, encode
from contracts.pauses import Held, HeldAtGates, HeldLane
from contracts.subjects import HELD

log = structlog.get_logger()

SAID_SECONDS: Final = 0.25
"""How often an orchestrator that holds something says so."""
SILENCE_SECONDS: Final = 2.0
CROWD: Final = 4
"""Where all orgs together have so many times what one may have, only who has nothing there begins more."""

AT_GATES: Final = 4
"""So many runs that wait at gates count as much as one attempt that waits: they cost a name, and want nothing done yet."""

_decode: Final = Decoder[Held](Held)


class Announcing:
    """Says what this process holds."""

    def __init__(
        self,
        signals: Signals,
        instance: str,
        lanes: Callable[[], Sequence[HeldLane]],
        gates: Callable[[], Sequence[HeldAtGates]] = tuple,
    ) -> None:
        self._signals, self._instance, self._lanes, self._gates = signals, instance, lanes, gates
        self._said_nothing = True

    async def run(self) -> None:
        """Say it for ever, while there is something to say."""
        while True:
            await asyncio.sleep(SAID_SECONDS)
            self.say()

    def say(self) -> None:
        held = Held(instance=self._instance, lanes=tuple(self._lanes()), gates=tuple(self._gates()))
        if holds(held) or not self._said_nothing:
            self._signals.publish(HELD, encode(held))
        self._said_nothing = not holds(held)


def holds(held: Held) -> bool:
    return bool(held.lanes or held.gates)


class _Heard(Struct, frozen=True):
    held: Held
    at: float


class HeldEverywhere:
    """What was heard lately. `follow` must be running."""

    def __init__(self, signals: Signals, clock: Clock) -> None:
        self._signals, self._clock = signals, clock
        self._heard: dict[str, _Heard] = {}
        self._waiting: dict[str, int] = {}
        self._summed_at = -math.inf

    async def follow(self) -> None:
        async with self._signals.listen(HELD, self._hear):
            await asyncio.Event().wait()

    def _hear(self, _subject: str, body: bytes, _answer: object) -> None:
        try:
            told = _decode(body)
        except Malformed as error:
            log.error("held.malformed", reason=str(error))
            return
        if holds(told):
            self._heard[told.instance] = _Heard(told, self._clock.seconds())
        else:
            self._heard.pop(told.instance, None)

    def _lately(self) -> list[Held]:
        now = self._clock.seconds()
        return [heard.held for heard in self._heard.values() if now - heard.at < SILENCE_SECONDS]

    def of(self, org: str) -> dict[str, HeldLane]:
        """What an org has held, by pool."""
        found: dict[str, HeldLane] = {}
        for lane in (lane for held in self._lately() for lane in held.lanes):
            if lane.org == org:
                before = found.get(lane.pool) or HeldLane(org=org, pool=lane.pool)
                found[lane.pool] = HeldLane(
                    org=org,
                    pool=lane.pool,
                    waiting=before.waiting + lane.waiting,
                    paused=before.paused + lane.paused,
                    out=before.out + lane.out,
                )
        return found

    def crowds(self, org: str, most: int) -> bool:
        """Whether so much of an org waits that it may begin nothing more. What is paused does not count."""
        if not self._heard:
            return False
        if self._clock.seconds() - self._summed_at >= SAID_SECONDS:
            self._sum()
        ours = self._waiting.get(org, 0)
        return ours >= most or (ours > 0 and self.waiting >= CROWD * most)

    @property
    def waiting(self) -> int:
        """Attempts of all orgs that wait for room, and a part of the runs that wait at gates."""
        return sum(self._waiting.values())

    def _sum(self) -> None:
        waiting, at_gates = defaultdict[str, int](int), defaultdict[str, int](int)
        for held in self._lately():
            for lane in held.lanes:
                waiting[lane.org] += lane.waiting
            for each in held.gates:
                at_gates[each.org] += each.waiting
        for org, runs in at_gates.items():
            waiting[org] += runs // AT_GATES
        self._waiting, self._summed_at = waiting, self._clock.seconds()
