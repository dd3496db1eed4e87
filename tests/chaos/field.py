"""The field of a campaign: a real installation behind proxies, a world, and every process of it stopped at the end."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from deploy import process
from deploy.testing.installation import SERVICES, Installation, installation
from tests.chaos import kin, stores
from tests.chaos.load import Order, Target
from tests.chaos.opening import Opening
from tests.chaos.shapes import shapes, shapes_with
from tests.chaos.worker import Worker

_ROOT: Final = Path(__file__).parents[2]
BACK_SECONDS: Final = 60.0
SPARED_SECONDS: Final = 35.0
_LIBFAKETIME: Final = "*/faketime/libfaketime.so.1"
_SOON_DAYS: Final = 0.01
_OPENED_AT_ONCE: Final = 6
CALM_SECONDS: Final = 3.0
"""So long nothing was wrong before a fault that is to be alone."""
_LOOK_SECONDS: Final = 0.1


class Process:
    """A helper of ours that speaks in lines."""

    def __init__(self, *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            preexec_fn=process.dies_with_parent(signal.SIGKILL),  # noqa: PLW1509  # One system call and no lock.
        )

    def line(self) -> str:
        """What it says next; empty when it has ended."""
        return self._popen.stdout.readline().decode().strip() if self._popen.stdout else ""

    def tell(self, value: Any) -> None:
        if self._popen.stdin:
            self._popen.stdin.write(json.dumps(value).encode() + b"\n")
            self._popen.stdin.flush()

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def pid(self) -> int:
        return self._popen.pid

    def stop(self, seconds: float = 10) -> None:
        if self.running:
            self._popen.send_signal(signal.SIGCONT)
            self._popen.terminate()
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()


class Field:
    """What a round is played on."""

    def __init__(
        self, installed: Installation, folder: Path, seed: str, *, with_clocks: bool = False
    ) -> None:
        self.installed = installed
        self.folder = folder
        self.seed = seed
        self.with_clocks = with_clocks
        self.targets: tuple[Target, ...] = ()
        self._stack = ExitStack()
        self.links: tuple[str, ...] = ()
        self._world_port = 0
        self.worker: Worker | None = None
        """Somebody outside who takes tasks of a pool of their own."""
        self._actor = ""
        self.clock = False
        """Whether the services' clocks can be put wrong."""
        self.poisoned = 0
        """How many unreadable messages faults have laid into INBOX."""
        self._struck: dict[str, float] = {}
        self.waited_for = ""
        """What was not ready last, and when, until the one was back that `again` waited for."""
        self.crashed: Counter[str] = Counter()
        """How often each named place was struck, in earlier rounds too; twice for each time that somebody died there."""
        self.strange: set[str] = set()
        """Names of runs that are none: what lies under them was put there by a fault."""

    @property
    def purges(self) -> bool:
        """Whether ended runs leave the log while a round lasts."""
        days = self.installed.environ.get("AUTOMATEOS_RETENTION_DAYS", "7")
        return days != "never" and float(days) < _SOON_DAYS

    def pids(self) -> dict[str, int]:
        return self.installed.pids()

    def children(self, name: str) -> list[int]:
        """The processes that one of the stack's has started."""
        pid = self.pids().get(name, 0)
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def owned(self, started: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Ended with the field, whatever else happens."""

        def end() -> None:
            if started.poll() is None:
                started.kill()
                started.wait()

        self._stack.callback(end)
        return started

    def helper(self, *arguments: str) -> Process:
        found = Process(*arguments)
        self._stack.callback(found.stop)
        return found

    def open(self) -> float:
        """World, proxies, installation, workflows; the seconds until it was ready."""
        self.world = self.helper("tests.chaos.world", str(self.folder / "world.jsonl"), self.seed)
        self._world_port = int(self.world.line())
        self.proxy = self.helper("tests.chaos.proxy", str(self.folder), str(self._world_port))
        said = json.loads(self.proxy.line())
        self.links = tuple(said["links"])
        self._prepare_clocks()
        seconds = self.installed.start()
        self._open_all(f"http://127.0.0.1:{said['world']}")
        return seconds

    def _open_all(self, world: str) -> None:
        opening = Opening(self.installed)
        self._actor = self._known_as(opening)
        token = opening.call("POST", f"/pools/{stores.OUTSIDE}/tokens", {"name": "chaos"})["key"]
        self.worker = Worker(self.folder, self.installed.gateway, token)
        self._stack.callback(self.worker.stop)
        opening.until_offered(kin.SHOUT)
        child = opening.publish("child", kin.child(world, opening.publish("alarm", kin.alarm(world))))
        every = (*shapes(world), *shapes_with(world, child))
        with ThreadPoolExecutor(
            _OPENED_AT_ONCE
        ) as several:  # One after the other takes longer than a quick round.
            self.targets = tuple(several.map(opening.target, every))
        opening.starters(world, child)

    def _known_as(self, opening: Opening) -> str:
        """Who the gateway takes us for: nobody else has a key yet."""
        [ours] = opening.call("GET", "/keys")["items"]
        return f"key:{ours['id']}"

    def stop_starters(self) -> None:
        """What starts runs by itself does so no more: else it is never over."""
        Opening(self.installed).stop_starters()

    def _prepare_clocks(self) -> None:
        library = libfaketime()
        self.clock = self.with_clocks and library != ""
        if self.clock:
            for name in SERVICES:
                (self.folder / f"clock-{name}").write_text("+0\n")
            (self.folder / "libfaketime").write_text(library)

    def senders(self, label: str, runs: int, rate: float) -> Process:
        """Begin to send."""
        order = Order(
            targets=self.targets,
            label=label,
            runs=runs,
            rate=rate,
            seed=self.seed,
            ledger=str(self.folder / "ledger.jsonl"),
            wishes=str(self.folder / "wishes.jsonl"),
            gateway=self.installed.gateway,
            ingress=self.installed.ingress,
            actor=self._actor,
            key=self.installed.key,
            world=f"http://127.0.0.1:{self._world_port}",
        )
        path = self.folder / f"order-{label}.json"
        path.write_bytes(msgspec.json.encode(order))
        return self.helper("tests.chaos.load", str(path))

    def manners(self, link: str, **manners: Any) -> None:
        self.proxy.tell({"link": link, **manners})

    def spared(self, names: Sequence[str], chance: random.Random) -> str:
        """One of these that was left alone for long: else we would measure how patient the supervisor grows."""
        long_ago = time.monotonic() - SPARED_SECONDS
        rested = sorted(name for name in names if self._struck.get(name, 0.0) < long_ago)
        return chance.choice(rested) if rested else min(names, key=lambda name: self._struck.get(name, 0.0))

    def strike(self, name: str, number: signal.Signals) -> int:
        """Send a signal to one process of the stack; its pid, 0 when it does not run at this moment."""
        self._struck[name] = time.monotonic()
        pid = self.pids().get(name, 0)
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return 0
        return pid

    async def calm(self) -> None:
        """Wait until every service is ready, and a little longer; no longer than is reasonable."""
        began = time.monotonic()
        while time.monotonic() - began < BACK_SECONDS:
            if await asyncio.to_thread(self.installed.ready):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.sleep(CALM_SECONDS)

    async def again(self, name: str, before: int, seconds: float = BACK_SECONDS) -> float | None:
        """Seconds until whoever had this pid is there anew and ready (a server: until every service is); None: it is not."""
        began, self.waited_for = time.monotonic(), ""
        names = (name,) if name in SERVICES else SERVICES
        while time.monotonic() - began < seconds:
            if self.pids().get(name, 0) not in {0, before}:
                reason = await asyncio.to_thread(self._unready, names)
                if not reason:
                    return round(time.monotonic() - began, 2)
                self.waited_for = f"{time.monotonic() - began:.1f} s: {reason}"
            await asyncio.sleep(_LOOK_SECONDS)
        return None

    def _unready(self, names: Sequence[str]) -> str:
        return next(filter(None, map(self.installed.unready, names)), "")

    def close(self) -> None:
        for pid in self.pids().values():  # Nobody may be left standing still.
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        self._stack.close()


def libfaketime() -> str:
    """Where the library is that puts clocks wrong; empty when it is not installed."""
    return os.environ.get("LIBFAKETIME") or next(map(str, Path("/usr/lib").glob(_LIBFAKETIME)), "")


@contextmanager
def field(seed: str, *, with_clocks: bool = False, **settings: str) -> Iterator[Field]:
    """A field of its own; everything on it is stopped and removed afterwards, also after Ctrl-C."""
    environ = {"PYTHONPATH": str(_ROOT)}
    with installation(
        up=(sys.executable, "-m", "tests.chaos.stack"),
        environ_too=environ,
        egress_allow="127.0.0.1/32:*",
        **settings,
    ) as installed:
        folder = installed.data.parent / "chaos"
        folder.mkdir()
        installed.environ["CHAOS_FOLDER"] = str(folder)
        played = Field(installed, folder, seed, with_clocks=with_clocks)
        try:
            yield played
        finally:
            played.close()
