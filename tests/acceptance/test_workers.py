"""Pools and workers outside on a real installation, with the command line and the keys that it has."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.workflows import EVERYBODY
from deploy.testing.installation import Installation
from tests.acceptance.test_stories import post, until_status
from tests.acceptance.waiting import until

SAMPLE = Path(__file__).parents[2] / "sdk" / "worker.py"


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Whatever a test starts ends with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def executors(installed: Installation, pool: str) -> list[Any]:
    items = json.loads(f"[{','.join(installed.command('pools', 'list', '--json').splitlines())}]")
    found = [each for each in items if each["name"] == pool]
    return [one for each in found for one in each["executors"] if not one["lost"]]


def test_the_sample_worker_makes_a_run_of_the_installation_go_on(
    installed: Installation, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    token = installed.command("pools", "token", "ext-samples", "the test").strip()
    told = {"WORKER_URL": installed.gateway, "WORKER_TOKEN": token, "PATH": os.environ["PATH"]}
    with (tmp_path / "said").open("wb") as said:
        sample = (sys.executable, str(SAMPLE))
        processes.append(subprocess.Popen(sample, env=told, stdout=said, stderr=said))
    until(lambda: "work.shout" in installed.command("nodes", "list"), "the worker announced its type")
    definition = {
        "nodes": [{"id": "call", "type": "work.shout", "config": {"text": "{{ trigger.body.text }}"}}]
    }
    url = installed.install("shout", definition, EVERYBODY | {"mode": "accept"})
    _, _, answer = post(url, b'{"text": "hello"}', idempotency_key="shout-1")
    view = until_status(installed, json.loads(answer)["run"], "completed", "failed")
    assert (view["status"], json.loads(view["output"]["preview"])) == ("completed", "HELLO")

    assert installed.command("pools", "pause", "ext-samples").startswith("ext-samples is held")
    _, _, answer = post(url, b'{"text": "later"}', idempotency_key="shout-2")
    held = installed.call("GET", "/pools/ext-samples")
    until(lambda: installed.call("GET", "/pools/ext-samples")["waiting"] == 1, f"one waits: {held}")
    assert installed.command("pools", "resume", "ext-samples").startswith("ext-samples is open")
    until_status(installed, json.loads(answer)["run"], "completed")
    assert (tmp_path / "said").read_text() == "HELLO\nLATER\n"


def test_one_more_executor_serves_its_pool_until_it_is_sent_home(
    installed: Installation, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    program = (
        str(Path(sys.executable).with_name("automateos")),
        "executor",
        "--pool",
        "gpu",
        "--capacity",
        "8",
    )
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(
            (*program, "--labels", "zone=a"), env=installed.environ, stdout=log, stderr=log
        )
    processes.append(started)
    until(lambda: bool(executors(installed, "gpu")), "the executor is seen")
    [executor] = executors(installed, "gpu")
    assert (executor["capacity"], executor["labels"]) == (8, {"zone": "a"})
    definition = {"nodes": [{"id": "first", "type": "echo", "config": {"value": 7}, "pool": "gpu"}]}
    url = installed.install("gpu", definition, EVERYBODY | {"mode": "accept"})
    _, _, answer = post(url, b"{}", idempotency_key="gpu-1")
    view = until_status(installed, json.loads(answer)["run"], "completed", "failed")
    assert view["status"] == "completed", view
    assert executor["id"] in installed.command("pools", "show", "gpu")
    drained = installed.command("pools", "drain", "gpu", "--labels", "zone=a")
    assert drained.startswith(f"{executor['id']} drains")
    assert started.wait(60) == 0, (tmp_path / "log").read_text()


def test_an_executor_that_is_sent_home_is_started_again_by_whoever_supervises_it(
    installed: Installation,
) -> None:
    before = installed.pids()["executor"]
    until(lambda: bool(executors(installed, "default")), "the executor is seen")
    [executor] = executors(installed, "default")
    installed.command("pools", "drain", "default", executor["id"])
    until(
        lambda: [one["id"] for one in executors(installed, "default")] not in ([], [executor["id"]]),
        "another executor is there",
    )
    assert installed.pids()["executor"] != before
