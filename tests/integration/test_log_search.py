"""What the searchable copy of LOGS promises on a real Postgres: bounded, one org's alone, and stopped by no hostile line."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from chassis.clock import SystemClock
from chassis.edge.problems import Problem
from chassis.ports import Away, Stored
from chassis.postgres import Pool, as_org, pool
from chassis.settings import Settings
from contracts.codec import encode
from contracts.limits import LOG_RECORD_BYTES
from contracts.logs import LogLine, LogRecord
from contracts.subjects import LOGS
from contracts.subjects import log as log_subject
from deploy.servers import PostgresAddress
from gateway.logs import search
from gateway.logs.lines import LineFilter
from gateway.logs.search import LogSearch, Sought
from projections.figures import Figures, Progress
from projections.guard import FOLLOWED, begin
from projections.log_records import LogRecords, LogRetention
from projections.models import writing
from projections.projector import advance
from projections.queries import ROW_TYPES
from projections.streams import StreamFacts
from tests.migrated import migrated

ORG = "org_default"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Facts:
    """A stream that is as long as a test says."""

    def __init__(self, first: int = 1, last: int = 0) -> None:
        self.first, self.last = first, last

    async def facts(self, stream: str) -> StreamFacts:
        return StreamFacts(name=stream, created="then", epoch=1, first=self.first, last=self.last)


class Copy(Struct):
    """The copy, whoever writes it and whoever reads it."""

    projector: Pool
    gateway: Pool
    figures: Figures
    messages: list[Stored]

    def said(
        self,
        *texts: str,
        org: str = ORG,
        run: str = "r1",
        at: float = 0.0,
        level: Any = "info",
        fields: dict[str, Any] | None = None,
    ) -> None:
        time = NOON.timestamp() + at
        lines = tuple(
            LogLine(time=time + n / 1000, text=text, level=level, fields=fields or {})
            for n, text in enumerate(texts)
        )
        record = LogRecord(org=org, run=run, step="a", node="a", attempt=1, executor="e", lines=lines)
        self.store(encode(record), org=org, run=run)

    def store(self, body: bytes, *, org: str = ORG, run: str = "r1") -> None:
        self.messages.append(Stored(log_subject(org, run, "a"), len(self.messages) + 1, body))

    async def project(self) -> None:
        projection = LogRecords(self.projector, self.figures, SystemClock(), longest_rest=0.0)
        position = await projection.position()
        rest = [each for each in self.messages if each.sequence > position.sequence]
        if rest:
            await advance(projection, rest, position, 1, Progress(name="logs", stream=LOGS))

    async def find(self, *, org: str = ORG, limit: int = 50, **sought: Any) -> list[str]:
        """The texts, page by page until there are no more."""
        lines = {key: sought.pop(key) for key in ("level", "contains") if key in sought}
        texts: list[str] = []
        cursor = None
        while True:
            wanted = Sought(lines=LineFilter(**lines), **sought)
            page = await LogSearch(self.gateway).find(org, wanted, cursor, limit)
            assert len(page.items) <= limit
            texts += [line.text for line in page.items]
            cursor = page.next
            if cursor is None:
                return texts


@pytest.fixture
async def copy(database: PostgresAddress, tmp_path: Path) -> AsyncIterator[Copy]:
    roles: dict[str, Settings] = await migrated(database, tmp_path / "passwords")
    async with (
        pool(roles["projector"], by_index=True, begins_with=ROW_TYPES) as projector,
        pool(roles["gateway"]) as gateway,
    ):
        async with writing(projector) as connection:
            for each in FOLLOWED:
                await begin(connection, each, await Facts().facts(each.stream), 0)
        yield Copy(projector=projector, gateway=gateway, figures=Figures(), messages=[])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
async def test_every_line_is_found_once_the_newest_first_whatever_the_pages(copy: Copy, limit: int) -> None:
    for number in range(20):
        copy.said(*(f"{number}.{line}" for line in range(number % 4 + 1)), at=number)
    copy.said("same time", at=19)
    await copy.project()
    expected = ["same time"]
    expected += [
        f"{number}.{line}" for number in reversed(range(20)) for line in reversed(range(number % 4 + 1))
    ]
    assert await copy.find(limit=limit) == expected


async def test_lines_are_found_by_level_text_time_and_workflow(copy: Copy) -> None:
    async with copy.projector.acquire() as connection:
        for run, workflow in (("r1", "w1"), ("r2", "w2")):
            await connection.execute(
                "insert into read.runs (org, id, workflow, week, started, last_time, status, head_version, head_hash, "
                "folded_version, epoch, sequence) values ($1, $2, $3, '2026-11-16', $4, $4, 'running', 1, '', 1, 1, 1)",
                ORG, run, workflow, NOON,
            )  # fmt: skip
    copy.said('Eins "A" \\ ü', "zwei", at=0)
    copy.said("drei", run="r2", at=60, level="error", fields={"host": "API.example"})
    copy.said("vier", run="r3", at=120, level="debug")
    await copy.project()
    assert await copy.find(level="info") == ["drei", "zwei", 'Eins "A" \\ ü']
    assert await copy.find(level="error") == ["drei"]
    assert await copy.find(contains='EINS "a" \\ ü') == ['Eins "A" \\ ü']
    assert await copy.find(contains="api.EXAMPLE") == ["drei"]
    assert await copy.find(contains="%") == await copy.find(contains="_") == []
    assert await copy.find(contains="executor") == [], "not in what JSON puts around it"
    assert await copy.find(workflow="w1") == ["zwei", 'Eins "A" \\ ü']
    assert await copy.find(workflow="w2", level="error", contains="drei") == ["drei"]
    assert await copy.find(workflow="nothing") == []
    assert await copy.find(since=NOON + timedelta(seconds=60)) == ["vier", "drei"]
    assert await copy.find(until=NOON + timedelta(seconds=60)) == ["zwei", 'Eins "A" \\ ü']
    assert await copy.find(since=NOON + timedelta(milliseconds=1), until=NOON + timedelta(seconds=1)) == [
        "zwei"
    ]
    ends = {"since": datetime.min.replace(tzinfo=UTC), "until": datetime.max.replace(tzinfo=UTC)}
    assert len(await copy.find(**ends)) == 4


async def test_a_search_looks_at_so_many_records_at_once_and_says_how_far_it_came(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOG_SEARCH_RECORDS", 10)
    for number in range(35):
        copy.said("needle" if number == 2 else "hay", at=number)
    await copy.project()
    log_search = LogSearch(copy.gateway)
    sought = Sought(lines=LineFilter(contains="needle"))
    page = await log_search.find(ORG, sought, None, 50)
    assert page.items == []
    assert page.next is not None
    assert page.looked_back_to == NOON + timedelta(seconds=25)
    assert log_search.looked_at == 10
    assert await copy.find(contains="needle") == ["needle"]


async def test_another_orgs_lines_are_not_there(copy: Copy) -> None:
    """Promise 7."""
    copy.said("ours")
    copy.said("theirs", org="other")
    forged = LogRecord(
        org=ORG,
        run="r1",
        step="a",
        node="a",
        attempt=1,
        executor="e",
        lines=(LogLine(time=1.0, text="forged"),),
    )
    copy.store(encode(forged), org="other")
    await copy.project()
    assert await copy.find() == ["ours"]
    assert await copy.find(org="other") == ["theirs"]
    assert copy.figures.unreadable_logs == 1
    async with as_org(copy.gateway, "other") as connection:
        assert await connection.fetchval("select count(*) from read.log_records") == 1
    async with copy.gateway.acquire() as connection:
        assert await connection.fetchval("select count(*) from read.log_records") == 0


def _with(part: bytes) -> bytes:
    return (
        b'{"org":"org_default","run":"r1","step":"a","node":"a","attempt":1,"executor":"e","lines":['
        + part
        + b"]}"
    )


HOSTILE = [
    b"",
    b"\xff\xfe",
    b"null",
    _with(b'{"time":1,"text":"\\ud800"}'),
    _with(b'{"time":1e300,"text":"end of time"}'),
    _with(b'{"time":-1,"text":"before time"}'),
    _with(b'{"time":1,"text":"x","fields":{"a":%s}}' % (b"9" * 5_000)),
    _with(b'{"time":1,"text":"x","fields":{"a":%s1%s}}' % (b"[" * 3_000, b"]" * 3_000)),
    _with(b'{"time":1,"text":"%s"}' % (b"x" * 4_001)),
    _with(b'{"time":1,"text":"x","level":"fatal"}'),
    _with(b",".join([b'{"time":1,"text":"x"}'] * 1_001)),
    _with(b'{"time":1,"text":"x","fields":{"a":"%s"}}' % (b"y" * 5 * LOG_RECORD_BYTES)),
    _with(b""),
]


async def test_no_hostile_line_stops_the_others_and_those_that_can_be_shown_are(copy: Copy) -> None:
    copy.said("before")
    for body in HOSTILE:
        copy.store(body)
    copy.said("nul \0", "lone \ufffd", "crlf \r\n", "rtl \u202e", "emoji \U0001f600", at=1)
    copy.said("deep", fields={"a": [[{"b": "\0"}]], "\0": 2**70}, at=2)
    copy.said("behind", at=3)
    await copy.project()
    assert copy.figures.unreadable_logs == len(HOSTILE)
    assert await copy.find() == [
        "behind", "deep", "emoji \U0001f600", "rtl \u202e", "crlf \r\n", "lone \ufffd", "nul \0", "before",
    ]  # fmt: skip
    assert await copy.find(contains="NUL \0") == ["nul \0"]
    assert await copy.find(contains="\r\n") == ["crlf \r\n"]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "====",
        "\0",
        base64.urlsafe_b64encode(b'["0001-01-01T00:00:00+23:59",1,1,1]').decode(),
        base64.urlsafe_b64encode(b'["2026-01-01T00:00:00",1,1,1]').decode(),
        base64.urlsafe_b64encode(json.dumps(["2026-01-01T00:00:00Z", 2**60, 1, 1]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["2026-01-01T00:00:00Z", 1, 1, -1]).encode()).decode(),
    ],
)
async def test_a_cursor_that_is_none_is_refused(copy: Copy, cursor: str) -> None:
    with pytest.raises(Problem):
        await LogSearch(copy.gateway).find(ORG, Sought(lines=LineFilter()), cursor, 10)


async def test_what_the_stream_lets_go_of_leaves_the_copy(copy: Copy) -> None:
    for number in range(25):
        copy.said(str(number), at=number)
    await copy.project()
    retention = LogRetention(copy.projector, Facts(first=1, last=25), copy.figures, most=4)  # type: ignore[arg-type]
    await retention.expire()
    assert copy.figures.expired_logs == 0
    retention = LogRetention(copy.projector, Facts(first=22, last=25), copy.figures, most=4)  # type: ignore[arg-type]
    await retention.expire()
    assert copy.figures.expired_logs == 21
    assert await copy.find() == ["24", "23", "22", "21"]


async def test_a_stream_that_lost_its_end_is_read_again_and_nothing_is_doubled(copy: Copy) -> None:
    for number in range(6):
        copy.said(str(number), at=number)
    await copy.project()
    del copy.messages[3:]
    copy.said("took a number that was known", at=10)
    retention = LogRetention(copy.projector, Facts(last=len(copy.messages)), copy.figures)  # type: ignore[arg-type]
    await retention.look()
    await copy.project()
    await retention.look()
    assert await copy.find() == ["took a number that was known", "5", "4", "3", "2", "1", "0"]
    assert await copy.projector.fetchval("select sequence from read.positions where projection = 'logs'") == 4


async def test_while_postgres_is_away_a_search_says_so(copy: Copy) -> None:
    copy.gateway.terminate()
    with pytest.raises(Away):
        await copy.find()
