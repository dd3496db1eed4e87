"""Runs that start runs on a real installation: results flow up, cancelling flows down, and a kill in the middle loses neither."""

import json
import os
import signal
import time
from typing import Any

from deploy.testing.installation import Installation
from tests.acceptance.test_stories import until_status
from tests.acceptance.waiting import until


def published(installed: Installation, name: str, *nodes: dict[str, Any], edges: str = "") -> str:
    """The id of a workflow of these nodes, published."""
    drawn = [dict(zip(("source", "target"), edge.split(">"), strict=True)) for edge in edges.split()]
    definition = {"nodes": list(nodes), "edges": drawn}
    workflow: str = installed.call("POST", "/workflows", {"name": name, "definition": definition})["id"]
    installed.call("POST", f"/workflows/{workflow}/versions/1/publish")
    return workflow


def calls(workflow: str, **config: Any) -> dict[str, Any]:
    return {"id": "call", "type": "workflow.run", "config": {"workflow": workflow, **config}}


def started(installed: Installation, workflow: str, body: Any = None) -> str:
    run: str = installed.call("POST", "/runs", {"workflow": workflow, "input": body})["run"]
    return run


def children(installed: Installation, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = installed.call("GET", f"/runs/{run}/children?limit=200")["items"]
    return found


def steps(installed: Installation, run: str) -> dict[str, dict[str, Any]]:
    items = installed.call("GET", f"/runs/{run}/steps?limit=200")["items"]
    return {step["path"]: step for step in items}


def test_a_child_gives_its_output_to_its_parent_and_each_knows_the_other(installed: Installation) -> None:
    double = published(
        installed, "double", {"id": "n", "type": "echo", "config": {"value": "{{ trigger.body.n * 2 }}"}}
    )
    parent = published(
        installed,
        "asks for double",
        calls(double, input={"n": "{{ trigger.body }}"}),
        {"id": "after", "type": "set", "config": {"fields": {"twice": "{{ steps.call.output }}"}}},
        edges="call>after",
    )
    run = started(installed, parent, 21)
    view = until_status(installed, run, "completed")
    assert json.loads(view["output"]["preview"]) == {"twice": 42}
    [child] = children(installed, run)
    assert child["parent"] == {"run": run, "step": "call", "waits": True}
    assert (child["workflow"], child["cause"], child["cause_id"]) == (double, "run", run)
    assert steps(installed, run)["call"]["child"] == child["id"]
    assert [each["id"] for each in installed.call("GET", f"/runs?parent={run}")["items"]] == [child["id"]]
    for each in (run, child["id"]):
        assert "every decision is the one that was recorded" in installed.command("runs", "replay", each)


def test_every_item_of_a_map_may_be_a_run(installed: Installation) -> None:
    one = published(installed, "one", {"id": "n", "type": "echo", "config": {"value": "{{ trigger.body }}"}})
    parent = published(
        installed,
        "one for each",
        {"id": "each", "type": "map", "config": {"items": "{{ trigger.body }}", "at_once": 20}},
        {**calls(one, input="{{ item }}"), "inside": "each"},
    )
    rows = list(range(60))
    run = started(installed, parent, rows)
    until_status(installed, run, "completed")
    assert installed.call("GET", f"/runs/{run}")["steps_done"] == 1 + len(rows)
    assert len(children(installed, run)) == len(rows)


def test_cancelling_flows_down_and_a_failure_flows_up(installed: Installation) -> None:
    waits = published(installed, "waits", {"id": "ask", "type": "wait.signal", "config": {"signal": "paid"}})
    parent = published(installed, "waits for it", calls(waits))
    run = started(installed, parent)
    until(lambda: bool(children(installed, run)), "the child is there")
    [child] = children(installed, run)
    [waiting] = installed.call("GET", f"/runs/{run}/waiting")["waiting_for"]
    assert (waiting["kind"], waiting["run"]) == ("child", child["id"])
    installed.call("POST", f"/runs/{run}/cancel", {"reason": "enough"})
    until_status(installed, child["id"], "cancelled")
    view = until_status(installed, run, "cancelled")
    assert view["unfinished"] is None
    again = started(installed, parent)
    until(lambda: bool(children(installed, again)), "the second child is there")
    [child] = children(installed, again)
    installed.call("POST", f"/runs/{child['id']}/cancel", {"reason": "not this one"})
    failed = until_status(installed, again, "failed")
    assert (failed["error"]["code"], failed["error"]["step"]) == ("child.cancelled", "call")
    assert child["id"] in failed["error"]["message"]


def test_a_failure_starts_the_error_workflow_once(installed: Installation) -> None:
    alarm = published(
        installed,
        "alarm",
        {"id": "n", "type": "set", "config": {"fields": {"of": "{{ trigger.body.error.code }}"}}},
    )
    definition = {
        "nodes": [{"id": "no", "type": "stop", "config": {"message": "Not today."}}],
        "on_failure": alarm,
    }
    workflow = installed.call("POST", "/workflows", {"name": "fails", "definition": definition})["id"]
    installed.call("POST", f"/workflows/{workflow}/versions/1/publish")
    run = started(installed, workflow)
    view = until_status(installed, run, "failed")
    handler = until_status(installed, view["handler"], "completed")
    assert (handler["workflow"], handler["cause_id"]) == (alarm, run)
    assert json.loads(handler["output"]["preview"]) == {"of": "stopped"}
    assert len(installed.call("GET", f"/runs?workflow={alarm}")["items"]) == 1


def test_a_parent_and_its_child_go_on_after_the_orchestrators_were_killed(installed: Installation) -> None:
    asks = published(installed, "asks", {"id": "ask", "type": "wait.signal", "config": {"signal": "paid"}})
    parent = published(installed, "waits through a kill", calls(asks))
    run = started(installed, parent)
    until(lambda: bool(children(installed, run)), "the child is there")
    [child] = children(installed, run)
    os.kill(installed.pids()["orchestrator"], signal.SIGKILL)
    body = {"signal": "paid", "body": {"sum": time.time_ns()}}
    installed.call("POST", f"/runs/{child['id']}/signals", body)
    until(lambda: "orchestrator" in installed.pids(), "the supervisor starts it again")
    os.kill(installed.pids()["orchestrator"], signal.SIGKILL)
    view = until_status(installed, run, "completed")
    assert view["output"] == installed.call("GET", f"/runs/{child['id']}")["output"]
    assert len(children(installed, run)) == 1
