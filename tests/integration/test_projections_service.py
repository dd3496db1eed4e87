"""The projections service on a real nats-server and a real Postgres: it follows, refuses, rebuilds, archives, anchors."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import Struct, structs

from chassis.archive import commits_of
from chassis.clock import SystemClock
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.log import JetStreamLog
from chassis.lifecycle import CannotStart, Stopping
from chassis.ports import Away, NobodyThere, Proposal
from chassis.postgres import Pool, facts, pool
from chassis.sealing import SigningKey
from chassis.secret import Secret
from chassis.settings import Settings
from contracts.codec import decode_message, encode
from contracts.logs import LogLine, LogRecord
from contracts.runs import RunCompleted
from contracts.subjects import (
    ANCHORS,
    DLQ,
    DOMAIN,
    EFFECTS,
    HOOKS,
    LOGS,
    RUNS,
    SCHEDULES,
    dead_letter,
    effect,
    hook,
    log,
)
from contracts.triggers import Hook
from deploy.database import sql_file
from deploy.servers import PostgresAddress
from deploy.testing.embedded import NatsServer
from projections.__main__ import main
from projections.anchors import Anchors, PostgresHeads, decode_anchor, decode_body, is_authentic
from projections.archiver import Archiver
from projections.figures import Figures
from projections.guard import FOLLOWED, check
from projections.merkle import Tree, leaf
from projections.models import Moved, PostgresRuns, Step
from projections.queries import ROW_TYPES
from projections.rebuild import Rebuild, Rebuilt, Sources
from projections.run_tables import RunTables
from projections.service import StreamChanged
from projections.shelf import PostgresShelf
from projections.stragglers import PostgresStragglers
from projections.streams import JetStreamStreams, StreamFacts
from projections.sweeper import Straggler
from tests.integration.test_projections_tables import a_domain
from tests.migrated import migrated
from tests.projections.histories import NOON, ORG, Letterbox, Writer, eventful, scheduled, started

KEY = SigningKey(Secret(b"k" * 32))


class Place(Struct):
    """One installation: its log, its database, and the settings of its projections."""

    js: JetStream
    pool: Pool
    roles: dict[str, Settings]
    settings: Settings
    streams: JetStreamStreams
    superuser: Any

    async def store(self, writer: Writer, after: int = 0) -> None:
        """Append what the writer wrote, as the orchestrator would."""
        for stored in writer.messages[after:]:
            last = (await self.js.log.last([stored.subject])).get(stored.subject)
            expected = last.sequence if last else 0
            proposal = Proposal(subject=stored.subject, body=stored.body, expected=expected)
            assert await self.js.log.append([proposal]) != [None]

    async def until(self, sql: str, wanted: Any) -> None:
        async with asyncio.timeout(60):
            while await self.pool.fetchval(sql) != wanted:
                await asyncio.sleep(0.02)

    async def rebuild(self, *, verify: bool = True) -> Rebuilt:
        sources = Sources(
            hooks=self.js.reader(HOOKS),
            dead_letters=self.js.reader(DLQ),
            schedules=self.js.reader(SCHEDULES),
            logs=self.js.reader(LOGS),
            facts={each.stream: await self.streams.facts(each.stream) for each in FOLLOWED},
        )
        owner = facts(self.roles["owner"])
        rebuild = Rebuild(owner, self.pool, sources, sql_file("read"), SystemClock())
        return await rebuild.run(verify=verify)


@pytest.fixture
async def place(
    database: PostgresAddress,
    streams: NatsServer,
    tmp_path: Path,
) -> AsyncIterator[Place]:
    roles = await migrated(database, tmp_path / "passwords")
    key = tmp_path / "signing.key"
    SigningKey.generate(key)
    settings = structs.replace(
        roles["projector"],
        nats_url=streams.url,
        projections_port=0,
        signing_key_file=str(key),
        retention_days=0.0,
        archive_days="never",
    )
    superuser = await asyncpg.connect(**database.login())
    async with (
        pool(roles["projector"], begins_with=ROW_TYPES) as projector,
        jetstream(settings, "tests", SystemClock()) as js,
    ):
        yield Place(
            js=js,
            pool=projector,
            roles=roles,
            settings=settings,
            streams=JetStreamStreams(js.connection),
            superuser=superuser,
        )
    await superuser.close()


class Service:
    """`python -m projections` within this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self.stopping = settings, Stopping()

    async def __aenter__(self) -> "Service":
        self._group = await asyncio.TaskGroup().__aenter__()
        self._task = self._group.create_task(main(self._settings, self.stopping))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.stopping.request()
        await self._group.__aexit__(None, None, None)


async def test_what_lies_in_the_log_is_in_the_tables_and_an_anchor_is_left_at_the_end(place: Place) -> None:
    writer = Writer()
    for number in range(20):
        writer.three_steps(f"run{number}")
    await place.store(writer)
    async with Service(place.settings):
        await place.until("select count(*) from read.runs where status = 'completed'", 20)
        for stored in a_domain().messages:
            await place.js.domain.append(
                [
                    Proposal(
                        subject=stored.subject,
                        body=stored.body,
                        expected=await _expected(place, stored.subject),
                    )
                ]
            )
        record = Hook(receipt="r", org=ORG, trigger="t1", time=1.0, result="refused", method="POST")
        await place.js.letters.store(hook(ORG, "t1"), encode(record))
        await place.js.letters.store(dead_letter("TASKS", ORG, "run1"), b"\xff", {"reason": "why"})
        writer.three_steps("late")
        await place.store(writer, after=80)
        await place.until("select status from read.runs where id = 'late'", "completed")
        await place.until("select count(*) from read.workflows", 1)
        await place.until("select count(*) from archive.domain_commits", len(a_domain().messages))
        await place.until("select reason from read.dead_letters", "why")
        await place.until("select result from read.deliveries where receipt = 'r'", "refused")
    anchors = JetStreamLog(place.js.connection, ANCHORS)
    [stored] = await anchors.history("anchor.1")
    anchor = decode_anchor(stored.body)
    body = decode_body(anchor.body)
    assert is_authentic(anchor, SigningKey.from_file(Path(place.settings.signing_key_file)).public)
    assert (body.runs.through, body.domain.through) == (84, len(a_domain().messages))
    tree = Tree()
    for name in sorted([*(f"run{number}" for number in range(20)), "late"]):
        last = (await place.js.log.last([f"run.{ORG}.{name}"]))[f"run.{ORG}.{name}"]
        tree.add(leaf(last.subject, 4, hashlib.sha256(last.body).digest()))
    heads = await place.pool.fetch(
        "select distinct on (aggregate, id) aggregate, id, version, hash from archive.domain_commits "
        "order by aggregate, id, version desc"
    )
    for row in heads:
        tree.add(leaf(f"evt.{ORG}.{row['aggregate']}.{row['id']}", row["version"], row["hash"]))
    assert body.root == tree.root().hex()


async def _expected(place: Place, subject: str) -> int:
    last = (await place.js.domain.last([subject])).get(subject)
    return last.sequence if last else 0


async def test_postgres_may_go_and_come_back(place: Place) -> None:
    writer = Writer()
    writer.three_steps("run1")
    async with Service(place.settings):
        await place.store(writer)
        await place.until("select status from read.runs", "completed")
        await place.superuser.execute("alter role projector connection limit 0")
        await place.superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where usename = 'projector' and datname = current_database()"
        )
        writer.three_steps("run2")
        await place.store(writer, after=4)
        await place.superuser.execute("alter role projector connection limit -1")
        async with asyncio.timeout(60):
            while (
                await place.superuser.fetchval("select count(*) from read.runs where status = 'completed'")
                != 2
            ):
                await asyncio.sleep(0.05)


async def test_a_second_service_beside_the_first_does_no_harm(place: Place) -> None:
    writer = Writer()
    async with Service(place.settings), Service(place.settings):
        for number in range(30):
            writer.three_steps(f"run{number}")
            await place.store(writer, after=number * 4)
        await place.until("select count(*) from read.runs where status = 'completed'", 30)
        assert await place.pool.fetchval("select sum(runs_started) from read.usage_daily") == 30
        assert await place.pool.fetchval("select count(*) from archive.commits") == 120
    assert (await place.rebuild()).differences == ()


# --- The guard ----------------------------------------------------------------------------------


async def test_the_guard_takes_what_another_service_reads_meanwhile_for_no_loss(place: Place) -> None:
    class Meanwhile(JetStreamStreams):
        """While the streams are asked how far they go, another service reads further."""

        async def facts(self, stream: str) -> StreamFacts:
            facts = await super().facts(stream)
            if stream == RUNS:
                writer.three_steps("run2")
                await place.store(writer, after=4)
                await place.until("select count(*) from read.runs where status = 'completed'", 2)
            return facts

    writer = Writer()
    async with Service(place.settings):
        writer.three_steps("run1")
        await place.store(writer)
        await place.until("select count(*) from read.runs where status = 'completed'", 1)
        facts = await check(place.pool, Meanwhile(place.js.connection))
    assert facts[RUNS].last == 4


async def followed(place: Place, *runs: str) -> Writer:
    """A log with these runs, all of it projected."""
    writer = Writer()
    for run in runs:
        writer.three_steps(run)
    await place.store(writer)
    async with Service(place.settings):
        await place.until("select count(*) from read.runs where status = 'completed'", len(runs))
    return writer


async def test_a_log_that_went_backwards_is_refused_with_the_command_to_run(place: Place) -> None:
    await followed(place, "run1")
    await place.pool.execute("update read.positions set sequence = 99 where projection = 'runs'")
    with pytest.raises(
        CannotStart, match=r"RUNS ends at 4, and 99 was read\. Run: automateos projections repair RUNS"
    ):
        await check(place.pool, place.streams)
    with pytest.raises(BaseExceptionGroup) as raised:
        await main(place.settings, Stopping())
    assert raised.group_contains(CannotStart)


async def test_another_stream_under_the_same_name_is_refused(place: Place) -> None:
    await followed(place, "run1")
    await place.pool.execute("update read.positions set created = 'long ago' where projection = 'domain'")
    with pytest.raises(CannotStart, match="DOMAIN was made anew"):
        await check(place.pool, place.streams)
    await place.pool.execute("update read.positions set epoch = 7 where projection = 'domain'")
    with pytest.raises(CannotStart, match="DOMAIN is at epoch 1, and epoch 7 was read"):
        await check(place.pool, place.streams)


async def test_read_models_that_were_lost_are_rebuilt_and_not_read_from_what_the_log_still_has(
    place: Place,
) -> None:
    await followed(place, "run1")
    await place.pool.execute("delete from read.positions")
    await place.pool.execute("delete from read.runs")
    with pytest.raises(CannotStart, match="Run: automateos projections rebuild"):
        await check(place.pool, place.streams)
    await place.rebuild(verify=False)
    await check(place.pool, place.streams)
    assert await place.pool.fetchval("select status from read.runs") == "completed"


async def test_a_stream_that_may_forget_is_read_from_where_it_ends(place: Place) -> None:
    await followed(place, "run1")
    await place.pool.execute("update read.positions set sequence = 99 where projection = 'deliveries'")
    await check(place.pool, place.streams)
    position = "select sequence from read.positions where projection = 'deliveries'"
    assert await place.pool.fetchval(position) == 0


async def test_a_restored_log_in_a_new_epoch_is_read_again_and_changes_nothing(place: Place) -> None:
    await followed(place, "run1", "run2")
    before = await place.pool.fetch("select * from read.usage_daily")
    config = (await place.js.connection.api(f"STREAM.INFO.{RUNS}"))["config"]
    config["metadata"] = (config.get("metadata") or {}) | {"automateos.epoch": "2"}
    answer = await place.js.connection.api(f"STREAM.UPDATE.{RUNS}", config)
    assert "error" not in answer
    async with Service(place.settings):
        await place.until(
            "select epoch * 1000 + sequence from read.positions where projection = 'runs'", 2_008
        )
    assert await place.pool.fetch("select * from read.usage_daily") == before
    assert not (await place.rebuild()).differences


async def test_a_stream_that_changes_under_the_service_ends_it(place: Place) -> None:
    with pytest.raises(BaseExceptionGroup) as raised:
        async with Service(place.settings):
            await place.until("select count(*) from read.positions", len(FOLLOWED))
            config = (await place.js.connection.api(f"STREAM.INFO.{DOMAIN}"))["config"]
            config["metadata"] = (config.get("metadata") or {}) | {"automateos.epoch": "5"}
            await place.js.connection.api(f"STREAM.UPDATE.{DOMAIN}", config)
            await asyncio.sleep(60)
    assert raised.group_contains(StreamChanged)


# --- Rebuilding ---------------------------------------------------------------------------------


async def test_a_rebuild_finds_no_difference_and_the_service_goes_on_behind_it(place: Place) -> None:
    messages = Writer()
    messages.messages = eventful(3, runs=20, garbage=False)
    messages.commit("garbled", started())
    await place.store(messages)
    await place.js.connection.api(f"STREAM.INFO.{RUNS}")
    await place.js.letters.store(f"run.{ORG}.garbled", b"garbage among the commits")
    for stored in a_domain().messages:
        proposal = Proposal(
            subject=stored.subject, body=stored.body, expected=await _expected(place, stored.subject)
        )
        await place.js.domain.append([proposal])
    record = Hook(receipt="r", org=ORG, trigger="t1", time=1.0, result="refused", method="POST")
    await place.js.letters.store(hook(ORG, "t1"), encode(record))
    writer = Writer()
    async with Service(place.settings):
        await place.until("select count(*) from read.runs", 21)
        await place.until("select count(*) from read.dead_letters", 1)
        await place.until("select count(*) from read.workflows", 1)
        await place.until("select count(*) from read.deliveries where result = 'refused'", 1)
        assert await place.pool.fetchval("select status from read.runs where id = 'garbled'") == "parked"
        rebuilt = await place.rebuild()
        assert rebuilt.differences == ()
        assert rebuilt.events > 0
        assert await place.pool.fetchval("select status from read.runs where id = 'garbled'") == "parked"
        assert await place.pool.fetchval("select to_regnamespace('read_old')") is None
        writer.three_steps("after")
        await place.store(writer)
        await place.until("select status from read.runs where id = 'after'", "completed")
    async with pool(place.roles["gateway"]) as gateway:
        assert await gateway.fetch("select * from read.runs") == []
    assert (await place.rebuild()).differences == ()


async def test_a_rebuild_says_what_was_wrong_and_mends_it(place: Place) -> None:
    await followed(place, "run1", "run2")
    await place.pool.execute("update read.runs set workflow = 'forged' where id = 'run1'")
    await place.pool.execute("delete from read.steps where run = 'run2'")
    await place.pool.execute("update read.usage_daily set steps = steps + 1")
    told = {
        (each.table, each.only_in, each.rows): each.samples for each in (await place.rebuild()).differences
    }
    assert told == {
        ("runs", "read", 1): (f"{ORG}/run1",),
        ("runs", "read_next", 1): (f"{ORG}/run1",),
        ("steps", "read_next", 3): tuple(f"{ORG}/run2/{step}" for step in ("one", "three", "two")),
        ("usage_daily", "read", 1): (f"{ORG}/2026-11-20",),
        ("usage_daily", "read_next", 1): (f"{ORG}/2026-11-20",),
    }
    assert (await place.rebuild()).differences == ()


async def test_a_projector_that_did_not_hear_of_the_swap_writes_nothing(place: Place) -> None:
    await followed(place, "run1")
    models = PostgresRuns(place.pool)
    projection = RunTables(models, Letterbox(), Figures())
    before = await projection.position()
    await place.rebuild()
    writer = Writer()
    writer.three_steps("run2")
    with pytest.raises(Moved):
        await projection.project(
            writer.messages, Step(before=before, epoch=1, sequence=before.sequence + 4, time=0.0)
        )
    assert await place.pool.fetchval("select count(*) from archive.commits") == 4


async def test_a_rebuild_under_load_loses_nothing(place: Place) -> None:
    writer = Writer()
    async with Service(place.settings):

        async def load() -> None:
            for number in range(60):
                writer.three_steps(f"run{number}")
                await place.store(writer, after=number * 4)

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            for _ in range(3):
                assert (await place.rebuild()).differences == ()
        await place.until("select count(*) from read.runs where status = 'completed'", 60)
    assert await place.pool.fetchval("select count(*) from archive.commits") == 240
    assert await place.pool.fetchval("select count(*) from read.dead_letters") == 0


async def test_two_rebuilds_at_once_are_refused(place: Place) -> None:
    owner = await asyncpg.connect(**facts(place.roles["owner"]))
    await owner.execute("select pg_advisory_lock(1919246692)")
    with pytest.raises(CannotStart, match="at work"):
        await place.rebuild()
    await owner.close()


# --- Retention ----------------------------------------------------------------------------------


def archiver(place: Place, figures: Figures, **more: Any) -> Archiver:
    days = {"log_days": 0.0, "archive_days": "never"} | more
    return Archiver(PostgresShelf(place.pool), place.streams, place.js.log, SystemClock(), figures, **days)


async def test_an_ended_run_leaves_the_log_whole_and_can_still_be_read(place: Place) -> None:
    writer = await followed(place, "run1", "run2")
    writer.commit("open", started(receipt="open"), scheduled("one"))
    await place.store(writer, after=8)
    claims = JetStreamLog(place.js.connection, EFFECTS)
    for run in ("run1", "run10"):
        await claims.append([Proposal(subject=effect(ORG, run, "one", 1), body=b"{}", expected=0)])
    figures = Figures()
    await archiver(place, figures).round()
    assert figures.purged == 2
    assert len(await place.js.log.history(f"run.{ORG}.run1")) == 1
    assert len(await place.js.log.history(f"run.{ORG}.open")) == 1
    assert len(await claims.history(effect(ORG, "run1", "one", 1))) == 0
    assert len(await claims.history(effect(ORG, "run10", "one", 1))) == 1
    async with pool(place.roles["gateway"]) as gateway:
        told = await commits_of(gateway, place.js.log, ORG, "run1")
    assert told == [m.body for m in writer.messages[:4]]
    # The tombstone goes on refusing a second start.
    again = Proposal(subject=f"run.{ORG}.run1", body=b"{}", expected=0)
    assert await place.js.log.append([again]) == [None]
    await archiver(place, figures).round()
    assert figures.purged == 2


async def test_nothing_leaves_the_log_that_the_archive_has_not_whole(place: Place) -> None:
    await followed(place, "run1", "run2", "run3")
    await place.pool.execute("delete from archive.commits where run = 'run1' and version = 2")
    await place.pool.execute("update archive.commits set body = 'x' where run = 'run2' and version = 1")
    figures = Figures()
    await archiver(place, figures).round()
    assert (figures.purged, figures.incomplete) == (1, 2)
    for run, left in (("run1", 4), ("run2", 4), ("run3", 1)):
        assert len(await place.js.log.history(f"run.{ORG}.{run}")) == left


async def test_the_archive_drops_what_is_old_and_a_rebuild_agrees(place: Place) -> None:
    await followed(place, "run1", "run2")
    figures = Figures()
    await place.pool.execute(
        "update archive.run_ids set ended = ended - interval '100 days' where run = 'run1'"
    )
    await archiver(place, figures, archive_days=90.0).round()
    # run2 ended on the day that the history tells, which is not 90 days ago by the machine's clock.
    assert figures.dropped == (1 if SystemClock().now() < NOON.replace(year=2027, month=1) else 2)
    assert await place.pool.fetchval("select count(*) from read.steps where run = 'run1'") == 0
    assert await place.pool.fetchval("select count(*) from archive.commits where run = 'run1'") == 0
    assert await place.pool.fetchval("select count(*) from archive.run_ids") == 2
    await place.pool.execute("update archive.dropped set through = '2026-11-20'")
    rebuilt = await place.rebuild()
    assert rebuilt.differences == ()
    assert await place.pool.fetchval("select runs_started from read.usage_daily") == 2


async def test_hooks_are_kept_as_long_as_hooks_keeps_them(place: Place) -> None:
    shelf = PostgresShelf(place.pool)
    for number in range(1_010):
        await place.pool.execute(
            "insert into read.deliveries (org, receipt, trigger, time, result, stream, epoch, sequence) "
            "values ($1, $2, 't', $3, 'refused', 'HOOKS', 1, $4)",
            ORG, f"r{number}", NOON, number,
        )  # fmt: skip
    await shelf.prune_hooks(NOON)
    assert await place.pool.fetchval("select min(sequence) from read.deliveries") == 10
    await shelf.prune_hooks(NOON.replace(day=21))
    assert await place.pool.fetchval("select count(*) from read.deliveries") == 0


async def say(place: Place, *texts: str) -> None:
    """As an executor would."""
    for text in texts:
        line = LogLine(time=NOON.timestamp(), text=text)
        record = LogRecord(org=ORG, run="r1", step="a", node="a", attempt=1, executor="e", lines=(line,))
        await place.js.letters.store(log(ORG, "r1", "a"), encode(record))


async def test_what_nodes_say_is_copied_rebuilt_and_let_go_of_with_the_stream(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.log_records.ROUND_SECONDS", 1.0)
    counted = "select count(*) from read.log_records"
    async with Service(place.settings):
        await say(place, "one", "two", "three")
        await place.until(counted, 3)
        rebuilt = await place.rebuild()
        assert rebuilt.differences == ()
        assert await place.pool.fetchval(counted) == 3
        await say(place, "four")
        await place.until(counted, 4)
        await place.js.connection.api(f"STREAM.PURGE.{LOGS}", {"seq": 4})
        await place.until(counted, 1)


async def test_lines_that_a_killed_server_lost_stop_nobody(place: Place) -> None:
    """LOGS is stored lazily: it may end before what was read of it."""
    async with Service(place.settings) as service:
        await say(place, "one")
        await place.until("select count(*) from read.log_records", 1)
        await place.pool.execute("update read.positions set sequence = 99 where projection = 'logs'")
        await place.until("select sequence from read.positions where projection = 'logs'", 1)
        await say(place, "two")
        await place.until("select count(*) from read.log_records", 2)
        assert not service.stopping.requested
    await place.pool.execute("update read.positions set sequence = 99 where projection = 'logs'")
    async with Service(place.settings):
        await say(place, "three")
        await place.until("select count(*) from read.log_records", 3)


async def test_a_nats_server_that_is_killed_while_nodes_speak_stops_no_projection(
    place: Place, streams: NatsServer
) -> None:
    async with Service(place.settings) as service:
        await say(place, *map(str, range(50)))
        await place.until("select count(*) >= 1 from read.log_records", wanted=True)
        await streams.kill()
        await streams.start()
        async with asyncio.timeout(60):
            while True:
                try:
                    await say(place, "behind it")
                    break
                except Away:
                    await asyncio.sleep(0.1)
        await place.until(
            "select count(*) > 0 from read.log_records where strpos(body, 'behind it') > 0", wanted=True
        )
        assert not service.stopping.requested


async def test_a_week_leaves_when_its_last_run_has(place: Place) -> None:
    await followed(place, "run1")
    shelf = PostgresShelf(place.pool)
    assert await shelf.drop_weeks(NOON.date().replace(year=2028)) == 0
    await place.pool.execute("delete from archive.commits")
    assert await shelf.drop_weeks(NOON.date()) == 0
    assert await shelf.drop_weeks(NOON.date().replace(year=2028)) == 1


# --- The sweeper --------------------------------------------------------------------------------


async def test_a_run_that_stands_still_is_looked_at_by_its_owner(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer()
    writer.commit("stuck", started(), scheduled("one"))
    writer.commit("done", started(receipt="r2"), RunCompleted())
    await place.store(writer)
    heard: list[str] = []

    def owner(_subject: str, body: bytes, _answer: Any) -> None:
        heard.append(body.decode())

    monkeypatch.setattr("projections.sweeper.SWEEP_SECONDS", 0.1)
    async with place.js.signals.listen("orch.*", owner), Service(place.settings):
        async with asyncio.timeout(60):
            while not heard:
                await asyncio.sleep(0.02)
        assert await PostgresStragglers(place.pool).due(SystemClock().now(), None, 9) == [
            Straggler(ORG, "stuck", 1)
        ]
    look = decode_message(heard[0].strip("[]").encode())
    assert (type(look).__name__, look.run) == ("Look", "stuck")
    assert not any("done" in bundle for bundle in heard)
    with pytest.raises(NobodyThere):
        await place.js.signals.request("orch.99", b"", 1.0)


async def test_anchors_follow_one_another_on_the_real_log(place: Place) -> None:
    anchors = Anchors(
        PostgresHeads(place.pool), JetStreamLog(place.js.connection, ANCHORS), KEY, SystemClock(), Figures()
    )
    assert await anchors.anchor() is None
    writer = await followed(place, "run1")
    await anchors.anchor()
    writer.three_steps("run2")
    await place.store(writer, after=4)
    async with Service(place.settings):
        await place.until("select count(*) from read.runs where status = 'completed'", 2)
    history = await JetStreamLog(place.js.connection, ANCHORS).history("anchor.1")
    bodies = [decode_body(decode_anchor(stored.body).body) for stored in history]
    assert [body.number for body in bodies] == [1, 2]
    assert bodies[1].prev == hashlib.sha256(history[0].body).hexdigest()
