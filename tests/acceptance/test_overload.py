"""More comes in than goes out: the excess is refused by name, and whatever was accepted ends."""

import re
import time
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import uvloop

from bench.load import BODY, Answers, Client, closed_loop
from bench.overload import MEMORY_MB
from bench.workflows import EVERYBODY, echoes, light
from deploy.testing.installation import Installation, installation
from tests.acceptance.test_stories import post

ACCEPT = EVERYBODY | {"mode": "accept"}
COMPLETED = "select count(*) from read.runs where status = 'completed'"


@pytest.fixture(scope="module")
def narrow() -> Iterator[Installation]:
    """An installation that can do very little at once."""
    with installation(most_starts="4", most_backlog="3", most_waiting="2", pool_capacity="1") as running:
        running.start()
        yield running


def crowd(url: str, seconds: float) -> Answers:
    """Sixty-four senders who do not wait until they are told to come again."""
    where = urlsplit(url)
    clients = [
        Client(where.hostname or "", where.port or 0, where.path, BODY, f"{time.time_ns()}-{number}")
        for number in range(64)
    ]
    answers, _ = uvloop.run(closed_loop(clients, seconds))
    return answers


def refused_for(running: Installation) -> dict[str, float]:
    """How often which bound was the reason."""
    with urllib.request.urlopen(f"{running.ingress}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'ingress_overload_refused_total\{.*?bound="(\w+)".*?\} (\S+)', text)
    return {bound: float(count) for bound, count in found}


def until_completed(running: Installation, wanted: int) -> None:
    end = time.monotonic() + 120
    while running.count(COMPLETED) < wanted:
        assert time.monotonic() < end, "accepted runs end"
        time.sleep(0.1)


@pytest.mark.parametrize("mode", ["accept", "respond"])
def test_what_is_too_much_is_told_to_come_again_and_what_is_accepted_ends(
    narrow: Installation, mode: str
) -> None:
    url = narrow.install(f"crowded-{mode}", echoes(3), EVERYBODY | {"mode": mode})
    before = narrow.count("select count(*) from read.runs")
    answers = crowd(url, 3.0)
    yes = "202" if mode == "accept" else "200"
    assert set(answers.by_status) - {"429"} == {yes, "503"}, answers.by_status
    assert answers.without_retry_after == 0
    accepted = answers.by_status[yes]
    until_completed(narrow, before + accepted)
    assert narrow.count("select count(*) from read.runs") == before + accepted
    refused = refused_for(narrow)
    assert sum(refused.values()) >= answers.by_status["503"] + answers.by_status.get("429", 0)
    assert refused["waiting" if mode == "respond" else "starts"] > 0


def test_too_many_attempts_that_wait_close_the_door(narrow: Installation) -> None:
    url = narrow.install("long", echoes(20), ACCEPT)
    before = narrow.count(COMPLETED)
    answers = crowd(url, 3.0)
    refused = refused_for(narrow)
    assert refused["backlog"] + refused["held"] > 0
    assert answers.without_retry_after == 0
    until_completed(narrow, before + answers.by_status["202"])


def test_when_the_crowd_is_gone_the_door_is_open(narrow: Installation) -> None:
    url = narrow.install("afterwards", light(), EVERYBODY)
    crowd(url, 1.0)
    end = time.monotonic() + 60
    while post(url, BODY, idempotency_key=f"after-{time.time_ns()}")[0] != 200:
        assert time.monotonic() < end
        time.sleep(1.0)


def test_one_trigger_beyond_its_rate_is_told_when_to_come_again(narrow: Installation) -> None:
    url = narrow.install("rated", light(), EVERYBODY | {"per_minute": 3})
    told = [post(url, BODY, idempotency_key=f"rated-{number}") for number in range(8)]
    refused = [headers["retry-after"] for status, headers, _ in told if status == 429]
    # A minute may end in between: then six are granted.
    assert len(refused) >= 2
    assert all(1 <= int(seconds) <= 60 for seconds in refused)


def test_every_process_stays_within_the_memory_that_it_is_said_to_hold_at_most(narrow: Installation) -> None:
    held = narrow.rss()
    assert held.keys() == MEMORY_MB.keys()
    assert {name: held[name] for name in held if held[name] > MEMORY_MB[name]} == {}
