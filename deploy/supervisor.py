"""Starts processes, keeps them running, and takes every one of them along when it ends.

The rules: a child starts when all that it stands on is ready, and stops when all that stands on it has ended. A child
that dies is started again after a pause that doubles, and that is said in one line. A child that cannot even start once
ends the whole start with the last line of its log. No child outlives this process, however it ends (deploy/process.py).
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from deploy import process
from deploy.refusals import Refused

Say = Callable[[str], None]
CANNOT_START: Final = 78
"""The exit code of a child that a person must help first (chassis/lifecycle.py says the same)."""
_LOG_BYTES: Final = 32 * 1024 * 1024
_LOG_LOOK_SECONDS: Final = 30.0
_LAST_LINE_BYTES: Final = 4096
_LAST_LINE_CHARACTERS: Final = 300


async def at_once(_pid: int) -> None:
    """Ready as soon as it has been started."""


class Backoff(Struct, frozen=True, kw_only=True):
    """How long a dead child rests before it is started again."""

    first: float = 0.2
    most: float = 10.0
    reset_after: float = 30.0
    """A child that lived this long was well: the next pause is the first one again."""

    def pause(self, deaths: int) -> float:
        """The pause after so many deaths in a row."""
        return min(self.most, self.first * 2.0 ** min(deaths - 1, 30))


class Child(Struct, frozen=True, kw_only=True):
    """One process to keep running."""

    name: str
    command: process.Command
    after: tuple[str, ...] = ()
    """The children that must be ready before this one starts."""
    before: Callable[[], Awaitable[None]] | None = None
    """Awaited before each start; it may wait for as long as starting makes no sense."""
    ready: Callable[[int], Awaitable[None]] = at_once
    """Returns when the process with this pid does its work."""
    beside: Callable[[int], Awaitable[str]] | None = None
    """Runs while the process is ready; when it returns, the process is killed and the sentence is said."""
    ready_within: float = 30.0
    stop_signal: int = signal.SIGTERM
    grace: float = 10.0
    """Seconds between the stop signal and SIGKILL."""


class _Tended:
    """A child and what is known of it now."""

    def __init__(self, child: Child, level: int, first_ready: asyncio.Future[None]) -> None:
        self.child = child
        self.level = level
        self.first_ready = first_ready
        self.ready = asyncio.Event()
        self.over = asyncio.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.log_began = 0
        self.code: int | None = None
        self.asked_to_restart = False
        self.awake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps children running between `__aenter__` and `__aexit__`, which stops them in reverse order."""

    def __init__(self, *, run: Path, say: Say, backoff: Backoff | None = None, tries: int = 3) -> None:
        self._run = run
        self._say = say
        self._backoff = backoff or Backoff()
        self._tries = tries
        self._tended: dict[str, _Tended] = {}
        self._stopping = False
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await process.stop_orphans(self._run, self._say)
        await self._group.__aenter__()
        self._trimming = self._group.create_task(self._trim_logs())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            self._trimming.cancel()
            # The group would wrap an error of the body that is none of its own. A cancellation it must see: it may
            # have caused it.
            if isinstance(error, asyncio.CancelledError):
                await self._group.__aexit__(kind, error, trace)
            else:
                await self._group.__aexit__(None, None, None)

    async def start(self, children: Iterable[Child]) -> None:
        """Start these, side by side where `after` allows it; returns when all are ready."""
        outcomes = []
        for child in children:
            level = 1 + max((self._tended[name].level for name in child.after), default=0)
            tended = _Tended(child, level, asyncio.get_running_loop().create_future())
            self._tended[child.name] = tended
            outcomes.append(tended.first_ready)
            tended.task = self._group.create_task(self._tend(tended), name=child.name)
        if outcomes:
            done, _ = await asyncio.wait(outcomes, return_when=asyncio.FIRST_EXCEPTION)
            for outcome in done:
                outcome.result()

    async def restart(self, names: Iterable[str], *, why: str) -> None:
        """Stop these and start them again, which does not count as a death; one that rests starts at once."""
        async with asyncio.TaskGroup() as group:
            for tended in [self._tended[name] for name in names]:
                tended.awake.set()
                if tended.process is not None:
                    self._say(f"{tended.child.name} starts again: {why}")
                    tended.asked_to_restart = True
                    group.create_task(self._end(tended, tended.process))

    def pids(self) -> dict[str, int]:
        """The children that run at this moment."""
        return {
            name: tended.process.pid for name, tended in self._tended.items() if tended.process is not None
        }

    async def stop(self) -> None:
        """Stop every child, those first that stand on others. Safe to call twice."""
        self._stopping = True
        for level in sorted({tended.level for tended in self._tended.values()}, reverse=True):
            async with asyncio.TaskGroup() as group:
                for tended in self._tended.values():
                    if tended.level == level:
                        group.create_task(self._stop_one(tended))

    def kill(self) -> None:
        """End every child now: for whoever asks to stop a second time."""
        self._stopping = True
        for tended in self._tended.values():
            if tended.process is not None:
                process.tell(tended.process, signal.SIGKILL)

    async def _stop_one(self, tended: _Tended) -> None:
        if tended.task is None or tended.task.done():
            return
        if tended.process is None:
            tended.task.cancel()  # It rests, or waits for another one: there is nothing to end.
        else:
            await self._end(tended, tended.process)
        await asyncio.wait([tended.task])

    async def _end(self, tended: _Tended, running: subprocess.Popen[bytes]) -> None:
        """Ask the process to end, and end it when its grace is over."""
        process.tell(running, tended.child.stop_signal)
        try:
            async with asyncio.timeout(tended.child.grace):
                await tended.over.wait()
        except TimeoutError:
            self._say(f"{tended.child.name} did not stop within {tended.child.grace:g} s: killed")
            process.tell(running, signal.SIGKILL)
            await tended.over.wait()

    async def _tend(self, tended: _Tended) -> None:
        """The lives of one child, one after the other."""
        for name in tended.child.after:
            await self._tended[name].ready.wait()
        loop = asyncio.get_running_loop()
        deaths = 0
        while not self._stopping:
            born = loop.time()
            try:
                end = await self._live(tended)
            except Refused as refused:
                if not tended.first_ready.done():
                    _give_up(tended, refused)
                    return
                end = str(refused)
            if tended.asked_to_restart:
                tended.asked_to_restart = False
                deaths = 0
            elif not self._stopping:
                lived = loop.time() - born
                deaths = 1 if lived >= self._backoff.reset_after else deaths + 1
                await self._rest(tended, deaths, f"{end} after {lived:.1f} s")
                if tended.first_ready.done() and tended.first_ready.exception():
                    return

    async def _rest(self, tended: _Tended, deaths: int, end: str) -> None:
        """Say how the child died and wait, or give it up when it has never been ready."""
        name, last = tended.child.name, last_line(tended.child.command.log, tended.log_began)
        hopeless = deaths >= self._tries or tended.code == CANNOT_START
        if hopeless and not tended.first_ready.done():
            _give_up(
                tended, Refused(f"{name} does not start: it {end}{last} (more in {tended.child.command.log})")
            )
            return
        pause = self._backoff.pause(deaths)
        self._say(f"{name} {end}{last}; starting it again in {pause:g} s")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await tended.awake.wait()

    async def _live(self, tended: _Tended) -> str:
        """One life of a child; how it ended, in words."""
        child = tended.child
        tended.code = None
        tended.awake.clear()
        try:
            if child.before is not None:
                await child.before()
            tended.log_began = _size(child.command.log)
            running = process.spawn(child.command)
        except (OSError, subprocess.SubprocessError) as error:
            return f"could not be started ({error})"
        path = self._run / f"{child.name}.pid"
        tended.process, tended.over = running, asyncio.Event()
        try:
            program = Path(child.command.argv[0]).name
            process.write_mark(path, process.mark(running.pid, program, child.stop_signal))
            async with asyncio.TaskGroup() as group:
                company = group.create_task(self._accompany(tended, running))
                tended.code = await process.ended(running)
                company.cancel()
        except OSError as error:
            return f"could not be started ({error})"  # The disk is full, say: no reason to leave the others alone.
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()
            tended.process = None
            tended.ready.clear()
            tended.over.set()
            path.unlink(missing_ok=True)
        return process.how_it_ended(tended.code)

    async def _accompany(self, tended: _Tended, running: subprocess.Popen[bytes]) -> None:
        """Wait until the child is ready, say so, and watch what it wants watched."""
        child, loop = tended.child, asyncio.get_running_loop()
        born = loop.time()
        try:
            async with asyncio.timeout(child.ready_within):
                await child.ready(running.pid)
        except TimeoutError:
            self._say(f"{child.name} was not ready within {child.ready_within:g} s: killed")
            process.tell(running, signal.SIGKILL)
            return
        except OSError as error:
            self._say(f"{child.name} could not become ready ({error}): killed")
            process.tell(running, signal.SIGKILL)
            return
        again = " again" if tended.first_ready.done() else ""
        self._say(f"{child.name:<12} ready{again} ({loop.time() - born:.2f} s)")
        tended.ready.set()
        if not tended.first_ready.done():
            tended.first_ready.set_result(None)
        if child.beside is not None:
            self._say(await child.beside(running.pid))
            process.tell(running, signal.SIGKILL)

    async def _trim_logs(self) -> None:
        """Keep the log files bounded: the children append, so a file can be emptied under them."""
        while True:
            await asyncio.sleep(_LOG_LOOK_SECONDS)
            for log in {tended.child.command.log for tended in self._tended.values()}:
                trim(log, _LOG_BYTES)


def trim(log: Path, most: int) -> None:
    """Move what a log that grew too long holds into `<name>.1` and let it begin anew."""
    if log.exists() and log.stat().st_size > most:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def _give_up(tended: _Tended, refused: Refused) -> None:
    tended.first_ready.set_exception(refused)
    tended.first_ready.exception()  # Seen: whoever started it may have gone already.


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def last_line(log: Path, began: int = 0) -> str:
    """What the child said last since then, or what it called fatal, to stand in our own line."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(began, file.seek(0, os.SEEK_END) - _LAST_LINE_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    spoken = [line.strip() for line in lines if line.strip()]
    fatal = [line for line in spoken if "FATAL" in line]
    last = (fatal or spoken)[-1:]
    return f", saying: {last[0][:_LAST_LINE_CHARACTERS]}" if last else ""
