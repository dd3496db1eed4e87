"""What operators' commands say: a problem of the API, a state, a parting of history and decisions, a letter's fate."""

import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from chassis.testing.examples import commit as commit_of
from chassis.testing.examples import examples
from contracts.codec import encode
from contracts.commits import Commit
from contracts.messages import Look, UnparkRun
from contracts.runs import RunEvent, StepSucceeded
from contracts.subjects import partition
from deploy.cli import run
from deploy.commands.here import Here
from deploy.data_directory import open_data_directory
from deploy.operator.api import Answer, Api, problem, request
from deploy.operator.histories import decoded
from deploy.operator.letters import Kept, messages_of
from deploy.operator.replays import divergence_lines, state_lines
from deploy.operator.views import run_lines
from deploy.refusals import Refused
from deploy.servers import PostgresAddress, Servers
from deploy.stack import Running, write_running
from orchestrator.history import Divergence, state_at
from orchestrator.state import Run


class Listening(http.server.BaseHTTPRequestHandler):
    """Answers with what the test wants, and remembers what it was asked."""

    answers: ClassVar[list[tuple[int, bytes]]] = []
    asked: ClassVar[list[tuple[str, str, bytes]]] = []
    headers_of: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        size = int(self.headers.get("content-length", 0))
        self.asked.append((self.command, self.path, self.rfile.read(size)))
        self.headers_of.append({name.lower(): text for name, text in self.headers.items()})
        status, body = self.answers.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def gateway() -> Iterator[str]:
    Listening.answers.clear()
    Listening.asked.clear()
    Listening.headers_of.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Listening) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


# --- The API --------------------------------------------------------------------------------------


def test_a_problem_is_one_line_with_its_code_and_every_fault() -> None:
    body = encode(
        {
            "title": "The workflow has faults.",
            "code": "invalid_workflow",
            "faults": [{"pointer": "/nodes/0/type", "message": "Nobody has announced node type x."}],
        }
    )
    told = problem(Answer(status=422, headers={}, body=body))
    assert told == (
        "The workflow has faults. (invalid_workflow 422) /nodes/0/type: Nobody has announced node type x."
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_an_answer_that_is_no_problem_is_told_by_its_status(body: bytes) -> None:
    assert problem(Answer(status=502, headers={}, body=body)) == "The server answered with status 502."


def test_a_list_is_read_page_by_page_until_there_is_enough(gateway: str) -> None:
    Listening.answers += [
        (200, encode({"items": [{"id": number} for number in range(2)], "next": "further"})),
        (200, encode({"items": [{"id": 2}], "next": None})),
    ]
    assert [each["id"] for each in Api(gateway, "key").pages("/runs", 5, status="failed")] == [0, 1, 2]
    assert [path for _, path, _ in Listening.asked] == [
        "/api/v1/runs?limit=5&status=failed",
        "/api/v1/runs?cursor=further&limit=3&status=failed",
    ]


def test_what_the_api_refuses_is_refused_here(gateway: str) -> None:
    Listening.answers.append((404, encode({"detail": "There is no such key.", "code": "not_found"})))
    with pytest.raises(Refused, match=r"There is no such key\. \(not_found 404\)"):
        Api(gateway, "key").post("/keys", {"name": "x"})
    [(method, path, body)] = Listening.asked
    assert (method, path, msgspec.json.decode(body)) == ("POST", "/api/v1/keys", {"name": "x"})


@pytest.fixture
def terminal(gateway: str, tmp_path: Path) -> Iterator[Callable[..., tuple[int, list[str]]]]:
    """Calls commands beside a stack that is ready, as far as they can tell."""
    said: list[str] = []
    here = Here(environ={"AUTOMATEOS_DATA_DIR": str(tmp_path / "data")}, say=said.append)
    with open_data_directory(tmp_path / "data") as data:
        key_file = data.root / "secrets" / "first-api-key"
        key_file.write_text("ao_live_key\n")
        address = PostgresAddress(host="", port=1, database="", user="", password_file="")
        servers = Servers(
            nats_url="",
            nats_monitor_url="",
            nats_version="",
            nats_staging="",
            postgres=address,
            redis_url="",
            smtp_host="",
            smtp_port=0,
        )
        write_running(
            data,
            Running(
                pid=os.getpid(),
                gateway_url=gateway,
                ingress_url="",
                public_url="",
                first_key_file=str(key_file),
                ports={},
                servers=servers,
                unsafe_fast=False,
            ),
        )
        yield lambda *arguments: (said.clear() or run(arguments, here), said)  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("accepted", "was said"),
        ("unchanged", "had been said before under this key"),
        ("queued", "will be said: the run's owner is away"),
    ],
)
def test_a_signal_is_said_as_it_was_typed_and_told_what_came_of_it(
    terminal: Callable[..., tuple[int, list[str]]], status: str, words: str
) -> None:
    Listening.answers.append((202, encode({"run": "r1", "status": status})))
    code, said = terminal("runs", "signal", "r1", "paid", "--body", '{"sum": 1.10}', "--key", "order 7")
    assert (code, said) == (0, [f"r1  paid {words}"])
    [(method, path, body)] = Listening.asked
    assert (method, path, body) == (
        "POST",
        "/api/v1/runs/r1/signals",
        b'{"signal":"paid","body":{"sum": 1.10}}',
    )
    [headers] = Listening.headers_of
    assert (headers["idempotency-key"], headers["authorization"]) == ("order 7", "Bearer ao_live_key")


def test_a_signal_without_a_body_says_null_and_programs_get_the_answer(
    terminal: Callable[..., tuple[int, list[str]]],
) -> None:
    Listening.answers.append((202, encode({"run": "r1", "status": "accepted"})))
    code, said = terminal("runs", "signal", "r1", "paid", "--json")
    assert (code, [msgspec.json.decode(line) for line in said]) == (0, [{"run": "r1", "status": "accepted"}])
    [(_, _, body)] = Listening.asked
    assert body == b'{"signal":"paid","body":null}'
    assert "idempotency-key" not in Listening.headers_of[0]


def test_a_signal_that_is_refused_is_one_line(
    terminal: Callable[..., tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    Listening.answers.append(
        (409, encode({"detail": "The run has ended: it is failed.", "code": "run.ended"}))
    )
    assert terminal("runs", "signal", "r1", "paid") == (1, [])
    assert capsys.readouterr().err == "automateos: The run has ended: it is failed. (run.ended 409)\n"


def page(started: int, following: str | None, **more: Any) -> bytes:
    counted = {"deliveries": 2, "wanted": 2, "started": started, "known": 0, "skipped": [], "next": following}
    return encode(counted | more)


def test_past_deliveries_are_counted_before_they_are_run_again_and_then_page_by_page(
    terminal: Callable[..., tuple[int, list[str]]],
) -> None:
    asked = (
        "triggers",
        "run-again",
        "t1",
        "--name",
        "repair",
        "--since",
        "2026-11-20",
        "--until",
        "2026-11-21",
    )
    Listening.answers += [(200, page(0, "c1")), (200, page(0, None))]
    assert terminal(*asked) == (0, ["4 of 4 deliveries would be run again; --go does it"])
    wishes = [msgspec.json.decode(body) for _, _, body in Listening.asked]
    assert [(wish["dry_run"], wish.get("cursor")) for wish in wishes] == [(True, None), (True, "c1")]
    assert wishes[0]["since"] == "2026-11-20T00:00:00+00:00"
    skipped = [{"receipt": "d9", "reason": "gone"}]
    Listening.answers.append((200, page(1, None, skipped=skipped)))
    code, said = terminal(*asked, "--go", "--where", "trigger.body.n > 1", "--per-minute", "600")
    assert (code, said) == (0, ["skipped d9: gone", "deliveries 2, wanted 2, started 1, known 0, skipped 1"])
    wish = msgspec.json.decode(Listening.asked[-1][2])
    assert (wish["dry_run"], wish["filter"], wish["limit"]) == (False, "trigger.body.n > 1", 10)


def test_a_poll_that_is_tried_out_shows_what_it_found(
    terminal: Callable[..., tuple[int, list[str]]],
) -> None:
    items = [{"key": "7", "item": {"id": 7}}]
    asked = {"run": "r1", "status": "completed", "reason": "", "found": 3, "items": items, "cursor": 9}
    Listening.answers.append((200, encode({"run": None, "reason": "", "asked": asked})))
    assert terminal("triggers", "test", "t1") == (
        0,
        ["asked by run r1 (completed), found 3", '  7  {"id":7}'],
    )
    Listening.answers.append((200, encode({"run": "r2", "reason": "", "asked": asked})))
    assert terminal("triggers", "test", "t1", "--start")[1][-1] == "run r2"
    assert [msgspec.json.decode(body) for _, _, body in Listening.asked] == [
        {"body": None},
        {"body": None, "start": True},
    ]
    nothing = asked | {"status": "failed", "found": 0, "items": []}
    Listening.answers.append((200, encode({"run": None, "reason": "refused: no", "asked": nothing})))
    assert terminal("triggers", "test", "t1")[1][-1] == "nothing starts: refused: no"


def test_a_trigger_is_tried_out_or_says_why_it_starts_nothing(
    terminal: Callable[..., tuple[int, list[str]]],
) -> None:
    Listening.answers += [
        (200, encode({"run": "r1", "reason": ""})),
        (200, encode({"run": None, "reason": "The filter says no."})),
    ]
    assert terminal("triggers", "test", "t1", "--body", '{"n": 1}') == (0, ["run r1"])
    assert terminal("triggers", "test", "t1", "--delivery", "d1") == (
        0,
        ["nothing starts: The filter says no."],
    )
    bodies = [body for _, _, body in Listening.asked]
    assert bodies == [b'{"body":{"n": 1}}', b'{"delivery":"d1"}']


VIEW = {
    **dict.fromkeys(("id", "status", "workflow", "version", "cause", "cause_id", "started"), "x"),
    **dict.fromkeys(("ended", "error", "output"), None),
    "opening": 1,
}


def test_a_run_tells_what_it_waits_for_in_the_words_that_a_signal_needs() -> None:
    waiting = [
        {"kind": "signal", "name": "signal:ask", "step": "ask", "signal": "paid"},
        {"kind": "delay", "name": "delay:b", "step": "b", "due": "2026-11-21T12:00:00Z"},
    ]
    lines = run_lines(VIEW, [], waiting)
    assert "waits for signal paid, at step ask" in lines
    assert "waits for delay delay:b until 2026-11-21T12:00:00Z" in lines


def test_of_a_run_that_was_undone_it_is_told_what_is_left_when_it_has_ended() -> None:
    undone = {"steps": 3, "left": ["hotel", "flight"], "left_in_all": 5}
    over = VIEW | {"ended": "2026-11-21T12:00:00Z", "undone": undone}
    assert "undone    3 steps; left: hotel, flight and 3 more" in run_lines(over, [])
    assert "undone    3 steps" in run_lines(over | {"undone": {"steps": 3, "left": [], "left_in_all": 0}}, [])
    assert not any(line.startswith("undone") for line in run_lines(over | {"ended": None}, []))


def test_a_server_that_is_not_there_is_told_by_its_address() -> None:
    with pytest.raises(Refused, match=r"http://127\.0\.0\.1:9 does not answer"):
        request("http://127.0.0.1:9", "GET", "/")


# --- States and replays ---------------------------------------------------------------------------


def commit(*events: RunEvent) -> Commit[RunEvent]:
    return commit_of(*events, org="org_default", run="r", engine_version="0.1.0")


def test_a_state_tells_status_waits_and_steps() -> None:
    history = [commit(examples()["run.started"], examples()["attempt.scheduled"])]
    lines = state_lines(state_at("org_default", "r", history))
    assert "status    running" in lines
    assert "waits for attempt fetch/1" in lines
    assert lines[-1].split()[:2] == ["fetch", "scheduled"]


def test_a_run_that_has_not_begun_has_a_state_too() -> None:
    assert "status    queued" in state_lines(Run.new("org_default", "r"))


def test_a_replay_that_agrees_says_so() -> None:
    assert divergence_lines("r", 12, None) == [
        "run r replays: 12 events, every decision is the one that was recorded"
    ]


def test_a_parting_tells_what_was_decided_on_and_both_decisions() -> None:
    parted = Divergence(
        event=3,
        version=2,
        fact=examples()["step.reported"],
        recorded=StepSucceeded(step="fetch", node="fetch", ports=("main",)),
        recomputed=None,
    )
    first, fact, recorded, anew = divergence_lines("r", 12, parted)
    assert first == "run r parts from its history at event 3 (commit 2)"
    assert "step.reported fetch, attempt 1" in fact
    assert '"type":"step.succeeded"' in recorded
    assert anew.endswith("nothing")


def test_a_history_from_a_newer_release_is_refused_with_the_release_that_it_needs() -> None:
    body = encode(commit(examples()["run.started"])).replace(b'"run.started"', b'"run.teleported"')
    with pytest.raises(Refused, match=r"run\.teleported 1 needs release ≥ 0\.1\.0"):
        decoded([body])


# --- Dead letters ---------------------------------------------------------------------------------


def letter(stream: str, body: bytes) -> Kept:
    return Kept(number=7, stream=stream, org="org_default", run="r", time="", reason="", body=body.decode())


def test_a_message_of_the_inbox_is_said_again_and_its_run_taken_up() -> None:
    said = Look(org="org_default", run="r")
    again, taken_up = messages_of(letter("INBOX", encode(said)))
    assert again == said
    assert taken_up == UnparkRun(org="org_default", run="r", actor="system")
    assert partition(again.run) == partition("r")


def test_a_task_is_not_said_again_but_looked_for_by_the_owner_of_its_run() -> None:
    first, _ = messages_of(letter("TASKS", b"{}"))
    assert first == Look(org="org_default", run="r")


def test_a_letter_that_this_release_cannot_read_either_stays() -> None:
    with pytest.raises(Refused, match="Letter 7 cannot be read by this release either"):
        messages_of(letter("INBOX", b"{"))


def test_a_commit_that_no_projection_could_read_is_read_again_by_a_rebuild() -> None:
    with pytest.raises(Refused, match="`automateos projections rebuild` reads it again"):
        messages_of(letter("RUNS", b"{}"))
