"""Which faults there are, and how often each is drawn."""

import random
from collections.abc import Callable
from typing import Final, TypeAlias

from deploy.testing.installation import SERVICES
from tests.chaos import faults, input_faults, network_faults, pausing_faults, pool_faults
from tests.chaos.faults import Fault

Maker: TypeAlias = Callable[[random.Random], Fault]
_STAND: Final = (*SERVICES, *SERVICES, "nats", "postgres", "redis")


def _stopped(chance: random.Random) -> Fault:
    seconds = chance.choice((1, 2, 4, 6, 10, 20)) * chance.uniform(0.7, 1.0)
    return faults.Stopped(chance.choice(_STAND), seconds if chance.random() > 0.03 else 60.0)


def _clock(chance: random.Random) -> Fault:
    service = chance.choice(SERVICES)
    shifts = ("+5s", "-5s", "+2s", "-2s") if service == "orchestrator" else ("+5s", "-5s", "-1h", "+10d")
    return faults.Clock(service, chance.choice(shifts), chance.uniform(2, 8))


DECK: Final[tuple[tuple[str, int, Maker], ...]] = (
    ("F1", 9, lambda chance: faults.Kill("F1", SERVICES, chance)),
    ("F1", 10, faults.Crash),
    ("F2", 6, lambda chance: faults.Kill("F2", ("nats",), chance)),
    ("F3", 2, lambda chance: faults.Kill("F3", ("postgres",), chance)),
    ("F3", 2, faults.Backend),
    ("F4", 2, lambda chance: faults.Kill("F4", ("redis",), chance)),
    ("F4", 1, lambda _: faults.Emptied()),
    ("F5", 6, _stopped),
    ("F6", 6, network_faults.partition),
    ("F7", 6, network_faults.bad_line),
    ("F13", 18, _clock),
    ("F15", 2, input_faults.Duplicates),
    ("F15", 1, lambda _: input_faults.Replay()),
    ("F16", 1, input_faults.Poison),
    ("F17", 1, input_faults.Values),
    ("F18", 1, lambda chance: input_faults.NeverReads(chance.uniform(5, 15))),
    ("F19", 2, lambda _: faults.Rolling()),
    ("F20", 1, lambda _: faults.SecondSupervisor()),
    ("F20", 1, lambda chance: faults.SecondOrchestrator(chance.uniform(4, 12))),
    ("F24", 3, pool_faults.WorkerKilled),
    ("F25", 3, lambda _: pool_faults.SentHome()),
    ("F26", 4, pausing_faults.Paused),
)


def drawn(chance: random.Random, count: int, only: tuple[str, ...], *, clock: bool) -> list[Fault]:
    """Whole decks, shuffled, so that no kind is left out by chance."""
    cards = [
        make
        for kind, weight, make in DECK
        for _ in range(weight)
        if (not only or kind in only) and (clock or kind != "F13")
    ]
    found: list[Fault] = []
    while len(found) < count:
        chance.shuffle(cards)
        found += [make(chance) for make in cards]
    return found[:count]
