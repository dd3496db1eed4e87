"""What an operator reads who asks `automateos doctor`: every trouble in one line that says what to do, and the exit code."""

import asyncio
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from bench.workflows import echoes
from deploy.testing.installation import SERVICES, Installation, installation
from tests.acceptance.waiting import until

PROGRAM = str(Path(sys.executable).with_name("automateos"))


class Told(Struct, frozen=True):
    """What the doctor said, by how bad it is."""

    code: int
    ok: list[str]
    note: list[str]
    bad: list[str]


def doctor(stack: Installation, **settings: str) -> Told:
    """Every line is a finding, nothing stands beside them, and the exit code says whether one is bad."""
    done = shell(stack.environ | settings, "doctor")
    found: dict[str, list[str]] = {"ok": [], "note": [], "bad": []}
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        found[line[:5].strip()].append(line[6:])
    told = Told(done.returncode, found["ok"], found["note"], found["bad"])
    assert told.code == (1 if told.bad else 0)
    return told


def shell(environ: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROGRAM, *arguments], env=environ, capture_output=True, text=True, timeout=120, check=False
    )


def start_refused(stack: Installation) -> list[str]:
    """What `automateos up` says when it does not come up."""
    done = shell(stack.environ, "up")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def stopped() -> Iterator[Installation]:
    """A stack that was well, and that its operator has stopped."""
    with installation() as stack:
        stack.start()
        stack.stop()
        yield stack


@pytest.fixture(scope="module")
def up() -> Iterator[Installation]:
    """A stack that runs, with one run and one sealed secret."""
    with installation() as stack:
        stack.start()
        run_once(stack)
        stack.call("POST", "/secrets", {"name": "sealed", "value": {"kind": "text", "text": "open sesame"}})
        yield stack


def run_once(stack: Installation) -> None:
    """One run, until it is in the archive and the read models."""
    before = completed(stack)
    workflow = stack.call("POST", "/workflows", {"name": "echo", "definition": echoes(1)})["id"]
    stack.call("POST", f"/workflows/{workflow}/versions/1/publish")
    stack.call("POST", "/runs", {"workflow": workflow})
    until(lambda: completed(stack) == before + 1, "the run completes")


def completed(stack: Installation) -> int:
    return stack.count("select count(*) from read.runs where status = 'completed'")


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """Away, as long as the block."""
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        away.rename(path)


@contextmanager
def written(path: Path, content: str) -> Iterator[None]:
    """Other content in the file, as long as the block."""
    before = path.read_text()
    path.write_text(content)
    try:
        yield
    finally:
        path.write_text(before)


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """It and its children, as long as the block."""
    os.kill(pid, signal.SIGSTOP)
    still = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for each in still[1:]:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in still:
            os.kill(each, signal.SIGCONT)


# --- Well -----------------------------------------------------------------------------------------


def test_a_healthy_stack_is_well(up: Installation) -> None:
    told = doctor(up)
    assert (told.code, told.bad) == (0, [])
    assert {f"{name} is ready" for name in SERVICES} <= set(told.ok)
    assert any(
        line.startswith(f"stack ready as pid {up.pids()['nats'] and holder(up)}: ") for line in told.ok
    )
    assert any(line.startswith("projection runs has read RUNS to ") for line in told.ok)


def holder(stack: Installation) -> int:
    return int((stack.data / "lock").read_text())


def test_programs_read_the_same_as_json(up: Installation) -> None:
    done = shell(up.environ, "doctor", "--json")
    assert done.returncode == 0
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["level"] for each in told} == {"ok", "note"}
    assert {"level": "ok", "what": "gateway is ready"} in told


def test_a_machine_on_which_nothing_has_run_yet_is_well() -> None:
    with installation() as fresh:
        told = doctor(fresh)
        assert told.code == 0
        assert told.note[-1] == f"no stack has run in {fresh.data} yet: `automateos up` starts one"
        assert not fresh.data.exists(), "looking makes nothing"


# --- The stack does not run -----------------------------------------------------------------------


def test_a_stack_that_was_stopped_is_named_with_what_starts_it(stopped: Installation) -> None:
    told = doctor(stopped)
    assert told.bad == [f"no stack runs in {stopped.data}: start it with `automateos up`"]


def test_a_port_that_another_program_has_is_named_with_its_setting(stopped: Installation) -> None:
    port = int(stopped.environ["AUTOMATEOS_GATEWAY_PORT"])
    with socket.create_server(("127.0.0.1", port)):
        told = doctor(stopped)
        refused = start_refused(stopped)
    [reason, after] = told.bad
    assert reason.startswith(
        f"Port {port} on 127.0.0.1 is in use by another program: set AUTOMATEOS_GATEWAY_PORT to a free one"
    )
    assert refused == [reason]
    assert after.startswith(f"no stack runs in {stopped.data}")
    # The port is free again: what remains is why the last start ended, and what to do when that is mended.
    [last] = doctor(stopped).bad
    assert last.startswith(f"no stack runs in {stopped.data}, and the last one ended so: {reason}")
    assert last.endswith("(when that is mended: `automateos up`)")


def test_every_port_that_is_taken_has_its_line(stopped: Installation) -> None:
    names = ("INGRESS", "PROJECTIONS", "SMTP")
    ports = [int(stopped.environ[f"AUTOMATEOS_{name}_PORT"]) for name in names]
    takers = [socket.create_server(("127.0.0.1", port)) for port in ports]
    try:
        told = doctor(stopped)
    finally:
        for taker in takers:
            taker.close()
    for name, port, line in zip(names, ports, told.bad, strict=False):
        assert line.startswith(f"Port {port} ")
        assert f"AUTOMATEOS_{name}_PORT" in line


# --- The data directory ---------------------------------------------------------------------------


@pytest.mark.parametrize("piece", ["nats/store", "postgres/cluster/PG_VERSION"])
def test_a_damaged_data_directory_is_named_with_what_it_lacks(stopped: Installation, piece: str) -> None:
    with moved(stopped.data / piece):
        told = doctor(stopped)
        [refused] = start_refused(stopped)
    assert told.bad == [f"{stopped.data / piece} is missing: restore the data directory from a backup"]
    assert f"{piece} is missing" in refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{ half a", "is damaged: automateos.json cannot be read"),
        ('{"format": 1, "instance": "nonsense"}', "is damaged: automateos.json cannot be read"),
        (
            '{"format": 99, "instance": "0123456789ab"}',
            "has format 99, this release knows 1: use a newer release.",
        ),
    ],
)
def test_a_format_that_cannot_be_used_is_told_as_the_start_tells_it(
    stopped: Installation, content: str, words: str
) -> None:
    with written(stopped.data / "automateos.json", content):
        told = doctor(stopped)
        refused = start_refused(stopped)
    assert told.bad == refused
    assert words in told.bad[0]


def test_a_folder_of_somebody_else_is_no_data_directory(tmp_path: Path, stopped: Installation) -> None:
    (tmp_path / "thesis.txt").write_text("42")
    told = doctor(stopped, AUTOMATEOS_DATA_DIR=str(tmp_path))
    [reason] = told.bad
    assert "holds thesis.txt and no automateos.json" in reason
    assert "Set AUTOMATEOS_DATA_DIR to an empty folder" in reason
    assert sorted(tmp_path.iterdir()) == [tmp_path / "thesis.txt"]


def test_a_file_in_the_place_of_the_data_directory_is_told(tmp_path: Path, stopped: Installation) -> None:
    (tmp_path / "data").write_text("")
    [reason] = doctor(stopped, AUTOMATEOS_DATA_DIR=str(tmp_path / "data")).bad
    assert "cannot be used" in reason
    assert "Set AUTOMATEOS_DATA_DIR to another one" in reason


# --- The master key -------------------------------------------------------------------------------


def missing_master_key(stack: Installation) -> str:
    return (
        f"{stack.data}/secrets/master.key is missing: put back the copy of it that is kept apart from the data: "
        "without it nothing that is sealed opens"
    )


def test_a_missing_master_key_is_told_and_no_start_makes_another_one(stopped: Installation) -> None:
    with moved(stopped.data / "secrets/master.key"):
        assert doctor(stopped).bad == [missing_master_key(stopped)]
        [refused] = start_refused(stopped)
        assert "secrets/master.key is missing" in refused
        assert not (stopped.data / "secrets/master.key").exists()


def test_a_master_key_that_goes_under_a_running_stack_is_told(up: Installation) -> None:
    with moved(up.data / "secrets/master.key"):
        assert doctor(up).bad == [missing_master_key(up)]
    assert doctor(up).code == 0


def test_a_master_key_that_others_may_read_is_told(up: Installation) -> None:
    key = up.data / "secrets/master.key"
    key.chmod(0o644)
    try:
        assert doctor(up).bad == [f"{key}: others may read it; chmod 600 it"]
    finally:
        key.chmod(0o600)


def test_a_master_key_that_is_none_is_told(up: Installation) -> None:
    with written(up.data / "secrets/master.key", "correct horse"):
        [reason] = doctor(up).bad
    assert reason.startswith(f"{up.data}/secrets/master.key: not ")
    assert "or put back the copy of it that is kept apart from the data" in reason


def test_a_master_key_that_is_another_one_is_told(up: Installation) -> None:
    with written(up.data / "secrets/master.key", base64.b64encode(secrets.token_bytes(32)).decode()):
        [reason] = doctor(up).bad
    assert reason == (
        f"{up.data}/secrets/master.key is not the key that sealed what lies in Postgres: put back the one that did"
    )


# --- What runs does not answer --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["orchestrator", "gateway"])
def test_a_service_that_is_wedged_is_named_with_its_process_and_its_log(up: Installation, name: str) -> None:
    pid = up.pids()[name]
    with standing_still(pid):
        told = doctor(up)
    [reason] = told.bad
    assert reason.startswith(f"{name} (pid {pid}) does not answer (")
    assert reason.endswith(f"; look into {up.data}/logs/{name}.log, or kill it: it is started again")
    assert {f"{other} is ready" for other in SERVICES if other != name} <= set(told.ok)
    until(up.ready, "all are ready again")


def test_a_projection_that_stands_still_behind_the_log_is_told(up: Installation) -> None:
    moved_by = "update read.positions set sequence = sequence {0} 1, time = time {0} interval '1 minute' where projection = 'runs' returning 1"
    with standing_still(up.pids()["projections"]):
        asyncio.run(up.rows(moved_by.format("-")))
        told = doctor(up)
        asyncio.run(up.rows(moved_by.format("+")))
    [late] = [line for line in told.bad if line.startswith("projection runs has read RUNS to ")]
    assert late.endswith(", 1 behind: look into the log of projections")
    until(up.ready, "all are ready again")


def test_a_service_that_dies_again_and_again_is_told_with_its_last_words(up: Installation) -> None:
    key = up.data / "secrets/signing.key"
    with moved(key):
        dies_of_itself(up, "projections")
        lost, dead = doctor(up).bad
    assert lost.startswith(f"{key} is missing: put back it from a backup of the data directory")
    assert dead.startswith("projections ")  # It does not run, or is about to end again.
    assert f", saying: automateos projections: AUTOMATEOS_SIGNING_KEY_FILE: {key}: No such file" in dead
    assert f"{up.data}/logs/projections.log" in dead
    until(up.ready, "it is started again by itself")
    assert doctor(up).code == 0


def dies_of_itself(stack: Installation, name: str) -> None:
    """Its next start is refused, whatever that is that it cannot start without."""
    refused = f"{name} ended with code 78"
    before = stack.up_log.read_text().count(refused)
    os.kill(stack.pids()[name], signal.SIGKILL)
    until(lambda: stack.up_log.read_text().count(refused) > before, f"{name} refuses to start")


@pytest.mark.parametrize("store", ["nats", "postgres"])
def test_a_store_that_does_not_answer_is_named_with_its_process_and_its_log(
    up: Installation, store: str
) -> None:
    pid = up.pids()[store]
    with standing_still(pid):
        told = doctor(up)
    silent = [line for line in told.bad if line.startswith(f"{store} (pid {pid}) does not answer (")]
    assert len(silent) == 1
    assert f"look into {up.data}/logs/{store}.log" in silent[0]
    until(up.ready, "all are ready again")


# --- The log went backwards -----------------------------------------------------------------------


def test_a_log_that_went_backwards_is_told_with_the_command_that_mends_it() -> None:
    """An operator puts an older copy of the log back, and does what each line says until all is well."""
    with installation() as stack:
        stack.start()
        run_once(stack)
        stack.stop()
        older = stack.data.parent / "older"
        shutil.copytree(stack.data / "nats", older, symlinks=True)
        stack.start()
        run_once(stack)
        stack.stop()
        shutil.rmtree(stack.data / "nats")
        shutil.copytree(older, stack.data / "nats", symlinks=True)

        last = start_refused(stack)[-1]
        assert last.startswith("projections does not start: it ended with code 78 after ")
        assert "was read. Run: automateos projections repair RUNS" in last
        [reason] = doctor(stack).bad
        assert reason.startswith(f"no stack runs in {stack.data}, and the last one ended so: {last}")

        mended = shell(stack.environ, "projections", "repair", "RUNS")
        assert mended.returncode == 0, mended.stderr
        while "was read. Run: automateos projections repair" in (said := up_or_refused(stack)):
            *_, command = said.partition("Run: automateos ")
            assert shell(stack.environ, *command.split()[:3]).returncode == 0
        assert (said, doctor(stack).bad) == ("", [])
        assert completed(stack) == 2


def up_or_refused(stack: Installation) -> str:
    """Nothing when it comes up, else what it said last."""
    try:
        stack.start()
    except RuntimeError as refused:
        return str(refused).strip().splitlines()[-1]
    return ""


def test_a_log_that_went_backwards_under_a_running_stack_is_told(up: Installation) -> None:
    """Stands last of those that use this stack: the read models are no fold of its log any more."""
    end = up.count("select sequence from read.positions where projection = 'runs'")
    os.kill(up.pids()["projections"], signal.SIGSTOP)
    asyncio.run(
        up.rows("update read.positions set sequence = sequence + 7 where projection = 'runs' returning 1")
    )
    trouble = f"RUNS ends at {end}, and {end + 7} was read"
    assert f"{trouble}. Stop the stack, then run: automateos projections repair RUNS" in doctor(up).bad
    dies_of_itself(up, "projections")
    [dead] = [line for line in doctor(up).bad if line.startswith("projections ")]
    assert f", saying: automateos projections: {trouble}. Run: automateos projections repair RUNS" in dead
    up.stop()
    assert shell(up.environ, "projections", "repair", "RUNS").returncode == 0
    up.start()
    assert doctor(up).bad == []
