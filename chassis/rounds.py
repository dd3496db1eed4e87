"""One piece of work for all who ask for it at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from chassis.ports import Away


class Rounds:
    """Has something done in rounds. Who asks is served by a round that begins afterwards, together with all who asked by then.

    Thousands who want the same cost two rounds instead of thousands of questions, and a server that is slow is asked no more
    often for it.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work: Final = work
        self._turn = asyncio.Lock()
        self._begun = self._over = 0
        self._failure: Away | None = None
        """Of the last round that is over."""

    async def one(self) -> None:
        """Wait for a round that begins from now on. Raises what it raised, when that was `Away`."""
        wanted = self._begun + 1
        async with self._turn:
            if self._over < wanted:
                await self._next()
            elif self._failure is not None:
                raise Away(str(self._failure)) from self._failure

    async def _next(self) -> None:
        self._begun = number = self._begun + 1
        try:
            await self._work()
        except Away as away:
            self._over, self._failure = number, away
            raise
        self._over, self._failure = number, None
