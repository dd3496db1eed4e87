"""A run whose history goes on and on, on a real installation: killed in the middle, and read as one history to its end."""

import json
import os
import signal
import time

from bench.workflows import EVERYBODY, lengthy
from deploy.testing.installation import Installation
from tests.acceptance.test_stories import post, until_status
from tests.acceptance.waiting import until

EVENTS = 10 * 90 * 10


def test_a_long_run_that_is_killed_in_the_middle_is_one_history_over_its_seams(
    installed: Installation,
) -> None:
    url = installed.install("lengthy", lengthy(10, 90), {**EVERYBODY, "mode": "accept"})
    status, _, body = post(url, b"1", idempotency_key=f"long-{time.time_ns()}")
    assert status == 202
    run = json.loads(body)["run"]
    until(lambda: installed.call("GET", f"/runs/{run}")["events"] > 2_000, "it has begun")
    os.kill(installed.pids()["orchestrator"], signal.SIGKILL)
    until(
        lambda: installed.call("GET", f"/runs/{run}")["status"] == "waiting", "it waits for its signal", 120
    )
    installed.call("POST", f"/runs/{run}/signals", {"signal": "go", "body": "done"})
    view = until_status(installed, run, "completed")
    assert view["events"] > EVENTS
    numbers, seams, after = list[int](), list[int](), 0
    while after is not None:
        page = installed.call("GET", f"/runs/{run}/events?after={after}&limit=200")
        numbers += [each["number"] for each in page["items"]]
        seams += [each["number"] for each in page["items"] if each["type"] == "run.continued"]
        after = page["next"]
    assert numbers == list(range(1, view["events"] + 1))
    assert len(seams) >= 2
    for at in (1, seams[0] - 1, seams[0], seams[0] + 1, seams[1], view["events"] - 3):
        state = installed.call("GET", f"/runs/{run}/state?at={at}")["state"]
        assert (state["id"], state["status"] in ("running", "waiting")) == (run, True)
    again = installed.command("runs", "replay", run)
    assert "every decision is the one that was recorded" in again
    told = installed.command("verify", "--run", run, failing=True)
    assert "prev_hash" not in told
    assert "not the commit" not in told
