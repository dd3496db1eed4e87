"""A duplicate that comes months later, after history and tombstone left, starts nothing: orchestrator and archiver on real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import Raw, Struct, structs

from chassis.clock import SystemClock
from chassis.dispatch import QUEUED, Dispatch
from chassis.ids import digest, receipt, run_id
from chassis.jetstream import JetStream, jetstream
from chassis.lifecycle import Stopping
from chassis.past import Horizon, PastRuns, PostgresRunIds
from chassis.postgres import Pool, pool
from chassis.sealing import SigningKey
from chassis.settings import Settings
from contracts.codec import encode, encode_bundle
from contracts.messages import CancelRun, RetryRun, StartRun, StepDone, Wake
from contracts.payloads import Inline
from contracts.runs import Cause
from contracts.subjects import partition
from contracts.subjects import run as run_subject
from deploy.servers import PostgresAddress
from deploy.testing.embedded import NatsServer
from orchestrator.__main__ import main as orchestrator
from projections.__main__ import main as projections
from projections.archiver import Archiver, Tombstones
from projections.figures import Figures
from projections.queries import ROW_TYPES
from projections.shelf import PostgresShelf
from projections.streams import JetStreamStreams
from tests.migrated import migrated
from tests.orchestrator.stories import control, drawn

ORG = "org_default"
LONG_AGO = "018bcfe5-6800-7000-8000-00000000000{}"


class Place(Struct):
    """One log, one archive, and who writes to them."""

    js: JetStream
    projector: Pool
    roles: dict[str, Settings]
    settings: Settings
    superuser: Any
    dispatch: Dispatch
    plan: str = ""

    def start(self, *, key: str | None = None, receipt: str = LONG_AGO.format(1)) -> StartRun:
        named = f"key:{key}" if key is not None else f"receipt:{receipt}"
        return StartRun(
            org=ORG,
            run=run_id(ORG, "trigger1", named),
            plan=self.plan,
            workflow="flow",
            version=1,
            receipt=receipt,
            cause=Cause(kind="webhook", id=receipt),
            input=Inline(value=Raw(b'{"body":null}')),
            trigger="trigger1",
            dedupe=None if key is None else digest(key.encode()),
        )

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[None]:
        """An orchestrator, from its start to its end."""
        stopping = Stopping()
        settings = structs.replace(self.settings, **_postgres(self.roles["orchestrator"]))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(orchestrator(settings, stopping))
            try:
                async with asyncio.timeout(60):
                    while (await self.dispatch.send(self.start(key="first of all"))) is QUEUED:
                        await asyncio.sleep(0.1)
                yield
            finally:
                stopping.request()
            await task

    async def answered(self, message: Any) -> Any:
        """What its owner says. Not every partition need be owned yet; every one of these may be said again."""
        async with asyncio.timeout(60):
            while (answer := await self.dispatch.send(message)) is QUEUED:
                await asyncio.sleep(0.1)
        return answer

    async def archived(self, *runs: str) -> None:
        async with asyncio.timeout(60):
            ended = "select count(*) from archive.run_ids where ended is not null and run = any($1::text[])"
            while await self.projector.fetchval(ended, list(runs)) < len(runs):
                await asyncio.sleep(0.02)

    async def left(self, run: str) -> int:
        return len(await self.js.log.history(run_subject(ORG, run)))

    def archiver(self, figures: Figures) -> Archiver:
        return Archiver(
            PostgresShelf(self.projector),
            JetStreamStreams(self.js.connection),
            self.js.log,
            SystemClock(),
            figures,
            log_days=0.0,
            archive_days="never",
            tombstones=Tombstones(marks=self.js.marks, most=0, settled_seconds=0.0, marked_seconds=0.0),
        )

    async def postgres_is_away(self, *, away: bool) -> None:
        await self.superuser.execute(f"alter role orchestrator connection limit {0 if away else -1}")
        if away:
            await self.superuser.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where usename = 'orchestrator' and datname = current_database()"
            )


def _postgres(role: Settings) -> dict[str, Any]:
    return {name: getattr(role, name) for name in Settings.__struct_fields__ if name.startswith("postgres_")}


@pytest.fixture
async def place(database: PostgresAddress, streams: NatsServer, tmp_path: Path) -> AsyncIterator[Place]:
    roles = await migrated(database, tmp_path / "passwords")
    key = tmp_path / "signing.key"
    SigningKey.generate(key)
    settings = structs.replace(
        roles["projector"],
        nats_url=streams.url,
        projections_port=0,
        orchestrator_port=0,
        signing_key_file=str(key),
        retention_days="never",
    )
    superuser = await asyncpg.connect(**database.login())
    async with (
        pool(roles["projector"], begins_with=ROW_TYPES) as projector,
        jetstream(settings, "tests", SystemClock()) as js,
        asyncio.TaskGroup() as group,
    ):
        dispatch = Dispatch(js.signals, js.inbox)
        opened = Place(
            js=js,
            projector=projector,
            roles=roles,
            settings=settings,
            superuser=superuser,
            dispatch=dispatch,
        )
        plan = encode(drawn("pick", control("pick", "set", {"fields": {"n": 1}})))
        opened.plan = (await js.blobs.put(plan, "application/vnd.automateos.plan+json")).sha256
        stopping = Stopping()
        carrying = group.create_task(dispatch.run())
        projecting = group.create_task(projections(settings, stopping))
        yield opened
        stopping.request()
        await projecting
        carrying.cancel()
    await superuser.close()


async def test_nothing_starts_again_after_history_and_tombstone_left(place: Place) -> None:
    keyed, plain = place.start(key="order-7"), place.start()
    ids = PastRuns(PostgresRunIds(place.projector), Horizon(place.js.marks, SystemClock()))
    async with place.deciding():
        for start in (keyed, plain):
            assert (await place.answered(start)).result == "accepted"
        await place.archived(keyed.run, plain.run)
    figures = Figures()
    await place.archiver(figures).round()
    assert (figures.purged, figures.forgotten) == (3, 3), "one more: the start that found the orchestrator"
    assert (await place.left(keyed.run), await place.left(plain.run)) == (0, 0)

    async with place.deciding():
        again = await place.answered(structs.replace(keyed, receipt=receipt()))
        assert (again.result, again.receipt, again.gone) == ("duplicate", keyed.receipt, True)
        # The start without a key comes again out of INBOX, as it does when its acknowledgement was lost.
        number = partition(plain.run)
        await place.js.inbox.put(number, encode_bundle([encode(plain)]))
        late = [
            StepDone(
                org=ORG, run=plain.run, step="pick", attempt=1, executor="executor:1", output=plain.input
            ),
            Wake(org=ORG, run=plain.run, wait="retry/pick/1"),
        ]
        for message in late:
            assert (await place.answered(message)).result == "nothing"
        repeated = await place.answered(plain)
        assert (repeated.result, repeated.receipt) == ("accepted", plain.receipt)
        # A new key starts as ever.
        fresh = place.start(key="order-8")
        assert (await place.answered(fresh)).result == "accepted"
        assert await place.left(fresh.run) == 1
        assert (await place.left(keyed.run), await place.left(plain.run)) == (0, 0)
        assert (await ids.of(ORG, keyed.run)).receipt == keyed.receipt  # type: ignore[union-attr]  # It is there.

        await place.postgres_is_away(away=True)
        assert await place.dispatch.send(structs.replace(keyed, receipt=receipt())) is QUEUED
        unknown = place.start(key="order-9")
        assert await place.dispatch.send(unknown) is QUEUED
        young = place.start(receipt=receipt())
        assert (await place.answered(young)).result == "accepted", "a start without a key needs no archive"
        assert await place.left(unknown.run) == 0
        await place.postgres_is_away(away=False)
        async with asyncio.timeout(60):
            while await place.left(unknown.run) == 0:
                await asyncio.sleep(0.05)
        assert await place.left(keyed.run) == 0


async def test_a_run_of_which_the_log_has_nothing_is_reopened_out_of_the_archive_and_leaves_again(
    place: Place,
) -> None:
    start = place.start(key="order-7")
    async with place.deciding():
        await place.dispatch.send(start)
        await place.archived(start.run)
        await place.archiver(Figures()).round()
        assert await place.left(start.run) == 0
        # It completed, so it is not reopened; but it is known, and known to have ended.
        retried = await place.dispatch.send(RetryRun(org=ORG, run=start.run, actor="key:1"))
        assert retried.error is not None
        assert (retried.error.code, retried.error.message) == ("run.not_reopenable", "The run is completed.")
        cancelled = await place.dispatch.send(CancelRun(org=ORG, run=start.run, actor="key:1"))
        assert cancelled.error is not None
        assert cancelled.error.code == "run.ended"
        # Failed for want of its plan: that one goes on from the archive, behind a log that is empty.
        failed = structs.replace(place.start(key="order-8"), plan="0" * 64)
        await place.dispatch.send(failed)
        await place.archived(failed.run)
        await place.archiver(Figures()).round()
        assert await place.left(failed.run) == 0
        reopened = await place.dispatch.send(RetryRun(org=ORG, run=failed.run, actor="key:1"))
        assert reopened.result == "accepted"
        [commit] = await place.js.log.history(run_subject(ORG, failed.run))
        assert b'"version":2,' in commit.body
        again = await place.dispatch.send(structs.replace(failed, receipt=receipt()))
        assert again.result == "duplicate"
        async with asyncio.timeout(60):
            while (
                await place.projector.fetchval(
                    "select version from archive.run_ids where run = $1 and ended is not null", failed.run
                )
                != 2
            ):
                await asyncio.sleep(0.02)
        troubles = await place.projector.fetchval("select count(*) from read.dead_letters")
        assert troubles == 0, "the chain holds across the emptiness"
        await place.archiver(Figures()).round()
        assert await place.left(failed.run) == 0
