"""How long to wait before asking again a part of the system that is away: for ever, in bounded pauses."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from chassis.ports import Away

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0


async def insist(call: Callable[[], Awaitable[T]], away: type[Exception] = Away) -> T:
    """The call's answer, however long it takes. Only for calls that may be repeated after an unknown outcome."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await call()
        except away:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
