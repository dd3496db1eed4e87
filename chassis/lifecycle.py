"""How a service begins and ends: settings, one main coroutine, a signal, a bounded drain, an exit code.

Rule that holds here: a signal asks, it never interrupts. `main` sees `stopping`, finishes what it holds and returns; only
when `drain_seconds` are over (or a second signal comes) is it cancelled. An exception that leaves `main` ends the process:
the supervisor restarts it, and every service may be killed at any instant anyway.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import structlog
import uvloop

from chassis.memory import TRIM_SECONDS, frugal
from chassis.settings import InvalidSettings, Settings, settings_from
from chassis.telemetry import configure_logs

EXIT_CUT_OFF: Final = 75
"""The drain took longer than it may, and was cut off."""
EXIT_CANNOT_START: Final = 78
"""Something that a person must change first; starting again does not help."""

log = structlog.get_logger()


class CannotStart(Exception):
    """A reason not to start that a person can mend; told in one line, without a traceback."""


class Stopping:
    """Tells every part of a service that it shall finish what it holds and take nothing new."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def request(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


Main: TypeAlias = Callable[[Settings, Stopping], Awaitable[None]]


@asynccontextmanager
async def companions() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup for loops that have no end of their own: they are cancelled when the block ends.

    One that fails cancels the block, and its exception leaves here.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
            raise _BlockEnded
    except* _BlockEnded:
        pass


class _BlockEnded(Exception):
    """The block is done; what still runs beside it is not needed any more."""


def run_service(service: str, main: Main, environ: Mapping[str, str] | None = None) -> int:
    """Run one service until it is told to stop. The result is the process' exit code.

    `sys.exit(run_service("gateway", main))` is all that a `__main__` says. `environ` stands in for the process' own in tests.
    """
    try:
        settings = settings_from(os.environ if environ is None else environ)  # noqa: TID251  # The one place.
    except InvalidSettings as reason:
        return _refuse(service, reason)
    configure_logs(service, settings.log_level)
    tune_garbage_collection()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_until_stopped(main, settings))
    except BaseException as error:  # The last place that can tell why the process ends.
        refusal = _refusal_in(error)
        if refusal is not None:
            return _refuse(service, refusal)
        first = _innermost(error)
        log.critical("service.failed", why=f"{type(first).__name__}: {first}", exc_info=first)
        return 1


def tune_garbage_collection() -> None:
    """What was imported lives for ever; what comes later dies by reference count. The collector need not look often.

    Not too seldom either: a circle of a few objects may hold a batch of messages. Nor for what importing left behind: that
    is a few thousand objects, and to find them takes a tenth of a second of every start.
    """
    gc.freeze()
    gc.set_threshold(50_000, 10, 50)
    gc.enable()


async def _until_stopped(main: Main, settings: Settings) -> int:
    stopping = Stopping()
    loop = asyncio.get_running_loop()
    serving = asyncio.current_task()
    cut_off = False

    def cut() -> None:
        nonlocal cut_off
        cut_off = True
        if serving is not None:
            serving.cancel()

    def asked() -> None:
        if stopping.requested:
            cut()
            return
        log.info("service.stopping")
        stopping.request()
        loop.call_later(settings.drain_seconds, cut)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    _give_back_now_and_then(loop, frugal())
    try:
        await main(settings, stopping)
    except asyncio.CancelledError:
        if not cut_off:
            raise
    else:
        log.info("service.stopped")
        return 0
    log.error("service.cut-off", drain_seconds=settings.drain_seconds)
    return EXIT_CUT_OFF


def _give_back_now_and_then(loop: asyncio.AbstractEventLoop, give_back: Callable[[], None]) -> None:
    def again() -> None:
        give_back()
        loop.call_later(TRIM_SECONDS, again)

    loop.call_later(TRIM_SECONDS, again)


def _refusal_in(error: BaseException) -> CannotStart | InvalidSettings | None:
    if isinstance(error, CannotStart | InvalidSettings):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((refusal for inner in error.exceptions if (refusal := _refusal_in(inner))), None)
    return None


def _innermost(error: BaseException) -> BaseException:
    """The first thing that went wrong, without the groups around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _refuse(service: str, reason: Exception) -> int:
    sys.stderr.write(f"automateos {service}: {reason}\n")
    return EXIT_CANNOT_START
