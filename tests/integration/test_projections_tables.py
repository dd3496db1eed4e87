"""What the tables of RUNS, DOMAIN, HOOKS and DLQ promise on a real Postgres: a fold of the log, hostile values and all."""

import json
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import Raw, Struct, structs

from chassis.archive import HistoryDropped, archived_commits, commits_of
from chassis.ids import digest
from chassis.ports import Away, Stored
from chassis.postgres import Pool, pool
from chassis.settings import Settings
from contracts.codec import encode
from contracts.commits import DomainCommit
from contracts.errors import Failure
from contracts.payloads import Blob
from contracts.runs import (
    AttemptFailed,
    HandlerAsked,
    Parent,
    RunCompleted,
    RunFailed,
    RunReopened,
    RunStopping,
    StepFailed,
    WaitEnded,
    WaitOpened,
)
from contracts.triggers import (
    Hook,
    TokenRotated,
    TriggerBound,
    TriggerChanged,
    TriggerCreated,
    TriggerDeleted,
    TriggerDisabled,
    TriggerEnabled,
    Webhook,
)
from contracts.workflows import (
    KeyIssued,
    KeyRevoked,
    OrgCreated,
    OrgVarsSet,
    SecretDeleted,
    SecretStored,
    VersionDrafted,
    VersionPublished,
    WorkflowCreated,
    WorkflowDeleted,
    WorkflowRenamed,
)
from deploy.servers import PostgresAddress
from projections.dead_letters import DeadLetterTable
from projections.deliveries import DeliveryTable
from projections.domain_tables import DomainTables
from projections.figures import Figures, Progress
from projections.guard import FOLLOWED
from projections.models import Moved, PostgresRuns, Step
from projections.projector import Projection, advance
from projections.queries import BEGIN, ROW_TYPES
from projections.run_tables import RunTables
from projections.stragglers import PostgresStragglers
from projections.taking_up import take_up
from tests.migrated import migrated
from tests.projections.histories import (
    NOON,
    ORG,
    Letterbox,
    Tables,
    Writer,
    asking,
    eventful,
    reported,
    scheduled,
    started,
    succeeded,
    value,
)


class Stack(Struct):
    """A migrated database, and what looks at it."""

    roles: dict[str, Settings]
    pool: Pool
    letters: Letterbox
    figures: Figures

    def runs(self, **more: Any) -> RunTables:
        return RunTables(PostgresRuns(self.pool), self.letters, self.figures, **more)

    def domain(self) -> DomainTables:
        return DomainTables(self.pool, self.letters, self.figures)

    async def rows(self, sql: str, *given: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.pool.fetch(sql, *given)]


@pytest.fixture
async def stack(database: PostgresAddress, tmp_path: Path) -> AsyncIterator[Stack]:
    roles = await migrated(database, tmp_path / "passwords")
    async with pool(roles["projector"], begins_with=ROW_TYPES) as projector:
        for each in FOLLOWED:
            await projector.execute(
                BEGIN.format(schema="read"), each.projection, each.stream, 1, 0, "then", "one", NOON
            )
        yield Stack(roles=roles, pool=projector, letters=Letterbox(), figures=Figures())


async def project(projection: Projection, messages: list[Stored], *cuts: int) -> Progress:
    """Project what lies beyond the position, cut as told."""
    position = await projection.position()
    progress = Progress(name=projection.name, stream=projection.stream)
    rest = [stored for stored in messages if stored.sequence > position.sequence]
    for cut in (*cuts, len(rest)):
        batch, rest = rest[:cut], rest[cut:]
        if batch:
            position = await advance(projection, batch, position, 1, progress)
    return progress


async def content(stack: Stack) -> list[Any]:
    """The tables as the fake of the tables tells them."""
    found: list[Any] = []
    for table, keys in (
        ("read.runs", ("org", "id")),
        ("read.steps", ("org", "run", "path")),
        ("read.deliveries", ("org", "receipt")),
        ("read.usage_daily", ("org", "day")),
        ("archive.commits", ("org", "run", "version")),
        ("archive.run_ids", ("org", "run")),
    ):
        rows = await stack.rows(f"select * from {table}")
        for row in rows:
            row.pop("purged", None)
            row.pop("dropped", None)
            row.pop("forgotten", None)
        found.append({tuple(row[key] for key in keys): row for row in rows})
    return found


@pytest.mark.parametrize("seed", range(8))
async def test_postgres_holds_what_the_fold_says_whatever_the_batches(stack: Stack, seed: int) -> None:
    messages, expected = eventful(seed, garbage=seed % 2 == 0), Tables()
    step = Step(before=expected.at, epoch=1, sequence=len(messages), time=0.0)
    await RunTables(expected, Letterbox(), Figures()).project(messages, step)
    chance = random.Random(seed)
    await project(
        stack.runs(remember=chance.choice([1, 100])), messages, *(chance.randrange(1, 9) for _ in range(9))
    )
    assert await content(stack) == expected.content()
    if seed % 2 == 0:
        return
    # A new life, everything once more, in a new epoch.
    again = stack.runs()
    position = await again.position()
    await again.project(messages, Step(before=position, epoch=2, sequence=len(messages), time=0.0))
    assert await content(stack) == expected.content()


async def test_the_position_moves_with_the_rows_or_not_at_all(stack: Stack) -> None:
    writer = Writer()
    writer.three_steps("run1")
    projection = stack.runs()
    before = await projection.position()
    await projection.project(writer.messages, Step(before=before, epoch=1, sequence=4, time=NOON.timestamp()))
    with pytest.raises(Moved):
        await projection.project(writer.messages, Step(before=before, epoch=1, sequence=4, time=0.0))
    [position] = await stack.rows("select * from read.positions where projection = 'runs'")
    assert (position["epoch"], position["sequence"], position["time"]) == (1, 4, NOON)
    assert await stack.pool.fetchval("select count(*) from archive.commits") == 4


async def test_a_transaction_that_is_cut_off_leaves_neither(stack: Stack) -> None:
    class Cut(PostgresRuns):
        async def _store_archive(self, connection: Any, changes: Any) -> None:
            await super()._store_archive(connection, changes)
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")

    writer = Writer()
    writer.three_steps("run1")
    projection = RunTables(Cut(stack.pool), stack.letters, stack.figures)
    with pytest.raises(Away):
        await project(projection, writer.messages)
    assert (await stack.runs().position()).sequence == 0
    assert await content(stack) == [{}, {}, {}, {}, {}, {}]
    await project(stack.runs(), writer.messages)
    assert (await stack.runs().position()).sequence == 4


def hostile_values() -> list[Any]:
    deep: Any = None
    for _ in range(400):
        deep = [deep]
    return [
        "a\0b", {"a\0": "\0"}, 2**70, -(10**300), deep, 1e308, -0.0, "x" * 1_000_000, {"k" * 3_000: 1},
        "\u202e\u200d\uffff\U0010ffff", "'; drop table read.runs; --", "%s $1 {}",
    ]  # fmt: skip


async def test_hostile_values_stop_nothing_and_their_bytes_are_kept(stack: Stack) -> None:
    writer = Writer()
    for number, hostile in enumerate(hostile_values()):
        raw = Raw(json.dumps(hostile).encode())
        payload = structs.replace(value(None), value=raw)
        failure = Failure(code="x", message="\0\U0001f600" * 900)
        writer.commit(
            f"run{number}",
            structs.replace(started(receipt=f"r{number}"), input=payload),
            scheduled("one"),
        )
        writer.commit(
            f"run{number}",
            structs.replace(reported("one"), output=payload),
            succeeded("one"),
            AttemptFailed(step="two", attempt=1, error=failure),
            RunFailed(error=failure),
            RunCompleted(output=payload),
        )
    progress = await project(stack.runs(), writer.messages)
    assert progress.refused == 0
    assert not stack.letters.stored
    assert await stack.pool.fetchval("select count(*) from read.runs where status = 'completed'") == 12
    kept = await stack.rows("select sequence, body, hash = sha256(body) as whole from archive.commits")
    assert {row["sequence"]: row["body"] for row in kept} == {m.sequence: m.body for m in writer.messages}
    assert all(row["whole"] for row in kept)


async def test_lone_surrogates_are_a_dead_letter_and_park_their_run(stack: Stack) -> None:
    writer = Writer()
    writer.commit("run1", started())
    body = (
        writer.messages[-1].body.replace(b'"flow1"', b'"fl\\ud800w"').replace(b'"version":1', b'"version":2')
    )
    writer.raw("run1", body)
    writer.three_steps("run2")
    await project(stack.runs(), writer.messages)
    assert stack.letters.troubles == ["malformed"]
    rows = await stack.rows("select id, status from read.runs order by id")
    assert rows == [{"id": "run1", "status": "parked"}, {"id": "run2", "status": "completed"}]


async def test_what_postgres_refuses_is_found_and_the_others_go_on(stack: Stack, superuser: Any) -> None:
    await superuser.execute("alter table read.runs add constraint cursed check (workflow <> 'cursed')")
    writer = Writer()
    for number in range(40):
        workflow = "cursed" if number in (7, 31) else "flow1"
        event = structs.replace(started(receipt=f"r{number}"), workflow=workflow)
        writer.commit(f"run{number}", event)
    progress = await project(stack.runs(), writer.messages)
    assert progress.refused == 2
    assert stack.letters.troubles == ["refused", "refused"]
    rows = await stack.rows("select id, parked_reason from read.runs where status = 'parked' order by id")
    assert [row["id"] for row in rows] == ["run31", "run7"]
    assert "cursed" in rows[0]["parked_reason"]
    assert await stack.pool.fetchval("select count(*) from archive.commits") == 40


async def test_a_fault_of_ours_is_waited_for_and_costs_no_message(stack: Stack, superuser: Any) -> None:
    writer = Writer()
    writer.three_steps("run1")
    await superuser.execute("alter table read.steps rename to mislaid")
    with pytest.raises(Away, match="steps"):
        await project(stack.runs(), writer.messages)
    await superuser.execute("alter table read.mislaid rename to steps")
    await project(stack.runs(), writer.messages)
    assert not stack.letters.stored
    assert await stack.pool.fetchval("select status from read.runs") == "completed"


@pytest.fixture
async def superuser(database: PostgresAddress, stack: Stack) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(**database.login())
    yield connection
    await connection.close()


async def test_a_run_that_waited_for_a_release_is_taken_up_after_the_upgrade(stack: Stack) -> None:
    writer, expected = Writer(), Writer()
    for each in (writer, expected):
        each.commit("run1", started(), scheduled("one"), after_s=1)
        each.commit("run1", reported("one"), succeeded("one"), after_s=2)
        each.commit("run1", RunCompleted(), after_s=3)
    # As an older release sees it: it does not know what `step.reported` is.
    newer = [
        structs.replace(m, body=m.body.replace(b"step.reported", b"step.invented")) for m in writer.messages
    ]
    await project(stack.runs(), newer)
    [run] = await stack.rows("select * from read.runs")
    assert (run["status"], run["folded_version"], run["head_version"], run["needs_release"]) == (
        "parked", 1, 3, "0.1.0",
    )  # fmt: skip
    assert await take_up(stack.pool, PostgresRuns(stack.pool)) == 0
    # The upgrade: the same bytes can be read now.
    for stored in expected.messages:
        await stack.pool.execute(
            "update archive.commits set body = $1, hash = sha256($1) where version = $2",
            stored.body,
            stored.sequence,
        )
    assert await take_up(stack.pool, PostgresRuns(stack.pool)) == 1
    fresh = Tables()
    step = Step(before=fresh.at, epoch=1, sequence=3, time=0.0)
    await RunTables(fresh, Letterbox(), Figures()).project(expected.messages, step)
    found, wanted = await content(stack), fresh.content()
    # The time in the archive is when an unreadable commit came, not when it says that it was made.
    assert found[:4] + found[5:] == wanted[:4] + wanted[5:]


# --- Histories ----------------------------------------------------------------------------------


class OneLog:
    """The log as a list; away when told so."""

    def __init__(self, messages: list[Stored], epoch: int = 1) -> None:
        self.messages, self.epoch, self.asked_after = messages, epoch, -1

    async def append(self, proposals: Any) -> Any:
        raise NotImplementedError

    async def last(self, subjects: Any) -> Any:
        raise NotImplementedError

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        self.asked_after = after
        return [m for m in self.messages if m.subject == subject and m.sequence > after]


async def test_a_history_comes_from_the_archive_and_what_is_newer_from_the_log(stack: Stack) -> None:
    writer = Writer()
    writer.three_steps("run1")
    writer.three_steps("run2")
    bodies = [m.body for m in writer.messages[:4]]
    await project(stack.runs(), writer.messages[:2])
    async with pool(stack.roles["gateway"]) as gateway:
        log = OneLog(writer.messages)
        assert await commits_of(gateway, log, ORG, "run1") == bodies
        assert log.asked_after == 2
        # Restored: other numbers in a new epoch.
        assert await commits_of(gateway, OneLog(writer.messages, epoch=2), ORG, "run1") == bodies
        # Purged but for the tombstone.
        await project(stack.runs(), writer.messages)
        assert await commits_of(gateway, OneLog(writer.messages[3:4]), ORG, "run1") == bodies
        assert await commits_of(gateway, OneLog([]), ORG, "run1") == bodies
        assert await commits_of(gateway, OneLog([]), ORG, "run9") == []
        assert await commits_of(gateway, OneLog([]), "org_other", "run1") == []
        assert [commit.version for commit in await archived_commits(gateway, ORG, "run1")] == [1, 2, 3, 4]
        await stack.pool.execute("delete from archive.commits where run = 'run1'")
        with pytest.raises(HistoryDropped):
            await commits_of(gateway, OneLog(writer.messages[3:4]), ORG, "run1")


async def test_a_history_can_be_read_by_whoever_reopens_the_run(stack: Stack) -> None:
    writer = Writer()
    writer.three_steps("run1")
    await project(stack.runs(), writer.messages)
    async with pool(stack.roles["orchestrator"]) as orchestrator:
        told = await commits_of(orchestrator, OneLog(writer.messages[3:]), ORG, "run1")
    assert told == [m.body for m in writer.messages]


async def test_with_postgres_away_the_log_tells_a_history_that_it_still_has_whole(tmp_path: Path) -> None:
    writer = Writer()
    writer.three_steps("run1")
    async with pool(Settings(postgres_host=str(tmp_path))) as nowhere:
        whole = OneLog(writer.messages)
        assert await commits_of(nowhere, whole, ORG, "run1") == [m.body for m in writer.messages]
        with pytest.raises(Away):
            await commits_of(nowhere, OneLog(writer.messages[3:]), ORG, "run1")


async def test_garbage_between_commits_is_in_the_archive_and_in_no_history(stack: Stack) -> None:
    writer = Writer()
    writer.commit("run1", started())
    writer.raw("run1", b"\x00garbage", counts=False)
    writer.commit("run1", RunCompleted())
    writer.raw("run2", b"", counts=False)
    await project(stack.runs(), writer.messages)
    kept = await stack.rows("select run, version, body from archive.commits order by sequence")
    assert [row["version"] for row in kept] == [1, -(2**44) - 2, 2, -(2**44) - 4]
    assert kept[1]["body"] == b"\x00garbage"
    async with pool(stack.roles["gateway"]) as gateway:
        history = await commits_of(gateway, OneLog(writer.messages), ORG, "run1")
    assert history == [writer.messages[0].body, writer.messages[2].body]


# --- The other streams --------------------------------------------------------------------------


class DomainWriter:
    """Appends commits to DOMAIN as the gateway does."""

    def __init__(self) -> None:
        self.messages: list[Stored] = []
        self._versions: dict[str, int] = {}
        self._hashes: dict[str, str] = {}

    def commit(self, aggregate: str, id_: str, *events: Any, **more: Any) -> Stored:
        subject = f"evt.{ORG}.{aggregate}.{id_}"
        version = self._versions[subject] = self._versions.get(subject, 0) + 1
        fields = {
            "id": "c1",
            "org": ORG,
            "aggregate": aggregate,
            "aggregate_id": id_,
            "version": version,
            "events": events,
            "time": NOON + timedelta(seconds=len(self.messages)),
            "actor": "key:k1",
            "causation_id": "",
            "correlation_id": "",
            "engine_version": "0.1.0",
            "key_id": "",
            "prev_hash": self._hashes.get(subject, ""),
        }
        stored = self.raw(subject, encode(DomainCommit[Any](**fields | more)))
        self._hashes[subject] = digest(stored.body)
        return stored

    def raw(self, subject: str, body: bytes) -> Stored:
        at = NOON.timestamp()
        stored = Stored(subject=subject, sequence=len(self.messages) + 1, body=body, time=at)
        self.messages.append(stored)
        return stored


def at(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_domain() -> DomainWriter:
    writer = DomainWriter()
    big = Blob(sha256="cd" * 32, size=500_000)
    writer.commit(
        "workflow", "w1", WorkflowCreated(name="a\0b"), VersionDrafted(version=1, definition=value({"n": 1}))
    )
    writer.commit("workflow", "w1", VersionPublished(version=1, plan="ab" * 32))
    writer.commit("workflow", "w1", WorkflowRenamed(name="other"), VersionDrafted(version=2, definition=big))
    writer.commit("workflow", "w1", WorkflowDeleted())
    token, other = "12" * 32, "34" * 32
    created = TriggerCreated(name="hook", workflow="w1", webhook=Webhook(), token=token, test_token=other)
    writer.commit("trigger", "t1", created)
    writer.commit("trigger", "t1", TriggerBound(version=1, plan="ab" * 32), TriggerDisabled())
    writer.commit(
        "trigger", "t1", TriggerEnabled(), TriggerChanged(name="new", webhook=Webhook(mode="respond"))
    )
    writer.commit("trigger", "t1", TokenRotated(token=other, test_token=token), TriggerDeleted())
    writer.commit("secret", "s1", SecretStored(name="key", kind="bearer", allowed_hosts=("a.example", "b\0")))
    writer.commit("secret", "s1", SecretDeleted())
    writer.commit("key", "k1", KeyIssued(name="ci", scopes=("runs:read",)), KeyRevoked())
    writer.commit("org", ORG, OrgCreated(name="Home"), OrgVarsSet(vars={"a\0": "\0"}))
    return writer


async def test_everything_else_with_a_history_has_its_rows(stack: Stack) -> None:
    writer = a_domain()
    progress = await project(stack.domain(), writer.messages, 1, 3, 2)
    assert progress.refused == 0
    [workflow] = await stack.rows("select * from read.workflows")
    assert (workflow["name"], workflow["latest_version"], workflow["published_version"]) == ("other", 2, 1)
    assert (workflow["created"], workflow["deleted"], workflow["head_version"]) == (at(0), at(3), 4)
    first, second = await stack.rows("select * from read.workflow_versions order by version")
    assert (first["definition"], first["plan"], first["published"]) == (b'{"n":1}', "ab" * 32, at(1))
    assert (second["definition"], second["definition_blob"], second["definition_size"]) == (
        None,
        "cd" * 32,
        500_000,
    )
    [trigger] = await stack.rows("select * from read.triggers")
    assert (trigger["name"], trigger["webhook"], trigger["enabled"]) == ("new", '{"mode":"respond"}', True)
    assert (trigger["token"], trigger["version"], trigger["deleted"]) == ("34" * 32, 1, at(7))
    [secret] = await stack.rows("select * from read.secrets")
    assert (secret["allowed_hosts"], secret["deleted"]) == (["a.example", "b\ufffd"], at(9))
    [key] = await stack.rows("select * from read.api_keys")
    assert (key["scopes"], key["revoked"]) == (["runs:read"], at(10))
    [org] = await stack.rows("select * from read.orgs")
    assert (org["name"], org["vars"]) == ("Home", '{"a\\u0000":"\\u0000"}')
    kept = await stack.rows("select body from archive.domain_commits order by sequence")
    assert [row["body"] for row in kept] == [m.body for m in writer.messages]


async def test_broken_and_foreign_commits_of_the_domain_stop_nothing(stack: Stack) -> None:
    writer = DomainWriter()
    writer.raw(f"evt.{ORG}.workflow.w0", b"\xff")
    writer.raw(f"evt.{ORG}.planet.p1", b"[" * 9_000)
    future = writer.commit("workflow", "w1", WorkflowDeleted())
    writer.messages[-1] = structs.replace(
        future, body=future.body.replace(b"workflow.deleted", b"workflow.dreamt")
    )
    writer.raw(f"evt.{ORG}.workflow.w2", writer.commit("workflow", "w3", WorkflowCreated(name="three")).body)
    unheard = writer.commit("planet", "p2", WorkflowCreated(name="x"))
    await project(stack.domain(), writer.messages)
    assert stack.letters.troubles == ["malformed", "malformed", "unknown", "misplaced", "unknown"]
    assert {row["id"] for row in await stack.rows("select id from read.workflows")} == {"w1", "w3"}
    kept = await stack.rows("select body from archive.domain_commits where aggregate = 'planet'")
    assert [row["body"] for row in kept] == [unheard.body]


async def test_deliveries_that_started_no_run_are_listed_below_those_that_did(stack: Stack) -> None:
    writer, hooks = Writer(), []
    writer.commit("run1", started(receipt="both"))

    def hook(receipt: str, result: Any, **more: Any) -> None:
        record = Hook(
            receipt=receipt,
            org=ORG,
            trigger="hook1",
            time=NOON.timestamp(),
            result=result,
            method="POST",
            **more,
        )
        hooks.append(Stored(subject=f"hook.{ORG}.hook1", sequence=len(hooks) + 1, body=encode(record)))

    hook("both", "duplicate", run="run1")
    hook("refused", "refused", reason="bad\0signature", body=value("\0"), size=9)
    hook("refused", "refused", reason="said twice")
    hook("endless", "captured", size=2**53 - 1)
    hooks.append(
        structs.replace(hooks[-1], sequence=5, body=hooks[-1].body.replace(b'"time":', b'"time":1e300,"x":'))
    )
    hooks.append(Stored(subject=f"hook.{ORG}.hook2", sequence=6, body=hooks[0].body))
    deliveries = DeliveryTable(stack.pool, stack.letters, stack.figures)
    await project(deliveries, hooks, 2)
    await project(stack.runs(), writer.messages)
    rows = {row["receipt"]: row for row in await stack.rows("select * from read.deliveries")}
    assert {receipt: row["result"] for receipt, row in rows.items()} == {
        "both": "accepted", "refused": "refused", "endless": "captured",
    }  # fmt: skip
    assert rows["refused"]["reason"] == "bad\ufffdsignature"
    assert (rows["both"]["stream"], rows["refused"]["stream"], rows["refused"]["size"]) == (
        "RUNS",
        "HOOKS",
        9,
    )
    assert stack.letters.troubles == ["malformed", "misplaced"]


async def test_dead_letters_are_listed_once_however_often_they_were_told(stack: Stack) -> None:
    headers = {"reason": "no\0good", "source": "RUNS 1 5 malformed"}
    letters = [
        Stored(subject=f"dlq.RUNS.{ORG}.run1", sequence=1, body=b"\x00\xff", headers=headers, time=NOON.timestamp()),
        Stored(subject=f"dlq.RUNS.{ORG}.run1", sequence=2, body=b"\x00\xff", headers=headers, time=NOON.timestamp()),
        Stored(subject="dlq.INBOX._._", sequence=3, body=b"", headers={}, time=NOON.timestamp()),
    ]  # fmt: skip
    await project(DeadLetterTable(stack.pool), letters, 1)
    rows = await stack.rows("select * from read.dead_letters order by sequence")
    assert [(row["stream"], row["run"], row["body"], row["sequence"]) for row in rows] == [
        ("RUNS", "run1", b"\x00\xff", 1),
        ("INBOX", "", b"", 3),
    ]
    assert rows[0]["reason"] == "no\ufffdgood"


async def test_stragglers_are_those_whose_time_to_be_looked_at_has_come(stack: Stack) -> None:
    writer = Writer()
    for number in range(5):
        writer.commit(f"run{number}", started(receipt=f"r{number}"), scheduled("one"), after_s=number)
    writer.commit("run3", RunCompleted(), after_s=4)
    await project(stack.runs(), writer.messages)
    stragglers = PostgresStragglers(stack.pool)
    assert await stragglers.due(at(30), None, 10) == []
    due = await stragglers.due(at(40), None, 2)
    assert [each.run for each in due] == ["run0", "run1"]
    assert [each.run for each in await stragglers.due(at(40), (ORG, "run1"), 10)] == ["run2", "run4"]


async def test_ahead_of_their_time_those_are_stragglers_that_are_still_and_not_those_that_wait_for_it(
    stack: Stack,
) -> None:
    writer = Writer()
    rest = WaitOpened(wait="delay:rest", kind="delay", due=at(40), step="rest")
    writer.commit("rests", started(receipt="rests"), rest)
    writer.commit("works", started(receipt="works"), scheduled("one"))
    writer.commit("does-both", started(receipt="both"), scheduled("one"), rest)
    await project(stack.runs(), writer.messages)
    stragglers = PostgresStragglers(stack.pool)
    assert await stragglers.due(at(20), None, 10) == []
    early = await stragglers.due(at(20), None, 10, timedelta(seconds=30))
    assert [each.run for each in early] == ["does-both", "works"]
    due = await stragglers.due(at(50), None, 10)
    assert [each.run for each in due] == ["does-both", "rests", "works"]


async def test_who_waits_for_a_run_in_vain_is_found_and_who_goes_on_for_nobody(stack: Stack) -> None:
    writer = Writer()
    parents = ("ended", "goes-on", "missing", "let-go", "stopping")
    for number, name in enumerate(parents):
        writer.commit(name, started(receipt=name), *asking("call", child=f"of-{name}"), after_s=number)
    for name in (*parents, "forgotten"):
        if name != "missing":
            parent = Parent(run=name if name in parents else "goes-on", step="call", waits=name in parents)
            start = structs.replace(started(receipt=f"of-{name}"), parent=parent)
            writer.commit(f"of-{name}", start, *asking("ask", child="nobody"), after_s=6)
    writer.commit("of-ended", RunCompleted(), after_s=7)
    writer.commit(
        "let-go",
        WaitEnded(wait="child:call:1"),
        StepFailed(step="call", node="call", error=Failure(code="no", message="No.")),
    )
    writer.commit("stopping", RunStopping(outcome="cancelled"), after_s=8)
    await project(stack.runs(), writer.messages)
    stragglers = PostgresStragglers(stack.pool)
    due = await stragglers.due(at(20), None, 20)
    assert {(each.run, each.unwanted) for each in due if each.unwanted} == {
        ("of-let-go", True),
        ("of-stopping", True),
    }
    looks = {each.run for each in due if not each.unwanted}
    assert {"ended", "missing"} <= looks
    assert not looks & {"goes-on", "let-go", "stopping", "of-ended"}
    assert [each.run for each in await stragglers.due(at(20), (ORG, "of-let-go"), 20) if each.unwanted] == [
        "of-stopping"
    ]
    writer.commit("of-let-go", RunReopened(by="key:1", steps=()))  # Whoever opened it again wants it.
    await project(stack.runs(), writer.messages)
    due = await stragglers.due(at(20), None, 20)
    assert [each.run for each in due if each.unwanted] == ["of-stopping"]


async def test_a_failed_run_is_looked_at_until_the_run_that_is_told_is_there(stack: Stack) -> None:
    writer = Writer()
    for name in ("untold", "told"):
        asked = HandlerAsked(child=f"of-{name}", workflow="alarm", version=1, plan="cd" * 32, input=value(1))
        failed = RunFailed(error=Failure(code="no", message="No."))
        writer.commit(name, started(receipt=name), asked, failed, after_s=1)
    writer.commit("of-told", started(receipt="of-told"), after_s=2)
    await project(stack.runs(), writer.messages)
    stragglers = PostgresStragglers(stack.pool)
    assert await stragglers.due(at(3), None, 10) == []
    assert [each.run for each in await stragglers.due(at(10), None, 10)] == ["untold"]
    assert [each.run for each in await stragglers.due(at(7_000), None, 10) if each.run == "untold"]
    much_later = at(8_000)
    await stragglers.due(much_later, None, 10)
    long_ago = await stragglers.due(much_later, None, 10)
    assert not [each for each in long_ago if each.run == "untold"]
    anew = PostgresStragglers(stack.pool)
    assert [each for each in await anew.due(much_later, None, 10) if each.run == "untold"], (
        "who begins looks far"
    )
