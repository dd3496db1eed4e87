"""Approvals and calls on a real installation: asked by mail, answered by whoever has the link, and no link is kept anywhere."""

import asyncio
import email
import email.policy
import json
import os
import re
import signal
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.testing.installation import Installation
from tests.acceptance.waiting import until

FORM = {"type": "object", "properties": {"sum": {"type": "number", "maximum": 100}}, "required": ["sum"]}
ASKS = {
    "nodes": [
        {
            "id": "ask",
            "type": "wait.approval",
            "config": {"question": "Pay {{ trigger.body.sum }} €?", "form": FORM, "timeout_seconds": 3600},
        },
        {
            "id": "mail",
            "type": "email.send",
            "config": {
                "to": "{{ trigger.body.to }}",
                "subject": "Please decide",
                "text": "Approve: {{ steps.ask.resume_url }}?decision=approved",
            },
        },
        {
            "id": "pay",
            "type": "set",
            "config": {
                "fields": {
                    "paid": "{{ steps.ask.output.fields.sum }}",
                    "by": "{{ steps.ask.output.by }}",
                    "name": "{{ steps.ask.output.?name.orValue('') }}",
                }
            },
        },
        {"id": "tell", "type": "set", "config": {"fields": {"why": "{{ steps.ask.output.comment }}"}}},
    ],
    "edges": [
        {"source": "ask", "port": "approved", "target": "pay"},
        {"source": "ask", "port": "rejected", "target": "tell"},
    ],
}
LINK = re.compile(r"https?://[^\s?\"<>]+/resume/[A-Za-z0-9_.-]+")


def run_of(installed: Installation, definition: Any, value: Any) -> str:
    workflow = installed.call("POST", "/workflows", {"name": "asks", "definition": definition})["id"]
    installed.call("POST", f"/workflows/{workflow}/versions/1/publish")
    return str(installed.call("POST", "/runs", {"workflow": workflow, "input": value})["run"])


def link_mailed(installed: Installation, to: str) -> str:
    """The link in the mail that came to an address."""
    found: list[str] = []

    def came() -> bool:
        for path in (installed.data / "mail").rglob("*.eml"):
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            body = message.get_body(("plain",))
            if to in str(message["to"]) and body is not None:
                found.extend(LINK.findall(body.get_content().replace("\n", "")))
        return bool(found)

    until(came, f"a mail comes to {to}")
    return found[0]


def asked(link: str, body: bytes | None = None, method: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and body of one request under a link."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(link, data=body, method=method, headers=given)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ended(installed: Installation, run: str) -> Any:
    query = "select count(*) from read.runs where id = $1 and ended is not null"
    until(lambda: installed.count(query, run) == 1, f"{run} ends")
    return installed.call("GET", f"/runs/{run}")


def kept_in(installed: Installation, proof: str) -> list[str]:
    """Where the secret part of a link lies, mails aside: in files of the log, of Postgres, of Redis, in log lines, in rows."""
    needle = proof.encode()
    found = [
        str(path)
        for path in installed.data.rglob("*")
        if path.is_file() and "mail" not in path.relative_to(installed.data).parts and needle in _bytes(path)
    ]
    tables = asyncio.run(
        installed.rows(
            "select table_schema || '.' || table_name as name from information_schema.tables "
            "where table_schema in ('read', 'archive', 'vault')"
        )
    )
    for table in tables:
        query = (
            f"select count(*) from {table['name']} t where t::text like '%' || $1 || '%'"  # Names of ours.
        )
        if installed.count(query, proof):
            found.append(table["name"])
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def kill(installed: Installation, *names: str) -> None:
    pids = installed.pids()
    for name in names:
        os.kill(pids[name], signal.SIGKILL)
    until(
        lambda: (
            all(installed.pids().get(name) not in (None, pids[name]) for name in names) and installed.ready()
        ),
        f"{names} are back",
    )


def test_a_person_is_asked_by_mail_and_decides_after_everybody_was_killed(installed: Installation) -> None:
    run = run_of(installed, ASKS, {"sum": 5, "to": "ada@example.org"})
    link = link_mailed(installed, "ada@example.org")

    def is_told() -> bool:
        steps = installed.call("GET", f"/runs/{run}/steps")["items"]
        return ("mail", "succeeded") in {(each["path"], each["status"]) for each in steps}

    until(is_told, "the mail is told as sent")  # Killed before, nobody would know whether it was.
    kill(installed, "ingress", "gateway", "orchestrator", "executor")
    status, page = asked(f"{link}?decision=approved", accept="text/html")
    assert (status, "Pay 5 €?" in page, 'value="approved" required checked' in page) == (200, True, True)
    assert installed.call("GET", f"/runs/{run}")["status"] == "waiting", "looking decides nothing"
    form = {"content_type": "application/x-www-form-urlencoded"}
    status, page = asked(link, b"the-decision=approved&the-name=Ada&sum=1000", **form)
    assert (status, "This must be 100 or less." in page) == (422, True)
    told: list[tuple[int, str]] = []

    def is_heard() -> bool:
        told.append(asked(link, b"the-decision=approved&the-name=Ada&sum=7&the-comment=Well.", **form))
        return told[-1][0] != 202  # Kept for an orchestrator that is not back yet.

    until(is_heard, "the answer is heard")
    assert (told[-1][0], "You approved this." in told[-1][1]) == (200, True)
    output = json.loads(ended(installed, run)["output"]["preview"])
    assert output["pay"] == {"paid": 7, "by": "link", "name": "Ada"}
    events = installed.call("GET", f"/runs/{run}/events?limit=200")["items"]
    [decided] = [each["event"] for each in events if each["event"]["type"] == "approval.decided"]
    assert (decided["by"], decided["name"]) == ("link", "Ada")
    assert asked(link, b"the-decision=approved&the-name=Ada&sum=7&the-comment=Well.", **form)[0] == 200
    assert asked(link, b"the-decision=rejected&the-name=Ada&sum=7", **form)[0] == 409
    assert asked(link[:-1] + ("A" if link[-1] != "A" else "B"))[0] == 404
    assert kept_in(installed, link.rpartition(".")[2]) == []
    assert "automateos-link~ask~" in json.dumps(installed.call("GET", f"/runs/{run}/events"))


def test_questions_are_listed_and_decided_at_the_command_line(installed: Installation) -> None:
    runs: list[str] = []
    for sum_ in (1, 2, 3):
        runs.append(run_of(installed, ASKS, {"sum": sum_, "to": "bob@example.org"}))
        until(  # What is asked at once may be asked in any order.
            lambda: (
                {each["run"] for each in installed.call("GET", "/approvals?limit=200")["items"]} >= set(runs)
            ),
            "it is listed",
        )
    first = installed.call("GET", "/approvals?limit=2")
    assert [each["question"] for each in first["items"]] == ["Pay 3 €?", "Pay 2 €?"]
    second = installed.call("GET", f"/approvals?limit=2&cursor={first['next']}")
    assert second["items"][0]["question"] == "Pay 1 €?"
    [only] = installed.call("GET", f"/approvals?run={runs[0]}")["items"]
    assert (only["step"], only["form"], only["deciders"], only["by_link"]) == ("ask", FORM, [], True)
    assert "Pay 2 €?" in installed.command("approvals", "list")
    with pytest.raises(RuntimeError, match="bad_fields"):
        installed.call("POST", f"/approvals/{runs[0]}/decide", {"decision": "approved"})
    said = installed.command(
        "approvals", "decide", runs[0], "reject", "--fields", '{"sum": 1}', "--comment", "No."
    )
    assert "ask rejected: decided" in said
    assert json.loads(ended(installed, runs[0])["output"]["preview"])["tell"] == {"why": "No."}
    again = installed.command(
        "approvals", "decide", runs[0], "reject", "--fields", '{"sum": 1}', "--comment", "No."
    )
    assert "had been decided so by you before" in again
    for run in runs[1:]:
        installed.call("POST", f"/approvals/{run}/decide", {"decision": "approved", "fields": {"sum": 1}})
        ended(installed, run)
    left = {each["run"] for each in installed.call("GET", "/approvals?limit=200")["items"]}
    assert not left & set(runs)


class _Hasty(BaseHTTPRequestHandler):
    """A service that calls back as soon as it has answered, and shows in its answer what it was sent."""

    called: list[tuple[str, tuple[int, str]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        threading.Thread(target=self._call_back, args=(json.loads(body)["callback"],)).start()

    def _call_back(self, link: str) -> None:
        told = asked(link, b'{"done": true}', referer=link, content_type="application/json")
        self.called.append((link, told))

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextmanager
def hasty() -> Iterator[tuple[int, list[tuple[str, tuple[int, str]]]]]:
    called: list[tuple[str, tuple[int, str]]] = []
    handler = type("Hasty", (_Hasty,), {"called": called})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], called
        server.shutdown()


def test_a_program_calls_back_at_once_and_nothing_of_its_link_is_kept(installed: Installation) -> None:
    with hasty() as (port, called):
        definition = {
            "nodes": [
                {
                    "id": "order",
                    "type": "http.request",
                    "config": {
                        "method": "POST",
                        "url": f"http://127.0.0.1:{port}/",
                        "body": {"callback": "{{ steps.done.resume_url }}"},
                    },
                },
                {"id": "done", "type": "wait.webhook", "config": {"body": {"thanks": True}}},
            ],
            "edges": [{"source": "order", "target": "done"}],
        }
        run = run_of(installed, definition, None)
        output = json.loads(ended(installed, run)["output"]["preview"])
        until(lambda: bool(called), "the caller is answered")
    [(link, answer)] = called
    assert answer == (200, '{"thanks":true}')
    assert output["body"] == {"done": True}
    told = json.dumps(installed.call("GET", f"/runs/{run}/events"))
    [mark] = set(re.findall(r"automateos-link~done~[0-9a-f]{32}", told))
    assert f'"callback": "{mark}"' in told, "what the service showed is the mark again"
    assert kept_in(installed, link.rpartition(".")[2]) == []
