"""What a start must know that no log tells: whether its run once was, and has left whole.

Asked of the archive's ids beside the cycles, one question for all starts that wait; while nobody can say they wait on.
"""

import asyncio
from collections import defaultdict
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from chassis.clock import Clock
from chassis.past import Horizon, PastRun, RunIds, may_be_past
from contracts.messages import StartRun
from orchestrator.inputs import NotReady
from orchestrator.memory import Known
from orchestrator.run import Run

VALID_SECONDS: Final = 60.0
"""What was learnt counts for so long."""
_AT_ONCE: Final = 1_000


class _Learnt(Struct, frozen=True):
    found: PastRun | None
    at: float


class Past:
    """Asks in groups, and remembers until the run was decided."""

    def __init__(self, run_ids: RunIds, horizon: Horizon, clock: Clock) -> None:
        self._run_ids, self._horizon, self._clock = run_ids, horizon, clock
        self._learnt: dict[str, _Learnt] = {}
        self._wanted: dict[str, set[str]] = defaultdict(set)
        self._asking = asyncio.Lock()

    def known(self, known: Known, start: StartRun, now: datetime) -> Known:
        """What is known of the run, its past included. Raises `NotReady` when the archive must be asked first."""
        if not known.version:
            if not may_be_past(start, self._horizon, now.timestamp()):
                return known
            found = self._found(start)
            return known if found is None else past(start.org, found)
        if known.archived and start.request is not None and known.run.request is None:
            # Only the tombstone is at hand, and it does not say which request asked for the run.
            found = self._found(start)
            if found is not None:
                return structs.replace(known, run=structs.replace(known.run, request=found.request))
        return known

    def is_past(self, run_id: str) -> bool:
        """Whether the archive has named the run just now."""
        learnt = self._learnt.get(run_id)
        return learnt is not None and learnt.found is not None

    async def ask(self, org: str, run_id: str) -> None:
        """Learn of this run, and with it of all that wait. Raises `Away`."""
        wanted = self._wanted[org]
        wanted.add(run_id)
        async with self._asking:
            if run_id not in wanted:
                return  # Whoever asked before us asked for us too.
            runs = [run_id, *(each for each in wanted if each != run_id)][:_AT_ONCE]
            at = self._clock.seconds()
            found = await self._run_ids.find(org, runs)
            wanted.difference_update(runs)
            self._forget_old()
            for each in runs:
                self._learnt[each] = _Learnt(found.get(each), at)

    async def remembered(self, unknown: Known) -> Known:
        """The run, when the archive knows at least its id. Raises `Away`."""
        org, run_id = unknown.run.org, unknown.run.id
        found = (await self._run_ids.find(org, [run_id])).get(run_id)
        return unknown if found is None else past(org, found)

    def release(self, run_id: str) -> None:
        """The run was decided."""
        self._learnt.pop(run_id, None)

    def _found(self, start: StartRun) -> PastRun | None:
        learnt = self._learnt.get(start.run)
        if learnt is None or self._clock.seconds() - learnt.at > VALID_SECONDS:
            raise NotReady(past=(start.org, start.run))
        return learnt.found

    def _forget_old(self) -> None:
        oldest = self._clock.seconds() - VALID_SECONDS
        for run_id in [run_id for run_id, learnt in self._learnt.items() if learnt.at < oldest]:
            del self._learnt[run_id]


def past(org: str, found: PastRun) -> Known:
    """A run of which nothing is left but its id: it has ended, and nothing that is said to it changes that."""
    run = Run(
        org=org,
        id=found.run,
        status="archived",
        phase="completed",
        opening=1,
        receipt=found.receipt,
        request=found.request,
    )
    return Known(
        run=run,
        version=found.version,
        hash=found.hash,
        receipt=found.receipt,
        archived=True,
        gone=True,
    )
