"""Compensation on a real installation: what a run did in the world is undone there once, last first, whoever is killed meanwhile."""

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from deploy.testing.installation import Installation
from tests.acceptance.test_children import children, published, started, steps
from tests.acceptance.test_conformance import ask
from tests.acceptance.waiting import until

TAKES = 2.0
"""Seconds for which the other side is busy with an undo: somebody is killed then."""
PATIENCE = 240.0


class Agency(BaseHTTPRequestHandler):
    """Books, and takes back. It honours keys: what it has done under one it does not do again."""

    done: ClassVar[list[str]]
    keys: ClassVar[dict[str, set[str]]]
    lock: ClassVar[threading.Lock]
    url: ClassVar[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        key = self.headers["idempotency-key"]
        with self.lock:
            again = key in self.keys[self.path]
            self.keys[self.path].add(key)
        if self.path.startswith("/undo/"):
            time.sleep(TAKES)
        if not again:
            self.done.append(self.path)
        with suppress(ConnectionError):  # Whoever asked was killed; what was done is done.
            self._say(402 if self.path == "/bill" else 200)

    def _say(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "2")
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def agency() -> Iterator[type[Agency]]:
    fresh = {"done": [], "keys": defaultdict[str, set[str]](set), "lock": threading.Lock()}
    handler: type[Agency] = type("OneAgency", (Agency,), fresh)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield handler
        server.shutdown()


def call(agency: type[Agency], name: str, path: str, **more: Any) -> dict[str, Any]:
    config = {"method": "POST", "url": agency.url + path, "body": {}, "honours_key": True}
    return {"id": name, "type": "http.request", "config": config, **more}


def trip(agency: type[Agency], *more: dict[str, Any]) -> list[dict[str, Any]]:
    patient = {"retry": {"attempts": 10, "first_pause_s": 0.1, "longest_pause_s": 1}}
    return [
        call(agency, "flight", "/flight", compensate="unfly"),
        call(agency, "hotel", "/hotel", compensate="leave"),
        call(agency, "unfly", "/undo/flight", **patient),
        call(agency, "leave", "/undo/hotel", **patient),
        *more,
    ]


def kill(installed: Installation, victim: str) -> None:
    os.kill(installed.pids()[victim], signal.SIGKILL)


def status(installed: Installation, run: str) -> str:
    return str(installed.call("GET", f"/runs/{run}")["status"])


def test_what_was_done_is_undone_once_in_the_world_whoever_is_killed(
    installed: Installation, agency: type[Agency]
) -> None:
    nodes = trip(agency, call(agency, "bill", "/bill"))
    workflow = published(installed, "a trip nobody pays", *nodes, edges="flight>hotel hotel>bill")
    run = started(installed, workflow)
    until(lambda: bool(agency.keys["/undo/hotel"]), "the hotel is being cancelled")
    until(lambda: status(installed, run) == "compensating", "the run says that it undoes")
    kill(installed, "orchestrator")
    until(lambda: bool(agency.keys["/undo/flight"]), "the flight is being cancelled", PATIENCE)
    kill(installed, "executor")
    until(lambda: status(installed, run) == "failed", "the run has failed", PATIENCE)
    assert agency.done == ["/flight", "/hotel", "/bill", "/undo/hotel", "/undo/flight"]
    assert {len(keys) for keys in agency.keys.values()} == {1}
    view = installed.call("GET", f"/runs/{run}")
    assert (view["error"]["step"], view["undone"]) == ("bill", {"steps": 2, "left": [], "left_in_all": 0})
    assert {step["status"] for name, step in steps(installed, run).items() if name != "bill"} == {"succeeded"}
    assert "undone    2 steps\n" in installed.command("runs", "show", run)
    assert "every decision is the one that was recorded" in installed.command("runs", "replay", run)
    ask(installed, "POST", f"/runs/{run}/retry", {"steps": []}, "", ["run.not_reopenable"])
    assert status(installed, run) == "failed"


def test_a_run_that_undoes_is_one_in_the_world_although_the_orchestrator_is_killed(
    installed: Installation, agency: type[Agency]
) -> None:
    undo = call(
        agency, "take", "/undo/{{ trigger.body.order }}", retry={"attempts": 10, "first_pause_s": 0.1}
    )
    returns = published(installed, "returns", undo)
    back = {"workflow": returns, "input": {"order": "{{ steps.order.output.status == 200 ? 'tea' : '' }}"}}
    nodes = [
        call(agency, "order", "/order", compensate="back"),
        {"id": "stop", "type": "stop", "config": {"message": "Sold out."}},
        {"id": "back", "type": "workflow.run", "config": back},
    ]
    run = started(installed, published(installed, "an order taken back", *nodes, edges="order>stop"))
    until(lambda: bool(agency.keys["/undo/tea"]), "the order is being taken back")
    kill(installed, "orchestrator")
    until(lambda: status(installed, run) == "failed", "the run has failed", PATIENCE)
    assert agency.done == ["/order", "/undo/tea"]
    assert {len(keys) for keys in agency.keys.values()} == {1}
    [child] = children(installed, run)
    assert (child["workflow"], child["status"]) == (returns, "completed")
    assert installed.call("GET", f"/runs/{run}")["undone"]["steps"] == 1
    assert "every decision is the one that was recorded" in installed.command("runs", "replay", run)


def test_a_cancelled_run_takes_back_what_it_had_done_although_the_log_is_killed(
    installed: Installation, agency: type[Agency]
) -> None:
    waits = {"id": "paid", "type": "wait.signal", "config": {"signal": "paid"}}
    nodes = trip(agency, waits)
    workflow = published(installed, "a trip given up", *nodes, edges="flight>hotel hotel>paid")
    run = started(installed, workflow)
    until(lambda: status(installed, run) == "waiting", "both are booked")
    installed.call("POST", f"/runs/{run}/cancel", {"reason": "no time"})
    until(lambda: bool(agency.keys["/undo/hotel"]), "the hotel is being cancelled")
    kill(installed, "nats")
    until(installed.ready, "the log is back", PATIENCE)
    until(lambda: status(installed, run) == "cancelled", "the run is cancelled", PATIENCE)
    assert agency.done == ["/flight", "/hotel", "/undo/hotel", "/undo/flight"]
    assert {len(keys) for keys in agency.keys.values()} == {1}
    assert installed.call("GET", f"/runs/{run}")["undone"]["steps"] == 2
