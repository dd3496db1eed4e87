"""Faults in processes: killed at any moment and at named places, stopped, emptied, restarted, started twice."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from deploy.testing.installation import SERVICES, Installation
from tests.chaos.field import Field

_LOOK_SECONDS: Final = 0.05
_ARMED_SECONDS: Final = 20.0
_REACHED_SECONDS: Final = 8.0
_ROUND_SECONDS: Final = 45.0
"""The archiver looks every half a minute."""
_ROLLED_SECONDS: Final = 120.0
"""Longer than any fault beside it lasts."""
_ALONE: Final = 0.25
_AFTERMATH_SECONDS: Final = 4.0
"""How long a kill that shall be alone is left alone after its victim is back."""

PLACES: Final = (
    ("append.before_send", "orchestrator"),
    ("append.after_send", "orchestrator"),
    ("append.after_ack", "orchestrator"),
    ("append.after_send", "executor"),
    ("append.after_ack", "executor"),
    ("cycle.before_emit", "orchestrator"),
    ("cycle.after_emit", "orchestrator"),
    ("accept.before_dispatch", "ingress"),
    ("accept.after_dispatch", "ingress"),
    ("effect.after_claim", "executor"),
    ("effect.after_call", "executor"),
    ("outcome.after_told", "executor"),
    ("project.after_batch", "projections"),
    ("archive.after_purge", "projections"),
)


class Fault(Protocol):
    """One thing that goes wrong for a while."""

    kind: str
    name: str
    seconds: float
    kills: bool
    """Whether it ends a process, so that one may ask how long it took until all had moved on."""
    alone: bool
    """Whether nothing else shall be wrong while it lasts: what follows is then its own doing."""

    async def begin(self, field: Field) -> dict[str, Any]:
        """What there is to say about it; `again` is the moment of a second death."""
        ...

    async def end(self, field: Field) -> dict[str, Any]: ...


class Once:
    """What most faults have in common: nothing to end."""

    kills = False
    alone = False
    seconds = 0.5

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name

    async def end(self, _field: Field) -> dict[str, Any]:
        return {}


class Kill(Once):
    """SIGKILL to a service (F1) or a server (F2, F3, F4). Every fourth has nothing beside it: its way back is timed."""

    kills = True

    def __init__(self, kind: str, victims: tuple[str, ...], chance: random.Random) -> None:
        super().__init__(kind, f"kill -9 {victims[0]}" if len(victims) == 1 else "kill -9")
        self._victims, self._chance = victims, chance
        self.alone = chance.random() < _ALONE

    async def begin(self, field: Field) -> dict[str, Any]:
        victim = field.spared(self._victims, self._chance)
        self.name = f"kill -9 {victim}"
        pid = field.strike(victim, signal.SIGKILL)
        said: dict[str, Any] = {"pid": pid, "victim": victim}
        if self.alone and pid:
            said |= {"back_s": await field.again(victim, pid), "waited_for": field.waited_for}
            await asyncio.sleep(_AFTERMATH_SECONDS)
        return said


class Crash(Once):
    """Killed, started with a place to die at, and dead again when it gets there (F1)."""

    kills = True

    def __init__(self, chance: random.Random) -> None:
        super().__init__("F1", "crash")
        self._chance = chance

    async def begin(self, field: Field) -> dict[str, Any]:
        place, service = self._place(field)
        self.name = f"crash at {place} in {service}"
        asked, armed = field.folder / f"crash-{service}", field.folder / f"armed-{service}"
        armed.unlink(missing_ok=True)
        asked.write_text(f"{place}:{self._chance.randint(1, _most(place, service))}")
        field.strike(service, signal.SIGKILL)
        if not await _until(armed.exists, _ARMED_SECONDS):
            asked.unlink(missing_ok=True)
            field.crashed[place] += 1
            return {"place": place, "reached": False, "why": "it did not start again"}
        patience = _ROUND_SECONDS if place.startswith("archive") else _REACHED_SECONDS
        log = field.installed.data / "logs" / f"{service}.log"
        pid = int(armed.read_text())
        died = await _until(lambda: _dead(pid), patience)
        moment = time.time()
        if not died:  # It must not die there later, when nobody writes it down.
            field.strike(service, signal.SIGKILL)
        reached = died and f"dies at {place}".encode() in log.read_bytes()[-2_000:]
        field.crashed[place] += 1 + reached
        return {"place": place, "reached": reached, "again": moment}

    def _place(self, field: Field) -> tuple[str, str]:
        """Where nobody has died yet, or least often; of these, in a service that was left alone for long."""
        places = [each for each in PLACES if field.purges or not each[0].startswith("archive")]
        least = min(field.crashed[place] for place, _ in places)
        rarest = [each for each in places if field.crashed[each[0]] == least]
        service = field.spared(sorted({name for _, name in rarest}), self._chance)
        return self._chance.choice([each for each in rarest if each[1] == service])


def _most(place: str, service: str) -> int:
    """How often somebody comes by in a few seconds of load: the archiver seldom, and executors append claims only."""
    if place.startswith("archive"):
        return 3
    return 8 if (service, place.partition(".")[0]) == ("executor", "append") else 25


class Backend(Once):
    """SIGKILL to one backend of Postgres, which then ends all the others (F3)."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__("F3", "kill -9 a backend of postgres")
        self._chance = chance

    async def begin(self, field: Field) -> dict[str, Any]:
        found: list[int] = []

        def look() -> bool:
            found[:] = [pid for pid in field.children("postgres") if b"[local]" in _command(pid)]
            return bool(found)

        if not await _until(look, 5.0):
            return {"pid": 0}
        pid = self._chance.choice(found)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return {"pid": pid}


class Emptied(Once):
    """Everything in Redis is removed (F4). Its users may not FLUSHALL, so key by key."""

    def __init__(self) -> None:
        super().__init__("F4", "redis is emptied")

    async def begin(self, field: Field) -> dict[str, Any]:
        socket = urlsplit(field.installed.servers["redis_url"]).path
        gone = 0
        try:
            async with asyncio.timeout(3):
                reader, writer = await asyncio.open_unix_connection(socket)
                writer.write(b"SCAN 0 COUNT 100000\r\n")
                await reader.readline()
                await reader.readline()
                await reader.readline()
                count = int((await reader.readline())[1:])
                keys = [await _bulk(reader) for _ in range(count)]
                for key in keys:
                    writer.write(b"*2\r\n$6\r\nUNLINK\r\n$%d\r\n%s\r\n" % (len(key), key))
                    gone += int((await reader.readline())[1:])
                writer.close()
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            return {"gone": gone, "why": repr(error)}
        return {"gone": gone}


class Stopped(Once):
    """SIGSTOP to a process and all its children, SIGCONT later: what it thinks it owns it owns no more (F5)."""

    def __init__(self, victim: str, seconds: float) -> None:
        super().__init__("F5", f"{victim} stands still")
        self._victim, self.seconds = victim, seconds
        self._pids: list[int] = []

    async def begin(self, field: Field) -> dict[str, Any]:
        pid = field.pids().get(self._victim, 0)
        self._pids = [pid, *field.children(self._victim)] if pid else []
        self._signal(signal.SIGSTOP)
        return {"pids": len(self._pids)}

    async def end(self, _field: Field) -> dict[str, Any]:
        self._signal(signal.SIGCONT)
        return {}

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Rolling(Once):
    """Every service is stopped politely and started again, one after the other, as a deployment does (F19)."""

    def __init__(self) -> None:
        super().__init__("F19", "rolling restart")

    async def begin(self, field: Field) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for name in SERVICES:
            before = field.strike(name, signal.SIGTERM)
            said[name] = await field.again(name, before, _ROLLED_SECONDS)
        away = [name for name in SERVICES if said[name] is None]
        return said | ({"wrong": f"not back after a polite stop: {', '.join(away)}"} if away else {})


class SecondSupervisor(Once):
    """`automateos up` once more in the same data directory is refused (F20)."""

    def __init__(self) -> None:
        super().__init__("F20", "a second supervisor")

    async def begin(self, field: Field) -> dict[str, Any]:
        return await asyncio.to_thread(_up_again, field.installed)


def _up_again(installed: Installation) -> dict[str, Any]:
    again = subprocess.run(
        [str(Path(sys.executable).with_name("automateos")), "up"],
        env=installed.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return {"code": again.returncode, "wrong": "" if again.returncode == 1 else "it was not refused"}


class SecondOrchestrator(Once):
    """Another orchestrator wants the same partitions, and is killed when it has some (F20)."""

    def __init__(self, seconds: float) -> None:
        super().__init__("F20", "a second orchestrator")
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    async def begin(self, field: Field) -> dict[str, Any]:
        pid = field.pids().get("orchestrator", 0)
        try:
            told = dict(
                part.split("=", 1)
                for part in Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
                if "=" in part
            )
        except OSError:
            return {"why": "there was no first one at this moment"}
        told["AUTOMATEOS_ORCHESTRATOR_PORT"] = "0"
        with (field.folder / "second.log").open("ab") as log:
            self._process = field.owned(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "orchestrator"], env=told, stdout=log, stderr=log
                )
            )
        return {"pid": self._process.pid}

    async def end(self, _field: Field) -> dict[str, Any]:
        if self._process is None:
            return {}
        ended = self._process.poll()
        self._process.kill()
        self._process.wait()
        return {} if ended is None else {"ended_early": ended}


class Clock(Once):
    """The clock that one service sees is put forward or back, and later right again (F13). Only with libfaketime."""

    def __init__(self, service: str, shift: str, seconds: float) -> None:
        super().__init__("F13", f"clock of {service} {shift}")
        self._service, self._shift, self.seconds = service, shift, seconds

    async def begin(self, field: Field) -> dict[str, Any]:
        _write(field.folder / f"clock-{self._service}", self._shift)
        return {}

    async def end(self, field: Field) -> dict[str, Any]:
        _write(field.folder / f"clock-{self._service}", "+0")
        return {}


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(f"{text}\n")
    shutil.move(draft, path)


async def _bulk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline())[1:])
    return (await reader.readexactly(size + 2))[:-2]


async def _until(look: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


def _dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
