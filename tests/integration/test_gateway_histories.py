"""A history is one for its reader, wherever its parts lie: in the log, in the archive, or in both."""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from pathlib import Path

import pytest
from msgspec import Struct, structs

from chassis.ids import digest
from chassis.ports import Away, Stored
from chassis.postgres import Pool, pool
from contracts.codec import decode_envelope, encode
from contracts.runs import CancelRequested
from contracts.subjects import run as run_subject
from deploy.servers import PostgresAddress
from gateway.live.missed import PostgresArchive
from gateway.live.tail import Mark
from gateway.runs.histories import StoredHistories, events_after
from tests.gateway.fakes import MemoryLog, commit_of
from tests.migrated import migrated

ORG, RUN = "acme", "r1"
WEEK = date(2026, 11, 16)


def body(version: int, org: str = ORG) -> bytes:
    return encode(commit_of(org, RUN, [CancelRequested(by=f"key:{version}")], version=version))


class Shelf(Struct):
    """A log and an archive into which a test puts what it wants."""

    log: MemoryLog
    gateway: Pool
    projector: Pool

    async def archive(self, *versions: int, epoch: int = 1, org: str = ORG) -> None:
        for version in versions:
            stored = body(version, org)
            await self.projector.execute(
                "insert into archive.commits (week, org, run, version, epoch, sequence, time, ended, hash, body)"
                " values ($1, $2, $3, $4, $5, $6, now(), false, $7, $8)",
                WEEK,
                org,
                RUN,
                version,
                epoch,
                version * 10,
                bytes.fromhex(digest(stored)),
                stored,
            )

    def keep(self, *versions: int) -> None:
        """In the log, as if everything else had been purged."""
        self.log.messages = [Stored(run_subject(ORG, RUN), v * 10, body(v)) for v in versions]

    async def read(self, org: str = ORG) -> Sequence[tuple[int, str]]:
        told = await events_after(StoredHistories(self.gateway, self.log), org, RUN, 0, 1_000) or []
        assert [each.number for each in told] == list(range(1, len(told) + 1))
        return [(each.version, each.id) for each in told]


@pytest.fixture
async def shelf(database: PostgresAddress, tmp_path: Path) -> AsyncIterator[Shelf]:
    roles = await migrated(database, tmp_path / "passwords")
    async with pool(roles["gateway"]) as gateway, pool(roles["projector"]) as projector:
        await projector.execute("select archive.make_week($1)", WEEK)
        yield Shelf(MemoryLog(), gateway, projector)


WHOLE = [(1, "1-10-0"), (2, "1-20-0"), (3, "1-30-0")]


@pytest.mark.parametrize(
    ("archived", "kept"),
    [
        ((), (1, 2, 3)),
        ((1, 2), (1, 2, 3)),
        ((1, 2), (2, 3)),
        ((1, 2), (3,)),
        ((1, 2, 3), (3,)),
        ((1, 2, 3), ()),
    ],
)
async def test_every_commit_is_told_once_and_in_order(
    shelf: Shelf, archived: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    await shelf.archive(*archived)
    shelf.keep(*kept)
    assert await shelf.read() == WHOLE


async def test_what_was_archived_before_a_restore_keeps_its_place_of_then(shelf: Shelf) -> None:
    await shelf.archive(1, 2, epoch=1)
    shelf.log.epoch = 2
    shelf.keep(3)
    assert await shelf.read() == [(1, "1-10-0"), (2, "1-20-0"), (3, "2-30-0")]


async def test_another_orgs_history_is_not_there(shelf: Shelf) -> None:
    await shelf.archive(1, 2, org="other")
    assert await shelf.read() == []
    assert len(await shelf.read("other")) == 2


async def test_with_postgres_away_a_history_that_lies_in_the_log_is_told(
    shelf: Shelf, database: PostgresAddress, tmp_path: Path
) -> None:
    roles = await migrated(database, tmp_path / "passwords")
    nowhere = structs.replace(roles["gateway"], postgres_host="127.0.0.1", postgres_port=1)
    async with pool(nowhere) as away:
        shelf = structs.replace(shelf, gateway=away)
        shelf.keep(1, 2, 3)
        assert await shelf.read() == WHOLE
        for kept in ((3,), ()):
            shelf.keep(*kept)
            with pytest.raises(Away):
                await shelf.read()


async def feed(shelf: Shelf, sequence: int, org: str = ORG) -> tuple[bool, list[int]]:
    """Whether nothing is missing after an event, and what the archive has behind it."""
    archive = PostgresArchive(shelf.gateway)
    found = [seen.kept async for seen in archive.commits(org, 1, sequence)]
    assert all(decode_envelope(kept.body).version * 10 == kept.sequence for kept in found)
    return await archive.whole_since(org, Mark(1, sequence, 0)), [kept.sequence for kept in found]


async def test_the_org_feed_pages_through_the_archive_in_order(shelf: Shelf) -> None:
    await shelf.archive(*range(250, 0, -1))
    await shelf.archive(260, epoch=2)
    await shelf.archive(300, org="other")
    assert await feed(shelf, 200) == (True, [number * 10 for number in range(21, 251)])
    assert await feed(shelf, 2500) == (True, [])
    assert await feed(shelf, 0, "other") == (True, [3000])


@pytest.mark.parametrize(
    ("dropped", "sequence", "whole"),
    [(-1, 10, True), (0, 10, False), (1, 10, False), (-1, 20, False), (None, 20, True)],
    ids=["later", "same day", "earlier", "gone itself", "never dropped"],
)
async def test_the_org_feed_knows_whether_retention_took_some_of_it(
    shelf: Shelf, dropped: int | None, sequence: int, whole: bool
) -> None:
    await shelf.archive(1)
    if dropped is not None:
        await shelf.projector.execute(
            "insert into archive.dropped (org, through)"
            " values ($1, (now() at time zone 'utc')::date + $2::int)",
            ORG,
            dropped,
        )
    assert (await feed(shelf, sequence))[0] is whole
