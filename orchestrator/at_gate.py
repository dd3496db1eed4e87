"""What one process has heard at one gate: who asks to be let in, who has left, and what of it nobody has been answered."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from contracts.messages import Answer, AskSlot, FreeSlot, GateLook, ToGate

Reply: TypeAlias = Callable[[Answer], None]
Key: TypeAlias = tuple[str, str]
"""An org and a gate of it."""


class AtGate:
    """Forgotten with the process: the runs ask again."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.tasks = tasks
        """What is said to runs is said beside what is heard: a run may lie in the gate's own partition, and one that is away
        keeps no other one waiting."""
        self.telling: set[str] = set()
        """To whom something is being said."""
        self.asking: dict[str, AskSlot] = {}
        """By run: the newest opening that asks."""
        self.left: dict[str, int] = {}
        """By run: up to which opening it has left."""
        self.letters: list[tuple[AskSlot | FreeSlot, Reply]] = []
        """Heard, and not answered yet."""
        self.looks: list[tuple[GateLook, Reply]] = []
        """Answered when those who are next were asked: until then INBOX has them."""
        self.stirred = asyncio.Event()
        self.next_asked = 0
        """Which of those inside is asked next whether it is there."""
        self.asked_at = 0.0
        self.doubted: set[str] = set()
        """Who is to be sent away, once those inside have had time to say that they are gone."""
        self.is_new = True
        """Nobody has been asked yet of those of whom GATES says that they are next."""
        self.recalls: tuple[str, ...] = ()
        """Who was just told to ask again, if it waits."""
        self.woken: datetime | None = None
        """For when INBOX has a wake-up for this gate, as far as this process armed one."""
        self.told: set[str] = set()
        """Who knows that another run stands for it."""
        self.is_unsettled = False
        """Somebody stands for others, and not all of them know it."""
        self.counted = 0
        """So many of those who ask are counted among all."""

    @property
    def is_idle(self) -> bool:
        """Nothing is left to do at it."""
        return not (self.asking or self.letters or self.looks or self.recalls or self.is_unsettled)

    def take_in(self) -> int:
        """Hear every letter, again and again until it is answered; how many there are."""
        for message, _ in self.letters:
            self._hear(message)
        return len(self.letters)

    def settled(self, left: dict[str, int]) -> None:
        """It is recorded that these have left."""
        for holder, opening in left.items():
            if self.left[holder] == opening:
                del self.left[holder]

    def answer(self, heard: int) -> None:
        """Answer the first so many letters."""
        answered, self.letters = self.letters[:heard], self.letters[heard:]
        _reply(answered)

    def answer_looks(self, looks: Sequence[tuple[GateLook, Reply]]) -> None:
        """Answer those of these that nobody has answered."""
        answered = [each for each in self.looks if any(each is look for look in looks)]
        self.looks = [each for each in self.looks if not any(each is look for look in looks)]
        _reply(answered)
        if self.is_idle:
            self.stirred.set()

    def _hear(self, message: AskSlot | FreeSlot) -> None:
        if isinstance(message, FreeSlot):
            self.left[message.holder] = max(message.opening, self.left.get(message.holder, 0))
            asking = self.asking.get(message.holder)
            if asking is not None and asking.opening <= message.opening:
                del self.asking[message.holder]
            return
        if message.opening <= self.left.get(message.holder, 0):
            return
        before = self.asking.get(message.holder)
        if before is None or before.opening <= message.opening:
            self.asking[message.holder] = message


def _reply(answered: Sequence[tuple[ToGate, Reply]]) -> None:
    for message, reply in answered:
        reply(Answer(run=message.run, result="accepted"))
