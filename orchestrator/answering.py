"""Who told a run something hears what came of it: in the answer to the letter, and as the response that a caller waits for."""

import asyncio

from chassis.ports import Log
from contracts.messages import GiveSlot, StartRun
from contracts.runs import Parent
from orchestrator.answers import Replies, answer_for, fits, responded_of, without_response
from orchestrator.family import Family
from orchestrator.judge import Proposed
from orchestrator.memory import Known


class Answering:
    """An answer means that the commit is in RUNS. `family`: None where no run starts another one."""

    def __init__(self, *, history: Log, replies: Replies, family: Family | None) -> None:
        self._log = history
        self._replies = replies
        self._family = family

    def settle(self, proposed: Proposed, known: Known, tasks: asyncio.TaskGroup) -> None:
        """Behind a commit, which may have said the run's response."""
        self.answer(proposed, known, tasks)
        self._replies.settle(known)

    def answer(self, proposed: Proposed, known: Known, tasks: asyncio.TaskGroup) -> None:
        epoch = self._log.epoch
        for letter, verdict in zip(proposed.letters, proposed.verdicts, strict=True):
            message = letter.message
            if isinstance(message, StartRun) and message.reply and responded_of(known) is None:
                self._replies.await_answer(known.run.id, message.reply)
            answer = answer_for(letter, known, epoch, changed=verdict.changed, refused=verdict.refused)
            said = answer.responded
            if isinstance(message, StartRun) and said is not None and not (letter.direct and fits(said)):
                self._replies.tell(message.reply, said)
                answer = without_response(answer)
            letter.answer(answer)
            if isinstance(message, GiveSlot) and not verdict.changed and self._family is not None:
                self._family.given(known, message, tasks)
            if isinstance(message, StartRun) and message.parent is not None and not verdict.changed:
                self._tell_parent(known, message.parent, tasks)

    def _tell_parent(self, known: Known, parent: Parent, tasks: asyncio.TaskGroup) -> None:
        """It asks again, so it may not have heard how the run ended."""
        if self._family is not None:
            self._family.tell(known, parent, tasks)
