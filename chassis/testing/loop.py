"""An event loop without machine time: one seed is one schedule.

Rules that hold here:
  * a *process* is whatever was spawned under one name; within a process callbacks run in the order in which asyncio
    queued them, between processes the seed decides;
  * what servers and networks do takes no turn: it happens at its time, and so does the end of a sleep or of a call;
  * time passes only when nobody can go on: it jumps to the next timer;
  * a killed process runs no further line, not even a `finally`; a paused one goes on later as if nothing had happened.

So `asyncio.sleep`, `asyncio.timeout`, TaskGroups and futures work as they do for real, and every suspension is a place
where another process may act, or where this one may die.
"""

import asyncio
import itertools
import random
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, Final, Literal, TypeVar

from chassis.testing.lives import LIFE, Handle, Happening, Life, Process, current
from chassis.testing.unwinding import unlisted_tasks, unwind

T = TypeVar("T")


def resolve(future: "asyncio.Future[Any]", result: object) -> None:
    """Give a future its result, or the exception that it is, unless it has one."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


_OF_THE_KERNEL: Final = frozenset(
    (resolve, asyncio.futures._set_result_unless_cancelled)  # type: ignore[attr-defined]  # noqa: SLF001  # Sleep's end.
)
"""What needs no turn of a process: its waiting task does."""


class Deadlock(Exception):
    """Nobody can go on and no timer is set, but the goal was not reached."""


class TooLong(Exception):
    """The bound on steps or on virtual time was reached before the goal."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs processes one callback at a time, in an order that the seed decides."""

    def __init__(self, random_: random.Random) -> None:
        self._chance = random_.random
        self._now = 0.0
        self._runnable: list[Life] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._order = itertools.count().__next__
        self._lives: list[Life] = []
        self.processes: dict[str, Process] = {}
        self.nobody = self._life("")
        """The simulation itself: servers, networks and the passing of time."""
        self.steps = 0
        self.failures: list[tuple[str, BaseException]] = []
        """Exceptions that ended a process, or that nobody awaited."""
        self.misfortune: Callable[[Process], None] = lambda _: None
        """Called before a process' step number `due`: the place to kill and to pause. It sets `due` anew."""

    # --- What the simulation does -------------------------------------------------------------

    def process(self, name: str) -> Process:
        found = self.processes.get(name)
        if found is None:
            found = self.processes[name] = Process(name)
        return found

    def spawn(self, name: str, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a process. After it was killed the same name may be spawned again: that is a restart, a new life."""
        life = self._life(name)
        task = self.create_task(main, context=life.context.copy())
        task.add_done_callback(self._ended, context=life.context)
        return task

    def _life(self, name: str) -> Life:
        process = self.process(name)
        life = process.life = Life(process, len(self._lives))
        self._lives.append(life)
        return life

    def kill(self, name: str) -> None:
        """Take a process away between two of its lines."""
        process = self.processes[name]
        life, process.life = process.life, None
        if life is None:
            return
        self._unlist(life)
        life.end()
        self._tell(life, "killed")

    def pause(self, name: str, seconds: float) -> None:
        """Let a process stand still for a while of virtual time, with everything that it believes."""
        life = self.processes[name].life
        if life is None:
            return
        life.paused_until = self._now + seconds
        self._unlist(life)
        life.idle = False
        self._tell(life, "paused")
        self.call_in(self.nobody, seconds, self._resume, life)

    def call_in(
        self, life: Life | Literal[""], delay: float, callback: Callable[..., object], *args: Any
    ) -> None:
        """Have something happen in a life (empty: outside of all) after a while, as if its network card had seen it."""
        lived, moment = life or self.nobody, self._now + delay
        handle = Handle((callback, args, lived, lived.context, moment))
        heappush(self._timers, (moment, self._order(), handle))

    def resolve_in(self, life: Life, delay: float, future: "asyncio.Future[Any]", result: object) -> None:
        """Have an answer arrive in a life after a while; whoever awaits it goes on then."""
        self.call_in(life, delay, resolve, future, result)

    def run_until(self, reached: Callable[[], bool], *, steps: int, seconds: float, every: int = 1) -> None:
        """Run until `reached()`, looked at after so many callbacks. Raises `Deadlock`, `TooLong` or what a process raised."""
        last = self.steps + steps
        end = self._now + seconds
        around = asyncio._get_running_loop()  # noqa: SLF001  # A test of real servers may play a schedule in between.
        asyncio._set_running_loop(self)  # noqa: SLF001  # How a loop says that it runs.
        try:
            with unlisted_tasks():
                while not reached():
                    if self.steps >= last or self._now > end:
                        raise TooLong(f"{self.steps} steps, {self._now:.1f} s")
                    self._run(every)
        finally:
            asyncio._set_running_loop(around)  # noqa: SLF001  # As it was.

    def close(self) -> None:
        """End every task that is left, in nobody's name: what its `finally` blocks do now reaches no process."""
        self._timers.clear()
        self._runnable.clear()
        shown = sys.unraisablehook
        sys.unraisablehook = lambda _: None
        try:
            for life in self._lives:
                life.end()
                life.watchers.clear()
                while life.tasks:
                    unwind(life.tasks.pop())
        finally:
            sys.unraisablehook = shown

    def _run(self, callbacks: int) -> None:
        """So many callbacks, or jumps in time. Everything else happens in here, so it is written for speed."""
        runnable, chance, failures = self._runnable, self._chance, self.failures
        for _ in range(callbacks):
            count = len(runnable)
            if not count:
                self._jump()
                continue
            at = int(chance() * count) if count > 1 else 0
            life = runnable[at]
            process = life.process
            self.steps += 1
            process.steps += 1
            if process.steps >= process.due and self._is_struck(life, at):
                continue
            queue = life.queue
            callback, args, _, context, _ = queue.popleft()
            if not queue:
                life.idle = True
                runnable[at] = runnable[-1]
                runnable.pop()
            if callback is not None:
                try:
                    context.run(callback, *args)
                except Exception as error:
                    failures.append((repr(life), error))
                if failures:
                    raise failures[0][1]

    def _is_struck(self, life: Life, at: int) -> bool:
        """Whether a misfortune has taken a process from its place among the runnable ones."""
        self.misfortune(life.process)
        return at >= len(self._runnable) or self._runnable[at] is not life

    def _jump(self) -> None:
        """Nobody can go on: it gets later."""
        timers, runnable = self._timers, self._runnable
        while timers and timers[0][2][0] is None:
            heappop(timers)
        if not timers:
            raise Deadlock(f"at {self._now:.3f} s")
        now = self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= now:
            handle = heappop(timers)[2]
            callback, args, life, context, _ = handle
            if callback is None or not life.alive:
                continue
            if life is self.nobody:
                self.steps += 1
                context.run(callback, *args)
            elif callback in _OF_THE_KERNEL:
                callback(*args)
            else:
                life.queue.append(handle)
                if life.idle:
                    life.idle = False
                    runnable.append(life)

    def _unlist(self, life: Life) -> None:
        if life in self._runnable:
            self._runnable.remove(life)

    def _resume(self, life: Life) -> None:
        if not life.alive or life.paused_until > self._now:
            return
        if life.queue:
            self._runnable.append(life)
        else:
            life.idle = True
        self._tell(life, "resumed")

    def _tell(self, life: Life, happening: Happening) -> None:
        for watcher in list(life.watchers):
            watcher(happening)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failures.append((repr(current()), task.exception() or RuntimeError("ended")))

    # --- What asyncio asks of a loop ----------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]  # Handles of our own.
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        if context is None:
            context = copy_context()
        life = context.get(LIFE, self.nobody)
        handle = Handle((callback, args, life, context, self._now))
        life.queue.append(handle)
        if life.idle:
            life.idle = False
            self._runnable.append(life)
        return handle

    def call_later(  # type: ignore[override]  # Handles of our own.
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]  # Handles of our own.
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        if context is None:
            context = copy_context()
        handle = Handle((callback, args, context.get(LIFE, self.nobody), context, when))
        heappush(self._timers, (when, self._order(), handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # Handles of our own.
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> "asyncio.Task[T]":
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  # A killed task is no defect.
        life = LIFE.get(self.nobody) if context is None else context.get(LIFE, self.nobody)
        tasks = life.tasks
        tasks.append(task)
        if len(tasks) > 128:
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
