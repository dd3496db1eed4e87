"""What the simulation has found and nobody has mended yet. An entry goes when its seeds do not show it any more."""

import re
from typing import Final

from msgspec import Struct

from tests.simulation.promises import Violation


class Finding(Struct, frozen=True, kw_only=True):
    """A promise that is known to be broken."""

    what: str
    looks_like: str
    """A pattern of the violations that it shows itself by."""
    seeds: tuple[int, ...]


OPEN: Final[tuple[Finding, ...]] = (
    Finding(
        what="An executor says that an attempt which must not be repeated blindly did nothing (let go, or out of time "
        "before its call) although another executor has claimed it in EFFECTS. The step is then made again "
        "without doubt.",
        looks_like=r"P5 .* (acted, and the history says that it (did not|failed)|both acted, and nobody said so)",
        seeds=(154, 186),
    ),
)


def is_open(violation: Violation) -> bool:
    return any(re.search(finding.looks_like, str(violation)) for finding in OPEN)
