"""Log lines on a real nats-server: read from any place, expired visibly, and never in anybody's way."""

from datetime import UTC, datetime

from chassis.clock import SystemClock
from chassis.jetstream import JetStream
from chassis.ports import Proposal
from contracts.codec import encode
from contracts.logs import LogLine, LogRecord
from contracts.subjects import LOGS
from contracts.subjects import log as log_subject
from contracts.subjects import run as run_subject
from gateway.logs.lines import LineFilter, Place
from gateway.logs.reading import Logs, StoredLogs
from tests.gateway.fakes import commit_of
from tests.integration.conftest import OpenPorts

EVERYTHING = LineFilter()


async def said(ports: JetStream, run: str, text: str, *, org: str = "org_default", step: str = "a") -> None:
    line = LogLine(time=1_790_000_000.5, text=text)
    record = LogRecord(org=org, run=run, step=step, node="a", attempt=1, executor="e", lines=(line, line))
    await ports.letters.store(log_subject(org, run, step), encode(record))


async def began(ports: JetStream, run: str, version: int = 1) -> None:
    commit = commit_of("org_default", run, [], version=version)
    assert await ports.log.append([Proposal(run_subject("org_default", run), encode(commit), 0)]) != [None]


def logs_of(ports: JetStream) -> Logs:
    return Logs(StoredLogs(ports.connection, SystemClock()))


async def test_the_lines_of_one_run_are_read_page_by_page_among_those_of_others(
    open_ports: OpenPorts,
) -> None:
    async with open_ports() as ports:
        for number in range(300):
            await said(ports, "r1", f"{number}")
            await said(ports, "r1", "theirs", org="other")
            await said(ports, "r2", "another's")
        logs, texts, cursor = logs_of(ports), [], None
        while True:
            page = await logs.page("org_default", "r1", EVERYTHING, cursor, 77)
            texts += [line.text for line in page.items]
            if page.next is None:
                break
            cursor = page.next
        assert texts == [str(number) for number in range(300) for _ in range(2)]
        found = await logs.scan("org_default", "r1", LineFilter(contains="299"), Place(), 10)
        assert [line.text for line in found.lines] == ["299", "299"]
        nothing = await logs.page("org_default", "r1", LineFilter(step="b"), None, 10)
        assert (nothing.items, nothing.next) == ([], None)


async def test_what_has_expired_is_told_to_runs_that_are_old_enough_only(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        logs = logs_of(ports)
        await began(ports, "old")
        for number in range(10):
            await said(ports, "old", f"{number}")
        assert (await logs.page("org_default", "old", EVERYTHING, None, 200)).expired_before is None
        await ports.connection.api(f"STREAM.PURGE.{LOGS}", {"seq": 6})
        await began(ports, "young")
        kept = await logs.kept()
        assert (kept.first, kept.last) == (6, 10)
        page = await logs.page("org_default", "old", EVERYTHING, None, 200)
        assert [line.text for line in page.items[::2]] == ["5", "6", "7", "8", "9"]
        assert page.expired_before == datetime.fromtimestamp(kept.since, UTC)
        assert (await logs.page("org_default", "young", EVERYTHING, None, 200)).expired_before is None
        # Of a history that left the log only the tombstone tells, and not when it began.
        await began(ports, "tombstone", version=4)
        assert (await logs.page("org_default", "tombstone", EVERYTHING, None, 200)).expired_before is not None
        await ports.connection.api(f"STREAM.PURGE.{LOGS}")
        assert (await logs.page("org_default", "young", EVERYTHING, None, 200)).expired_before is not None


async def test_a_full_stream_of_lines_lets_go_of_the_oldest_and_refuses_nobody(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        information = await ports.connection.api(f"STREAM.INFO.{LOGS}")
        await ports.connection.api(f"STREAM.UPDATE.{LOGS}", information["config"] | {"max_bytes": 50_000})
        await began(ports, "r1")
        for number in range(200):
            await said(ports, "r1", f"{number} " + "x" * 1_000)
        kept = await logs_of(ports).kept()
        assert kept.last == 200
        assert kept.first > 100
        page = await logs_of(ports).page("org_default", "r1", EVERYTHING, None, 200)
        assert page.items[-1].text.startswith("199 ")
        assert page.expired_before is not None
