"""A process that hunts one mutant after the other, and how the crew talks to it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from tests.mutants.hunt import Order, Word
from tests.mutants.mutant import ROOT


class Den:
    """One hunting process at a time; a new one when the last one had to be stopped. Close it in the end."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, order: Order, until: float, heard: Callable[[Word], None]) -> Word | None:
        """The last word about this order; None when the (monotonic) time was over first, and then it is given up."""
        last = Word(state="silent")
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                process = await self._running()
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(msgspec.json.encode(order) + b"\n")
                async for line in process.stdout:
                    word = msgspec.json.decode(line, type=Word)
                    if word.state == "over":
                        return (
                            last
                            if not word.said
                            else msgspec.structs.replace(last, state="silent", said=word.said)
                        )
                    heard(word)
                    last = word
        except TimeoutError:
            await self.close()
            return None
        await self.close()
        return Word(state="silent", said="the hunting process has died")

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.mutants.hunt",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                cwd=ROOT, limit=2**20, start_new_session=True,
            )  # fmt: skip
        return self._process

    async def close(self) -> None:
        """Stop the process and the hunter that it has sent out: they are a group of their own."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
