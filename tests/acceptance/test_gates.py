"""Gates on a real installation: one run at a time, whoever is killed, and nobody waits at a free one."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
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


def began(running: Installation, run: str) -> tuple[datetime, str]:
    """As a gate counts them: runs that are accepted together may begin in any order."""
    return datetime.fromisoformat(running.call("GET", f"/runs/{run}")["started"]), run


def is_inside(running: Installation, run: str) -> bool:
    events = running.call("GET", f"/runs/{run}/events")["items"]
    return "slot.taken" in {each["event"]["type"] for each in events}


def until_completed(running: Installation, *runs: str) -> None:
    """Each of them: which one never did is said."""
    for run in runs:
        until(partial(_is_completed, running, run), f"{run} ends", 120)


def _is_completed(running: Installation, run: str) -> bool:
    return status(running, run) == "completed"


def test_one_run_at_a_time_whoever_is_killed(running: Installation) -> None:
    opened = running.open("gated", pausing(4, {"name": "crm", "at_once": 1}), ACCEPT)
    runs = deliver(opened.url, 5)
    until(lambda: waiting(running, "crm") == 4, "four wait")
    last = max(runs, key=lambda run: began(running, run))
    [waits] = running.call("GET", f"/runs/{last}/waiting")["waiting_for"]
    assert (waits["kind"], waits["limit"]) == ("slot", "crm")
    assert "at gate crm" in running.command("runs", "show", last)
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
    [first] = deliver(opened.url)
    until(lambda: is_inside(running, first), "the first is inside")
    [second] = deliver(opened.url)
    until(lambda: running.count(_SO_MANY, opened.workflow, "cancelled") == 1, "the second is skipped")
    until(lambda: running.count(_SO_MANY, opened.workflow, "completed") == 1, "the first goes on")
    assert (status(running, first), status(running, second)) == ("completed", "cancelled")


def test_of_a_burst_the_newest_goes_on_and_a_batch_is_one_run_whoever_is_killed(
    running: Installation,
) -> None:
    burst = {"name": "burst", "debounce": {"seconds": 6}}
    rows = {"name": "rows", "batch": {"size": 4, "seconds": 60}}
    bursts = running.open("bursts", echoing("{{ trigger.body.n }}", burst), ACCEPT)
    batches = running.open("batches", echoing("{{ trigger.body.map(row, row.n) }}", rows), ACCEPT)
    superseded, gathered = deliver(bursts.url, 3), deliver(batches.url, 3)
    until(lambda: waiting(running, "rows") == 3, "three wait for the fourth")
    os.kill(running.pids()["orchestrator"], signal.SIGKILL)
    until(running.ready, "the orchestrator is back")
    gathered += [running.call("POST", "/runs", {"workflow": batches.workflow, "input": {"n": 9}})["run"]]
    until(lambda: running.count(_SO_MANY, bursts.workflow, "completed") == 1, "the newest goes on", 400)
    until(lambda: running.count(_SO_MANY, batches.workflow, "completed") == 1, "the batch is done", 400)
    until(lambda: running.count(_SO_MANY, batches.workflow, "cancelled") == 3, "the others know it", 400)
    in_order = sorted(superseded, key=lambda run: began(running, run))
    assert [status(running, run) for run in in_order] == ["cancelled", "cancelled", "completed"]
    first = min(gathered, key=lambda run: began(running, run))
    assert status(running, first) == "completed"
    last = running.call("GET", f"/runs/{first}/events")["items"][-1]["event"]
    assert (last["type"], last["output"]["value"]) == ("run.completed", [1, 1, 1, 9])


def waiting(running: Installation, limit: str) -> int:
    gates = running.call("GET", "/gates")["items"]
    return sum(each["waiting"] for each in gates if each["limit"] == limit)


def echoing(value: str, limit: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": [{"id": "a", "type": "echo", "config": {"value": value}}], "flow": {"limits": [limit]}}


# --- What an org says of all its runs, and how soon each goes ----------------------------------------


def test_an_org_has_so_many_runs_at_a_time_whatever_their_workflows_say(running: Installation) -> None:
    child = running.open("called", pausing(1), ACCEPT).workflow
    call = {"id": "call", "type": "workflow.run", "config": {"workflow": child}}
    opened = running.open("everybody", {"nodes": [call]}, ACCEPT)
    other = running.open("somebody", pausing(1), ACCEPT)
    [before] = deliver(other.url)
    assert "1 at once" in running.command("gates", "limit", "all-runs", "--at-once", "1")
    try:
        time.sleep(1)
        runs = [*deliver(opened.url, 2), *deliver(other.url, 2)]
        until(lambda: waiting(running, "all-runs") > 0, "somebody waits")
        told = [each for each in running.call("GET", "/gates")["items"] if each["limit"] == "all-runs"]
        assert [each["bounds"] for each in told] == [{"at_once": 1}]
        until_completed(
            running, before, *runs
        )  # Parent and child have one place: neither waits for the other.
        stays = sorted(stay(running, run) for run in runs)
        for (_, left), (came, _) in pairwise(stays):
            assert left <= came
        events = running.call("GET", f"/runs/{before}/events")["items"]
        assert "slot.taken" not in {each["event"]["type"] for each in events}, "it was there before"
        assert "every decision is the one that was recorded" in running.command("runs", "replay", runs[0])
        assert "all-runs" in running.command("gates", "limits")
        late = deliver(other.url, 3)
        until(lambda: waiting(running, "all-runs") > 0, "somebody waits again")
    finally:
        assert "no limit" in running.command("gates", "limit", "all-runs")
    until(lambda: waiting(running, "all-runs") == 0, "nobody waits for what was taken back", 60)
    [free] = deliver(other.url)
    until_completed(running, *late, free)
    assert "org_limit" not in running.call("GET", f"/runs/{free}/events")["items"][0]["event"]


def test_who_is_worth_more_comes_in_first(running: Installation) -> None:
    hurried = pausing(5, {"name": "one", "at_once": 1})
    hurried["flow"]["priority"] = "trigger.body.rank"
    workflow = running.open("hurried", hurried, ACCEPT).workflow
    runs = [
        str(running.call("POST", "/runs", {"workflow": workflow, "input": {"rank": rank}})["run"])
        for rank in (0, 1, 90)
    ]
    faulty = running.call("POST", "/runs", {"workflow": workflow, "input": {}})["run"]
    until(lambda: running.count(_SO_MANY, workflow, "completed") == 3, "all come in", 120)
    first, low, high = (stay(running, run) for run in runs)
    assert first[1] <= high[0] < high[1] <= low[0], "the newest was worth most"
    events = [running.call("GET", f"/runs/{run}/events")["items"][0]["event"] for run in runs]
    assert [event["priority"] for event in events] == [0, 1, 9]
    error = running.call("GET", f"/runs/{faulty}/events")["items"][-1]["event"]["error"]
    assert (error["code"], error["field"]) == ("expression", "/flow/priority")
