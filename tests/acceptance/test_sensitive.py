"""What is marked as sensitive, on a real installation: used where it is needed, and found nowhere."""

import asyncio
import base64
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deploy.testing.installation import Installation
from tests.acceptance.test_approvals import asked, ended, kept_in, link_mailed, run_of
from tests.acceptance.test_stories import post
from tests.acceptance.waiting import until

CARD = "4111-2222-3333-4444"


class _Shop(BaseHTTPRequestHandler):
    """Tells a person's card, and hears who wants to be paid with it."""

    heard: list[tuple[str, str]]
    """Who it is said to be, and the body."""

    def do_GET(self) -> None:
        self._answer({"name": "Ada", "card": CARD})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.heard.append((self.headers.get("authorization", ""), body))
        self._answer({"paid": True})

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextmanager
def shop() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    heard: list[tuple[str, str]] = []
    handler = type("Shop", (_Shop,), {"heard": heard})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", heard
        server.shutdown()


def test_a_marked_field_is_used_and_is_in_no_log_no_row_no_line_and_no_export(
    installed: Installation, tmp_path: Path
) -> None:
    with shop() as (url, heard):
        definition = {
            "nodes": [
                {"id": "ask", "type": "http.request", "config": {"url": url}, "sensitive": ["/body/card"]},
                {
                    "id": "pay",
                    "type": "http.request",
                    "config": {
                        "method": "POST",
                        "url": url,
                        "headers": {"authorization": "Card {{ steps.ask.output.body.card }}"},
                        "body": {"card": "{{ steps.ask.output.body.card }}"},
                    },
                },
            ],
            "edges": [{"source": "ask", "target": "pay"}],
        }
        run = run_of(installed, definition, None)
        assert ended(installed, run)["status"] == "completed"
    [(said, body_sent)] = heard
    assert (said, json.loads(body_sent)) == (f"Card {CARD}", {"card": CARD})
    exported = tmp_path / "run.json"
    installed.command("runs", "export", run, "--out", str(exported))
    assert CARD.encode() not in exported.read_bytes()
    assert kept_in(installed, CARD) == []
    assert "$sealed" in json.dumps(installed.call("GET", f"/runs/{run}/events"))
    workflow = installed.call("GET", f"/runs/{run}")["workflow"]
    ports = {
        each["node"]: each["ports"] for each in installed.call("GET", f"/workflows/{workflow}/ports")["nodes"]
    }
    body = ports["ask"]["main"]["schema"]["properties"]["body"]
    assert body["properties"] == {"name": {"type": "string"}, "card": {"type": "object", "x-sealed": True}}


def test_a_signed_token_is_believed_by_whoever_has_the_key_and_is_kept_nowhere(
    installed: Installation,
) -> None:
    key = "a key that both of us know, and nobody else"
    secret = installed.call("POST", "/secrets", {"name": "shop key", "value": {"kind": "hmac", "key": key}})[
        "id"
    ]
    with shop() as (url, heard):
        definition = {
            "nodes": [
                {
                    "id": "sign",
                    "type": "crypto.jwt",
                    "config": {
                        "claims": {"sub": "{{ trigger.body.?customer.orValue('nobody') }}"},
                        "key": {"$secret": secret},
                    },
                },
                {
                    "id": "pay",
                    "type": "http.request",
                    "config": {
                        "method": "POST",
                        "url": url,
                        "headers": {"authorization": "Bearer {{ steps.sign.output.token }}"},
                        "body": {},
                    },
                },
            ],
            "edges": [{"source": "sign", "target": "pay"}],
        }
        run = run_of(installed, definition, {"customer": "ada"})
        assert ended(installed, run)["status"] == "completed"
    scheme, _, token = heard[0][0].partition(" ")
    said, _, signature = token.rpartition(".")
    proof = base64.urlsafe_b64encode(hmac.digest(key.encode(), said.encode(), "sha256")).rstrip(b"=").decode()
    assert (scheme, signature) == ("Bearer", proof)
    claims = json.loads(base64.urlsafe_b64decode(said.partition(".")[2] + "=="))
    assert claims["sub"] == "ada"
    assert kept_in(installed, signature) == []


IBAN = "DE02120300000000202051"


def paying(url: str, value: str) -> dict[str, Any]:
    """A node that needs a value, and another whose output hands it on."""
    pay = {"method": "POST", "url": url, "body": {"to": value}}
    return {
        "nodes": [
            {"id": "pay", "type": "http.request", "config": pay},
            {"id": "tell", "type": "set", "config": {"fields": {"paid_to": value}}},
        ],
        "edges": [{"source": "pay", "target": "tell"}],
    }


def told_nowhere(installed: Installation, run: str, value: str, folder: Path) -> None:
    """No file of the log, no row, no line, no export and nothing that the API says of the run has it."""
    exported = folder / f"{run}.json"
    installed.command("runs", "export", run, "--out", str(exported))
    assert value.encode() not in exported.read_bytes()
    said = [installed.call("GET", f"/runs/{run}{of}") for of in ("", "/events", "/steps", "/logs", "/state")]
    assert value not in json.dumps(said)
    assert "$sealed" in json.dumps(said)
    assert kept_in(installed, value) == []


def test_what_a_form_and_a_chat_are_told_is_used_and_stays_sealed_also_in_runs_that_follow(
    installed: Installation, tmp_path: Path
) -> None:
    with shop() as (url, heard):
        workflow = installed.call(
            "POST", "/workflows", {"name": "paying", "definition": paying(url, "{{ trigger.body.iban }}")}
        )["id"]
        installed.call("POST", f"/workflows/{workflow}/versions/1/publish")
        form = {
            "kind": "form",
            "title": "Where to?",
            "questions": {"properties": {"iban": {"title": "IBAN"}}, "required": ["iban"]},
            "sensitive": ["/iban"],
        }
        made = installed.call("POST", "/triggers", {"name": "form", "workflow": workflow, "on": form})
        follows = installed.call(
            "POST",
            "/workflows",
            {
                "name": "follows",
                "definition": {
                    "nodes": [
                        {"id": "seen", "type": "set", "config": {"fields": {"all": "{{ trigger.body }}"}}}
                    ]
                },
            },
        )["id"]
        installed.call("POST", f"/workflows/{follows}/versions/1/publish")
        after = {"kind": "run_end", "workflows": [workflow]}
        installed.call("POST", "/triggers", {"name": "after", "workflow": follows, "on": after})
        answers: list[Any] = []

        def answered() -> bool:
            answers.append(post(made["address"]["url"], json.dumps({"iban": IBAN}).encode()))
            return answers[-1][0] == 202

        until(answered, "ingress knows the form")
        run = json.loads(answers[-1][2])["run"]
        assert ended(installed, run)["status"] == "completed"
        assert [json.loads(body) for _, body in heard] == [{"to": IBAN}]
        told_nowhere(installed, run, IBAN, tmp_path)
        query = "select count(*) from read.runs where workflow = $1 and ended is not null"
        until(lambda: installed.count(query, follows) == 1, "the run that follows ends")
        [row] = asyncio.run(installed.rows("select id from read.runs where workflow = $1", follows))
        told_nowhere(installed, row["id"], IBAN, tmp_path)


def test_what_somebody_starts_a_run_with_is_sealed_by_the_workflows_marks(
    installed: Installation, tmp_path: Path
) -> None:
    with shop() as (url, heard):
        definition = paying(url, "{{ trigger.body.account.iban }}") | {"sensitive": ["/account"]}
        run = run_of(installed, definition, {"account": {"iban": IBAN}})
        assert ended(installed, run)["status"] in ("completed", "failed")
        told_nowhere(installed, run, IBAN, tmp_path)
        assert heard == [], "nobody can look into what is sealed as a whole"
        definition = paying(url, "{{ trigger.body.account.iban }}") | {"sensitive": ["/account/iban"]}
        run = run_of(installed, definition, {"account": {"iban": IBAN}})
        assert ended(installed, run)["status"] == "completed"
        assert [json.loads(body) for _, body in heard] == [{"to": IBAN}]
        told_nowhere(installed, run, IBAN, tmp_path)


def test_what_people_and_programs_say_to_a_run_is_used_and_stays_sealed(
    installed: Installation, tmp_path: Path
) -> None:
    with shop() as (url, heard):
        pay = {
            "method": "POST",
            "url": url,
            "body": {
                "to": "{{ steps.ask.output.fields.iban }}",
                "said": "{{ steps.ask.output.comment }}",
                "card": "{{ steps.called.output.body.card }}",
                "pin": "{{ steps.told.output.pin }}",
            },
        }
        definition = {
            "nodes": [
                {
                    "id": "ask",
                    "type": "wait.approval",
                    "config": {
                        "question": "Where to?",
                        "form": {"type": "object", "properties": {"iban": {"type": "string"}}},
                    },
                    "sensitive": ["/fields/iban", "/comment"],
                },
                {
                    "id": "mail",
                    "type": "email.send",
                    "config": {
                        "to": "marks@b.example",
                        "subject": "Please call",
                        "text": "{{ steps.called.resume_url }}",
                    },
                },
                {"id": "called", "type": "wait.webhook", "sensitive": ["/body/card"]},
                {"id": "told", "type": "wait.signal", "config": {"signal": "paid"}, "sensitive": ["/pin"]},
                {"id": "pay", "type": "http.request", "config": pay},
            ],
            "edges": [
                {"source": "ask", "port": "approved", "target": "pay"},
                {"source": "called", "target": "pay"},
                {"source": "told", "target": "pay"},
            ],
        }
        run = run_of(installed, definition, None)
        waiting = "select count(*) from read.steps where run = $1 and status = 'waiting'"
        until(lambda: installed.count(waiting, run) == 3, "the run asks")
        status, said = asked(
            link_mailed(installed, "marks@b.example"),
            json.dumps({"card": CARD}).encode(),
            content_type="application/json",
        )
        assert (status, said) == (200, '{"received":true}')
        signal = {"signal": "paid", "body": {"pin": "pin-4711-0815"}}
        installed.call("POST", f"/runs/{run}/signals", signal)
        decision = {"decision": "approved", "fields": {"iban": IBAN}, "comment": f"to {IBAN}"}
        assert IBAN not in json.dumps(installed.call("GET", f"/approvals?run={run}"))
        installed.call("POST", f"/approvals/{run}/decide", decision)
        assert ended(installed, run)["status"] == "completed"
    [(_, body)] = heard
    assert json.loads(body) == {"to": IBAN, "said": f"to {IBAN}", "card": CARD, "pin": "pin-4711-0815"}
    for value in (IBAN, CARD, "pin-4711-0815"):
        told_nowhere(installed, run, value, tmp_path)


def test_what_a_failing_node_says_of_what_it_was_given_or_would_have_brought_is_told_nowhere(
    installed: Installation, tmp_path: Path
) -> None:
    made_up = "4000-1234-5678-9010"
    # What a workflow says itself is everybody's who may read it: so the number is made up where it is used.
    made = "' + [4000, 1234, 5678, 9010].join('-') + '"
    marked = {
        "id": "look",
        "type": "code.javascript",
        "config": {"code": f"console.log('found {made}')\nthrow new Error('{made} is blocked')"},
        "sensitive": ["/card"],
        "on_error": "continue",
    }
    given = {
        "id": "use",
        "type": "code.javascript",
        "config": {
            "input": "{{ trigger.body.card }}",
            "code": "console.log('given', input)\nthrow new Error(input + ' is blocked')",
        },
    }
    edges = [{"source": "look", "target": "use"}]
    definition = {"nodes": [marked, given], "edges": edges, "sensitive": ["/card"]}
    run = run_of(installed, definition, {"card": CARD})
    assert ended(installed, run)["status"] == "failed"
    for value in (made_up, CARD):
        told_nowhere(installed, run, value, tmp_path)
    lines = installed.call("GET", f"/runs/{run}/logs")["items"]
    assert [line["missing"]["why"] for line in lines if line.get("missing")] == ["marked"]
    assert "given [redacted]" in [line["text"] for line in lines]


def test_what_a_worker_outside_brings_and_what_a_person_settles_a_doubt_with_stay_sealed(
    installed: Installation, tmp_path: Path
) -> None:
    token = installed.command("pools", "token", "ext-marks", "the test").strip()
    found, settled = "4000-1111-2222-3333", "4000-4444-5555-6666"
    kind = {
        "type": "work.find",
        "title": "Find",
        "help": "Finds a card.",
        "icon": "card",
        "category": "Cards",
        "config": {"type": "object"},
    }
    installed.call("POST", "/worker/types", {"specs": [kind]}, key=token)

    def worker(what: str, body: Any) -> Any:
        return installed.call("POST", f"/worker/{what}", body, key=token)

    def given() -> Any:
        tasks: list[Any] = []
        until(lambda: bool(tasks.extend(worker("poll", {"wait_s": 1})["tasks"]) or tasks), "there is a task")
        return tasks[0]

    with shop() as (url, heard):
        cards = ["{{ steps.one.output.card }}", "{{ steps.two.output.card }}"]
        definition = {
            "nodes": [
                {"id": "one", "type": "work.find", "sensitive": ["/card"]},
                {"id": "two", "type": "work.find", "sensitive": ["/card"]},
                {
                    "id": "pay",
                    "type": "http.request",
                    "config": {"method": "POST", "url": url, "body": {"cards": cards}},
                },
            ],
            "edges": [{"source": "one", "target": "two"}, {"source": "two", "target": "pay"}],
        }
        run = run_of(installed, definition, None)
        report = {"kind": "succeeded", "output": {"card": found, "of": "Ada"}}
        worker("report", {"lease": given()["lease"], "report": report})
        report = {"kind": "in_doubt", "message": f"no answer for {settled}"}
        worker("report", {"lease": given()["lease"], "report": report})
        doubted = "select count(*) from read.steps where run = $1 and status = 'in_doubt'"
        until(lambda: installed.count(doubted, run) == 1, "a person is asked")
        done = {"step": "two", "resolution": "done", "output": {"card": settled}}
        installed.call("POST", f"/runs/{run}/resolve", done)
        assert ended(installed, run)["status"] == "completed"
    [(_, body)] = heard
    assert json.loads(body) == {"cards": [found, settled]}
    for value in (found, settled):
        told_nowhere(installed, run, value, tmp_path)
