"""What nodes say, on a real installation with its real rights: read, followed live, searched for."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

from bench.workflows import EVERYBODY
from deploy.testing.installation import Installation, Opened
from tests.acceptance.test_stories import post, until_status
from tests.acceptance.waiting import until

SECRET = "a7Kq-canary-in-a-path"


class Other(BaseHTTPRequestHandler):
    """Somebody else's API: one of its addresses takes its time."""

    wait = threading.Event()

    def do_POST(self) -> None:
        if "slow" in self.path:
            self.wait.wait(60)
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Other.wait.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def calling(installed: Installation, other: str) -> Opened:
    def call(name: str, path: str, **config: Any) -> dict[str, Any]:
        url = f"{other}/{SECRET}/{path}?token={SECRET}"
        return {"id": name, "type": "http.request", "config": {"method": "POST", "url": url, **config}}

    definition = {
        "nodes": [
            call("quiet", "quick"),
            call("first", "missing", success=["404"]),
            call("second", "slow"),
            call("third", "missing", success=["404"]),
        ],
        "edges": [
            {"source": source, "target": target}
            for source, target in pairwise(("quiet", "first", "second", "third"))
        ],
    }
    return installed.open("calling", definition, EVERYBODY | {"mode": "accept"})


def begun(calling: Opened, key: str) -> str:
    status, _, told = post(calling.url, b"{}", idempotency_key=key)
    assert status == 202
    run: str = json.loads(told)["run"]
    return run


@contextmanager
def live(installed: Installation, path: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream, as they come."""
    given = {"authorization": f"Bearer {installed.key}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    request = urllib.request.Request(f"{installed.gateway}/api/v1{path}", headers=given)
    with urllib.request.urlopen(request, timeout=30) as answer:

        def events() -> Iterator[dict[str, Any]]:
            fields: dict[str, Any] = {}
            for raw in answer:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "event" in fields:
                    yield {**fields, "data": json.loads(fields["data"])}
                    fields = {}
                else:
                    fields = {}

        yield events()


def test_lines_are_followed_live_from_the_first_to_the_last_and_from_any_of_them(
    installed: Installation, calling: Opened
) -> None:
    Other.wait.clear()
    run = begun(calling, "logs-live")
    until(lambda: len(installed.call("GET", f"/runs/{run}/logs")["items"]) >= 4, "the slow call is heard")
    texts: list[str] = []
    with live(installed, f"/runs/{run}/logs/live") as late:
        for event in late:
            assert event["event"] == "line"
            texts.append(event["data"]["text"])
            if len(texts) == 4:
                Other.wait.set()
            if event["data"]["step"] == "third" and "succeeded" in event["data"]["text"]:
                break
    until_status(installed, run, "completed")
    page = installed.call("GET", f"/runs/{run}/logs")
    assert (page["next"], page["expired_before"]) == (None, None)
    assert [line["text"] for line in page["items"]] == texts
    told = [line for line in page["items"] if "host" in line["fields"]]
    assert [(line["step"], line["level"], line["text"]) for line in told] == [
        ("first", "warning", "POST to 127.0.0.1: 404"),
        ("second", "info", "POST to 127.0.0.1: 200"),
        ("third", "warning", "POST to 127.0.0.1: 404"),
    ]
    assert all(line["fields"]["ms"] >= 0 for line in told)
    assert SECRET not in json.dumps(page)
    third = page["items"][2]["id"]
    with live(installed, f"/runs/{run}/logs/live", last_event_id=third) as back:
        assert [next(back)["data"]["text"] for _ in texts[3:]] == texts[3:]
    with live(installed, f"/runs/{run}/logs/live?level=warning") as loud:
        assert next(loud)["data"]["text"] == "POST to 127.0.0.1: 404"


def test_lines_of_all_runs_are_searched(installed: Installation, calling: Opened) -> None:
    Other.wait.set()
    runs = {begun(calling, f"logs-search-{number}") for number in range(3)}
    for run in runs:
        until_status(installed, run, "completed")

    def found(query: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = installed.call("GET", f"/logs?limit=200&{query}")["items"]
        return items

    asked = f"workflow={calling.workflow}&level=warning&contains=127.0.0.1"
    until(lambda: {line["run"] for line in found(asked)} >= runs, "what was said is found")
    assert {line["text"] for line in found(asked)} == {"POST to 127.0.0.1: 404"}
    assert found("contains=nobody-said-this") == []
    assert found("workflow=another&contains=127.0.0.1") == []
    assert found("from=2030-01-01T00:00:00Z") == []
    assert SECRET not in json.dumps(found(""))


def test_the_command_line_filters_and_follows(installed: Installation, calling: Opened) -> None:
    Other.wait.clear()
    run = begun(calling, "logs-cli")
    threading.Timer(3.0, Other.wait.set).start()
    followed = installed.command("runs", "logs", run, "--follow")
    assert "third#1" in followed
    assert followed.splitlines() == installed.command("runs", "logs", run).splitlines()
    loud = installed.command("runs", "logs", run, "--level", "warning")
    assert [line.split()[1] for line in loud.splitlines()] == ["first#1", "third#1"]
    assert "third" not in installed.command("runs", "logs", run, "--step", "first")
    lines = installed.command("runs", "logs", run, "--contains", "127.0.0.1: 404", "--json").splitlines()
    assert [json.loads(line)["fields"]["status"] for line in lines] == [404, 404]


def test_no_service_asked_for_what_it_may_not(installed: Installation) -> None:
    said = {log.name: log.read_text() for log in (installed.data / "logs").glob("*.log")}
    assert len(said) >= 5
    assert [name for name, text in said.items() if "nats.forbidden" in text] == []
