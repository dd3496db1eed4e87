"""Pauses and turns on a real installation: what is held is seen, survives kills, and goes on; nobody waits for another org's crowd."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from bench.workflows import EVERYBODY, echoes
from deploy.testing.installation import Installation, installation
from tests.acceptance.conftest import Lend
from tests.acceptance.waiting import until

ACCEPT = EVERYBODY | {"mode": "accept"}
CROWD = 150
SLOW = "return sum(number % 7 for number in range(2_000_000))"
"""Some tenths of a second of processor time: slow on a busy machine too, where everything else is."""


@pytest.fixture(scope="module")
def small(lend_python: Lend) -> Iterator[Installation]:
    """An installation whose executor makes two attempts at a time."""
    with installation(pool_capacity="2", most_backlog="100000") as running:
        running.start()
        lend_python(running)
        yield running


def deliver(url: str, count: int = 1) -> list[str]:
    """So many deliveries: the runs that were accepted."""
    runs = []
    for number in range(count):
        headers = {"content-type": "application/json", "idempotency-key": f"{time.time_ns()}-{number}"}
        request = urllib.request.Request(url, b'{"n": 1}', headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 202
            runs.append(json.loads(answer.read())["run"])
    return runs


def status(running: Installation, run: str) -> str:
    return str(running.call("GET", f"/runs/{run}")["status"])


def lane(running: Installation) -> dict[str, Any]:
    [told] = running.call("GET", "/pauses")["held"] or [{"waiting": 0, "paused": 0, "out": 0}]
    return dict(told)


def test_what_is_paused_is_accepted_and_waits_until_somebody_takes_it_up_whoever_is_killed(
    small: Installation,
) -> None:
    opened = small.open("paused", echoes(2), ACCEPT)
    what = {"what": "workflow", "name": opened.workflow}
    small.call("POST", "/pauses/begin", what | {"reason": "The supplier is down."})
    time.sleep(2)  # The orchestrator follows what was said; nothing tells that it has heard.
    runs = deliver(opened.url, 5)
    until(lambda: lane(small)["paused"] == 5, "all of them are held")
    [attempt] = small.call("GET", f"/runs/{runs[0]}/waiting")["waiting_for"]
    assert attempt["kind"] == "attempt"
    assert "is paused by key:" in attempt["held"]
    assert "The supplier is down." in attempt["held"]
    for victim in ("orchestrator", "nats"):
        os.kill(small.pids()[victim], signal.SIGKILL)
        time.sleep(1)
        until(small.ready, f"{victim} is back")
        until(lambda: lane(small)["paused"] == 5, f"they are found again after {victim} was killed")
        assert {status(small, run) for run in runs} == {"running"}
    [listed] = small.call("GET", "/pauses")["pauses"]
    assert listed["reason"] == "The supplier is down."
    small.call("POST", "/pauses/end", what)
    until(lambda: {status(small, run) for run in runs} == {"completed"}, "they go on")
    # What is held is said four times a second, and by an orchestrator that was killed not taken back for two.
    until(lambda: small.call("GET", "/pauses") == {"pauses": [], "held": []}, "nothing is held")


def test_one_paused_workflow_holds_no_other_and_the_command_line_tells_it(small: Installation) -> None:
    held, free = small.open("held", echoes(1), ACCEPT), small.open("free", echoes(1), ACCEPT)
    told = small.command("pauses", "begin", "workflow", held.workflow, "--reason", "a test")
    assert "is paused since" in told
    time.sleep(3)
    [waiting], [going] = deliver(held.url), deliver(free.url)
    until(lambda: status(small, going) == "completed", "the other goes on")
    assert "a test" in small.command("pauses", "list")
    assert "is paused by" in small.command("runs", "show", waiting)
    small.command("pauses", "end", "workflow", held.workflow)
    until(lambda: status(small, waiting) == "completed", "it goes on")


def test_a_crowd_of_one_org_does_not_stand_before_another(small: Installation) -> None:
    """Two slots and a crowd of slow attempts: whoever comes last from another org is not last."""
    key = small.key_of("org_quiet")
    mine = small.call("POST", "/workflows", {"name": "quiet", "definition": echoes(1)}, key)["id"]
    small.call("POST", f"/workflows/{mine}/versions/1/publish", key=key)
    slow = {"nodes": [{"id": "wait", "type": "code.python", "config": {"code": SLOW}}]}
    crowd = small.open("crowd", slow, ACCEPT)
    deliver(crowd.url, CROWD)
    until(lambda: lane(small)["waiting"] > 0, "a crowd waits")
    run = small.call("POST", "/runs", {"workflow": mine, "input": None}, key)["run"]
    ended = "select count(*) from read.runs where status = 'completed' and id = $1"
    until(lambda: small.count(ended, run) == 1, "the quiet org's run ends", 300)
    done = "select count(*) from read.runs where status = 'completed' and workflow = $1"
    assert small.count(done, crowd.workflow) < CROWD // 2, "it was not behind the crowd"
