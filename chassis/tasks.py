"""Task groups that never lose a cancellation.

Before Python 3.13 a group whose tasks fail while it is cancelled raises their errors, and the cancellation is forgotten
(CPython issue 116720): whoever takes the errors for a reason to try again could not be stopped any more. Nor can the
group's own task tell: a group leaves its own cancellation behind in it. So the group gets a task of its own.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from chassis.ports import Away

T = TypeVar("T")


async def heedful(work: Coroutine[Any, Any, T]) -> T:
    """Await work that has groups in it. Who is cancelled meanwhile is cancelled, whatever the work makes of it."""
    caller = asyncio.current_task()
    assert caller is not None  # noqa: S101  # Only a task can await us.
    before = caller.cancelling()
    try:
        return await asyncio.create_task(work)  # noqa: TID251  # Awaited here, whatever happens.
    finally:
        if caller.cancelling() > before:
            raise asyncio.CancelledError


async def side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await all. The first that raises `Away` ends the others, and is raised from here; other errors come in a group."""

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)

    away: Away | None = None
    try:
        await heedful(all_of_them())
    except* Away as aways:
        away = Away(str(aways.exceptions[0]))
    if away is not None:
        raise away
