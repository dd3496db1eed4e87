"""Where mutants are played: the simulation's own storm, and stages that are rougher in one respect."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from chassis.testing.world import CALM, Rates
from tests.promises.evidence import Violation
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


def played(installation: Installation) -> Seen:
    """Play an installation to its end."""
    schedule, evidence = lived(installation)
    if not schedule.violations:
        return Seen(violations=(), texts=())
    texts = [str(violation).encode() for violation in schedule.violations]
    texts += [stored.body for stored in evidence.messages]
    texts += [repr(headers).encode() for _, _, headers in installation.dead.stored]
    return Seen(violations=schedule.violations, texts=texts)


def staged(rates: Rates = STORM, told: Callable[[int], Story] = story) -> Stage:
    """A stage with these faults and these stories."""
    return lambda seed: played(Installation(seed, told(seed), rates))


STAGES: Final[Mapping[str, Stage]] = {
    "storm": staged(),
    "calm": staged(CALM),
}
