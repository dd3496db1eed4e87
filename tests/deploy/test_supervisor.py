"""What the supervisor promises about its children."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from chassis.testing.ports import free_port
from deploy.process import Command, is_alive, mark, marks
from deploy.readiness import serves
from deploy.refusals import Refused
from deploy.supervisor import Backoff, Child, Supervisor, trim

FAKE = Path(__file__).with_name("fake_service.py")
QUICK = Backoff(first=0.01, most=0.04)


class Folder:
    """A place for one supervisor: its marks, its logs, what it said, what its children noted."""

    def __init__(self, path: Path) -> None:
        self.run = path
        self.journal = path / "journal"
        self.said: list[str] = []

    def supervisor(self, backoff: Backoff = QUICK) -> Supervisor:
        return Supervisor(run=self.run, say=self.said.append, backoff=backoff)

    def child(
        self,
        name: str,
        how: str = "",
        *,
        after: tuple[str, ...] = (),
        grace: float = 10.0,
        ready_within: float = 30.0,
    ) -> Child:
        port = free_port()

        async def ready(_pid: int) -> None:
            await serves("127.0.0.1", port)

        return Child(
            name=name,
            command=self.command(sys.executable, str(FAKE), name, str(port), how),
            after=after,
            ready=ready,
            grace=grace,
            ready_within=ready_within,
        )

    def command(self, *argv: str) -> Command:
        return Command(
            argv=argv,
            env={**os.environ, "FAKE_JOURNAL": str(self.journal)},
            log=self.run / "log",
        )

    def noted(self, word: str) -> list[str]:
        return [line.split()[1] for line in self.journal.read_text().splitlines() if line.startswith(word)]

    async def said_something_with(self, *words: str) -> str:
        """Waits for it; the runner's own limit bounds the wait."""
        async with asyncio.timeout(60):
            while True:
                for line in self.said:
                    if all(word in line for word in words):
                        return line
                await asyncio.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_children_start_after_what_they_stand_on_and_stop_before_it(folder: Folder) -> None:
    async with folder.supervisor() as supervisor:
        await supervisor.start([folder.child("ground"), folder.child("house", after=("ground",))])
        await supervisor.start([folder.child("roof", after=("house",))])
    assert folder.noted("start") == ["ground", "house", "roof"]
    assert folder.noted("stop") == ["roof", "house", "ground"]


async def test_a_child_that_dies_is_started_again_and_that_is_said(folder: Folder) -> None:
    async with folder.supervisor() as supervisor:
        await supervisor.start([folder.child("ingress")])
        first = supervisor.pids()["ingress"]
        os.kill(first, signal.SIGKILL)
        await folder.said_something_with("ingress", "ready again")
        assert supervisor.pids()["ingress"] != first
        assert await folder.said_something_with("ingress was ended by SIGKILL", "again in 0.01 s")


def test_the_pause_doubles_up_to_its_bound() -> None:
    assert [Backoff().pause(deaths) for deaths in (1, 2, 3, 6, 7, 1000)] == [0.2, 0.4, 0.8, 6.4, 10.0, 10.0]


async def test_the_pause_grows_with_each_death_in_a_row(folder: Folder) -> None:
    async with folder.supervisor() as supervisor:
        await supervisor.start([folder.child("gateway")])
        for pause in ("0.01", "0.02", "0.04"):
            await kill_when_it_runs(supervisor, "gateway")
            await folder.said_something_with("gateway", f"again in {pause} s")


async def test_a_child_that_lived_long_enough_begins_with_the_first_pause(folder: Folder) -> None:
    async with folder.supervisor(Backoff(first=0.01, reset_after=0.0)) as supervisor:
        await supervisor.start([folder.child("gateway")])
        for _ in range(3):
            await kill_when_it_runs(supervisor, "gateway")
            await folder.said_something_with("again in 0.01 s")
            folder.said.clear()
        assert not any("0.02" in line for line in folder.said)


async def kill_when_it_runs(supervisor: Supervisor, name: str) -> None:
    async with asyncio.timeout(60):
        while name not in supervisor.pids():
            await asyncio.sleep(0.005)
    os.kill(supervisor.pids()[name], signal.SIGKILL)


async def test_a_child_that_cannot_start_ends_the_start_with_its_last_words(folder: Folder) -> None:
    with pytest.raises(Refused, match=r"gateway does not start.*code 3.*cannot find its trousers"):
        async with folder.supervisor() as supervisor:
            await supervisor.start([folder.child("ground"), folder.child("gateway", "fails")])
    assert folder.noted("start").count("gateway") == 3
    assert marks(folder.run) == {}


async def test_a_child_that_says_that_a_person_must_help_is_not_tried_again(folder: Folder) -> None:
    with pytest.raises(Refused, match=r"gateway does not start.*code 78"):
        async with folder.supervisor() as supervisor:
            await supervisor.start([folder.child("gateway", "hopeless")])
    assert folder.noted("start") == ["gateway"]


async def test_a_program_that_is_missing_is_named(folder: Folder) -> None:
    child = Child(name="nats", command=folder.command("/nowhere/nats-server"))
    with pytest.raises(Refused, match=r"nats does not start.*No such file.*nowhere"):
        async with folder.supervisor() as supervisor:
            await supervisor.start([child])


async def test_a_child_that_never_becomes_ready_is_killed_and_given_up(folder: Folder) -> None:
    with pytest.raises(Refused, match=r"executor does not start"):
        async with folder.supervisor() as supervisor:
            await supervisor.start([folder.child("executor", "silent", ready_within=0.3)])
    assert "executor was not ready within 0.3 s: killed" in folder.said


async def test_a_child_that_ignores_the_stop_signal_is_killed_after_its_grace(folder: Folder) -> None:
    async with folder.supervisor() as supervisor:
        await supervisor.start([folder.child("executor", "stubborn", grace=0.2)])
        known = mark(supervisor.pids()["executor"], "python", signal.SIGTERM)
    assert "executor did not stop within 0.2 s: killed" in folder.said
    assert not is_alive(known)


async def test_whoever_asks_twice_does_not_wait_for_the_grace(folder: Folder) -> None:
    async with folder.supervisor() as supervisor:
        await supervisor.start([folder.child("executor", "stubborn", grace=3600.0)])
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.stop())
            await asyncio.sleep(0.05)
            supervisor.kill()
    assert supervisor.pids() == {}


async def test_a_restart_that_was_asked_for_is_not_a_death(folder: Folder) -> None:
    async with folder.supervisor() as supervisor:
        await supervisor.start([folder.child("gateway"), folder.child("ingress")])
        await supervisor.restart(["gateway"], why="gateway/app.py changed")
        await folder.said_something_with("gateway", "ready again")
    assert folder.noted("start").count("gateway") == 2
    assert folder.noted("start").count("ingress") == 1
    assert not any("starting it again" in line for line in folder.said)


async def test_what_watches_beside_a_child_can_end_it(folder: Folder) -> None:
    async def something_is_wrong(_pid: int) -> str:
        return "the disk fails"

    child = Child(name="nats", command=folder.command("sleep", "3600"), beside=something_is_wrong)
    async with folder.supervisor() as supervisor:
        await supervisor.start([child])
        await folder.said_something_with("nats was ended by SIGKILL")
    assert "the disk fails" in folder.said


async def test_what_a_child_left_behind_in_its_session_ends_with_it(folder: Folder) -> None:
    child = Child(name="sh", command=folder.command("sh", "-c", "sleep 3600 & echo $! > $FAKE_JOURNAL; wait"))
    async with folder.supervisor() as supervisor:
        await supervisor.start([child])
        async with asyncio.timeout(60):
            while not (folder.journal.exists() and folder.journal.read_text().strip()):
                await asyncio.sleep(0.01)
        grandchild = mark(int(folder.journal.read_text()), "sleep", signal.SIGTERM)
        assert is_alive(grandchild)
        os.kill(supervisor.pids()["sh"], signal.SIGKILL)
        await folder.said_something_with("sh was ended")
    async with asyncio.timeout(60):
        while is_alive(grandchild):  # Nobody tells us of a process that is not our child.
            await asyncio.sleep(0.01)


def test_a_log_that_grew_too_long_begins_anew_under_the_child_that_writes_it(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with log.open("ab") as written_by_the_child:
        written_by_the_child.write(b"old\n" * 10)
        written_by_the_child.flush()
        trim(log, 100)
        assert log.stat().st_size == 40
        trim(log, 39)
        written_by_the_child.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "gateway.log.1").read_bytes() == b"old\n" * 10
