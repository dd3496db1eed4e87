"""Where mutants are played: the simulation's own storm, and stages that are rougher or stricter in one respect.

A stage that looks closer does so where its own faults leave no innocent explanation: every stage stays silent about the
unchanged code, and the crew checks that at every seed that has killed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from msgspec import Struct, structs

from chassis.testing.world import CALM, Rates
from contracts.codec import Malformed
from tests.mutants.closer_looks import (
    attempts_happen_once,
    deadlines_are_kept,
    over_is_over,
    told_apart,
    told_once,
)
from tests.mutants.extreme_stories import (
    asking,
    contained,
    crowded,
    doubtful,
    eager,
    followed,
    hurried,
    keyed,
    kindred,
    large,
    nested,
    next_door_to,
    polled,
    renewed,
    repeated,
    shared,
    slow,
    sound,
    talking,
    timed,
    together,
    undoing,
)
from tests.mutants.rough_surroundings import (
    Apart,
    LostTasks,
    LostWakes,
    Restarts,
    Retiring,
    SlowInbox,
    Strange,
    Stubborn,
    Told,
    Unswept,
    old_shapes,
)
from tests.promises.evidence import Evidence, Violation
from tests.simulation.installation import Installation
from tests.simulation.schedule import STORM, lived, quiet
from tests.simulation.workflows import Story, story

__all__ = ["STAGES", "Seen", "quiet"]


class Seen(Struct, frozen=True, kw_only=True):
    """What came of one schedule."""

    violations: Sequence[Violation]
    texts: Sequence[bytes]
    """Where a mistake of the mutant's own would show: violations, stored commits, reasons of dead letters."""


Stage = Callable[[int], Seen]
Judge = Callable[[Installation, Evidence], Sequence[Violation]]


def played(installation: Installation, judge: Judge | None = None) -> Seen:
    """Play an installation to its end."""
    try:
        schedule, evidence = lived(installation)
    except Malformed as malformed:
        return Seen(violations=[Violation("P10", f"a history cannot be read: {malformed}")], texts=())
    violations = list(schedule.violations)
    if judge is not None and not violations:
        violations += judge(installation, evidence)
    if not violations:
        return Seen(violations=(), texts=())
    texts = [str(violation).encode() for violation in violations]
    texts += [stored.body for stored in evidence.messages]
    texts += [repr(headers).encode() for _, _, headers in installation.dead.stored]
    return Seen(violations=violations, texts=texts)


def staged(
    made: Callable[[int, Story, Rates], Installation] = Installation,
    rates: Rates = STORM,
    told: Callable[[int], Story] = story,
    judge: Judge | None = None,
) -> Stage:
    """A stage with these faults, these stories and these surroundings."""
    return lambda seed: played(made(seed, told(seed), rates), judge)


def within(surroundings: Callable[[], AbstractContextManager[None]], stage: Stage) -> Stage:
    """The same stage, while something holds for the whole process."""

    def surrounded(seed: int) -> Seen:
        with surroundings():
            return stage(seed)

    return surrounded


# --- Faults ------------------------------------------------------------------------------------

_ON_THE_WAY: Final = structs.replace(
    CALM,
    **{
        name: getattr(STORM, name)
        for name in (
            "refused",
            "timed_out",
            "done_but_timed_out",
            "delivered_twice",
            "ack_lost",
            "signal_lost",
        )
    },
    stale=0.05,
    stopped=0.002,
    poisoned=0.02,
)
"""What befalls messages, and nothing that befalls servers or clocks, whatever else the storm learns."""
NOBODY_OVERTAKEN: Final = structs.replace(_ON_THE_WAY, killed=0.01)

NO_SERVERS_FAIL: Final = structs.replace(
    _ON_THE_WAY, killed=0.04, paused=0.006, unpinned=0.05, done_later=0.02
)
ONLY_RESTARTS: Final = structs.replace(CALM, restarted=0.6)


STAGES: Final[Mapping[str, Stage]] = {
    "storm": staged(),
    "calm": staged(rates=CALM),
    "a closer look": staged(told=eager),
    "nothing goes wrong": staged(rates=CALM, told=sound, judge=attempts_happen_once),
    "in a hurry": staged(rates=CALM, told=hurried, judge=deadlines_are_kept),
    "told once": staged(Told, NOBODY_OVERTAKEN, eager, told_once),
    "unswept": staged(Unswept, NO_SERVERS_FAIL, keyed),
    "unswept, with clocks that jump": staged(
        Unswept, structs.replace(NO_SERVERS_FAIL, killed=0.01, clock_jumped=0.004), keyed
    ),
    "restarts": staged(Restarts, ONLY_RESTARTS, slow, judge=over_is_over),
    "stubborn nodes": staged(Stubborn, structs.replace(STORM, stopped=0.0)),
    "a slow inbox": staged(SlowInbox, NOBODY_OVERTAKEN, eager, told_once),
    "by the clock": staged(rates=structs.replace(STORM, killed=0.02), told=timed),
    "by polls": staged(rates=structs.replace(STORM, killed=0.02), told=polled),
    "by events": staged(rates=structs.replace(STORM, killed=0.02), told=followed),
    "maps and loops": staged(told=contained),
    "in each other": staged(told=nested),
    "next door": staged(rates=structs.replace(STORM, killed=0.02), told=next_door_to),
    "shared gates": staged(rates=structs.replace(STORM, killed=0.02), told=shared),
    "a second version": staged(rates=structs.replace(STORM, signal_lost=0.2), told=renewed),
    "run again": staged(told=repeated),
    "talks": staged(told=talking),
    "people speak first": staged(told=asking),
    "undoing": staged(rates=structs.replace(STORM, signal_lost=0.2), told=undoing),
    "families": staged(rates=structs.replace(STORM, signal_lost=0.2), told=kindred),
    "many items": staged(told=crowded),
    "together": staged(rates=structs.replace(STORM, signal_lost=0.4, killed=0.02), told=together),
    "in doubt": staged(told=doubtful),
    "late stores": staged(rates=structs.replace(STORM, done_later=0.3, done_but_timed_out=0.1), told=sound),
    "lost tasks": staged(LostTasks),
    "lost wake-ups": staged(LostWakes),
    "standing still": staged(rates=structs.replace(STORM, paused=0.03), told=eager),
    "large answers": staged(told=large),
    "told apart": staged(Apart, told=sound, judge=told_apart),
    "old shapes": within(old_shapes, staged()),
    "early retirement": staged(Retiring, told=eager),
    "strange values": staged(Strange, told=sound),
}
