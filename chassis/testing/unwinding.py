"""How the tasks of a simulation end: in no list of asyncio's, and unwound though nobody will resume them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from weakref import WeakSet

_MOST: Final = 50
"""How often a task may await on its way out."""


@contextmanager
def unlisted_tasks() -> Iterator[None]:
    """No list of all tasks, which asyncio keeps and nobody here asks for; it costs a twentieth of a schedule."""
    listed = getattr(asyncio.tasks, "_scheduled_tasks", getattr(asyncio.tasks, "_all_tasks", None))
    if not isinstance(listed, WeakSet):
        yield
        return
    vars(listed)["add"] = _ignore
    try:
        yield
    finally:
        del vars(listed)["add"]


def _ignore(_task: object) -> None:
    return


class _Over(BaseException):
    """The schedule is over."""


def unwind(task: "asyncio.Task[Any]") -> None:
    """Unwind a task that nobody will resume, however often it awaits on its way out."""
    if task.done():
        return
    coroutine = task.get_coro()
    with suppress(BaseException):
        for _ in range(_MOST):
            coroutine.throw(_Over)
