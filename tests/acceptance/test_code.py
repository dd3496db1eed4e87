"""Code in a workflow, on a real installation on which nobody has written any before."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from bench.workflows import EVERYBODY
from deploy.testing.installation import Installation
from tests.acceptance.test_stories import post, until_status

BRACES = "/* {{ not.an.expression }} */"
BOTH: dict[str, Any] = {
    "nodes": [
        {
            "id": "pick",
            "type": "code.javascript",
            "config": {
                "input": "{{ trigger.body.orders }}",
                "code": f"console.warn('orders', input.length) {BRACES}\nreturn input.filter((each) => each.total > 10)",
            },
        },
        {
            "id": "sum",
            "type": "code.python",
            "config": {
                "input": "{{ steps.pick.output }}",
                "code": 'print("summing")\n\nreturn {"sum": sum(need(f"{n}.total", int) for n in range(len(input)))}',
            },
        },
    ],
    "edges": [{"source": "pick", "target": "sum"}],
}


def until_ended(installed: Installation, run: str) -> dict[str, Any]:
    """The first Python step of an installation waits for its engine."""
    end = time.monotonic() + 240
    while (view := installed.call("GET", f"/runs/{run}"))["status"] not in ("completed", "failed"):
        assert time.monotonic() < end, view
        time.sleep(0.2)
    found: dict[str, Any] = view
    return found


def workers(installed: Installation) -> list[int]:
    parent = installed.pids()["executor"]
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children]


def test_code_of_both_languages_runs_in_a_workflow(installed: Installation) -> None:
    url = installed.install("code", BOTH, EVERYBODY | {"mode": "accept"})
    orders = {"orders": [{"total": 7}, {"total": 20}, {"total": 22}]}
    _, _, body = post(url, json.dumps(orders).encode(), idempotency_key="code-1")
    view = until_ended(installed, json.loads(body)["run"])
    assert view["status"] == "completed", view
    assert json.loads(view["output"]["preview"]) == {"sum": 42}
    said = installed.command("runs", "logs", view["id"])
    assert "orders 3" in said
    assert "summing" in said
    _, _, body = post(url, b'{"orders":[{"total":"many"}]}', idempotency_key="code-2")
    failed = until_ended(installed, json.loads(body)["run"])
    assert failed["status"] == "completed"  # "many" > 10 is false in JavaScript.
    _, _, body = post(url, b'{"orders":[{"total":1e9,"sku":1},{"total":[11]}]}', idempotency_key="code-3")
    failed = until_ended(installed, json.loads(body)["run"])
    assert failed["error"]["code"] == "code.failed"
    assert failed["error"]["message"].startswith("Line 3: InputError: ")


def test_what_runs_code_does_not_outlive_the_executor(installed: Installation) -> None:
    url = installed.install("code again", BOTH, EVERYBODY | {"mode": "accept"})
    _, _, body = post(url, b'{"orders":[]}', idempotency_key="code-4")
    until_ended(installed, json.loads(body)["run"])
    before = workers(installed)
    assert before
    os.kill(installed.pids()["executor"], signal.SIGKILL)
    end = time.monotonic() + 60
    while any(
        Path(f"/proc/{pid}/cmdline").exists() and b"sandbox" in Path(f"/proc/{pid}/cmdline").read_bytes()
        for pid in before
    ):
        assert time.monotonic() < end
        time.sleep(0.05)
    _, _, body = post(url, b'{"orders":[{"total":11}]}', idempotency_key="code-5")
    view = until_status(installed, json.loads(body)["run"], "completed")
    assert json.loads(view["output"]["preview"]) == {"sum": 11}
