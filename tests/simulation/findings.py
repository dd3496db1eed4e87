"""What the simulation has found and nobody has mended yet. An entry goes when its seeds do not show it any more."""

import re
from typing import Final

from msgspec import Struct

from tests.simulation.evidence import Violation


class Finding(Struct, frozen=True, kw_only=True):
    """A promise that is known to be broken."""

    what: str
    looks_like: str
    """A pattern of the violations that it shows itself by."""
    seeds: tuple[int, ...]


OPEN: Final[tuple[Finding, ...]] = ()


def is_open(violation: Violation) -> bool:
    return any(re.search(finding.looks_like, str(violation)) for finding in OPEN)
