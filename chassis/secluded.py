"""Work that a stranger's document may make endless, in a process of its own that is killed when it takes too much.

Rule that holds here: the process is given nothing but its input: no environment, no secret, no connection.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Final

from chassis.solitude import SECONDS

_CHUNK: Final = 64 * 1024


class TooMuch(Exception):
    """The work takes more than it may; the text is for people."""


class Broken(Exception):
    """A mistake of our own, in the process."""


class Secluded:
    """Runs `python -m module`, which answers its input with its output; `at_once` of them, the others wait."""

    def __init__(self, module: str, *, seconds: float = SECONDS, most: int, at_once: int = 2) -> None:
        """`most`: bytes of an answer."""
        self._command = (sys.executable, "-m", module)
        self._seconds = seconds
        self._most = most
        self._free = asyncio.Semaphore(at_once)

    async def answer(self, question: bytes) -> bytes:
        """Raises `TooMuch` or `Broken`. Safe to cancel: the process is killed then."""
        async with self._free:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, cwd=Path(__file__).parents[1]
            )
            try:
                async with asyncio.timeout(self._seconds):
                    answer = await self._asked(process, question)
                    await process.wait()
            except TimeoutError:
                raise TooMuch(f"This takes more than {self._seconds:g} seconds.") from None
            except ConnectionError:  # It ended before it had heard everything.
                answer = b""
            finally:
                await _ended(process)
        if process.returncode == 1:
            raise Broken
        if not answer:
            raise TooMuch("This takes more memory or processor time than it may.")
        return answer

    async def _asked(self, process: Process, question: bytes) -> bytes:
        if process.stdin is None or process.stdout is None:
            raise ConnectionError("the process has no pipes")
        process.stdin.write(question)
        await process.stdin.drain()
        process.stdin.close()
        pieces: list[bytes] = []
        size = 0
        while piece := await process.stdout.read(_CHUNK):
            size += len(piece)
            if size > self._most:
                raise TooMuch(f"What comes of it has more than {self._most:,} bytes.")
            pieces.append(piece)
        return b"".join(pieces)


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await asyncio.shield(process.wait())
