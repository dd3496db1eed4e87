"""What a repair promises: the log has again what the archive still had of it, and nothing is told twice or invented."""

from typing import Any

import pytest
from msgspec import structs

from chassis.clock import SystemClock
from chassis.lifecycle import CannotStart
from chassis.ports import Proposal
from chassis.postgres import facts
from contracts.runs import RunCompleted
from contracts.streams import STREAMS
from contracts.subjects import DOMAIN, HORIZON, RUNS
from deploy.database import sql_file
from projections.archiver import Archiver, Tombstones
from projections.commands import rebuild, repair
from projections.figures import Figures
from projections.guard import check
from projections.shelf import PostgresShelf
from tests.integration.test_projections_service import Place, Service, _expected, place
from tests.integration.test_projections_tables import a_domain
from tests.projections.histories import ORG, Writer, reported, scheduled, started, succeeded

__all__ = ["place"]


async def anew(place: Place, stream: str) -> None:
    """The disk of the log is gone; somebody made the stream again."""
    api = place.js.connection.api
    config = (await api(f"STREAM.INFO.{stream}"))["config"]
    assert "error" not in await api(f"STREAM.DELETE.{stream}")
    declared = next(each for each in STREAMS if each.name == stream)
    answer = await api(f"STREAM.CREATE.{stream}", config | declared.settings())
    assert "error" not in answer, answer


async def filled(place: Place) -> Writer:
    """Five runs: one that ended and moved to the archive, three that ended, one that is open."""
    writer = Writer()
    for run in ("moved", "one", "two", "three"):
        writer.three_steps(run)
    await place.store(writer)
    for stored in a_domain().messages:
        proposal = Proposal(
            subject=stored.subject, body=stored.body, expected=await _expected(place, stored.subject)
        )
        await place.js.domain.append([proposal])
    async with Service(structs.replace(place.settings, retention_days="never")):
        await place.until("select count(*) from read.runs where status = 'completed'", 4)
        await place.until("select count(*) from read.orgs", 1)
        await place.pool.execute(
            "update archive.run_ids set ended = ended - interval '9 days' where run = 'moved'"
        )
        days: Any = {"log_days": 8.0, "archive_days": "never"}
        shelf = PostgresShelf(place.pool)
        archiver = Archiver(shelf, place.streams, place.js.log, SystemClock(), Figures(), **days)
        await archiver.round()
        writer.commit("open", started(receipt="open"), scheduled("one"))
        await place.store(writer, after=16)
        await place.until("select status from read.runs where id = 'open'", "running")
    return writer


async def histories(place: Place, *runs: str) -> list[list[bytes]]:
    return [[m.body for m in await place.js.log.history(f"run.{ORG}.{run}")] for run in runs]


async def test_a_log_that_was_lost_whole_is_given_back(place: Place) -> None:
    writer = await filled(place)
    runs = ("moved", "one", "two", "three", "open")
    before = await histories(place, *runs)
    assert [len(each) for each in before] == [1, 4, 4, 4, 1]
    domain = [m.body for m in a_domain().messages]
    for stream in (RUNS, DOMAIN):
        await anew(place, stream)
    with pytest.raises(CannotStart, match="RUNS was made anew"):
        await check(place.pool, place.streams)
    told = await repair(place.settings, RUNS, nats_user="supervisor")
    assert (told.histories, told.given_back, told.forked, told.epoch) == (5, 14, (), 2)
    assert await histories(place, *runs) == before
    with pytest.raises(CannotStart, match="DOMAIN was made anew"):
        await check(place.pool, place.streams)
    assert (await repair(place.settings, DOMAIN, nats_user="supervisor")).given_back == len(domain)
    assert [m.body for m in await place.js.domain.history(f"evt.{ORG}.workflow.w1")] == domain[:4]
    [tombstone] = await place.js.log.history(f"run.{ORG}.moved")
    assert tombstone.headers["Run-Ended"] == "1"
    # The service goes on, and neither counts nor keeps anything twice.
    writer.commit("open", reported("one"), succeeded("one"), RunCompleted())
    async with Service(place.settings):
        await place.store(writer, after=17)
        await place.until("select status from read.runs where id = 'open'", "completed")
    assert await place.pool.fetchval("select sum(runs_completed) from read.usage_daily") == 5
    rebuilt = await rebuild(place.settings, facts(place.roles["owner"]), sql_file("read"), verify=True)
    assert rebuilt.differences == ()


async def test_what_an_old_backup_lacks_is_given_back_and_a_fork_is_told(place: Place) -> None:
    writer = await filled(place)
    await anew(place, RUNS)
    old = Writer()
    old.messages = [*writer.messages[3:4], *writer.messages[4:8], *writer.messages[8:10]]
    await place.store(old)
    # After the restore somebody decided anew about `two`.
    other = Writer()
    other._heads = {"two": (2, "")}
    forked = other.commit("two", RunCompleted())
    expected = (await place.js.log.last([forked.subject]))[forked.subject].sequence
    assert await place.js.log.append(
        [Proposal(subject=forked.subject, body=forked.body, expected=expected)]
    ) != [None]
    told = await repair(place.settings, RUNS, nats_user="supervisor")
    assert (told.given_back, told.forked) == (5, (f"run.{ORG}.two",))
    assert await histories(place, "three", "open") == [
        [m.body for m in writer.messages[12:16]],
        [writer.messages[16].body],
    ]
    again = await repair(place.settings, RUNS, nats_user="supervisor")
    assert (again.given_back, again.forked, again.epoch) == (0, (f"run.{ORG}.two",), 3)


async def test_a_log_that_lacks_nothing_is_given_nothing(place: Place) -> None:
    await filled(place)
    told = await repair(place.settings, RUNS, nats_user="supervisor")
    assert (told.histories, told.given_back, told.forked) == (5, 0, ())
    with pytest.raises(CannotStart, match="no other stream"):
        await repair(place.settings, "HOOKS", nats_user="supervisor")


async def test_a_log_made_anew_is_told_that_tombstones_had_left_it(place: Place) -> None:
    writer = Writer()
    writer.commit("run1", structs.replace(started(receipt="run1"), dedupe="ab" * 32), RunCompleted())
    writer.commit("run2", started(receipt="run2"), RunCompleted())
    await place.store(writer)
    async with Service(structs.replace(place.settings, retention_days="never")):
        await place.until("select count(*) from archive.run_ids", 2)
        days: Any = {"log_days": 0.0, "archive_days": "never"}
        leaving = Tombstones(marks=place.js.marks, most=0, settled_seconds=0.0, marked_seconds=0.0)
        shelf = PostgresShelf(place.pool)
        archiver = Archiver(
            shelf, place.streams, place.js.log, SystemClock(), Figures(), tombstones=leaving, **days
        )
        await archiver.round()
    assert await place.js.log.last(["run.org_default.run1", "run.org_default.run2"]) == {}
    await anew(place, RUNS)
    assert "error" not in await place.js.connection.api("STREAM.PURGE.KV_MARKS")
    told = await repair(place.settings, RUNS, nats_user="supervisor")
    assert (told.histories, told.given_back) == (0, 0), "nothing of them is expected in the log"
    assert HORIZON in await place.js.marks.last([HORIZON])
