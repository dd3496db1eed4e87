"""One process of the stack: how it starts, how it is known again, how it ends.

Every child leads a session of its own (Ctrl-C in a terminal reaches the supervisor alone, which stops the rest in
order) and asks the kernel for a signal when its parent dies. The kernel sends it when the *thread* that forked ends, so
children are started from the main thread only.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

_PR_SET_PDEATHSIG: Final = 1
_LOOK_SECONDS: Final = 0.02


class Identity(Struct, frozen=True):
    """The user that a child becomes when the supervisor is root."""

    uid: int
    gid: int


class Command(Struct, frozen=True, kw_only=True):
    """What to start, and as whom."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    """What it prints goes to the end of this file."""
    cwd: Path | None = None
    stdin: Path = Path(os.devnull)
    identity: Identity | None = None
    death_signal: int = signal.SIGKILL
    """What the kernel sends when this process ends."""


class Mark(Struct, frozen=True, kw_only=True):
    """What tells a process of ours from a stranger that has its pid now."""

    pid: int
    started: str
    program: str
    stop_signal: int


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start a child that cannot outlive this process."""
    identity = command.identity
    uid, gid = (None, None) if identity is None else (identity.uid, identity.gid)
    with command.log.open("ab") as output, command.stdin.open("rb") as given, warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads: between fork and exec ours makes one system call, takes no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        return subprocess.Popen(
            command.argv,
            stdin=given,
            stdout=output,
            stderr=output,
            env=dict(command.env),
            cwd=command.cwd,
            user=uid,
            group=gid,
            extra_groups=None if identity is None else [],
            start_new_session=True,
            preexec_fn=dies_with_parent(command.death_signal),  # noqa: PLW1509  # See above.
        )


def dies_with_parent(number: int) -> Callable[[], None] | None:
    """What a child calls before it becomes its program, so that it gets this signal when its parent ends."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("A child of this thread would end with the thread: start it from the main one.")
    if sys.platform != "linux":
        return None  # Only Linux has it; elsewhere the next start stops what was left over.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_for_the_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # The parent ended before the line above: nobody would ever tell us.

    return ask_for_the_signal


async def until(look: Callable[[], bool], *, every: float = _LOOK_SECONDS) -> None:
    """Wait for what nobody tells us: a file that another program writes, a server that comes up."""
    while not look():  # noqa: ASYNC110  # There is no event on the other side.
        await asyncio.sleep(every)


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a child, end what it left behind in its session, and return its exit code."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # Not Linux, or a sandbox that forbids the call.
        await until(lambda: process.poll() is not None)
        return process.wait()
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    # Before the pid is given back: until then the number of the session is nobody else's.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def tell(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a child. Unlike `Popen.send_signal` it never takes the exit code away from `ended`."""
    if process.returncode is None:
        os.kill(process.pid, number)


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"ended with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


def mark(pid: int, program: str, stop_signal: int) -> Mark:
    return Mark(pid=pid, started=_started(pid), program=program, stop_signal=stop_signal)


def is_alive(known: Mark) -> bool:
    """Whether this very process still runs: the pid alone proves nothing after a restart of the machine."""
    started = _started(known.pid)
    return started != "" and started == known.started and known.program in command_line(known.pid)


def command_line(pid: int) -> str:
    """What the process was started with; empty when there is no such process."""
    if sys.platform != "linux":
        return _ps(pid, "command=")
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def write_mark(path: Path, known: Mark) -> None:
    path.write_bytes(msgspec.json.encode(known))


def read_mark(path: Path) -> Mark | None:
    """The mark in this file; none when a crash left half of one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except (OSError, msgspec.DecodeError):
        return None


async def stop_orphans(folder: Path, say: Callable[[str], None], *, patience: float = 5.0) -> None:
    """End what a killed supervisor left running, known by the marks that it wrote into this folder."""
    known = marks(folder)
    left = {name: each for name, each in known.items() if is_alive(each)}
    for name, each in left.items():
        say(f"{name} (pid {each.pid}) was left over from a killed start: stopping it")
    await stop_marked(left.values(), patience=patience)
    for name in known:
        (folder / f"{name}.pid").unlink()


def marks(folder: Path) -> dict[str, Mark]:
    """The marks in this folder by the names of the children."""
    return {path.stem: known for path in sorted(folder.glob("*.pid")) if (known := read_mark(path))}


async def stop_marked(known: Iterable[Mark], *, patience: float = 5.0) -> None:
    """Ask these processes to end; after `patience` seconds, end them."""
    left = tuple(known)
    for stop in (lambda each: each.stop_signal, lambda _: signal.SIGKILL):
        for each in filter(is_alive, left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, stop(each))
        for _ in range(int(patience / _LOOK_SECONDS)):
            if not any(map(is_alive, left)):
                return
            await asyncio.sleep(_LOOK_SECONDS)


def _started(pid: int) -> str:
    """When a process started, in the machine's own words; empty when it has ended."""
    if sys.platform != "linux":
        return _ps(pid, "lstart=")
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if after_name[0] in "ZX" else after_name[19]


def _ps(pid: int, column: str) -> str:
    answer = subprocess.run(
        ["ps", "-p", str(pid), "-o", column], capture_output=True, text=True, check=False, timeout=5
    )
    return answer.stdout.strip()
