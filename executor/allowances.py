"""How much one process keeps of what a run says, whatever many attempts the run has."""

from collections import OrderedDict
from typing import Final

from contracts.limits import LOG_RUN_BYTES, LOG_RUN_LINES

RUNS: Final = 10_000
"""So many are remembered, the last that spoke."""


class Allowance:
    """Of one run."""

    def __init__(self) -> None:
        self._lines, self._bytes = LOG_RUN_LINES, LOG_RUN_BYTES
        self._told = 0
        self.missing = 0
        """Lines that were not kept."""

    def take(self, size: int) -> bool:
        """Room for one line of this size. Where one found none, no later one does: what is kept has no holes."""
        if self.missing or self._lines < 1 or self._bytes < size:
            self.missing += 1
            return False
        self._lines -= 1
        self._bytes -= size
        return True

    def to_tell(self) -> int:
        """How many are missing, each time that has doubled: seldom enough to be kept beyond the bound."""
        if self.missing < max(1, 2 * self._told):
            return 0
        self._told = self.missing
        return self.missing


class Allowances:
    """Of the runs that spoke last. One that is forgotten and speaks again begins anew."""

    def __init__(self) -> None:
        self._of: OrderedDict[tuple[str, str], Allowance] = OrderedDict()

    def of(self, org: str, run: str) -> Allowance:
        key = (org, run)
        found = self._of.get(key)
        if found is None:
            found = self._of[key] = Allowance()
            if len(self._of) > RUNS:
                self._of.popitem(last=False)
        self._of.move_to_end(key)
        return found
