"""Under the rights that each service really has: histories leave the log, objects that nobody names are looked for."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.workflows import EVERYBODY, echoes
from chassis.clock import SystemClock
from chassis.jetstream import jetstream
from chassis.postgres import pool
from chassis.settings import Settings, settings_from
from deploy.testing.installation import Installation, installation
from projections.__main__ import collector
from projections.figures import Figures
from projections.streams import JetStreamStreams
from tests.acceptance.test_stories import post
from tests.acceptance.waiting import until

ENDED = "select count(*) from read.runs where status = 'completed'"
PURGED = "select count(*) from archive.run_ids where purged is not null"


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Installation]:
    """Ended runs leave its log at the next look of the archiver."""
    with installation(retention_days="0.00001") as running:
        running.start()
        yield running


def test_a_history_leaves_the_log_and_stays_readable(forgetful: Installation) -> None:
    url = forgetful.install("leaving", echoes(2), EVERYBODY | {"mode": "accept"})
    status, _, told = post(url, b'{"n": 1}', idempotency_key="leaves")
    assert status == 202
    run = json.loads(told)["run"]
    until_count(forgetful, ENDED, 1, seconds=60)
    before = forgetful.call("GET", f"/runs/{run}/events")
    until_count(forgetful, PURGED, 1, seconds=90)
    assert forgetful.call("GET", f"/runs/{run}/events") == before
    forgetful.command("verify", "--run", run)
    status, _, told = post(url, b'{"n": 1}', idempotency_key="leaves")
    assert (status, json.loads(told)["run"], json.loads(told)["deduplicated"]) == (200, run, True)


def test_a_round_of_the_collector_ends(forgetful: Installation) -> None:
    assert asyncio.run(collected(settings_of(forgetful, "projections"))) == (True, 0)


def test_no_service_asked_for_what_it_may_not(forgetful: Installation) -> None:
    said = {log.name: log.read_text() for log in (forgetful.data / "logs").glob("*.log")}
    assert len(said) >= 5
    assert [name for name, text in said.items() if "nats.forbidden" in text] == []


async def collected(settings: Settings) -> tuple[bool, int]:
    """Whether a round came to its end, and how often it was forbidden something."""
    clock = SystemClock()
    async with jetstream(settings, "projections", clock) as js, pool(settings, most=4) as postgres:
        work = collector(js, postgres, JetStreamStreams(js.connection), clock, Figures())
        return await work.round(), js.connection.counts["forbidden"]


def settings_of(installed: Installation, service: str) -> Settings:
    """With which a running service was started."""
    environ = Path(f"/proc/{installed.pids()[service]}/environ").read_text().split("\0")
    return settings_from(dict(line.split("=", 1) for line in environ if "=" in line))


def until_count(installed: Installation, sql: str, wanted: int, *, seconds: float) -> None:
    until(lambda: installed.count(sql) >= wanted, f"{wanted} of: {sql}", seconds)
