"""Log lines: `python -m bench.logs [records]`. What the searchable copy costs, and what a search costs with it and without.

* stored: records of three lines each, as executors publish them, into LOGS.
* copied: the projection's work without its rests, and how large the rows are.
* read: the lines of one run, in LOGS.
* search: one page of the copy for a word that nobody said (5,000 records are looked at), and for the newest 50 lines.
* stream: the same for a word that nobody said, in LOGS itself: it can only be read from its beginning.
"""

import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from chassis.clock import SystemClock
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.connection import connect
from chassis.jetstream.reads import direct
from chassis.postgres import Pool, pool
from chassis.reconcile import reconcile
from chassis.settings import Settings
from contracts.codec import encode
from contracts.limits import MIB
from contracts.logs import LogLine, LogRecord
from contracts.subjects import LOGS
from contracts.subjects import log as log_subject
from deploy.database import ROLES, migrate
from deploy.testing.embedded import embedded_servers
from gateway.logs.lines import LineFilter, record_of
from gateway.logs.reading import Logs, StoredLogs
from gateway.logs.search import LogSearch, Sought
from projections.figures import Figures, Progress
from projections.guard import check
from projections.log_records import LogRecords
from projections.projector import BATCH, advance
from projections.queries import ROW_TYPES
from projections.streams import JetStreamStreams

RECORDS: Final = 100_000
ORGS: Final = 10
AT_ONCE: Final = 500
SEARCHES: Final = 20
NOBODY_SAID: Final = LineFilter(contains="nobody said this")


class Stores(Struct, frozen=True):
    js: JetStream
    projector: Pool
    gateway: Pool


@asynccontextmanager
async def stores() -> AsyncIterator[Stores]:
    with embedded_servers() as servers, tempfile.TemporaryDirectory() as folder:
        files = {role: Path(folder) / role for role in ROLES}
        for file in files.values():
            file.write_text(secrets.token_hex(16))
        await migrate(servers.postgres, files)
        roles = {
            role: Settings(
                nats_url=servers.nats_url,
                postgres_host=servers.postgres.host,
                postgres_port=servers.postgres.port,
                postgres_database=servers.postgres.database,
                postgres_user=role,
                postgres_password_file=str(file),
            )
            for role, file in files.items()
        }
        async with connect(servers.nats_url, name="reconciler") as connection:
            await reconcile(connection)
        async with (
            jetstream(roles["projector"], "bench", SystemClock()) as js,
            pool(roles["projector"], by_index=True, begins_with=ROW_TYPES) as projector,
            pool(roles["gateway"]) as gateway,
        ):
            yield Stores(js, projector, gateway)


def record(number: int) -> tuple[str, bytes]:
    org, run = f"org{number % ORGS}", f"run{number // 30:036d}"
    now = time.time()
    lines = (
        LogLine(time=now, text="Attempt 1 begins."),
        LogLine(
            time=now,
            text="POST to api.example.com: 200",
            fields={
                "method": "POST",
                "host": "api.example.com",
                "ms": number % 500,
                "status": 200,
                "bytes": 512,
            },
        ),
        LogLine(time=now, text="Attempt 1 succeeded.", fields={"took_ms": number % 500}),
    )
    said = LogRecord(
        org=org, run=run, step="call", node="call", attempt=1, executor="executor:bench", lines=lines
    )
    return log_subject(org, run, "call"), encode(said)


async def stored(js: JetStream, records: int) -> dict[str, float]:
    began, size = time.perf_counter(), 0
    for start in range(0, records, AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for number in range(start, min(start + AT_ONCE, records)):
                subject, body = record(number)
                size += len(body)
                group.create_task(js.letters.store(subject, body))
    seconds = time.perf_counter() - began
    return {"records_per_s": round(records / seconds), "mib": round(size / MIB, 1)}


async def copied(found: Stores, records: int) -> dict[str, float]:
    await check(found.projector, JetStreamStreams(found.js.connection))
    projection = LogRecords(found.projector, Figures(), SystemClock(), longest_rest=0.0)
    position, progress = await projection.position(), Progress(name="logs", stream=LOGS)
    began, busy = time.perf_counter(), time.process_time()
    async for batch in found.js.reader(LOGS).read(0, BATCH):
        position = await advance(projection, batch, position, 1, progress)
        if position.sequence >= records:
            break
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    size = await found.projector.fetchval("select pg_total_relation_size('read.log_records')")
    return {
        "records_per_s": round(records / seconds),
        "cpu_us_per_record": round(busy / records * 1e6),
        "bytes_per_record": round(size / records),
    }


async def searched(gateway: Pool, wanted: LineFilter, limit: int) -> dict[str, Any]:
    search, took = LogSearch(gateway), []
    for _ in range(SEARCHES):
        began = time.perf_counter()
        await search.find("org1", Sought(lines=wanted), None, limit)
        took.append((time.perf_counter() - began) * 1000)
    return {
        "looked_at": search.looked_at // SEARCHES,
        "ms_p50": round(sorted(took)[SEARCHES // 2], 1),
        "ms_max": round(max(took), 1),
    }


async def read(js: JetStream) -> dict[str, float]:
    """One run's lines, where they lie."""
    logs, took = Logs(StoredLogs(js.connection, SystemClock())), []
    for number in range(SEARCHES):
        began = time.perf_counter()
        page = await logs.page("org1", f"run{number * 100:036d}", LineFilter(), None, 200)
        took.append((time.perf_counter() - began) * 1000)
        if len(page.items) != 9:
            raise SystemExit(f"{len(page.items)} lines, expected 9")
    return {"ms_p50": round(sorted(took)[SEARCHES // 2], 1), "ms_max": round(max(took), 1)}


async def streamed(js: JetStream) -> dict[str, float]:
    """What an org's search in LOGS itself reads and decodes, to its end."""
    began, busy = time.perf_counter(), time.process_time()
    start, more, seen = 1, True, 0
    while more:
        request = {"batch": 1_000, "next_by_subj": "log.org1.>", "seq": start, "max_bytes": 2 * MIB}
        messages, more = await direct(js.connection, LOGS, request)
        for message in messages:
            found = record_of(message.body, message.sequence)
            seen += found is not None and not any(NOBODY_SAID.fits(found, line) for line in found.lines)
            start = message.sequence + 1
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    return {
        "records": seen,
        "ms": round(seconds * 1000),
        "ms_per_5000": round(seconds / seen * 5_000_000, 1),
        "gateway_cpu_ms_per_5000": round(busy / seen * 5_000_000, 1),
    }


async def main(records: int) -> None:
    async with stores() as found:
        told = {
            "stored": await stored(found.js, records),
            "copied": await copied(found, records),
            "read_one_run": await read(found.js),
            "search_nothing_found": await searched(found.gateway, NOBODY_SAID, 50),
            "search_newest": await searched(found.gateway, LineFilter(), 50),
            "stream_nothing_found": await streamed(found.js),
        }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS))
