"""A user's stories over HTTP, against a real installation."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from bench.workflows import EVERYBODY, light
from deploy.testing.installation import Installation
from tests.acceptance.waiting import until


def post(url: str, body: bytes = b"{}", **headers: str) -> tuple[int, dict[str, str], bytes]:
    given = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    request = urllib.request.Request(url, data=body, headers=given, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return (
                answer.status,
                {name.lower(): value for name, value in answer.headers.items()},
                answer.read(),
            )
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def until_status(installed: Installation, run: str, *wanted: str) -> dict[str, Any]:
    view: dict[str, Any] = {}

    def reached() -> bool:
        view.update(installed.call("GET", f"/runs/{run}"))
        return view["status"] in wanted

    until(reached, f"run {run} is {' or '.join(wanted)}", 60)
    return view


HEARD: list[bytes] = []
"""What came to the server that never answers."""


@pytest.fixture(scope="module")
def slow(installed: Installation) -> str:
    """A workflow whose one call reaches a server that never answers."""
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[Any] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                kept.append(connection)
                HEARD.append(connection.recv(65_536))
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    definition = {
        "nodes": [
            {
                "id": "call",
                "type": "http.request",
                "config": {
                    "method": "POST",
                    "url": f"http://127.0.0.1:{listener.getsockname()[1]}/",
                    "timeout_s": 60,
                },
            }
        ]
    }
    return installed.install("never answered", definition, EVERYBODY | {"mode": "accept"})


def test_a_webhook_is_answered_by_its_run(installed: Installation) -> None:
    url = installed.install("light", light(), EVERYBODY)
    order = {"status": "paid", "total": 100, "customer": {"name": "Ada"}, "items": [{"sku": "S1"}]}
    status, headers, body = post(url, json.dumps(order).encode(), idempotency_key="order-1")
    assert status == 200
    assert json.loads(body) == {"label": "Ada: 119", "big": True}
    again = post(url, json.dumps(order).encode(), idempotency_key="order-1")
    assert (again[0], again[2]) == (200, body)
    assert again[1]["automateos-run"] == headers["automateos-run"]
    assert again[1]["automateos-deduplicated"] == "true"


def test_an_expression_that_fails_at_run_time_names_node_field_and_position(installed: Installation) -> None:
    url = installed.install("light again", light(), EVERYBODY)
    status, _, body = post(url, b'{"status":"paid","total":100}', idempotency_key="broken")
    assert status == 500
    view = until_status(installed, json.loads(body)["run"], "failed")
    assert view["error"]["code"] == "expression"
    assert view["error"]["step"] == "pick"
    events = installed.call("GET", f"/runs/{view['id']}/events")["items"]
    [failed] = [entry for entry in events if "step.failed" in json.dumps(entry)]
    assert '"node": "pick"' in json.dumps(failed)
    assert '"field": "/fields' in json.dumps(failed)


def test_a_running_attempt_is_cancelled_within_two_seconds_and_the_run_says_what_may_have_happened(
    installed: Installation, slow: str
) -> None:
    before = len(HEARD)
    _, _, body = post(slow, idempotency_key=f"cancel-{time.time_ns()}")
    run = json.loads(body)["run"]
    until(lambda: len(HEARD) > before, "the call has begun")
    installed.call("POST", f"/runs/{run}/cancel", {"reason": "changed my mind"})
    view = until_status(installed, run, "cancelled")
    assert "possible" in json.dumps(view["unfinished"])


def test_an_interrupted_call_that_must_not_be_repeated_waits_for_a_person(
    installed: Installation, slow: str
) -> None:
    import os
    import signal

    before = len(HEARD)
    _, _, body = post(slow, idempotency_key=f"doubt-{time.time_ns()}")
    run = json.loads(body)["run"]
    until(lambda: len(HEARD) > before, "the call has begun")
    os.kill(installed.pids()["executor"], signal.SIGKILL)
    end = time.monotonic() + 60
    while (
        not (waiting := installed.call("GET", f"/runs/{run}/waiting")["waiting_for"])
        or waiting[0]["kind"] != "decision"
    ):
        assert time.monotonic() < end, waiting
        time.sleep(0.2)
    installed.call(
        "POST", f"/runs/{run}/resolve", {"step": "call", "resolution": "done", "output": {"seen": True}}
    )
    view = until_status(installed, run, "completed")
    assert json.loads(view["output"]["preview"]) == {"seen": True}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"a":"\xff"}', "application/json", 400),
        (b"[" * 5_000, "application/json", 400),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 400),
        (b"a=%", "application/x-www-form-urlencoded", 200),
        (b'{"nul":"\\u0000","big":' + b"9" * 300 + b"}", "application/json", 202),
    ],
    ids=["malformed", "utf8", "deep", "multipart", "form", "hostile values"],
)
def test_whatever_comes_is_accepted_or_refused_by_name(
    installed: Installation, slow: str, body: bytes, kind: str, status: int
) -> None:
    told, headers, answer = post(slow, body, content_type=kind, idempotency_key=f"bad-{time.time_ns()}")
    assert told in (status, 202) if status in (200, 202) else told == status
    if told >= 400:
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(answer)["code"]


def test_a_private_address_is_refused_before_anything_is_connected(installed: Installation) -> None:
    definition = {
        "nodes": [
            {
                "id": "call",
                "type": "http.request",
                "config": {"method": "GET", "url": "http://169.254.169.254/"},
            }
        ]
    }
    url = installed.install("metadata", definition, EVERYBODY)
    _, headers, body = post(url, idempotency_key=f"ssrf-{time.time_ns()}")
    run = json.loads(body)["run"]
    assert until_status(installed, run, "failed")["error"]["code"] in ("egress.forbidden", "unreachable")
    assert headers["automateos-run"] == run


def test_a_body_that_is_too_large_is_refused_by_its_length_alone(slow: str) -> None:
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(slow)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10) as connection:
        head = f"POST {parts.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1100000\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(4_096).startswith(b"HTTP/1.1 413 ")
