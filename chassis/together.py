"""What many ask at the same time is asked in one call: natural batching, no timer.

One round is under way at a time. Whoever comes meanwhile waits for its turn, and the first to have it takes all that waits
along. An error of a round is everybody's who was in it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis.ports import Ambiguous

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """`act` answers several questions, in their order; `most` are asked at once."""

    def __init__(self, act: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], most: int) -> None:
        self._act, self._most = act, most
        self._turn = asyncio.Lock()
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []

    async def ask(self, question: Q) -> A:
        answered: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answered))
        async with self._turn:
            if not answered.done():
                await self._round()
        return await answered

    async def _round(self) -> None:
        taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            answers = await self._act([question for question, _ in taken])
        except BaseException as error:
            # Who was cancelled is cancelled alone; what became of the others' wishes nobody knows.
            told = error if isinstance(error, Exception) else Ambiguous("whoever asked for all was stopped")
            for _, answered in taken:
                if not answered.done():
                    answered.set_exception(told)
                    answered.exception()  # Heard by whoever still awaits it.
            if not isinstance(error, Exception):
                raise
            return
        for (_, answered), answer in zip(taken, answers, strict=True):
            if not answered.done():
                answered.set_result(answer)
