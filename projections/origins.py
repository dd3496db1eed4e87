"""How runs began: from the first commit in the log, or, when that has left it, from the archive."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from chassis.ports import Stored
from contracts.codec import Malformed, Unknown, decode_commit
from contracts.runs import beginning
from contracts.subjects import run as run_subject
from projections.arrived import RunKey
from projections.occurrences import Origin

REMEMBERED: Final = 10_000
Archived: TypeAlias = Callable[[str, str], Awaitable[bytes | None]]
"""The first commit of a run, as the archive has it. Raises `Away`."""


class Beginnings(Protocol):
    """RUNS, as far as first commits go."""

    async def first(self, subjects: Sequence[str]) -> Mapping[str, Stored]:
        """The oldest message of each subject that has one. Raises `Away`."""
        ...


class Origins:
    """Remembers those that it was asked for last."""

    def __init__(self, log: Beginnings, archived: Archived) -> None:
        self._log, self._archived = log, archived
        self._known: OrderedDict[RunKey, Origin | None] = OrderedDict()

    async def of(self, runs: Sequence[RunKey]) -> Mapping[RunKey, Origin | None]:
        """None for a run whose beginning nobody can read any more. Raises `Away`."""
        missing = [key for key in dict.fromkeys(runs) if key not in self._known]
        found = await self._log.first([run_subject(*key) for key in missing]) if missing else {}
        for key in missing:
            stored = found.get(run_subject(*key))
            origin = _origin(stored.body) if stored is not None else None
            if origin is None:
                body = await self._archived(
                    *key
                )  # While it is away nothing is known: not even that there is nothing.
                origin = _origin(body) if body is not None else None
            self._known[key] = origin
        origins = {key: self._known[key] for key in runs}
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return origins


def _origin(body: bytes) -> Origin | None:
    """None where this is no first commit: a history may have left the log up to a seam, or but for its last one."""
    try:
        commit = decode_commit(body)
    except (Malformed, Unknown):
        return None
    start = beginning(commit.events)
    return Origin(start=start, at=commit.time) if start is not None else None
