"""A test may have a process die at a named place; without its variable nothing happens."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chassis import crash

ROOT = Path(crash.__file__).parents[1]
PROGRAM = """
import os
from chassis.crash import crash
assert "AUTOMATEOS_CRASH" not in os.environ
for number in range(5):
    crash("append.before_send")
    crash("append.after_send")
    print(number, flush=True)
"""


def ran(asked: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "AUTOMATEOS_CRASH": asked} if asked else dict(os.environ)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_nothing_happens_when_nobody_asks() -> None:
    done = ran("")
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2", "3", "4"])


@pytest.mark.parametrize(("asked", "said"), [("append.after_send", []), ("append.after_send:3", ["0", "1"])])
def test_the_process_dies_when_it_gets_there_for_that_time(asked: str, said: list[str]) -> None:
    done = ran(asked)
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, said)
    assert done.stderr == "dies at append.after_send, as it was told to\n"


def test_another_place_is_passed() -> None:
    assert ran("cycle.after_emit").returncode == 0


@pytest.mark.parametrize("point", crash.POINTS)
def test_every_named_place_is_in_one_place_of_the_code(point: str) -> None:
    packages = ("chassis", "ingress", "orchestrator", "executor", "projections")
    found = [
        path
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if f'"{point}"' in line and "crash" in line and path.name != "crash.py"
    ]
    assert len(found) == 1
