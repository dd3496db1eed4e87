"""Runs the code of users: so many at once, each in a process that nobody else uses meanwhile."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from executor.errors import TookTooLong
from executor.sandbox.engines import Engines
from executor.sandbox.messages import Ending, Failed, Job, Language, Spoken
from executor.sandbox.worker_process import WorkerProcess

_IDLE_SECONDS: Final = 60.0
_SLOWNESS: Final = 10.0
"""So much longer than its processor time may an attempt take on a machine that is busy with other things."""
PATIENCE_SECONDS: Final = 10.0


class _Idle(Struct, frozen=True):
    worker: WorkerProcess
    until: asyncio.TimerHandle


class Sandbox:
    """One per executor. A process stays for the next attempt of its language, a minute at most; then it is ended."""

    def __init__(self, folder: Path, at_once: int, patience_s: float = PATIENCE_SECONDS) -> None:
        """`folder`: where compiled engines are kept, such as the data directory's `engines`.

        `patience_s`: how much longer than all of its processor time an attempt may take.
        """
        self._engines = Engines(folder)
        self._patience_s = patience_s
        self._room = asyncio.Semaphore(at_once)
        self._idle: dict[Language, list[_Idle]] = {"python": [], "javascript": []}
        self._busy: set[WorkerProcess] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        workers = [*self._busy, *(idle.worker for kept in self._idle.values() for idle in kept)]
        for kept in self._idle.values():
            for idle in kept:
                idle.until.cancel()
            kept.clear()
        for worker in workers:
            await worker.end()

    @property
    def pids(self) -> list[int]:
        """Of all its processes that live."""
        idle = [idle.worker for kept in self._idle.values() for idle in kept]
        return [worker.pid for worker in (*self._busy, *idle) if worker.usable]

    async def run(
        self, language: Language, job: Job, say: Callable[[Spoken], None], tell: Callable[[str], None]
    ) -> Ending:
        """What came of the code. `say` hears its lines, `tell` what else takes time.

        Raises `SandboxDied`, `NoEngine`, `TookTooLong`. Safe to cancel: the process is killed then.
        """
        file = await self._engines.file(language, tell)
        async with self._room:
            worker = await self._worker(language, file)
            self._busy.add(worker)
            ending: Ending | None = None
            try:
                seconds = self._patience_s + _SLOWNESS * job.processor_s
                ending = await worker.do(job, seconds, say)
            except TimeoutError as error:
                raise TookTooLong(f"The code had not ended after {seconds:g} s and was stopped.") from error
            finally:
                self._busy.discard(worker)
                await self._keep_or_end(language, worker, ending)
            return ending

    async def _worker(self, language: Language, file: Path) -> WorkerProcess:
        kept = self._idle[language]
        while kept:
            idle = kept.pop()
            idle.until.cancel()
            if idle.worker.usable:
                return idle.worker
            await idle.worker.end()
        return await WorkerProcess.start(language, file)

    async def _keep_or_end(self, language: Language, worker: WorkerProcess, ending: Ending | None) -> None:
        """A process whose engine had to be stopped has done its duty: the next attempt gets a fresh one."""
        sound = not isinstance(ending, Failed) or ending.kind in ("code", "asked")
        if ending is None or not sound or not worker.usable:
            await worker.end()
            return
        kept = self._idle[language]
        loop = asyncio.get_running_loop()
        kept.append(_Idle(worker, loop.call_later(_IDLE_SECONDS, self._retire, language, worker)))

    def _retire(self, language: Language, worker: WorkerProcess) -> None:
        self._idle[language] = [idle for idle in self._idle[language] if idle.worker is not worker]
        worker.kill()
