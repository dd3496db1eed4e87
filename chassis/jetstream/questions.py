"""Questions under way: who waits for which answer, under one inbox for the whole process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from chassis.jetstream.wire import status

Reply: TypeAlias = tuple[bytes, bytes]
"""Headers and body of an answer."""
Question: TypeAlias = tuple[str, bytes, bytes]
"""Subject, body and headers of what is asked."""

Send: TypeAlias = Callable[[str, bytes, str, bytes], None]
"""Subject, body, reply subject and headers."""


class Asked:
    """Questions under way that wait for each other: one wake-up for all of them."""

    __slots__ = ("done", "left", "replies")

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.replies: list[Reply | None] = [None] * count
        self.left = count
        self.done = done

    def take(self, place: int, reply: Reply) -> bool:
        """Keep an answer; True when no other comes to this question."""
        self.replies[place] = reply
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)
        return True


class Collected:
    """One question with many answers, the last of which has a status."""

    __slots__ = ("done", "replies")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.replies: list[Reply] = []
        self.done = done

    def take(self, _place: int, reply: Reply) -> bool:
        self.replies.append(reply)
        if not status(reply[0]):
            return False
        if not self.done.done():
            self.done.set_result(None)
        return True


class Questions:
    """Every question has a number; its answer comes to the inbox under it."""

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self._waiting: dict[bytes, tuple[Asked | Collected, int]] = {}
        self._number = 0

    def ask(self, entry: Asked | Collected, questions: Sequence[Question], send: Send) -> list[bytes]:
        """Send them; the tokens by which they can be given up."""
        tokens: list[bytes] = []
        for place, (subject, body, headers) in enumerate(questions):
            self._number += 1
            token = b"%d" % self._number
            tokens.append(token)
            self._waiting[token] = (entry, place)
            send(subject, body, f"{self.inbox}{self._number}", headers)
        return tokens

    def answered(self, subject: bytes, _reply: bytes, headers: bytes, body: bytes) -> None:
        """Heard on the inbox. An answer that comes too late finds nobody."""
        token = subject[len(self.inbox) :]
        waiting = self._waiting.get(token)
        if waiting is not None and waiting[0].take(waiting[1], (headers, body)):
            self._waiting.pop(token, None)

    def give_up(self, tokens: Sequence[bytes]) -> None:
        for token in tokens:
            self._waiting.pop(token, None)

    def lost(self) -> None:
        """No answer comes any more: whoever waits goes on with what is there."""
        for entry, _ in list(self._waiting.values()):
            if not entry.done.done():
                entry.done.set_result(None)
        self._waiting.clear()


async def all_of(collected: Collected, timeout: float) -> None:
    """Raises `TimeoutError` when nothing came for so long; as long as answers come, the time begins anew."""
    while True:
        before = len(collected.replies)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(collected.done)
        except TimeoutError:
            if len(collected.replies) == before:
                raise
