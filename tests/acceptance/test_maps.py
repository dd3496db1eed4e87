"""Maps and loops on a real installation: from a webhook to the results, and what a person sees on the way."""

import json
import time

from bench.workflows import EVERYBODY, fanned
from deploy.testing.installation import Installation
from tests.acceptance.test_stories import post, until_status
from tests.acceptance.waiting import until


def test_a_webhook_is_answered_with_the_results_of_every_item_in_their_order(installed: Installation) -> None:
    url = installed.install("fanned", fanned(at_once=20), EVERYBODY)
    rows = [{"n": number} for number in range(250)]
    status, headers, body = post(url, json.dumps({"items": rows}).encode(), idempotency_key="fanned-1")
    assert status == 200
    assert json.loads(body) == {"results": [{"n": row["n"] * 2} for row in rows], "errors": []}
    run = headers["automateos-run"]
    view = until_status(installed, run, "completed")
    assert view["steps_done"] == 1 + 2 * len(rows)
    steps = {step["path"]: step for step in installed.call("GET", f"/runs/{run}/steps?limit=200")["items"]}
    assert steps["each"]["items"] == {"total": 250, "done": 250, "failed": 0}
    assert steps["each[3].double"]["status"] == "succeeded"
    told = installed.command("runs", "replay", run)
    assert "every decision is the one that was recorded" in told


def test_a_loop_asks_again_until_it_has_what_it_wants(installed: Installation) -> None:
    definition = {
        "nodes": [
            {"id": "again", "type": "loop", "config": {"until": "item.n >= 5", "most_rounds": 10}},
            {"id": "call", "type": "echo", "config": {"value": {"n": "{{ item.n + 1 }}"}}, "inside": "again"},
        ]
    }
    url = installed.install("again", definition, EVERYBODY)
    status, _, body = post(url, b'{"n": 1}', idempotency_key=f"again-{time.time_ns()}")
    assert status == 200
    assert json.loads(body) == {"n": 5}


def test_a_failed_item_is_tried_again_where_the_others_are_done(installed: Installation) -> None:
    definition = {
        "nodes": [
            {"id": "each", "type": "map", "config": {"items": "{{ trigger.body }}", "at_once": 1}},
            {"id": "call", "type": "echo", "config": {"value": "{{ 6 / item }}"}, "inside": "each"},
        ]
    }
    url = installed.install("divided", definition, EVERYBODY)
    status, _, body = post(url, b"[1, 0, 2]", idempotency_key=f"divided-{time.time_ns()}")
    assert status == 500
    run = json.loads(body)["run"]
    view = until_status(installed, run, "failed")
    assert view["error"]["step"] == "each"
    steps = {step["path"]: step for step in installed.call("GET", f"/runs/{run}/steps")["items"]}
    assert steps["each[1].call"]["status"] == "failed"
    installed.call("POST", f"/runs/{run}/retry", {})
    until(lambda: installed.call("GET", f"/runs/{run}")["opening"] == 2, "the run is opened again")
    until_status(installed, run, "failed")
    again = {step["path"]: step for step in installed.call("GET", f"/runs/{run}/steps")["items"]}
    assert again["each[0].call"] == steps["each[0].call"]
    assert again["each[1].call"]["ended"] > steps["each[1].call"]["ended"]
    assert "each[2].call" not in again
