"""What verifying promises on real stores: nothing that retention, repair or a reopened run does is called a fault."""

from datetime import datetime, timedelta
from pathlib import Path

from chassis.clock import SystemClock
from chassis.jetstream.log import JetStreamLog
from chassis.ports import Proposal
from chassis.sealing import SigningKey
from contracts.runs import RunCompleted, RunReopened
from contracts.subjects import ANCHORS, DOMAIN, RUNS, anchor, run
from deploy.operator.anchored import Finding, late, newest
from deploy.operator.exporting import anchor_now, exported
from deploy.operator.exports import checked
from deploy.operator.reach import Stores
from deploy.operator.truths import Retention
from deploy.operator.verifying import Verifying
from projections.commands import repair
from projections.figures import Figures
from projections.head_lists import SUBJECT as LIST
from tests.integration.test_projections_repair import anew, filled
from tests.integration.test_projections_service import Place, Service, archiver, place
from tests.projections.histories import NOON, ORG, Writer, reported, succeeded

__all__ = ["place"]

KEPT = Retention(log=8.0, archive="never")


def stores(place: Place) -> Stores:
    return Stores(log=place.js, archive=place.pool)


def public(place: Place) -> bytes:
    return SigningKey.from_file(Path(place.settings.signing_key_file)).public


async def everything(place: Place, days: Retention = KEPT, now: datetime | None = None) -> list[Finding]:
    verifying = Verifying(stores(place), [public(place)], now or SystemClock().now(), days)
    found = await verifying.read_anchors()
    return found + [finding async for finding in verifying.of_all()]


async def of_run(place: Place, name: str, days: Retention = KEPT) -> list[Finding]:
    verifying = Verifying(stores(place), [public(place)], SystemClock().now(), days)
    found = await verifying.read_anchors()
    return found + [finding async for finding in verifying.of_run(ORG, name)]


async def test_histories_that_left_the_log_are_as_they_were(place: Place) -> None:
    await filled(place)
    assert await everything(place) == []
    for name in ("moved", "one", "open"):
        assert await of_run(place, name) == []
    await place.streams.purge(RUNS, run(ORG, "moved"))  # Its tombstone goes too, past the horizon.
    assert await everything(place) == []


async def test_a_day_is_what_moved_on_it(place: Place) -> None:
    await filled(place)
    for day, looked_at in ((NOON.date(), 5), (NOON.date() - timedelta(days=1), 0)):
        verifying = Verifying(stores(place), [public(place)], SystemClock().now(), KEPT)
        await verifying.read_anchors()
        assert [finding async for finding in verifying.of_day(day, ORG)] == []
        assert verifying.count.histories >= looked_at
        assert (verifying.count.histories > 0) == (looked_at > 0)


async def test_what_left_the_archive_in_its_time_is_no_fault_and_before_it_is_one(place: Place) -> None:
    await filled(place)
    await place.pool.execute(
        "update archive.run_ids set ended = ended - interval '90 days' where run = 'one'"
    )
    figures = Figures()
    await archiver(place, figures, log_days=8.0, archive_days=80.0).round()
    assert figures.dropped == 1
    later = SystemClock().now() + timedelta(days=81)
    assert await everything(place, Retention(log=8.0, archive=80.0), later) == []
    [early] = await everything(place, Retention(log=8.0, archive=80.0))
    assert (early.history, early.version) == (f"{ORG}/one", 4)
    assert early.what == "version 4 was anchored and is not in the archive"
    assert "anchor" in early.interval


async def test_commits_that_are_gone_from_the_log_before_their_time_are_missed(place: Place) -> None:
    await filled(place)
    history = await place.js.log.history(run(ORG, "two"))
    await place.streams.purge(RUNS, run(ORG, "two"), before=history[2].sequence)
    await place.streams.purge(RUNS, run(ORG, "three"))
    told = {finding.history: finding.what for finding in await everything(place)}
    assert told == {
        f"{ORG}/two": "log: version 3 is the first one",
        f"{ORG}/three": "log: versions 1 to 4 are not there",
    }


async def test_a_run_that_went_on_after_it_had_left_the_log_is_whole(place: Place) -> None:
    writer = await filled(place)
    writer.commit("moved", RunReopened(by="key:1", steps=("one",)), RunCompleted())
    await place.store(writer, after=len(writer.messages) - 1)
    assert await of_run(place, "moved") == [], "also while the archive has not seen it"
    async with Service(place.settings):
        await place.until("select head_version from read.runs where id = 'moved'", 5)
    assert await everything(place) == []


async def test_a_log_that_was_given_back_in_a_new_epoch_is_as_it_was(place: Place) -> None:
    writer = await filled(place)
    for stream in (RUNS, DOMAIN):
        await anew(place, stream)
        await repair(place.settings, stream, nats_user="supervisor")
    writer.commit("open", reported("one"), succeeded("one"), RunCompleted())
    async with Service(place.settings):
        await place.store(writer, after=len(writer.messages) - 1)
        await place.until("select status from read.runs where id = 'open'", "completed")
    assert await everything(place) == []
    last = await newest(stores(place))
    assert last is not None
    assert last.runs.epoch == 2


async def test_a_list_of_heads_that_is_gone_costs_the_name_and_not_the_finding(place: Place) -> None:
    await filled(place)
    api = place.js.connection.api
    lists = await JetStreamLog(place.js.connection, ANCHORS).history(LIST)
    assert lists
    answer = await api(f"STREAM.PURGE.{ANCHORS}", {"filter": LIST})
    assert "error" not in answer
    assert await everything(place) == []
    await place.pool.execute(
        "update archive.commits set body = body || ' '::bytea, hash = sha256(body || ' '::bytea) "
        "where run = 'moved' and version = 4"
    )
    told = [finding for finding in await everything(place) if not finding.history]
    assert [finding.what for finding in told] == [
        "something in this interval was changed, removed or put in; the list that says what is gone"
    ]
    assert "anchor 1 " in told[0].interval or "first anchor" in told[0].interval


async def test_anchors_that_are_gone_are_missed(place: Place) -> None:
    writer = await filled(place)
    log = JetStreamLog(place.js.connection, ANCHORS)
    writer.commit("open", reported("one"), succeeded("one"), RunCompleted())
    async with Service(place.settings):
        await place.store(writer, after=len(writer.messages) - 1)
        await place.until("select status from read.runs where id = 'open'", "completed")
    first, *_ = await log.history(anchor(1))
    assert await everything(place) == []
    api = place.js.connection.api
    assert "error" not in await api(
        f"STREAM.PURGE.{ANCHORS}", {"filter": anchor(1), "seq": first.sequence + 1}
    )
    [told] = await everything(place)
    assert told.what == "anchor 2 follows anchor 0: what was between them is gone"
    assert "error" not in await api(f"STREAM.PURGE.{ANCHORS}", {"filter": anchor(1)})
    [told] = await everything(place, now=SystemClock().now() + timedelta(days=2))
    assert told.what.endswith("is anchored; the newest is no anchor at all")


async def test_what_stays_without_an_anchor_for_long_is_told(place: Place) -> None:
    writer = await filled(place)
    last = await newest(stores(place))
    assert await late(place.pool, last, NOON + timedelta(days=30)) is None
    at = timedelta(seconds=len(writer.messages))
    writer.commit("open", reported("one"), succeeded("one"), RunCompleted())
    await place.store(writer, after=len(writer.messages) - 1)
    await place.pool.execute("update archive.commits set sequence = sequence + 1000 where run = 'open'")
    words = await late(place.pool, last, NOON + at + timedelta(minutes=26))
    assert words is not None
    assert words.startswith("nothing that came since 2026-11-20T12:0")
    assert await late(place.pool, last, NOON + at + timedelta(minutes=24)) is None


async def test_an_export_of_every_kind_of_run_is_proven(place: Place) -> None:
    await filled(place)
    # By the hand that the command uses; the service had anchored the rest at its end.
    await anchor_now(stores(place), Path(place.settings.signing_key_file))
    for name in ("moved", "one", "open"):
        told = checked(await exported(stores(place), ORG, name, public(place)), public(place))
        assert told.whole, told


async def test_a_commit_of_another_run_that_was_put_into_a_history_is_found(place: Place) -> None:
    writer = Writer()
    writer.three_steps("one")
    writer.three_steps("two")
    await place.store(writer)
    stranger = writer.messages[5].body
    ends = (await place.js.log.last([run(ORG, "one")]))[run(ORG, "one")].sequence
    assert await place.js.log.append([Proposal(run(ORG, "one"), stranger, ends)]) != [None]
    async with Service(place.settings):
        await place.until("select count(*) from read.runs where status = 'completed'", 2)
        await place.until("select sequence from read.positions where projection = 'runs'", 9)
    told = {(finding.history, finding.what) for finding in await everything(place)}
    assert (f"{ORG}/one", f"log: version 2 belongs to {ORG}/two") in told


async def test_a_run_that_never_was_is_told(place: Place) -> None:
    await filled(place)
    [told] = await of_run(place, "nobody")
    assert told.what == "there is no such run"
