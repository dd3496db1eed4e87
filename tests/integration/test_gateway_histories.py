"""A history is one for its reader, wherever its parts lie: in the log, in the archive, or in both."""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from pathlib import Path

import pytest
from msgspec import Struct, structs

from chassis.ids import digest
from chassis.ports import Away, Stored
from chassis.postgres import Pool, pool
from contracts.codec import encode
from contracts.runs import CancelRequested
from contracts.subjects import run as run_subject
from deploy.servers import PostgresAddress
from gateway.runs.histories import StoredHistories, events_of
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
        commits = await StoredHistories(self.gateway, self.log).commits(org, RUN)
        assert [told.number for told in events_of(commits)] == list(range(1, len(commits) + 1))
        return [(told.version, told.id) for told in events_of(commits)]


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
