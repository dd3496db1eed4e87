"""A workflow that calls its own address, on a real installation: it is stopped after the bound, and named where its owner looks."""

import json
import time
from typing import Any

from bench.workflows import EVERYBODY
from contracts.limits import CAUSES_ALIKE
from deploy.testing.installation import Installation
from tests.acceptance.test_stories import post, until_status
from tests.acceptance.waiting import until


def calls(config: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": [{"id": "call", "type": "http.request", "config": {"method": "POST", **config}}]}


def runs_of(installed: Installation, workflow: str) -> list[Any]:
    """The oldest first, when the last of them has ended and nothing more comes."""
    found: list[Any] = []

    def over() -> bool:
        found[:] = installed.call("GET", f"/runs?workflow={workflow}")["items"][::-1]
        return bool(found) and found[-1]["status"] == "failed"

    until(over, f"the loop of {workflow} is over", 60)
    time.sleep(1.0)
    assert len(installed.call("GET", f"/runs?workflow={workflow}")["items"]) == len(found), "it goes on"
    return found


def causes(installed: Installation, runs: list[Any]) -> list[Any]:
    """Of each run what its history begins with."""
    return [
        installed.call("GET", f"/runs/{run['id']}/events")["items"][0]["event"].get("cause") for run in runs
    ]


def test_a_workflow_that_calls_its_own_webhook_is_stopped_after_the_bound_and_named(
    installed: Installation,
) -> None:
    config = {"url": "{{ trigger.body.url }}", "body": "{{ trigger.body }}"}
    opened = installed.open("round and round", calls(config), EVERYBODY | {"mode": "accept"})
    status, _, _ = post(opened.url, json.dumps({"url": opened.url}).encode(), idempotency_key="round-1")
    assert status == 202
    runs = runs_of(installed, opened.workflow)
    assert [run["status"] for run in runs] == ["completed"] * (CAUSES_ALIKE - 1) + ["failed"]
    told = causes(installed, runs)
    assert [cause["kind"] for cause in told] == ["webhook"] * CAUSES_ALIKE
    assert [cause.get("depth", 0) for cause in told] == list(range(CAUSES_ALIKE))
    assert [cause.get("run") for cause in told] == [None, *(run["id"] for run in runs[:-1])]
    assert told[-1]["chain"] == [opened.workflow] * (CAUSES_ALIKE - 1)
    loop = f"{opened.workflow} → {opened.workflow}"
    view = until_status(installed, runs[-1]["id"], "failed")
    assert "cause.too_deep" in view["error"]["message"]
    assert loop in view["error"]["message"]
    refused = f"/triggers/{opened.trigger}/deliveries?result=refused"
    until(lambda: bool(installed.call("GET", refused)["items"]), "the owner of the trigger is told", 60)
    [delivery] = installed.call("GET", refused)["items"]
    assert delivery["reason"].startswith("a loop: ")
    assert loop in delivery["reason"]
    assert "automateos-cause" not in json.dumps([delivery, view, told])


def test_a_workflow_that_asks_the_api_for_itself_is_stopped_after_the_bound_and_named(
    installed: Installation,
) -> None:
    secret = installed.call(
        "POST",
        "/secrets",
        {
            "name": "own key",
            "value": {"kind": "bearer", "token": installed.key},
            "allowed_hosts": ["127.0.0.1"],
        },
    )
    config = {
        "url": f"{installed.gateway}/api/v1/runs",
        "auth": {"$secret": secret["id"]},
        "body": {"workflow": "{{ trigger.body.workflow }}", "input": "{{ trigger.body }}"},
    }
    workflow = installed.call("POST", "/workflows", {"name": "asks itself", "definition": calls(config)})[
        "id"
    ]
    installed.call("POST", f"/workflows/{workflow}/versions/1/publish")
    installed.call("POST", "/runs", {"workflow": workflow, "input": {"workflow": workflow}})
    runs = runs_of(installed, workflow)
    assert [run["status"] for run in runs] == ["completed"] * (CAUSES_ALIKE - 1) + ["failed"]
    told = causes(installed, runs)
    assert [(cause["kind"], cause.get("depth", 0)) for cause in told] == [
        ("api", depth) for depth in range(CAUSES_ALIKE)
    ]
    view = until_status(installed, runs[-1]["id"], "failed")
    assert f"{workflow} → {workflow}" in view["error"]["message"]
