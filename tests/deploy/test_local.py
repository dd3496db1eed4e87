"""What the embedded stack promises from its first line to its last: real servers, services that only say they are ready."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.lifecycle import EXIT_CANNOT_START
from chassis.testing.ports import free_port
from deploy.process import Identity, Mark, is_alive, marks
from deploy.reload import concerned
from deploy.servers.postgres_home import can_pass
from deploy.servers.staging import SHARED_MEMORY
from deploy.stack import Running, pids, running_stack
from deploy.supervisor import CANNOT_START

FAKE_STACK = Path(__file__).with_name("fake_stack.py")
CHECKOUT = Path(__file__).parents[2]
SERVICES = ["ingress", "orchestrator", "executor", "projections", "gateway"]
SERVERS = ["nats", "postgres", "redis", "mail"]


class Start:
    """One start of the fake stack in a process of its own."""

    def __init__(
        self, folder: Path, settings: dict[str, str], *, identity: Identity | None = None, reader: bool = True
    ) -> None:
        self.data = folder / "data"
        self.journal = folder / "journal"
        self.said = folder / "said"
        self.environ = {
            **os.environ,
            "FAKE_JOURNAL": str(self.journal),
            "AUTOMATEOS_DATA_DIR": str(self.data),
            **settings,
        }
        uid, gid = (None, None) if identity is None else (identity.uid, identity.gid)
        output = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if reader else broken_pipe()
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [python_for(identity), str(FAKE_STACK)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=self.environ,
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=None if identity is None else [],
        )
        os.close(output)

    async def ready(self) -> Running:
        async with asyncio.timeout(60):
            while (running := running_stack(self.data)) is None:
                assert self.process.poll() is None, self.said.read_text()
                await asyncio.sleep(0.02)
        return running

    async def says(self, *words: str) -> str:
        async with asyncio.timeout(60):
            while True:
                for line in self.said.read_text().splitlines():
                    if all(word in line for word in words):
                        return line
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(0.02)
        return code

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    def marks(self) -> dict[str, Mark]:
        return marks(self.data / "run")

    def noted(self, word: str) -> list[str]:
        return [line.split()[1] for line in self.journal.read_text().splitlines() if line.startswith(word)]


def broken_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def python_for(identity: Identity | None) -> str:
    """A Python that this user can run, of the version whose packages are installed here."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        if identity is None or (Path(program).exists() and can_pass(Path(program), identity)):
            return program
    pytest.skip(f"user {identity.uid if identity else 0} can run no {version} on this machine")


@pytest.fixture
def ports() -> dict[str, str]:
    """Free ports for everything that has one."""
    names = [*(f"AUTOMATEOS_{name.upper()}_PORT" for name in SERVICES), "AUTOMATEOS_SMTP_PORT"]
    return {name: str(free_port()) for name in names}


class Starts:
    """Starts the fake stack in one folder, again and again; nothing of it outlives the test."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        self.folder = folder
        self.ports = ports
        self.known: list[Start] = []

    def __call__(self, **settings: str) -> Start:
        return self.start(settings)

    def start(
        self, settings: dict[str, str], *, identity: Identity | None = None, reader: bool = True
    ) -> Start:
        start = Start(self.folder, self.ports | settings, identity=identity, reader=reader)
        self.known.append(start)
        return start


@pytest.fixture
async def starts(open_folder: Path, ports: dict[str, str]) -> AsyncIterator[Starts]:
    made = Starts(open_folder, ports)
    yield made
    for start in made.known:
        if start.process.poll() is None:
            start.process.terminate()
            await start.ended()


async def test_a_stack_starts_says_where_it_is_and_stops_in_reverse_order(starts: Starts) -> None:
    start = starts()
    running = await start.ready()
    assert running.pid == start.process.pid
    assert sorted(pids(start.data)) == sorted([*SERVICES, *SERVERS])
    assert running.servers.nats_staging == "in memory: RUNS"
    assert Path(running.first_key_file).read_text() == "ao_test"
    for words in (
        ("API and its docs", running.gateway_url),
        ("webhooks", running.public_url),
        ("API key", "first-key"),
    ):
        await start.says(*words)
    known, staged = start.marks(), Path((start.data / "nats/staging").read_text())
    assert staged.is_relative_to(SHARED_MEMORY)
    assert await start.stop() == 0
    assert sorted(start.noted("stop")) == sorted(SERVICES)
    assert not any(map(is_alive, known.values()))
    assert running_stack(start.data) is None
    assert not staged.exists()
    assert not (start.data / "nats/staging").exists()


async def test_what_was_stored_is_there_after_the_next_start(starts: Starts) -> None:
    first = starts()
    address = (await first.ready()).servers.nats_url
    await first.says("starts: 1")
    await first.says("stored: 1")
    assert await first.stop() == 0
    second = starts()
    assert (await second.ready()).servers.nats_url == address
    await second.says("starts: 2")
    await second.says("stored: 2")
    assert await second.stop() == 0


async def test_a_second_start_is_told_who_runs_and_disturbs_nothing(starts: Starts) -> None:
    first = starts()
    await first.ready()
    before = pids(first.data)
    second = subprocess.run(
        [sys.executable, str(FAKE_STACK)],
        env=first.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 1
    assert second.stdout == f"The stack in {first.data} is already running as pid {first.process.pid}.\n"
    assert second.stderr == ""
    assert pids(first.data) == before
    assert await first.stop() == 0


async def test_a_killed_supervisor_leaves_no_orphan_and_the_next_start_goes_on(starts: Starts) -> None:
    first = starts()
    await first.ready()
    known = first.marks()
    assert len(known) == 9
    first.process.kill()
    await first.ended()
    async with asyncio.timeout(60):
        while any(map(is_alive, known.values())):
            await asyncio.sleep(0.02)
    second = starts()
    await second.ready()
    await second.says("starts: 2")
    await second.says("stored: 2")
    assert await second.stop() == 0


async def test_everything_killed_at_once_is_recovered(starts: Starts) -> None:
    first = starts()
    await first.ready()
    victims = [first.process.pid, *pids(first.data).values()]
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    await first.ended()
    second = starts()
    await second.ready()
    await second.says("starts: 2")
    await second.says("stored: 2")
    assert await second.stop() == 0


async def test_servers_that_outlived_their_supervisor_are_stopped_before_the_next_start(
    starts: Starts,
) -> None:
    first = starts()
    await first.ready()
    known = first.marks()
    # A stopped process does not act on the kernel's signal: this is how a machine without that signal looks.
    for name in ("nats", "postgres"):
        os.kill(known[name].pid, signal.SIGSTOP)
    first.process.kill()
    await first.ended()
    assert is_alive(known["nats"])
    assert is_alive(known["postgres"])
    second = starts()
    await second.says("nats", f"pid {known['nats'].pid}", "left over")
    await second.says("postgres", f"pid {known['postgres'].pid}", "left over")
    await second.ready()
    assert not is_alive(known["nats"])
    assert not is_alive(known["postgres"])
    await second.says("starts: 2")
    assert await second.stop() == 0


async def test_a_service_and_a_server_that_die_come_back_visibly(starts: Starts) -> None:
    start = starts()
    await start.ready()
    before = pids(start.data)
    for name in ("gateway", "nats", "postgres", "redis"):
        os.kill(before[name], signal.SIGKILL)
    for name in ("gateway", "nats", "postgres", "redis"):
        await start.says(name, "was ended by SIGKILL", "starting it again")
        await start.says(name, "ready again")
    after = pids(start.data)
    assert {name for name in before if before[name] != after[name]} == {
        "gateway",
        "nats",
        "postgres",
        "redis",
    }
    assert await start.stop() == 0


async def test_a_port_that_is_in_use_is_named_with_its_setting(starts: Starts, ports: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(ports["AUTOMATEOS_GATEWAY_PORT"])))
        other.listen()
        start = starts()
        assert await start.ended() == 1
    said = start.said.read_text()
    assert said.startswith(
        f"Port {ports['AUTOMATEOS_GATEWAY_PORT']} on 127.0.0.1 is in use by another program: "
    )
    assert "set AUTOMATEOS_GATEWAY_PORT to a free one" in said
    assert said.count("\n") == 1
    assert start.marks() == {}


async def test_two_services_on_one_port_are_refused(starts: Starts, ports: dict[str, str]) -> None:
    start = starts(AUTOMATEOS_INGRESS_PORT=ports["AUTOMATEOS_GATEWAY_PORT"])
    assert await start.ended() == 1
    assert "AUTOMATEOS_INGRESS_PORT and AUTOMATEOS_GATEWAY_PORT are both" in start.said.read_text()


@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        ("AUTOMATEOS_HOST", "no.such.host.invalid", "AUTOMATEOS_HOST is 'no.such.host.invalid'"),
        ("AUTOMATEOS_GATEWAY_PORT", "many", "AUTOMATEOS_GATEWAY_PORT"),
        ("AUTOMATEOS_GATWAY_PORT", "1", "AUTOMATEOS_GATWAY_PORT is not a setting."),
        ("AUTOMATEOS_NATS_MAX_FILE_STORE", "lots", "AUTOMATEOS_NATS_MAX_FILE_STORE is 'lots'"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_one_line(
    starts: Starts, setting: str, value: str, line: str
) -> None:
    start = starts.start({setting: value})
    assert await start.ended() == 1
    assert line in start.said.read_text()
    assert "Traceback" not in start.said.read_text()


async def test_a_damaged_directory_is_one_line(starts: Starts) -> None:
    first = starts()
    await first.ready()
    assert await first.stop() == 0
    shutil.rmtree(first.data / "nats/store")
    second = starts()
    assert await second.ended() == 1
    said = second.said.read_text()
    assert said.startswith(f"The data directory {second.data} is damaged: nats/store is missing.")
    assert said.count("\n") == 1


async def test_a_service_that_cannot_start_ends_the_start_and_takes_the_rest_along(starts: Starts) -> None:
    start = starts(FAKE_PROJECTIONS="hopeless")
    assert await start.ended() == 1
    last = start.said.read_text().splitlines()[-1]
    assert last.startswith("projections does not start: it ended with code 78")
    assert "cannot find its trousers" in last
    assert start.marks() == {}


def test_the_exit_code_for_no_use_to_try_again_is_the_services_own() -> None:
    assert CANNOT_START == EXIT_CANNOT_START


async def test_a_stop_in_the_middle_of_a_start_stops_what_runs(starts: Starts) -> None:
    start = starts(FAKE_GATEWAY="silent")
    await start.says("ingress", "ready")
    known = start.marks()
    assert await start.stop() == 0
    assert start.said.read_text().endswith("stopped\n")
    assert not any(map(is_alive, known.values()))


async def test_a_second_signal_waits_for_nobody(starts: Starts) -> None:
    start = starts(FAKE_EXECUTOR="stubborn", AUTOMATEOS_DRAIN_SECONDS="600")
    await start.ready()
    known = start.marks()
    start.process.send_signal(signal.SIGINT)
    await start.says("SIGINT: stopping")
    start.process.send_signal(signal.SIGINT)
    assert await start.ended() == 0
    assert not any(map(is_alive, known.values()))
    again = starts()
    await again.ready()
    await again.says("starts: 2")
    assert await again.stop() == 0


async def test_nobody_needs_to_read_what_it_says(starts: Starts) -> None:
    start = starts.start({}, reader=False)
    await start.ready()
    assert await start.stop() == 0


async def test_a_service_gets_its_own_settings_and_no_key_that_it_does_not_need(starts: Starts) -> None:
    start = starts(UNRELATED="kept")
    await start.ready()
    told = {name: environment_of(pid) for name, pid in pids(start.data).items() if name in SERVICES}
    assert told["gateway"]["AUTOMATEOS_POSTGRES_USER"] == "gateway"
    assert told["projections"]["AUTOMATEOS_POSTGRES_USER"] == "projector"
    assert told["ingress"]["AUTOMATEOS_NATS_SEED_FILE"].endswith("/secrets/nats/ingress.seed")
    assert told["executor"]["AUTOMATEOS_SMTP_PORT"] == starts.ports["AUTOMATEOS_SMTP_PORT"]
    assert [name for name in told if told[name]["AUTOMATEOS_SIGNING_KEY_FILE"]] == ["projections"]
    assert told["orchestrator"]["AUTOMATEOS_POSTGRES_USER"] == "orchestrator"
    assert told["orchestrator"]["AUTOMATEOS_MASTER_KEY_FILE"] == ""
    assert all(environment["UNRELATED"] == "kept" for environment in told.values())
    assert await start.stop() == 0


def environment_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_text()
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


async def test_something_can_be_done_before_each_start_of_a_service(starts: Starts) -> None:
    start = starts(PYTHONUNBUFFERED="1")
    url = (await start.ready()).servers.nats_url
    for name in SERVICES:
        await start.says(f"{name} is about to start with {url}")
    os.kill(pids(start.data)["orchestrator"], signal.SIGKILL)
    await start.says("orchestrator", "ready again")
    assert start.said.read_text().count("orchestrator is about to start") == 2
    assert await start.stop() == 0


async def test_a_log_that_syncs_lazily_is_never_hidden(starts: Starts) -> None:
    start = starts(AUTOMATEOS_UNSAFE_FAST="true")
    running = await start.ready()
    assert running.unsafe_fast
    await start.says("UNSAFE", "a power cut loses what was accepted")
    assert "sync_interval: 1s" in (start.data / "nats/nats.conf").read_text()
    assert await start.stop() == 0


async def test_a_stack_that_listens_everywhere_names_an_address_that_can_be_opened(starts: Starts) -> None:
    start = starts(AUTOMATEOS_HOST="0.0.0.0")
    running = await start.ready()
    assert running.gateway_url == f"http://127.0.0.1:{starts.ports['AUTOMATEOS_GATEWAY_PORT']}"
    assert await start.stop() == 0


async def test_with_a_mail_server_of_ones_own_none_is_started(starts: Starts) -> None:
    start = starts(AUTOMATEOS_SMTP_HOST="mail.example.org", AUTOMATEOS_SMTP_PORT="587")
    await start.ready()
    assert "mail" not in pids(start.data)
    told = environment_of(pids(start.data)["executor"])
    assert (told["AUTOMATEOS_SMTP_HOST"], told["AUTOMATEOS_SMTP_PORT"]) == ("mail.example.org", "587")
    assert await start.stop() == 0


async def test_a_service_starts_again_when_its_code_changes(starts: Starts, open_folder: Path) -> None:
    for name in (*SERVICES, "chassis", "contracts"):
        (open_folder / "code" / name).mkdir(parents=True)
    start = starts(FAKE_WATCH=str(open_folder / "code"))
    await start.ready()
    await start.says("watching")
    before = pids(start.data)
    async with asyncio.timeout(60):
        while pids(start.data).get("gateway") in {before["gateway"], None}:
            (open_folder / "code/gateway/app.py").write_text(f"# {os.urandom(4).hex()}")
            await asyncio.sleep(0.2)
    await start.says("gateway starts again: gateway/app.py changed")
    assert pids(start.data)["ingress"] == before["ingress"]
    assert await start.stop() == 0


async def test_what_is_saved_while_the_services_start_is_not_missed(
    starts: Starts, open_folder: Path
) -> None:
    code = open_folder / ".venv/code"  # The name of a folder above the code says nothing about the code.
    for name in (*SERVICES, "deploy"):
        (code / name).mkdir(parents=True)
        (code / name / "app.py").touch()
    for name in ("executor", "deploy"):
        os.utime(code / name / "app.py", (2**32, 2**32))
    start = starts(FAKE_WATCH=str(code))
    await start.says("executor starts again: executor/app.py changed")
    await start.says("deploy/app.py changed: what supervises the services is new after Ctrl-C")
    await start.says("executor", "ready again")
    assert [line for line in start.said.read_text().splitlines() if "starts again" in line] == [
        "executor starts again: executor/app.py changed"
    ]
    before = pids(start.data)
    (code / "gateway/app.py").write_text("# saved")
    await start.says("gateway starts again: gateway/app.py changed")
    await start.says("gateway", "ready again")
    after = pids(start.data)
    assert {name for name in before if before[name] != after.get(name)} == {"gateway"}
    assert await start.stop() == 0


def test_what_all_stand_on_concerns_all() -> None:
    assert concerned([Path("gateway/app.py")], SERVICES) == {"gateway": Path("gateway/app.py")}
    assert concerned([Path("chassis/log.py")], SERVICES) == dict.fromkeys(SERVICES, Path("chassis/log.py"))
    assert concerned([Path("docs/conf.py"), Path("deploy/cli.py")], SERVICES) == {}
    several = [Path("executor/a.py"), Path("gateway/a.py"), Path("gateway/b.py")]
    assert concerned(several, SERVICES) == {"executor": several[0], "gateway": several[1]}


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can start it as somebody else; without root every test does"
)
async def test_it_runs_as_a_user_without_rights(starts: Starts, open_folder: Path) -> None:
    nobody = Identity(65534, 65534)
    os.chown(open_folder, nobody.uid, nobody.gid)
    packages = sysconfig.get_path("purelib")
    start = starts.start({"PYTHONPATH": f"{CHECKOUT}:{packages}", "HOME": str(open_folder)}, identity=nobody)
    await start.ready()
    for pid in pids(start.data).values():
        assert Path(f"/proc/{pid}").stat().st_uid == nobody.uid
    assert await start.stop() == 0
