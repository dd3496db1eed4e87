"""Says messages to the runs' owners: directly while somebody answers, else through INBOX.

Natural batching: one round is under way at a time, and what queues up meanwhile goes in the next one, many messages of a
partition in one call. An answer means that the commit is in RUNS; `QUEUED` means that INBOX has the message on disk.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chassis.ports import Away, Inbox, Signals
from contracts.codec import Malformed, decode_answers, encode, encode_bundle
from contracts.limits import BUNDLE_BYTES, BUNDLE_MESSAGES
from contracts.messages import Answer, Said
from contracts.subjects import call, partition

CALL_SECONDS: Final = 2.0

QUEUED: Final = Answer(run="", result="accepted")
"""INBOX has the message: accepted, but nobody has said yet where its commit lies."""


UNHEARD: Final = Answer(run="", result="refused")
"""Nobody has answered, and nothing was kept."""


class _Letter(Struct, frozen=True, eq=False):
    body: bytes
    answered: asyncio.Future[Answer]
    is_kept: bool = True
    """By INBOX, where nobody answers."""


class Dispatch:
    """One per process. `run` must be running while `send` is awaited."""

    def __init__(self, signals: Signals, inbox: Inbox) -> None:
        self._signals = signals
        self._inbox = inbox
        self._waiting: dict[int, list[_Letter]] = defaultdict(list)
        self._under_way: set[int] = set()
        self._wake = asyncio.Event()

    async def send(self, message: Said) -> Answer:
        """The owner's answer, or `QUEUED`. Raises `Away` when nothing took the message: nothing was accepted.

        Safe to repeat: every message is idempotent at its owner.
        """
        return await self._posted(message, is_kept=True)

    async def ask(self, message: Said) -> Answer | None:
        """The owner's answer; None when nobody answered. The message is stored nowhere, but may have been heard."""
        answer = await self._posted(message, is_kept=False)
        return None if answer is UNHEARD else answer

    async def _posted(self, message: Said, *, is_kept: bool) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        letter = _Letter(encode(message), answered, is_kept)
        self._waiting[partition(message.run)].append(letter)
        self._wake.set()
        return await answered

    async def run(self) -> None:
        """Carry letters for ever, each partition at its own pace: one that is away delays no other."""
        async with asyncio.TaskGroup() as rounds:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for number in self._waiting.keys() - self._under_way:
                    self._under_way.add(number)
                    rounds.create_task(self._round(number, self._waiting.pop(number)))

    async def _round(self, number: int, letters: list[_Letter]) -> None:
        try:
            for bundle in bundles(letters):
                await self._carry(number, bundle)
        finally:
            self._under_way.discard(number)
            self._wake.set()

    async def _carry(self, number: int, letters: list[_Letter]) -> None:
        try:
            answers = await self._ask(number, letters)
        except Away as reason:
            for letter in letters:
                if not letter.answered.done():
                    letter.answered.set_exception(reason)
            return
        for letter, answer in zip(letters, answers, strict=True):
            if not letter.answered.done():
                letter.answered.set_result(answer)

    async def _ask(self, number: int, letters: Sequence[_Letter]) -> Sequence[Answer]:
        body = encode_bundle([letter.body for letter in letters])
        try:
            answers = decode_answers(await self._signals.request(call(number), body, CALL_SECONDS))
            if len(answers) == len(letters):
                return answers
        except (Away, Malformed):
            pass  # Nobody there, too late, or an answer from another release: INBOX keeps it for the owner.
        kept = [letter.body for letter in letters if letter.is_kept]
        if kept:
            await self._inbox.put(number, encode_bundle(kept))
        return [QUEUED if letter.is_kept else UNHEARD for letter in letters]


def bundles(letters: Sequence[_Letter]) -> list[list[_Letter]]:
    """Cut what waits into bundles within the bounds of number and size."""
    cut: list[list[_Letter]] = []
    size = BUNDLE_BYTES
    for letter in letters:
        size += len(letter.body) + 1
        if size > BUNDLE_BYTES or len(cut[-1]) >= BUNDLE_MESSAGES:
            cut.append([])
            size = len(letter.body)
        cut[-1].append(letter)
    return cut
