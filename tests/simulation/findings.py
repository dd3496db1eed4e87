"""What the simulation has found and nobody has mended yet. An entry goes when its seeds do not show it any more."""

import re
from typing import Final

from msgspec import Struct

from tests.promises.evidence import Violation


class Finding(Struct, frozen=True, kw_only=True):
    """A promise that is known to be broken."""

    what: str
    looks_like: str
    """A pattern of the violations that it shows itself by."""
    seeds: tuple[int, ...]


OPEN: Final[tuple[Finding, ...]] = (
    Finding(
        what="An executor that stood still for longer than an attempt's timeout while it claimed the call in EFFECTS "
        "gives the attempt up as one that did nothing, although another executor has claimed it and acted.",
        looks_like=r"P5 .* (acted, and the history says that it failed|both acted, and nobody said so)",
        seeds=(208006, 211169, 213080, 222120),
    ),
)


def is_open(violation: Violation) -> bool:
    return any(re.search(finding.looks_like, str(violation)) for finding in OPEN)
