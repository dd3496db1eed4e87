"""One process of a sandbox, as the executor sees it: asked, listened to, and killed by its id."""

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeAlias

import msgspec
import structlog

from executor.errors import StepError
from executor.sandbox.engines import command
from executor.sandbox.messages import (
    FRAME_BYTES,
    Ending,
    Failed,
    Job,
    Language,
    Ready,
    Returned,
    Said,
    Spoken,
    Unsaid,
    framed,
)

log = structlog.get_logger()

_START_SECONDS: Final = 60.0
_LAST_SECONDS: Final = 1.0
_JOBS: Final = 500
"""After so many a process is ended, so that nothing in it grows for ever."""

_Frame: TypeAlias = Ready | Said | Unsaid | Returned | Failed
_decode: Final[msgspec.json.Decoder[_Frame]] = msgspec.json.Decoder(_Frame)


class SandboxDied(StepError):
    """The process in which the code ran has died."""

    code = "code.sandbox"
    retryable = True


class WorkerProcess:
    """One job at a time. What goes wrong leaves it dead."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._jobs = 0

    @classmethod
    async def start(cls, language: Language, file: Path) -> Self:
        """A process that has given everything up and waits for its first job. Raises `SandboxDied`."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command("executor.sandbox.worker", language, str(file)),
                stdin=PIPE,
                stdout=PIPE,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxDied(f"No process for the code could be started: {error}") from error
        worker = cls(process)
        ready: object = None
        try:
            async with asyncio.timeout(_START_SECONDS):
                ready = await worker._frame()
        except TimeoutError as error:
            raise SandboxDied("The process for the code did not get ready.") from error
        finally:
            if not isinstance(ready, Ready):
                await worker.end()
        if isinstance(ready, Ready) and ready.landlock == 0:
            log.warning("sandbox.no-landlock", language=language)
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def usable(self) -> bool:
        return self._process.returncode is None and self._jobs < _JOBS

    async def do(self, job: Job, seconds: float, say: Callable[[Spoken], None]) -> Ending:
        """Run a job to its end. Raises `SandboxDied`, and `TimeoutError` after so long; the process is dead then."""
        self._jobs += 1
        ending: Ending | None = None
        try:
            async with asyncio.timeout(seconds):
                await self._ask(job)
                while ending is None:
                    frame = await self._frame()
                    if isinstance(frame, Said | Unsaid):
                        say(frame)
                    elif isinstance(frame, Ready):
                        raise SandboxDied("The process for the code said something that made no sense.")
                    else:
                        ending = frame
        finally:
            if ending is None:
                await self.end()
        return ending

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def end(self) -> None:
        self.kill()
        await asyncio.shield(self._process.wait())

    async def _ask(self, job: Job) -> None:
        if self._process.stdin is None:
            raise SandboxDied
        try:
            self._process.stdin.write(framed(job))
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise SandboxDied(await self._last_words()) from error

    async def _frame(self) -> _Frame:
        """The next thing that it says. It may be in the hands of whoever wrote the code: nothing is believed."""
        if self._process.stdout is None:
            raise SandboxDied
        try:
            length = int.from_bytes(await self._process.stdout.readexactly(4), "big")
            if length > FRAME_BYTES:
                raise SandboxDied("The process for the code said more than it may.")
            return _decode.decode(await self._process.stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise SandboxDied(await self._last_words()) from error
        except msgspec.MsgspecError as error:
            raise SandboxDied("The process for the code said something that made no sense.") from error

    async def _last_words(self) -> str:
        """How it died. It is killed only when it does not end by itself: `kill` may hide the reason."""
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        number = -code if code < 0 else 0
        name = signal.Signals(number).name if number in set(signal.Signals) else f"exit {code}"
        return f"{SandboxDied.__doc__} ({name})"
