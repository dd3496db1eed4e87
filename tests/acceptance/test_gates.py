"""Gates on a real installation: one run at a time, whoever is killed, and nobody waits at a free one."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from deploy.testing.installation import Installation, installation
from tests.acceptance.test_flow_control import ACCEPT, deliver, status
from tests.acceptance.waiting import until

_SO_MANY = "select count(*) from read.runs where workflow = $1 and status = $2"


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as running:
        running.start()
        yield running


def pausing(seconds: float, *limits: dict[str, Any]) -> dict[str, Any]:
    nodes = [
        {"id": "pause", "type": "delay", "config": {"seconds": seconds}},
        {"id": "after", "type": "echo"},
    ]
    edges = [{"source": "pause", "target": "after"}]
    return {"nodes": nodes, "edges": edges, "flow": {"limits": list(limits)}}


def stay(running: Installation, run: str) -> tuple[datetime, datetime]:
    """From when to when a run was inside."""
    events = running.call("GET", f"/runs/{run}/events")["items"]
    times = {each["event"]["type"]: datetime.fromisoformat(each["time"]) for each in events}
    return times["slot.taken"], times["run.completed"]


def test_one_run_at_a_time_whoever_is_killed(running: Installation) -> None:
    opened = running.open("gated", pausing(1, {"name": "crm", "at_once": 1}), ACCEPT)
    runs = deliver(opened.url, 5)
    until(lambda: "waiting" in {status(running, run) for run in runs}, "somebody waits")
    [waits] = running.call("GET", f"/runs/{runs[-1]}/waiting")["waiting_for"]
    assert (waits["kind"], waits["limit"]) == ("slot", "crm")
    assert "at gate crm" in running.command("runs", "show", runs[-1])
    for victim in ("orchestrator", "nats"):
        os.kill(running.pids()[victim], signal.SIGKILL)
        time.sleep(1)
        until(running.ready, f"{victim} is back")
    until(lambda: running.count(_SO_MANY, opened.workflow, "completed") == 5, "all come in", 400)
    stays = sorted(stay(running, run) for run in runs)
    for (_, left), (came, _) in pairwise(stays):
        assert left <= came


def test_each_key_has_a_gate_of_its_own_and_who_is_skipped_is_cancelled(running: Installation) -> None:
    limit = {"name": "crm", "at_once": 1, "per": "string(trigger.body.n)", "when_full": "skip"}
    opened = running.open("keyed", pausing(5, limit), ACCEPT)
    first, second = deliver(opened.url, 2)
    until(lambda: running.count(_SO_MANY, opened.workflow, "cancelled") == 1, "the second is skipped")
    until(lambda: running.count(_SO_MANY, opened.workflow, "completed") == 1, "the first goes on")
    assert (status(running, first), status(running, second)) == ("completed", "cancelled")
