"""A worker outside (sdk/worker.py), started again whenever it has ended, by whatever hand."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy import process
from tests.chaos.record import SAID_FILE

_SAMPLE: Final = Path(__file__).parents[2] / "sdk" / "worker.py"
_LOOK_SECONDS: Final = 0.5


class Worker:
    """One process at a time. What it says is what it has done."""

    def __init__(self, folder: Path, gateway: str, token: str) -> None:
        self._said, self._log = folder / SAID_FILE, folder / "worker.log"
        self._environ = {"WORKER_URL": gateway, "WORKER_TOKEN": token, "PATH": os.environ["PATH"]}
        self.starts = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self._said.open("ab") as said, self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(_SAMPLE)],
                env=self._environ,
                stdout=said,
                stderr=log,
                preexec_fn=process.dies_with_parent(signal.SIGKILL),  # noqa: PLW1509  # One system call and no lock.
            )

    async def keep(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._process.poll() is not None:
                self._process = self._start()

    def kill(self) -> int:
        """SIGKILL, in the middle of whatever it does; its pid."""
        self._process.kill()
        return self._process.pid

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
