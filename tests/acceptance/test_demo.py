"""A newcomer runs the demo, then looks at what it caused with every command there is."""

import hashlib
import hmac
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import SystemClock
from chassis.jetstream import jetstream
from contracts.codec import encode
from contracts.messages import Look
from contracts.subjects import INBOX, dead_letter
from deploy.commands.here import Here
from deploy.demo import headers_of
from deploy.operator.reach import settings_as
from deploy.stack import running_stack
from deploy.testing.installation import Installation, installation
from tests.acceptance.waiting import until

PROGRAM = str(Path(sys.executable).with_name("automateos"))
PATIENCE_SECONDS = 30.0
ORG = "org_default"


class Site:
    """One installation and a shell on its machine."""

    def __init__(self, installed: Installation) -> None:
        self.installed = installed
        self.here = Here(environ=installed.environ, say=lambda _line: None)

    def shell(self, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [PROGRAM, *arguments],
            env=self.installed.environ,
            input=given,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def lines(self, *arguments: str, given: str = "") -> list[str]:
        done = self.shell(*arguments, given=given)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout.splitlines()

    def told(self, *arguments: str) -> list[Any]:
        return [json.loads(line) for line in self.lines(*arguments, "--json")]

    def refused(self, *arguments: str) -> str:
        """The one line of a command that fails."""
        done = self.shell(*arguments)
        assert done.returncode == 1, done.stdout
        [line] = done.stderr.splitlines()
        return line

    @contextmanager
    def following(self, into: Path, *arguments: str) -> Iterator[None]:
        """A command that goes on for ever, for as long as the block."""
        with into.open("wb") as output:
            running = subprocess.Popen([PROGRAM, *arguments], env=self.installed.environ, stdout=output)
        try:
            yield
        finally:
            running.send_signal(signal.SIGINT)
            assert running.wait(PATIENCE_SECONDS) == 130

    def demos_until(self, reached: Callable[[], bool]) -> list[str]:
        """Make runs until somebody who listens has heard of one; the runs."""
        made: list[str] = []

        def one_more() -> bool:
            made.extend(
                line.rpartition(" ")[2] for line in self.lines("demo") if line.startswith("One delivery")
            )
            return reached()

        until(one_more, "somebody hears of a run", PATIENCE_SECONDS)
        return made


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with installation(smtp_port="0") as installed:
        yield Site(installed)


@pytest.fixture(scope="module")
def first_demo(site: Site) -> list[str]:
    """What a demo prints that finds no stack."""
    assert running_stack(site.installed.data) is None
    return site.lines("demo")


@pytest.fixture(scope="module")
def up(site: Site, first_demo: list[str]) -> Site:
    """The stack, started by its operator after the first demo."""
    assert first_demo
    site.installed.start()
    until(
        lambda: running_stack(site.installed.data) is not None,
        "the stack says that it is ready",
        PATIENCE_SECONDS,
    )
    return site


@pytest.fixture(scope="module")
def second_demo(up: Site) -> list[str]:
    return up.lines("demo")


@pytest.fixture(scope="module")
def run(second_demo: list[str]) -> str:
    [line] = [line for line in second_demo if line.startswith("One delivery, one run: ")]
    return line.rpartition(" ")[2]


# --- The demo -------------------------------------------------------------------------------------


def test_a_demo_without_a_stack_starts_one_and_stops_it(site: Site, first_demo: list[str]) -> None:
    assert first_demo[0].startswith("No stack is ready in")
    assert first_demo[-2] == "stopped"
    assert first_demo[-1].startswith("To look again: `automateos up` starts it again")
    assert running_stack(site.installed.data) is None
    assert any(" installed and published; " in line for line in first_demo)


def test_the_demo_prints_the_run_as_a_timeline_then_the_read_model_then_the_duplicates(
    second_demo: list[str], run: str
) -> None:
    text = "\n".join(second_demo)
    parts = [
        "The delivery was answered with 202",
        "run.started",
        "on_default_branch by true",
        "step.skipped       elsewhere",
        "attempt.scheduled  review, attempt 1, echo on pool default",
        "attempt.scheduled  notify, attempt 1, email.send on pool default",
        "run.completed",
        "every decision is the one that was recorded",
        f"run       {run}",
        "status    completed",
        "The same delivery twice more started nothing",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    answers = [line for line in second_demo if line.startswith("200 ")]
    assert len(answers) == 2
    for answer in answers:
        assert json.loads(answer[4:]) | {"receipt": ""} == {"run": run, "receipt": "", "deduplicated": True}


def test_a_second_demo_uses_what_the_first_installed_and_leaves_the_stack_alone(
    up: Site, second_demo: list[str]
) -> None:
    assert "is installed already" in second_demo[0]
    assert running_stack(up.installed.data) is not None
    assert up.installed.count("select count(*) from read.workflows") == 1
    assert up.installed.count("select count(*) from read.runs") == 2
    duplicates = "select count(*) from read.deliveries where result = 'duplicate'"
    until(lambda: up.installed.count(duplicates) >= 4, "every duplicate is told")
    assert up.installed.count(duplicates) == 4


def test_the_demo_sends_what_github_documents(second_demo: list[str]) -> None:
    assert second_demo
    body = b'{"ref":"refs/heads/main"}'
    headers = headers_of(body, "72d3162e-cc78-11e3-81ab-4c9367dc0958", "It's a Secret to Everybody")
    assert headers["User-Agent"].startswith("GitHub-Hookshot/")
    assert headers["X-GitHub-Event"] == "push"
    assert headers["X-GitHub-Delivery"] == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    # The pair of secret and text that GitHub's documentation gives for checking an implementation.
    known = headers_of(b"Hello, World!", "", "It's a Secret to Everybody")["X-Hub-Signature-256"]
    assert known == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    signed = hmac.digest(b"It's a Secret to Everybody", body, hashlib.sha256).hex()
    assert headers["X-Hub-Signature-256"] == f"sha256={signed}"


def test_the_mail_of_the_demo_lies_where_it_says(second_demo: list[str]) -> None:
    [line] = [line for line in second_demo if line.startswith("The mail it sent lies in ")]
    mail = Path(line.rpartition(" ")[2]).read_text()
    assert "Subject: octo-org/Hello-World: 2 new commits" in mail
    assert "mona pushed to refs/heads/main." in mail


# --- Runs -----------------------------------------------------------------------------------------


def test_runs_are_listed_and_shown_as_the_read_models_have_them(up: Site, run: str) -> None:
    head, newest, *_ = up.lines("runs", "list")
    assert head.split() == ["RUN", "STATUS", "WORKFLOW", "STARTED", "STEPS"]
    assert newest.split()[:2] == [run, "completed"]
    assert [each["id"] for each in up.told("runs", "list", "--limit", "1")] == [run]
    assert up.told("runs", "list", "--status", "failed") == []
    shown = up.lines("runs", "show", run)
    assert "status    completed" in shown
    [told] = up.told("runs", "show", run)
    assert [step["path"] for step in told["steps"]][:2] == ["on_default_branch", "summary"]
    assert told["waiting_for"] == []


def test_events_replay_and_tail_tell_the_same_history(up: Site, run: str) -> None:
    events = up.told("runs", "events", run)
    assert [each["number"] for each in events] == list(range(1, len(events) + 1))
    assert [events[0]["event"]["type"], events[-1]["event"]["type"]] == ["run.started", "run.completed"]
    assert up.told("runs", "tail", run) == events
    [replayed] = up.told("runs", "replay", run)
    assert replayed == {"run": run, "events": len(events), "divergence": None}


def test_the_state_after_an_event_is_the_fold_up_to_it(up: Site, run: str) -> None:
    after_five = up.lines("runs", "replay", run, "--at", "5")
    assert "status    running" in after_five
    assert "waits for attempt review/1" in after_five
    assert "status    completed" in up.lines("runs", "replay", run, "--at", "999")


def test_whole_histories_are_verified_and_a_changed_byte_is_found(up: Site, run: str) -> None:
    [line] = up.lines("runs", "verify", run)
    assert line == f"{run}  whole: 3 commits, 3 in the log, 3 in the archive"
    assert up.lines("runs", "verify", "--all") == ["2 runs verified, 0 with problems"]
    change = (
        "update archive.commits set body = convert_to(replace(convert_from(body, 'UTF8'), $2, $3), 'UTF8') "
        "where run = $1 and version = 2 returning 1"
    )
    assert up.installed.count(change, run, "octo", "ecto") == 1
    try:
        done = up.shell("runs", "verify", run)
        assert done.returncode == 1
        assert "version 2: log and archive differ" in done.stdout
        assert up.shell("runs", "verify", "--all").stdout.endswith("2 runs verified, 1 with problems\n")
    finally:
        up.installed.count(change, run, "ecto", "octo")


def test_a_run_that_is_not_there_is_told_in_one_line(up: Site) -> None:
    assert up.refused("runs", "events", "nonsense") == f"automateos: There is no run nonsense in org {ORG}."
    assert "(not_found 404)" in up.refused("runs", "show", "nonsense")
    assert up.shell("runs", "verify", "nonsense").stdout == "nonsense  there is no such run\n"


def test_a_tail_follows_what_happens_to_every_run_from_now_on(up: Site, run: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with up.following(seen, "runs", "tail"):
        made = up.demos_until(lambda: "run.completed" in seen.read_text())
    assert {line.split()[1] for line in seen.read_text().splitlines()} <= set(made)
    assert run not in seen.read_text()


def test_a_program_outside_hears_of_every_commit_of_its_org(up: Site, tmp_path: Path) -> None:
    lines, objects = tmp_path / "lines", tmp_path / "objects"
    with up.following(lines, "events", "tail"), up.following(objects, "events", "tail", "--json"):
        made = up.demos_until(
            lambda: "run.completed" in lines.read_text() and "run.completed" in objects.read_text()
        )
    for line in lines.read_text().splitlines():
        _, kind, source, types = line.split("  ")
        assert kind == "run.committed"
        assert source.removeprefix(f"/orgs/{ORG}/runs/") in made
        assert types
    told = [json.loads(line) for line in objects.read_text().splitlines()]
    assert {each["commit"]["run"] for each in told} <= set(made)
    assert all(each["headers"]["ce-specversion"] == "1.0" for each in told)
    assert "Programs outside have no key for org other" in up.refused("events", "tail", "--org", "other")


# --- Secrets, keys, letters, read models ----------------------------------------------------------


def test_a_secret_goes_in_is_listed_without_its_value_and_is_deleted(up: Site) -> None:
    [stored] = up.lines(
        "secrets", "put", "team chat", "--kind", "bearer", "--allow", "chat.example.org", given="hush\n"
    )
    secret = stored.split()[0]
    [rotated] = up.lines("secrets", "put", "team chat", "--kind", "bearer", given="hush again\n")
    assert rotated == f"{secret}  team chat rotated"
    listed = up.shell("secrets", "list").stdout
    assert f"{secret}  team chat" in listed
    assert "hush" not in listed
    refused = up.shell(
        "secrets", "put", "team chat", "--kind", "bearer", "--allow", "b.example.org", given="x"
    )
    assert refused.returncode == 1
    assert "is bound to chat.example.org" in refused.stderr
    assert up.lines("secrets", "delete", secret) == [f"{secret} deleted"]
    assert secret not in up.shell("secrets", "list").stdout


def test_a_key_opens_what_its_scopes_say_until_it_is_revoked(up: Site, tmp_path: Path) -> None:
    [text] = up.lines("keys", "issue", "robot", "runs:read")
    file = tmp_path / "key"
    file.write_text(text)
    assert up.shell("runs", "list", "--key-file", str(file)).returncode == 0
    assert "(forbidden 403)" in up.refused("secrets", "list", "--key-file", str(file))
    [key] = [line.split()[0] for line in up.lines("keys", "list") if " robot " in line]
    assert up.lines("keys", "revoke", key) == [f"{key} revoked"]
    until(
        lambda: "(unauthenticated 401)" in up.shell("runs", "list", "--key-file", str(file)).stderr,
        "a revoked key opens nothing",
        PATIENCE_SECONDS,
    )


async def test_a_dead_letter_is_listed_driven_again_and_gone(up: Site, run: str) -> None:
    running = running_stack(up.installed.data)
    assert running is not None
    settings = settings_as(up.here, running.servers, "orchestrator")
    async with jetstream(settings, "orchestrator", SystemClock()) as log:
        body = encode(Look(org=ORG, run=run))
        number = await log.letters.store(dead_letter(INBOX, ORG, run), body, {"reason": "for a test"})
    [letter] = up.told("dead-letters", "list")
    assert (letter["number"], letter["run"], letter["reason"]) == (number, run, "for a test")
    assert up.lines("dead-letters", "redrive", str(number)) == [
        f"letter {number} was said again to run {run}"
    ]
    assert up.told("dead-letters", "list") == []
    assert up.refused("dead-letters", "redrive", str(number)).endswith(
        f"no dead letter {number} in org {ORG}."
    )
    [verified] = up.lines("runs", "verify", run)
    assert "3 commits" in verified


def test_read_models_made_anew_are_equal(up: Site) -> None:
    first, second = up.lines("projections", "rebuild", "--verify")
    assert re.match(r"read models made anew: \d+ messages, \d+ events in", first)
    assert second == "the tables that were replaced were equal, row by row"
    [told] = up.told("projections", "rebuild", "--verify")
    assert told["differences"] == 0


def test_the_doctor_finds_a_running_stack_well(up: Site) -> None:
    done = up.shell("doctor")
    for service in ("ingress", "orchestrator", "executor", "projections", "gateway"):
        assert f"ok    {service} is ready" in done.stdout
    assert "ok    streams and buckets are what this release declares" in done.stdout
    assert "bad   " not in done.stdout.replace("bad   " + "0.0 GiB", "")


def test_the_log_is_not_repaired_under_a_running_stack(up: Site) -> None:
    assert "is already running as pid" in up.refused("projections", "repair", "RUNS")


def test_what_a_stack_refuses_to_start_without_can_be_mended_while_it_is_down(up: Site, run: str) -> None:
    """Stands last: it stops the stack, and the log is in a new epoch afterwards."""
    up.installed.stop()
    [line] = up.lines("projections", "repair", "RUNS")
    assert re.fullmatch(
        r"RUNS: \d+ histories compared, 0 commits given back; the log is in epoch 2 now", line
    )
    assert "Only RUNS and DOMAIN can be repaired" in up.refused("projections", "repair", "HOOKS")
    assert up.lines("projections", "rebuild", "--verify")[1].startswith("the tables that were replaced")
    up.installed.start()
    until(
        lambda: running_stack(up.installed.data) is not None,
        "the stack says that it is ready",
        PATIENCE_SECONDS,
    )
    assert up.lines("runs", "verify", run)
