"""What a developer gets from `make dev`: the service whose code was saved starts again with it, the others never notice."""

import os
import shutil
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.process import is_alive, marks
from deploy.testing.installation import SERVICES, Installation, installation
from tests.acceptance.waiting import until

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("contracts", "chassis", *SERVICES, "deploy")
PATIENCE_SECONDS = 60.0
AS_IN_A_TERMINAL = """
import os, signal, sys
os.setsid()  # A process group of its own, which Ctrl-C reaches as a whole.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Developer:
    """Somebody with a checkout of their own in which `make dev` runs."""

    def __init__(self, checkout: Path, stack: Installation) -> None:
        self.checkout = checkout
        self.stack = stack

    def saves(self, path: str, old: str, new: str) -> None:
        """As many editors do it: a draft beside the file takes its place."""
        file = self.checkout / path
        text = file.read_text()
        assert old in text
        draft = file.with_suffix(".draft")
        draft.write_text(text.replace(old, new, 1))
        draft.replace(file)

    def says(self) -> list[str]:
        return self.stack.up_log.read_text().splitlines()

    def services(self) -> dict[str, int]:
        return {name: pid for name, pid in self.stack.pids().items() if name in SERVICES}

    def settles(self, said: int) -> list[str]:
        """What was said since, once every service is ready and nothing more happens."""
        lines: list[str] = []

        def is_quiet() -> bool:
            nonlocal lines
            before, lines = lines, self.says()[said:]
            time.sleep(2.0)  # Longer than a watcher gathers what was saved together.
            return (
                before == self.says()[said:] and len(self.services()) == len(SERVICES) and self.stack.ready()
            )

        until(is_quiet, "all services are ready")
        return lines


@pytest.fixture(scope="module")
def developer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developer]:
    checkout = tmp_path_factory.mktemp("work") / "checkout"
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Makefile", "pyproject.toml"):
        shutil.copy2(CHECKOUT / file, checkout)
    # The Makefile's own rule, with the virtual environment that these tests run in and nothing to install.
    make = ("make", "-C", str(checkout), "-o", ".venv/.run", f"BIN={Path(sys.executable).parent}", "dev")
    with installation(
        (sys.executable, "-c", AS_IN_A_TERMINAL, *make), {"PYTHONPATH": str(checkout)}
    ) as stack:
        stack.start()
        made = Developer(checkout, stack)
        until(lambda: f"watching {checkout}: a changed service is started again" in made.says(), "it watches")
        yield made


def test_a_service_whose_code_is_saved_starts_again_with_it_and_no_other_does(developer: Developer) -> None:
    assert place_header(developer) == "automateos-position"
    before, said = developer.stack.pids(), len(developer.says())
    developer.saves("gateway/places.py", '"AutomateOS-Position"', '"AutomateOS-Where"')
    until(lambda: developer.stack.pids().get("gateway", before["gateway"]) != before["gateway"], "a new one")
    lines = developer.settles(said)
    after = developer.stack.pids()
    assert {name for name in before if before[name] != after[name]} == {"gateway"}
    assert [line.partition(" (")[0] for line in lines] == [
        "gateway starts again: gateway/places.py changed",
        "gateway      ready again",
    ]
    assert place_header(developer) == "automateos-where"


def place_header(developer: Developer) -> str:
    """The name under which the running gateway says where a write stands."""
    request = urllib.request.Request(
        f"{developer.stack.gateway}/api/v1/vars",
        method="PUT",
        data=b'{"vars": {"seen": 1}}',
        headers={
            "authorization": f"Bearer {developer.stack.key}",
            "content-type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        [name] = [name.lower() for name in answer.headers if name.lower().startswith("automateos-")]
    return str(name)


@pytest.mark.parametrize("path", ["contracts/limits.py", "chassis/ids.py"])
def test_code_that_all_stand_on_starts_every_service_again_and_no_server(
    developer: Developer, path: str
) -> None:
    before, said = developer.stack.pids(), len(developer.says())
    developer.saves(path, "\n", "\n\n")
    until(
        lambda: all(developer.services().get(name, before[name]) != before[name] for name in SERVICES),
        "all are new",
    )
    lines = developer.settles(said)
    after = developer.stack.pids()
    assert {name for name in before if before[name] != after[name]} == set(SERVICES)
    assert sorted(line for line in lines if "starts again" in line) == sorted(
        f"{name} starts again: {path} changed" for name in SERVICES
    )


def test_code_that_cannot_run_is_said_and_its_cure_is_taken(developer: Developer) -> None:
    before, said = developer.stack.pids(), len(developer.says())
    developer.saves("executor/__main__.py", "import asyncio\n", "import asyncio nonsense\n")
    until(
        lambda: any("SyntaxError: invalid syntax" in line for line in developer.says()[said:]),
        "it says why the executor ended",
    )
    assert all(developer.stack.are_ready([name]) for name in SERVICES if name != "executor")
    developer.saves("executor/__main__.py", "import asyncio nonsense\n", "import asyncio\n")
    until(lambda: developer.stack.are_ready(["executor"]), "it is well again")
    developer.settles(said)
    after = developer.stack.pids()
    assert {name for name in before if before[name] != after[name]} == {"executor"}


def test_what_is_no_code_of_a_service_starts_nothing_again(developer: Developer) -> None:
    before, said = developer.stack.pids(), len(developer.says())
    (developer.checkout / "gateway" / "notes.txt").write_text("remember the milk")
    compiled = developer.checkout / "gateway" / "__pycache__"
    compiled.mkdir(exist_ok=True)
    (compiled / "places.cpython-399.pyc").write_bytes(b"")
    developer.saves("deploy/healthy.py", "\n", "\n\n")
    until(lambda: len(developer.says()) > said, "it says that its own code is new")
    assert developer.settles(said) == [
        "deploy/healthy.py changed: what supervises the services is new after Ctrl-C and another start"
    ]
    assert developer.stack.pids() == before


def test_ctrl_c_in_the_middle_of_a_restart_leaves_no_process(developer: Developer) -> None:
    """Stands last: nothing runs afterwards."""
    stack = developer.stack
    running = stack._process
    assert running is not None
    known, said = marks(stack.data / "run"), len(developer.says())
    assert set(known) > set(SERVICES)
    developer.saves("chassis/ids.py", "\n", "\n\n")
    until(lambda: any("starts again" in line for line in developer.says()[said:]), "a restart has begun")
    os.killpg(running.pid, signal.SIGINT)
    running.wait(PATIENCE_SECONDS)
    assert "stopped" in developer.says()[said:]
    assert not any("Traceback" in line or "killed" in line for line in developer.says())
    until(lambda: processes_of(stack) == {}, "no process is left")
    assert not any(map(is_alive, known.values()))


def processes_of(stack: Installation) -> dict[int, str]:
    """Whatever was started with, or works in, this data directory."""
    found = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            if str(stack.data).encode() in told and (process / "stat").read_text().split()[2] != "Z":
                found[int(process.name)] = told.decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # It has ended meanwhile, or is somebody else's.
    return found
