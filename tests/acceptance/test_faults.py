"""What an installation survives: every process killed, every store away, and nothing lost or doubled."""

import asyncio
import json
import os
import signal
import time
from collections import Counter

import pytest

from bench.load import Answers, Client, closed_loop
from bench.workflows import EVERYBODY, echoes
from contracts.codec import decode_commit
from contracts.commits import Commit
from contracts.runs import RunEvent
from deploy.testing.installation import SERVICES, Installation
from tests.acceptance.waiting import until

ACCEPT = EVERYBODY | {"mode": "accept"}
IN_FLIGHT = 200
NAME = "five steps"


@pytest.fixture(scope="module")
def hook(installed: Installation) -> str:
    """A webhook that accepts, of a workflow with five echo steps."""
    return installed.install(NAME, echoes(5), ACCEPT)


def client(url: str, label: str) -> Client:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return Client(parts.hostname or "", parts.port or 80, parts.path, b'{"n":1}', label)


async def deliver(url: str, label: str, count: int, *, at_once: int = 20) -> list[str]:
    """Deliver each of `count` keys until it was accepted; the statuses of all answers."""
    statuses: list[str] = []
    numbers = iter(range(count))

    async def one() -> None:
        sender = client(url, label)
        for number in numbers:
            while (status := (await sender.post(number))[0]) not in ("202", "200"):
                statuses.append(status)
                await asyncio.sleep(0.1)
            statuses.append(status)
        sender.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one())
    return statuses


def completed(installed: Installation) -> int:
    return installed.count(
        "select count(*) from read.runs where status = 'completed'"
        f" and workflow in (select id from read.workflows where name = '{NAME}')"
    )


def check_histories(installed: Installation) -> None:
    """Of every run of ours: versions without a gap, an intact chain, one start and one end, every step reported once."""
    import hashlib

    sql = (
        "select c.run, c.version, c.body from archive.commits c join read.runs r on (r.org, r.id) = (c.org, c.run)"
        " join read.workflows w on (w.org, w.id) = (r.org, r.workflow) where w.name = $1 order by c.run, c.version"
    )
    rows = asyncio.run(installed.rows(sql, NAME))
    histories: dict[str, list[bytes]] = {}
    for row in rows:
        histories.setdefault(str(row["run"]), []).append(bytes(row["body"]))
    assert histories
    for run, bodies in histories.items():
        commits: list[Commit[RunEvent]] = [decode_commit(body) for body in bodies]
        assert [commit.version for commit in commits] == list(range(1, len(commits) + 1)), run
        hashes = ["", *(hashlib.sha256(body).hexdigest() for body in bodies)]
        assert [commit.prev_hash for commit in commits] == hashes[:-1], run
        said = Counter(
            (str(type(event).__struct_config__.tag), getattr(event, "step", None))
            for commit in commits
            for event in commit.events
        )
        kinds = Counter(kind for kind, _ in said.elements())
        assert kinds["run.started"] == 1, run
        assert kinds["run.completed"] + kinds["run.failed"] == 1, run
        assert all(
            count == 1 for (kind, _), count in said.items() if kind in ("step.reported", "step.succeeded")
        ), run


@pytest.mark.parametrize("victim", [*SERVICES, "nats", "everything"])
def test_killed_in_the_middle_of_two_hundred_runs(installed: Installation, hook: str, victim: str) -> None:
    before = completed(installed)
    label = f"kill-{victim}-{time.time_ns()}"

    async def story() -> list[str]:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(deliver(hook, label, IN_FLIGHT))
            await asyncio.sleep(0.15)
            for name, pid in installed.pids().items():
                if name == victim or (victim == "everything" and name in (*SERVICES, "nats")):
                    os.kill(pid, signal.SIGKILL)
        return sending.result()

    statuses = asyncio.run(story())
    assert Counter(statuses)["202"] + Counter(statuses)["200"] == IN_FLIGHT
    until(
        lambda: completed(installed) - before == IN_FLIGHT,
        f"all {IN_FLIGHT} runs complete after {victim} was killed",
    )
    until(installed.ready, "every service is back")
    check_histories(installed)


def test_ten_thousand_duplicates_at_once_are_one_run(installed: Installation, hook: str) -> None:
    before, done = installed.count("select count(*) from read.runs"), completed(installed)
    label = f"dup-{time.time_ns()}"

    async def story() -> Answers:
        answers = Answers()

        async def one() -> None:
            sender = client(hook, label)
            for _ in range(200):
                answers.add(await sender.post(1), 0.0)
            sender.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(one())
        return answers

    answers = asyncio.run(story())
    assert sum(answers.by_status.values()) == 10_000
    assert set(answers.by_status) == {"202", "200"}
    assert answers.by_status["202"] <= 50, "who comes first may all hear that it is kept, nobody after them"
    until(lambda: installed.count("select count(*) from read.runs") == before + 1, "one run")
    until(lambda: completed(installed) == done + 1, "it ends")


def test_runs_go_on_while_postgres_is_away(installed: Installation, hook: str) -> None:
    before = completed(installed)
    postgres = installed.pids()["postgres"]
    os.kill(postgres, signal.SIGSTOP)
    try:
        statuses = asyncio.run(deliver(hook, f"pg-{time.time_ns()}", 50))
        assert Counter(statuses) == {"202": 50}
        time.sleep(10)
    finally:
        os.kill(postgres, signal.SIGCONT)
    until(lambda: completed(installed) - before == 50, "projections catch up")


def test_deliveries_are_accepted_while_redis_is_away(installed: Installation, hook: str) -> None:
    os.kill(installed.pids()["redis"], signal.SIGKILL)
    assert Counter(asyncio.run(deliver(hook, f"redis-{time.time_ns()}", 50))) == {"202": 50}
    until(lambda: "redis" in installed.pids(), "the supervisor restarts Redis")


def test_what_is_read_is_the_fold_of_the_log(installed: Installation) -> None:
    told = json.loads(
        installed.command("projections", "rebuild", "--verify", "--json").strip().splitlines()[-1]
    )
    assert told["differences"] == 0


def test_the_load_generator_counts_what_it_did(installed: Installation, hook: str) -> None:
    answers, _ = asyncio.run(closed_loop([client(hook, f"count-{time.time_ns()}")], 0.3))
    assert set(answers.by_status) == {"202"}
