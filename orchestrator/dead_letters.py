"""What nobody here can handle: kept for a person, and refused to whoever sent it."""

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Final

import structlog

from chassis.ports import Away, Letters
from contracts.codec import Malformed, encode
from contracts.errors import Failure
from contracts.messages import Answer, Message
from contracts.subjects import INBOX, NOBODY, dead_letter
from orchestrator.letters import Envelope, Letter

log = structlog.get_logger()

PAUSE: Final = 0.2
UNREADABLE: Final = "unreadable"


class DeadLetters:
    """Stores them, however long that takes: a message is refused only when it is kept."""

    def __init__(self, letters: Letters, counts: MutableMapping[str, int]) -> None:
        self._letters, self._counts = letters, counts

    async def keep(self, message: Message, reason: str) -> None:
        await self._store(dead_letter(INBOX, message.org, message.run), encode(message), reason)

    async def refuse_malformed(
        self, envelope: Envelope, place: int, malformed: Malformed, body: bytes
    ) -> None:
        """Bytes that are no message; all that came with them is kept."""
        await self._store(dead_letter(INBOX, NOBODY, UNREADABLE), body, str(malformed))
        error = Failure(code="poison", message=str(malformed))
        envelope.answer(place, Answer(run="", result="refused", error=error))

    async def refuse_unreadable(self, letter: Letter, needs_release: str) -> None:
        """A message for a run that this release cannot read is kept until one can: it is driven again then."""
        reason = f"needs release ≥ {needs_release}"
        await self.keep(letter.message, reason)
        refuse([letter], Failure(code="run.parked", message=reason))

    async def _store(self, subject: str, body: bytes, reason: str) -> None:
        self._counts["dead_letters"] += 1
        while True:
            try:
                await self._letters.store(subject, body, {"reason": reason.replace("\n", " ")[:500]})
            except Away as away:
                log.warning("dead-letter.not-stored", subject=subject, reason=str(away))
                await asyncio.sleep(PAUSE)
            else:
                return


def refuse(letters: Sequence[Letter], error: Failure) -> None:
    """No commit comes of these letters, and none will: there is no history that could say so."""
    for letter in letters:
        letter.answer(Answer(run=letter.message.run, result="refused", error=error))
