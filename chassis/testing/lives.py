"""Processes of a simulation: each a name, under which one life after the other is lived."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Final, Literal

Happening = Literal["killed", "paused", "resumed"]

_NEVER: Final = sys.maxsize


class Handle(list[Any]):
    """As much of `asyncio.Handle` and `TimerHandle` as asyncio asks for: callback, arguments, life, context, moment.

    These are made thousands of times a schedule, and a list is made without a line of Python.
    """

    __slots__ = ()

    def cancel(self) -> None:
        self[0] = None
        self[1] = ()

    def cancelled(self) -> bool:
        return self[0] is None

    def when(self) -> float:
        moment: float = self[4]
        return moment


class Process:
    """A name under which one life after the other is lived."""

    __slots__ = ("due", "life", "name", "steps")

    def __init__(self, name: str) -> None:
        self.name = name
        self.life: Life | None = None
        self.steps = 0
        """Callbacks run in all its lives: the time that its misfortunes are counted in."""
        self.due = _NEVER
        """The step at which `SimulatedLoop.misfortune` is called."""


class Life:
    """One process from its start to its death."""

    __slots__ = (
        "alive",
        "context",
        "idle",
        "number",
        "paused_until",
        "process",
        "queue",
        "tasks",
        "watchers",
    )

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self.number = number
        self.alive = True
        self.idle = True
        """It could go on and has nothing to do: not so while it is listed as runnable, paused or dead."""
        self.paused_until = 0.0
        self.queue: deque[Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.watchers: list[Callable[[Happening], None]] = []
        """Told when the life is killed, paused or resumed, as the other end of a connection would notice it."""
        self.context = Context()
        self.context.run(LIFE.set, self)

    @property
    def name(self) -> str:
        return self.process.name

    def __repr__(self) -> str:
        return f"{self.name}#{self.number}"

    def end(self) -> None:
        """Dead: what is queued for it from now on goes nowhere."""
        self.alive = self.idle = False
        self.queue = deque(maxlen=0)


LIFE: Final[ContextVar[Life]] = ContextVar("life")


def current() -> Life:
    """Whose code is running. Raises `LookupError` outside a simulation."""
    return LIFE.get()
