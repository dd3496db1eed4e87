"""Servers from the wheels, in a process of their own or as one nats-server to be killed."""

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from deploy import process
from deploy.data_directory import DataDirectory, holder
from deploy.servers import Servers
from deploy.servers.nats import Nats, NatsOptions

START_SECONDS: Final = 60.0
_PREFIX: Final = "automateos-servers-"


class DidNotStart(Exception):
    """The servers said why on the way."""


@contextmanager
def embedded_servers(*arguments: str) -> Iterator[Servers]:
    """All servers, in a process of their own: whatever happens to the loop of a test, they run on.

    `arguments` are those of `python -m deploy.servers`.
    """
    _sweep()
    # Not under pytest's own folder, which is closed: as root, Postgres' user must be able to pass through.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    folder.chmod(0o711)
    with (folder / "said").open("wb") as said:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "deploy.servers", str(folder / "data"), *arguments],
            stdout=subprocess.PIPE,
            stderr=said,
            preexec_fn=process.dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  # One system call and no lock.
        )
    try:
        yield msgspec.json.decode(_first_line(supervisor, folder / "said"), type=Servers)
    finally:
        supervisor.terminate()
        supervisor.communicate(timeout=START_SECONDS)
        _remove(folder)


def _sweep() -> None:
    """Remove what earlier runs left that were killed: folders of ours that nobody holds any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = folder / "data/lock"
        if lock.exists() and lock.stat().st_uid == os.geteuid() and holder(folder / "data") is None:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Not alone, perhaps: a run that begins at this moment may sweep it."""
    elsewhere = (folder / "data/postgres").resolve()
    if not elsewhere.is_relative_to(folder.resolve()):
        shutil.rmtree(elsewhere, ignore_errors=True)  # The temporary folder is closed to Postgres' user.
    shutil.rmtree(folder, ignore_errors=True)


def _first_line(supervisor: subprocess.Popen[bytes], said: Path) -> bytes:
    output = supervisor.stdout
    readable = [] if output is None else select.select([output], [], [], START_SECONDS)[0]
    line = readable[0].readline() if readable else b""
    if not line:
        raise DidNotStart(said.read_text())
    return line


class NatsServer:
    """A nats-server of one test's own. Its store and its port outlive `kill` and `stop`."""

    def __init__(self, folder: Path, options: NatsOptions, *, env: Mapping[str, str]) -> None:
        data = DataDirectory(root=folder, instance="000000000000")
        data.nats.mkdir(parents=True)
        data.logs.mkdir()
        self.said: list[str] = []
        self.store = data.nats / "store"
        self.log = data.logs / "nats.log"
        self._nats = Nats(data, options=options, env=env, say=self.said.append)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._nats.url

    @property
    def monitor_url(self) -> str:
        return self._nats.monitor_url

    @property
    def staging(self) -> str:
        return self._nats.staging.state

    @property
    def pid(self) -> int:
        return self._running().pid

    def link_staging(self) -> None:
        self._nats.link_staging()

    async def start(self) -> None:
        child = self._nats.child()
        if child.before is not None:
            await child.before()
        self._process = process.spawn(child.command)
        async with asyncio.timeout(START_SECONDS):
            await child.ready(self._process.pid)

    async def kill(self) -> None:
        """As a crash would end it."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def close(self) -> None:
        if self._process is not None:
            await self.stop()
        self._nats.staging.forget()

    async def _end(self, number: int) -> None:
        running = self._running()
        process.tell(running, number)
        async with asyncio.timeout(START_SECONDS):
            await process.ended(running)
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DidNotStart("This nats-server does not run now.")
        return self._process
