"""An event loop without machine time: one seed is one schedule.

Rules that hold here:
  * a *process* is whatever was spawned under one name; within a process callbacks run in the order in which asyncio
    queued them, between processes the seed decides;
  * time passes only when nobody can go on: it jumps to the next timer;
  * a killed process runs no further line, not even a `finally`; a paused one goes on later as if nothing had happened.

So `asyncio.sleep`, `asyncio.timeout`, TaskGroups and futures work as they do for real, and every suspension is a place
where another process may act, or where this one may die.
"""

import asyncio
import heapq
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")
_UNWINDING: Final = 50

PROCESS: Final[ContextVar[str]] = ContextVar("process", default="")
"""The life of a process whose code is running, `name#number`; empty for the simulation itself."""


def name_of(life: str) -> str:
    """The process that this is one life of."""
    return life.partition("#")[0]


class Deadlock(Exception):
    """Nobody can go on and no timer is set, but the goal was not reached."""


class TooLong(Exception):
    """The bound on steps or on virtual time was reached before the goal."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs processes one callback at a time, in an order that the seed decides."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self._now = 0.0
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        self._runnable: list[str] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._dead: set[str] = set()
        self._lives = itertools.count(1)
        self._life_of: dict[str, str] = {}
        self._paused: dict[str, float] = {}
        self._graves: list[asyncio.Task[Any]] = []
        self._tasks: dict[str, list[asyncio.Task[Any]]] = {}
        self.steps = 0
        self.failures: list[tuple[str, BaseException]] = []
        """Exceptions that ended a process, or that nobody awaited."""
        self.before_step: Callable[[str], None] = lambda process: None
        """Called before each callback with the process' name: the place to kill and to pause."""

    # --- What the simulation does -------------------------------------------------------------

    def spawn(self, process: str, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a process. After it was killed the same name may be spawned again: that is a restart, a new life."""
        life = f"{process}#{next(self._lives)}"
        self._life_of[process] = life
        context = copy_context()
        context.run(PROCESS.set, life)
        task = self.create_task(main, context=context)
        task.add_done_callback(self._ended, context=context)
        return task

    def kill(self, process: str) -> None:
        """Take a process away between two of its lines."""
        life = self._life_of.pop(process, process)
        self._dead.add(life)
        self._paused.pop(life, None)
        self._queues.pop(life, None)
        if life in self._runnable:
            self._runnable.remove(life)
        self._graves += self._tasks.pop(life, [])

    def pause(self, process: str, seconds: float) -> None:
        """Let a process stand still for a while of virtual time, with everything that it believes."""
        life = self._life_of[process]
        self._paused[life] = self._now + seconds
        self.call_at(self._paused[life], self._resume, life, context=Context())

    def call_in(self, life: str, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """Have something happen in a process after a while, as if its network card had seen it."""
        context = Context()
        context.run(PROCESS.set, life)
        self.call_later(delay, callback, *args, context=context)

    def alive(self, life: str) -> bool:
        return life not in self._dead

    def run_until(self, reached: Callable[[], bool], *, steps: int, seconds: float) -> None:
        """Run until `reached()`, looked at after every callback. Raises `Deadlock`, `TooLong` or what a process raised."""
        last = self.steps + steps
        end = self._now + seconds
        asyncio._set_running_loop(self)  # noqa: SLF001  # How a loop says that it runs.
        try:
            while not reached():
                if self.steps >= last or self._now > end:
                    raise TooLong(f"{self.steps} steps, {self._now:.1f} s")
                self._step()
                if self.failures:
                    raise self.failures[0][1]
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001

    def close(self) -> None:
        """End every task that is left, in nobody's name: what its `finally` blocks do now reaches no process."""
        left = [*self._graves, *(task for tasks in self._tasks.values() for task in tasks)]
        self._graves.clear()
        self._tasks.clear()
        self._queues.clear()
        self._timers.clear()
        shown = sys.unraisablehook
        sys.unraisablehook = lambda _: None
        try:
            for task in left:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # A killed task is no defect.
                if not task.done():
                    _end(task.get_coro())
            left.clear()
        finally:
            sys.unraisablehook = shown

    def _step(self) -> None:
        if not self._runnable:
            self._jump()
            return
        at = self._random.randrange(len(self._runnable)) if len(self._runnable) > 1 else 0
        process = self._runnable[at]
        self.steps += 1
        if process:
            self.before_step(name_of(process))
            if process in self._dead or self._stands_still(process):
                return
        queue = self._queues[process]
        handle = queue.popleft()
        if not queue:
            self._runnable.remove(process)
        if not handle.cancelled():
            handle._run()  # noqa: SLF001  # How a loop runs a handle.

    def _stands_still(self, process: str) -> bool:
        if self._paused.get(process, 0.0) <= self._now:
            self._paused.pop(process, None)
            return False
        self._runnable.remove(process)
        return True

    def _resume(self, process: str) -> None:
        if self._queues.get(process) and process not in self._runnable:
            self._runnable.append(process)

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Deadlock(f"at {self._now:.3f} s")
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            handle = heapq.heappop(self._timers)[2]
            if not handle.cancelled():
                self._enqueue(handle)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(PROCESS, "") if handle._context is not None else ""  # type: ignore[attr-defined]  # noqa: SLF001
        if process in self._dead:
            return
        queue = self._queues.get(process)
        if queue is None:
            queue = self._queues[process] = deque()
        if not queue and self._paused.get(process, 0.0) <= self._now:
            self._runnable.append(process)
        queue.append(handle)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failures.append((task.get_name(), task.exception() or RuntimeError("ended")))

    # --- What asyncio asks of a loop ----------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[T]":
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        process = (context or copy_context()).get(PROCESS, "")
        tasks = self._tasks.setdefault(process, [])
        tasks.append(task)
        if len(tasks) > 256:
            tasks[:] = [known for known in tasks if not known.done()]
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(
            (
                str(context.get("message")),
                error if isinstance(error, BaseException) else RuntimeError(str(context)),
            )
        )

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to do: a cancelled timer is passed over when its time comes."""


class _Over(BaseException):
    """The schedule is over."""


def _end(coroutine: Any) -> None:
    """Unwind a coroutine that nobody will resume, however often it awaits on its way out."""
    with suppress(BaseException):
        for _ in range(_UNWINDING):
            coroutine.throw(_Over)
