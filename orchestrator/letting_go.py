"""Has the attempts of a run end that stops, although the signal for it is stored nowhere.

Half a minute later whoever has such an attempt has let go of it. A task that still asks for one then lies in a pool that
nobody serves, or that is held: it is taken out, because nothing else ever would.
"""

import asyncio
from contextlib import suppress
from typing import Final

from contracts.messages import CancelAttempts
from orchestrator.emission import Emission
from orchestrator.memory import Known

PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before the signal is said again: an executor that reconnects at that moment did not hear it."""


class LettingGo:
    """Says it again for half a minute, also when the run has ended by then."""

    def __init__(self, emission: Emission) -> None:
        self._emission = emission
        self._told: dict[str, CancelAttempts] = {}
        self._asked: dict[str, set[str]] = {}
        """By run the tasks of all attempts that were told to end."""
        self._over = asyncio.Event()

    def begin(self, known: Known, tasks: asyncio.TaskGroup) -> None:
        """Tell every executor that the run's open attempts shall end."""
        told = self._emission.let_go(known)
        if told is None:
            return
        is_new = told.run not in self._told
        self._told[told.run] = told
        self._asked.setdefault(told.run, set()).update(self._emission.asked_for(known))
        if is_new:
            tasks.create_task(self._say_again(told.run))

    def end(self) -> None:
        """Say nothing again: the partitions are another's."""
        self._over.set()

    async def _say_again(self, run_id: str) -> None:
        try:
            for pause in PAUSES:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._over.wait()
                        return
                self._emission.tell(self._told[run_id])
            await self._emission.forget(self._asked[run_id])
        finally:
            del self._told[run_id], self._asked[run_id]
