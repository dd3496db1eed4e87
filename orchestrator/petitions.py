"""What runs have to say to gates once it is recorded: let me in, and I have left.

All of it follows from the histories and may be said twice. What gets lost on the way is said again when somebody looks at the
run; a gate that waits for somebody to leave asks those inside whether they are still there, and a run that is not says so.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from contracts.gates import SlotWanted
from contracts.messages import Answer, AskSlot, FreeSlot, GiveSlot
from contracts.runs import RunCancelled, RunCompleted, RunEvent, RunFailed, SlotTaken, WaitOpened
from orchestrator.memory import Known
from orchestrator.passing import is_inside, leaving, left, question
from orchestrator.run import Run

Say: TypeAlias = Callable[[AskSlot | FreeSlot], Coroutine[Any, Any, Answer | None]]
ENDS: Final = (RunCompleted, RunFailed, RunCancelled)
HEARD_AT_GATES: Final = (WaitOpened, SlotTaken, *ENDS)
"""After other events there is nothing to say."""


class Petitions:
    """Speaks for the runs of the partitions that this process owns, to the owners of their gates."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def after(
        self, before: Known, known: Known, events: Sequence[RunEvent], tasks: asyncio.TaskGroup
    ) -> None:
        """What a commit asks for: to be let in, or that others may be."""
        for event in events:
            if isinstance(event, WaitOpened):
                if event.slot is not None and event.wait in known.run.waits:
                    self._ask(known, event, tasks)
            elif isinstance(event, SlotTaken):
                self._leave(known, left(known.run), tasks)
            elif isinstance(event, ENDS):
                self._leave(known, [*left(known.run), *_stood_at(before.run)], tasks)

    def again(self, known: Known, tasks: asyncio.TaskGroup) -> None:
        """All that the state asks for: somebody looked, and nobody knows what of it was heard."""
        for wait in known.run.waits.values() if known.run.active else ():
            self._ask(known, wait, tasks)
        self._leave(known, left(known.run), tasks)

    def given(self, known: Known, message: GiveSlot, tasks: asyncio.TaskGroup) -> None:
        """A gate says that it has let the run in, which is nothing new: it hears whether that is over."""
        run = known.run
        if run.opening >= message.opening and is_inside(run, message):
            return
        if run.opening < message.opening and run.active:
            return  # Whoever opens it anew asks anew.
        gone = FreeSlot(
            org=message.org,
            run=message.gate,
            trace=known.trace,
            holder=message.run,
            opening=message.opening,
        )
        tasks.create_task(self._say(gone))

    def _ask(self, known: Known, wait: WaitOpened, tasks: asyncio.TaskGroup) -> None:
        asked = question(known.run, wait, known.trace)
        if asked is not None:
            tasks.create_task(self._say(asked))

    def _leave(self, known: Known, slots: Sequence[SlotWanted], tasks: asyncio.TaskGroup) -> None:
        for slot in slots:
            tasks.create_task(self._say(leaving(known.run, slot, known.trace)))


def _stood_at(before: Run) -> list[SlotWanted]:
    """A gate may let it in although it waits no longer."""
    return [wait.slot for wait in before.waits.values() if wait.slot is not None]
