"""What runs have to say to each other, and to gates, once it is recorded: a parent asks for a child, or wants it no more; a child tells its end.

All of it follows from the histories and may be said twice. What gets lost on the way is said again when somebody looks at
the parent; the sweeper has those looked at that wait for a run which is over or was never there, and stops runs that nobody
waits for any more.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from chassis.ports import Away
from contracts.messages import Answer, CancelRun, ChildOver, GiveSlot, Said
from contracts.runs import (
    ChildAsked,
    ChildBegan,
    ChildEnded,
    HandlerAsked,
    Parent,
    RunEvent,
)
from orchestrator.kinship import beginning_of, end_of, is_awaited, start_of, start_of_handler
from orchestrator.memory import Known
from orchestrator.petitions import ENDS, HEARD_AT_GATES, Petitions
from orchestrator.run import Run

log = structlog.get_logger()

FIRST: Final = 1
"""The opening of a child that its parent has a say in: what a person opened again is that person's."""


class Sender(Protocol):
    """`chassis.dispatch.Dispatch`, or its like."""

    async def send(self, message: Said) -> Answer: ...


class Family:
    """Speaks for the runs of the partitions that this process owns, to the owners of their parents and children."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._petitions = Petitions(self._say)
        self.counts: dict[str, int] = defaultdict(int)

    def after(
        self, before: Known, known: Known, events: Sequence[RunEvent], tasks: asyncio.TaskGroup
    ) -> None:
        """What a commit asks for: new children, an end for those that nobody waits for any more, a word to the parent."""
        run, kinds = known.run, set(map(type, events))
        for event in events if ChildAsked in kinds else ():
            if isinstance(event, ChildAsked):
                self._begin(known, event, tasks)
        if before.run.children:
            self._let_go_of_some(before, known, events, tasks)
        if run.parent is not None and not kinds.isdisjoint(ENDS):
            self.tell(known, run.parent, tasks)
        if HandlerAsked in kinds:
            self._handle(known, tasks)
        if not kinds.isdisjoint(HEARD_AT_GATES):
            self._petitions.after(before, known, events, tasks)

    def _let_go_of_some(
        self, before: Known, known: Known, events: Sequence[RunEvent], tasks: asyncio.TaskGroup
    ) -> None:
        """Of the children for which the run waited before these events."""
        run = known.run
        heard = {event.child for event in events if isinstance(event, ChildBegan | ChildEnded)}
        for asked in before.run.children.values():
            if asked.waits and asked.child not in heard and _is_let_go(before.run, run, asked):
                tasks.create_task(self._let_go(known, asked))

    def again(self, known: Known, tasks: asyncio.TaskGroup) -> None:
        """All that the state asks for: somebody looked, and nobody knows what of it was heard."""
        for asked in known.run.children.values():
            if is_awaited(known.run, asked):
                tasks.create_task(self._ask(known, asked))
            elif asked.waits:
                tasks.create_task(self._let_go(known, asked))
        self._handle(known, tasks)
        self._petitions.again(known, tasks)

    def given(self, known: Known, message: GiveSlot, tasks: asyncio.TaskGroup) -> None:
        """A gate asks whether the run is still inside."""
        self._petitions.given(known, message, tasks)

    def _handle(self, known: Known, tasks: asyncio.TaskGroup) -> None:
        """Ask for the runs of its error workflow that were to be told when the run failed, and when it had failed before."""
        for asked in known.run.handlers:
            self.counts["handled"] += 1
            tasks.create_task(self._say(start_of_handler(known.run, asked, known.trace)))

    def tell(self, known: Known, parent: Parent, tasks: asyncio.TaskGroup) -> None:
        """Tell the parent how the run ended, if it has."""
        message = end_of(known.run, parent, known.trace, gone=known.gone)
        if message is not None:
            tasks.create_task(self._say(message))

    def _begin(self, known: Known, asked: ChildAsked, tasks: asyncio.TaskGroup) -> None:
        run = known.run
        if run.children.get(asked.step) != asked:
            return
        if is_awaited(run, asked):
            tasks.create_task(self._ask(known, asked))
        elif asked.waits:
            # It was asked for and let go in one commit: nobody has ever heard of it.
            told = ChildOver(
                org=run.org,
                run=run.id,
                trace=known.trace,
                step=asked.step,
                child=asked.child,
                outcome="cancelled",
            )
            tasks.create_task(self._say(told))

    async def _ask(self, known: Known, asked: ChildAsked) -> None:
        answer = await self._say(start_of(known.run, asked, known.trace))
        if answer is None or answer.result == "refused":
            return
        self.counts["asked"] += 1
        if not asked.waits:
            await self._say(beginning_of(known.run, asked, known.trace))

    async def _let_go(self, known: Known, asked: ChildAsked) -> None:
        run = known.run
        answer = await self._say(
            CancelRun(
                org=run.org,
                run=asked.child,
                trace=known.trace,
                actor=f"run:{run.id}",
                opening=FIRST,
                reason="The run that waited for this one does so no longer.",
            )
        )
        self.counts["let_go"] += 1
        if answer is not None and answer.error is not None and answer.error.code == "run.ended":
            await self._say(start_of(run, asked, known.trace))  # It has ended before: it tells us once more.

    async def _say(self, message: Said) -> Answer | None:
        """None: nobody took it. Whoever looks next says it again."""
        try:
            answer = await self._sender.send(message)
        except Away as away:
            self.counts["unsaid"] += 1
            log.warning("family.unsaid", run=message.run, reason=str(away))
            return None
        if answer.result == "refused" and answer.error is not None:
            log.info("family.refused", run=message.run, code=answer.error.code)
        return answer


def _is_let_go(before: Run, run: Run, asked: ChildAsked) -> bool:
    """Whether the run waited for the child until now."""
    return is_awaited(before, asked) and not is_awaited(run, asked)
