"""Messages that wait for an answer, and what a bunch of them asks for."""

from collections.abc import Sequence
from typing import Final

from chassis.ports import Arrival
from contracts.codec import encode
from contracts.messages import (
    Answer,
    CallWait,
    CancelRun,
    DecideApproval,
    Look,
    Message,
    ResolveDoubt,
    RetryRun,
    SendSignal,
    StartRun,
)
from orchestrator.memory import Known


class Envelope:
    """One arrival: answered when every message in it is done."""

    def __init__(self, arrival: Arrival, count: int) -> None:
        self.arrival = arrival
        self._answers: list[Answer | None] = [None] * count
        self._left = count

    def answer(self, place: int, answer: Answer) -> None:
        """Answer the message that stood at this place; the last one sends them all."""
        if self._answers[place] is not None:
            return
        self._answers[place] = answer
        self._left -= 1
        if self._left == 0:
            self.arrival.answer(encode(self._answers) if self.arrival.direct else b"")


class Letter:
    """One message and where its answer goes."""

    __slots__ = ("envelope", "message", "place")

    def __init__(self, message: Message, envelope: Envelope, place: int) -> None:
        self.message = message
        self.envelope = envelope
        self.place = place

    @property
    def direct(self) -> bool:
        """Whether somebody awaits the answer to this very message."""
        return self.envelope.arrival.direct

    def replaces(self, other: "Letter") -> bool:
        """Whether it says the same once more, so that nobody waits for the other. A bundle waits for all that is in it."""
        is_of_another = other.envelope is not self.envelope and not other.direct
        return is_of_another and other.message == self.message

    def answer(self, answer: Answer) -> None:
        self.envelope.answer(self.place, answer)


def start_in(letters: Sequence[Letter]) -> tuple[int, StartRun] | None:
    """The first start among these letters, and its place."""
    for place, letter in enumerate(letters):
        if isinstance(letter.message, StartRun):
            return place, letter.message
    return None


def needs_all(message: Message) -> bool:
    """Whether a tombstone is not enough: to go on with a run, or to say again what it once answered."""
    if isinstance(message, Look) or (isinstance(message, StartRun) and message.parent is not None):
        return True  # Another run may have to be told how it ended.
    return isinstance(message, RetryRun) or (isinstance(message, StartRun) and bool(message.reply))


def is_wished_of(letters: Sequence[Letter]) -> bool:
    """Whether something is wanted of a run that somebody saw: when the log has nothing of it, the archive has."""
    wishes = any(isinstance(letter.message, _WISHES) for letter in letters)
    return wishes and start_in(letters) is None


_WISHES: Final = (RetryRun, CancelRun, ResolveDoubt, SendSignal, CallWait, DecideApproval)


def is_for_the_archive(known: Known, letters: Sequence[Letter]) -> bool:
    """Whether the log alone cannot say what these letters change."""
    if known.version:
        return known.archived and any(needs_all(letter.message) for letter in letters)
    return is_wished_of(letters)
