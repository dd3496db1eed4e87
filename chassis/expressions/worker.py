"""Has evaluations made in a process of their own, which is killed when it takes too long."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final

import msgspec

from chassis.expressions.apart import READY, Reply, framed
from chassis.expressions.jobs import Answer, Job, Undone
from contracts.limits import CEL_WAIT_SECONDS

SECONDS: Final = 1.0
_COMMAND: Final = (sys.executable, "-m", "chassis.expressions.apart")
_decode: Final = msgspec.json.Decoder(Reply).decode


class WorkerProcess:
    """One process, started when the first job comes and again after each time it died; one job at a time.

    Use as `async with`; the process ends with the block.
    """

    def __init__(self, seconds: float = SECONDS, wait_seconds: float = CEL_WAIT_SECONDS) -> None:
        """`seconds` for each job, `wait_seconds` for those before it: nobody queues for ever."""
        self._seconds = seconds
        self._wait_seconds = wait_seconds
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> "WorkerProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._turn:
            await self._stop()

    async def answer(self, job: Job) -> Answer:
        """Never raises for what an expression does. Safe to cancel: the process is killed then."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turn.acquire()
        except TimeoutError:
            return Undone(
                message=f"the expression is costly, and others before it took longer than {self._wait_seconds:g} s",
                passing=True,
            )
        try:
            return await self._answered(job)
        finally:
            self._turn.release()

    async def _answered(self, job: Job) -> Answer:
        """The start of the process is no expression's time."""
        process: Process | None = None
        reply: Reply | None = None
        try:
            async with asyncio.timeout(CEL_WAIT_SECONDS) as bound:
                process = await self._ready()
                bound.reschedule(asyncio.get_running_loop().time() + self._seconds)
                reply = await _asked(process, job)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            if process is None:
                return Undone(
                    message="the process that evaluates costly expressions did not start", passing=True
                )
            if isinstance(error, TimeoutError):
                return Undone(message=f"the expression takes longer than {self._seconds:g} s")
            return Undone(message="the expression takes more memory than it may")
        finally:
            if reply is None or reply.spent:
                await self._stop()
        return reply.answer

    async def _ready(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(*_COMMAND, stdin=PIPE, stdout=PIPE)
            if self._process.stdout is None:
                raise ConnectionError("the process has no pipes")
            await self._process.stdout.readexactly(len(READY))
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())


async def _asked(process: Process, job: Job) -> Reply:
    if process.stdin is None or process.stdout is None:
        raise ConnectionError("the process has no pipes")
    process.stdin.write(framed(msgspec.json.encode(job)))
    await process.stdin.drain()
    length = int.from_bytes(await process.stdout.readexactly(4), "big")
    return _decode(await process.stdout.readexactly(length))
