"""What is promised about one process: it dies with its parent, and no stranger is taken for it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from deploy import process
from deploy.process import Command, Mark

PARENT = """
import sys, time
from pathlib import Path
from deploy.process import Command, spawn
child = spawn(Command(argv=("sleep", "3600"), env={}, log=Path(sys.argv[1])))
print(child.pid, flush=True)
time.sleep(3600)
"""


def sleeper(tmp_path: Path, program: str = "sleep") -> subprocess.Popen[bytes]:
    return process.spawn(Command(argv=(program, "3600"), env=os.environ, log=tmp_path / "log"))


async def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = process.mark(int(parent.stdout.readline()), "sleep", signal.SIGTERM)
        assert process.is_alive(child)
        parent.kill()
        parent.wait()
    async with asyncio.timeout(60):
        await process.until(lambda: not process.is_alive(child))


async def test_a_child_of_a_thread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="main one"):
        await asyncio.to_thread(sleeper, tmp_path)


async def test_a_process_that_was_left_over_is_stopped_by_its_mark(tmp_path: Path) -> None:
    said: list[str] = []
    left = sleeper(tmp_path)
    process.write_mark(tmp_path / "nats.pid", process.mark(left.pid, "sleep", signal.SIGTERM))
    await process.stop_orphans(tmp_path, said.append)
    assert left.wait() == -signal.SIGTERM
    assert said == [f"nats (pid {left.pid}) was left over from a killed start: stopping it"]
    assert process.marks(tmp_path) == {}


async def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = ("sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 1; done")
    left = process.spawn(Command(argv=deaf, env=os.environ, log=tmp_path / "log"))
    async with asyncio.timeout(60):
        await process.until(lambda: (tmp_path / "log").read_text() == "deaf\n")
    await process.stop_marked([process.mark(left.pid, "sh", signal.SIGTERM)], patience=0.1)
    assert left.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "changed",
    [{"started": "1"}, {"program": "postgres"}, {"pid": 2**22 + 1}],
    ids=["other time", "other program", "no process"],
)
async def test_a_stranger_with_the_same_pid_is_left_alone(
    tmp_path: Path, changed: dict[str, str | int]
) -> None:
    stranger = sleeper(tmp_path)
    ours = process.mark(stranger.pid, "sleep", signal.SIGTERM)
    assert process.is_alive(ours)
    old = msgspec.convert(msgspec.to_builtins(ours) | changed, Mark)
    assert not process.is_alive(old)
    process.write_mark(tmp_path / "nats.pid", old)
    await process.stop_orphans(tmp_path, lambda _: None)
    assert stranger.poll() is None
    process.tell(stranger, signal.SIGKILL)
    assert await process.ended(stranger) == -signal.SIGKILL


def test_a_mark_that_was_half_written_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "nats.pid").write_bytes(b'{"pid": 1')
    assert process.marks(tmp_path) == {}


def test_a_process_that_has_ended_is_not_alive_while_nobody_took_its_exit_code(tmp_path: Path) -> None:
    child = sleeper(tmp_path)
    known = process.mark(child.pid, "sleep", signal.SIGTERM)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_alive(known)
    child.wait()


async def test_a_program_starts_without_what_its_parent_has_open(tmp_path: Path) -> None:
    command = Command(argv=("ls", "-l", "/proc/self/fd"), env=os.environ, log=tmp_path / "log")
    with (tmp_path / "secret").open("w"):
        assert await process.ended(process.spawn(command)) == 0
    assert "secret" not in (tmp_path / "log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a process as somebody else")
async def test_a_process_can_become_somebody_without_rights(tmp_path: Path) -> None:
    command = Command(
        argv=("id",),
        env=os.environ,
        log=tmp_path / "log",
        identity=process.Identity(65534, 65534),
        cwd=Path("/"),
    )
    assert await process.ended(process.spawn(command)) == 0
    said = (tmp_path / "log").read_text()
    assert "uid=65534" in said
    assert "root" not in said
