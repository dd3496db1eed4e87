"""The processes in which code runs: few, bounded, killed by their id, and with nothing to give away."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from executor.sandbox.engines import alone
from executor.sandbox.sandbox import Sandbox
from tests.executor.code import Tried, tried

LOOP = "while True: pass"


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until(look: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not look():
            await asyncio.sleep(0.01)


@pytest.fixture
async def box(engines: Path) -> Any:
    """A sandbox of the test's own, so that its processes are counted."""
    async with Sandbox(engines, at_once=2, patience_s=1.0) as box:
        yield box


async def meanwhile(work: Awaitable[Tried], happens: Callable[[], Awaitable[None]]) -> Tried:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(work)  # type: ignore[arg-type]  # A coroutine.
        await happens()
    return running.result()


async def test_a_process_serves_one_attempt_after_the_other(box: Sandbox) -> None:
    await tried(box, "python", "return 1")
    [first] = box.pids
    await tried(box, "python", "raise ValueError")
    await tried(box, "python", "fail('no')")
    assert box.pids == [first]


async def test_one_whose_code_had_to_be_stopped_is_not_used_again(box: Sandbox) -> None:
    await tried(box, "javascript", "return 1")
    [first] = box.pids
    await tried(box, "javascript", "while (true) {}", processor_s=0.1)
    assert box.pids == []
    assert not lives(first)
    assert (await tried(box, "javascript", "return 1")).output == 1


async def test_no_more_run_at_once_than_there_is_room_for(box: Sandbox) -> None:
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(box.pids))
            await asyncio.sleep(0.002)

    watching = asyncio.get_running_loop().create_task(watch())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(tried(box, "python", f"return {n}")) for n in range(12)]
    watching.cancel()
    assert [task.result().output for task in tasks] == list(range(12))
    assert most == 2


async def test_an_attempt_that_runs_out_of_time_is_killed_by_its_id(box: Sandbox) -> None:
    await tried(box, "python", "return 1")
    [pid] = box.pids
    late = await tried(box, "python", LOOP, processor_s=60, about={"timeout_s": 2})
    assert late.error[0] == "attempt.timeout"
    assert not lives(pid)


async def test_an_attempt_that_is_cancelled_is_killed_by_its_id(box: Sandbox) -> None:
    await tried(box, "python", "return 1")
    [pid] = box.pids
    running = asyncio.get_running_loop().create_task(tried(box, "python", LOOP, processor_s=60))
    await asyncio.sleep(2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not lives(pid)
    assert (await tried(box, "python", "return 1")).output == 1


async def test_a_process_that_dies_is_an_error_that_may_be_tried_again(box: Sandbox) -> None:
    await tried(box, "python", "return 1")
    [pid] = box.pids

    async def kill() -> None:
        await asyncio.sleep(2)
        os.kill(pid, signal.SIGKILL)

    broken = await meanwhile(tried(box, "python", f"print('before')\n{LOOP}", processor_s=60), kill)
    assert broken.error == ("code.sandbox", "The process in which the code ran has died. (SIGKILL)")
    assert broken.retryable
    assert broken.said == [("info", 1, "before")]
    assert (await tried(box, "python", "return 1")).output == 1


async def test_a_process_that_died_while_nobody_needed_it_is_replaced(box: Sandbox) -> None:
    await tried(box, "python", "return 1")
    [pid] = box.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: box.pids == [])
    assert (await tried(box, "python", "return 1")).output == 1


async def test_a_process_that_stands_still_is_killed_when_patience_ends(box: Sandbox) -> None:
    await tried(box, "python", "return 1")
    [pid] = box.pids
    os.kill(pid, signal.SIGSTOP)
    late = await tried(box, "python", "return 1", processor_s=0.1)
    assert late.error == ("attempt.timeout", "The code had not ended after 2 s and was stopped.")
    assert late.retryable
    assert not lives(pid)


async def test_none_outlives_its_executor(engines: Path) -> None:
    async with Sandbox(engines, at_once=2) as box:
        await tried(box, "python", "return 1")
        await tried(box, "javascript", "return 1")
        pids = box.pids
        assert len(pids) == 2
    assert not any(map(lives, pids))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Only Linux shows it.")
async def test_a_process_knows_no_variable_and_may_open_nothing(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOMATEOS_MASTER_KEY_FILE", "/somewhere")
    await tried(box, "python", "return 1")
    [pid] = box.pids
    about = Path(f"/proc/{pid}")
    assert (about / "environ").read_bytes() == b""
    assert (about / "cwd").readlink() == Path("/")
    assert "oom" not in (about / "status").read_text()
    assert (about / "oom_score_adj").read_text().strip() == "1000"
    limits = {
        line[:26].strip(): line[26:].split()[:2] for line in (about / "limits").read_text().splitlines()
    }
    assert limits["Max open files"] == limits["Max core file size"] == limits["Max file size"] == ["0", "0"]
    assert int(limits["Max data size"][1]) <= 1 << 30
    open_now = [str(each.readlink()) for each in (about / "fd").iterdir()]
    assert not [
        each
        for each in open_now
        if each.startswith("/")
        and each != "/dev/null"
        and not each.endswith("(deleted)")
        and "cwasm" not in each
    ]


TRIES = """
import ctypes, os, socket, subprocess, sys
from executor.sandbox.lockdown import lock_down
parent = os.getppid()
version = lock_down()
def tried(name, act):
    try: act()
    except (OSError, ValueError) as error: print(name, "refused")
    else: print(name, "WORKED")
print("landlock", version)
tried("open", lambda: open("/etc/passwd"))
tried("write", lambda: open("/tmp/x", "w"))
tried("list", lambda: os.listdir("/"))
tried("exec", lambda: os.execv("/bin/true", ["true"]))
tried("tcp", lambda: socket.create_connection(("127.0.0.1", 9)))
tried("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)))
tried("pipe", os.pipe)
tried("memfd", lambda: os.memfd_create("x"))
tried("unlink", lambda: os.unlink(sys.argv[1]))
tried("rename", lambda: os.rename(sys.argv[1], sys.argv[1] + "2"))
tried("more", lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_NOFILE, (10, 10)))
if version >= 6: tried("signal", lambda: os.kill(parent, 0))
"""


def test_what_was_given_up_is_gone_even_for_native_code(tmp_path: Path) -> None:
    # What a hole in the engine would be worth: nothing here goes through WebAssembly.
    victim = tmp_path / "victim"
    victim.write_text("here")
    done = subprocess.run(
        alone(TRIES, str(victim)), capture_output=True, text=True, timeout=60, check=False, env={}
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    version = int(found.pop("landlock"))
    if os.geteuid() == 0:
        found.pop("more")  # Root may raise its own bounds; landlock stays.
    guarded = (
        found
        if version
        else {name: found[name] for name in ("open", "write", "list", "tcp", "udp", "pipe", "memfd")}
    )
    assert "WORKED" not in guarded.values(), found
    assert victim.read_text() == "here" or not version
