"""What `automateos doctor` looks at: the machine, the data directory, and the stack that runs in it."""

import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from chassis.clock import SystemClock
from chassis.ports import Away
from chassis.postgres import connected
from chassis.reconcile import drift
from contracts.codec import Malformed
from contracts.limits import DISK_STOPS_STARTS, DISK_STOPS_UPLOADS
from contracts.subjects import DLQ
from deploy.commands.here import Here
from deploy.data_directory import holder
from deploy.database import head
from deploy.operator.anchored import late, newest
from deploy.operator.api import request
from deploy.operator.reach import Stores, stores
from deploy.refusals import Refused
from deploy.stack import Running, running_stack

_SYNCS: Final = 20
_LEAST_FREE: Final = 0.1
_LAG_SECONDS: Final = 10.0
_POSITIONS: Final = (
    "select projection, stream, sequence, time from read.positions order by projection, stream"
)


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `bad`: something does not work or soon will not."""

    level: Literal["ok", "note", "bad"]
    what: str


def ok(what: str) -> Finding:
    return Finding(level="ok", what=what)


def note(what: str) -> Finding:
    return Finding(level="note", what=what)


def bad(what: str) -> Finding:
    return Finding(level="bad", what=what)


async def findings(here: Here) -> AsyncIterator[Finding]:
    """Everything, one after the other, as far as it can be looked at."""
    for finding in machine(here):
        yield finding
    running = running_stack(here.data_dir())
    if running is None:
        yield note("no stack is ready here: only the machine was looked at")
        return
    for finding in services(running):
        yield finding
    async with stores(here) as found:
        for look in (_log, _database, _projections, _anchors):
            async for finding in look(found, here):
                yield finding


def machine(here: Here) -> Iterator[Finding]:
    """What the stack stands on."""
    yield ok(
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    folder = here.data_dir()
    yield from _data_directory(folder)
    usage = shutil.disk_usage(_existing(folder))
    free = usage.free / usage.total
    words = f"{usage.free / 2**30:.1f} GiB free on the volume of {folder} ({free:.0%})"
    yield ok(words) if free >= _LEAST_FREE else bad(words)
    yield ok(f"a synced write there takes {_sync_ms(_existing(folder)):.2f} ms (median of {_SYNCS})")
    if here.settings().unsafe_fast:
        yield bad("AUTOMATEOS_UNSAFE_FAST is set: a power cut loses what was accepted")


def _data_directory(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        yield note(f"{folder} is not there yet: the first `automateos up` makes it")
        return
    pid = holder(folder)
    yield ok(f"data directory {folder}" + (f", in use by pid {pid}" if pid else ""))
    master = folder / "secrets" / "master.key"
    if master.exists() and master.stat().st_mode & 0o077:
        yield bad(f"{master} can be read by others: chmod 600 it")
    elif master.exists():
        yield note(f"the master key is {master}: keep a copy of it apart from the data")


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _sync_ms(folder: Path) -> float:
    """How long a small write takes to reach the disk: what every accepted thing waits for."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 512)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def services(running: Running) -> Iterator[Finding]:
    """Whether each service says that it can do its work."""
    yield ok(f"stack ready as pid {running.pid}: API {running.gateway_url}, webhooks {running.public_url}")
    for name, port in running.ports.items():
        base = running.gateway_url if name == "gateway" else running.ingress_url if name == "ingress" else ""
        try:
            answer = request(base or f"http://127.0.0.1:{port}", "GET", "/readyz")
            reasons = answer.json().get("reasons", []) if answer.body else []
        except (Refused, Malformed) as reason:
            yield bad(f"{name}: {reason}")
            continue
        yield ok(f"{name} is ready") if answer.status == 200 else bad(f"{name}: {'; '.join(reasons)}")


async def _log(found: Stores, here: Here) -> AsyncIterator[Finding]:
    running = here.running()
    yield ok(f"nats-server {running.servers.nats_version}, batches staged {running.servers.nats_staging}")
    different = await drift(found.log.connection, replicas=here.settings().replicas)
    for each in different:
        yield bad(f"stream {each}")
    if not different:
        yield ok("streams and buckets are what this release declares")
    account = await found.log.connection.api("INFO")
    used, quota = account.get("storage", 0), (account.get("limits") or {}).get("max_storage", -1)
    if quota > 0:
        yield _disk(used / quota, f"the log uses {used / 2**20:.1f} MiB of {quota / 2**20:.0f} MiB")
    else:
        yield ok(f"the log uses {used / 2**20:.1f} MiB")
    letters = await found.log.connection.api(f"STREAM.INFO.{DLQ}")
    count = int(letters.get("state", {}).get("messages", 0))
    yield ok("no dead letters") if not count else note(f"{count} dead letters: automateos dead-letters list")


def _disk(share: float, words: str) -> Finding:
    if share >= DISK_STOPS_STARTS:
        return bad(f"{words}: no run starts any more")
    if share >= DISK_STOPS_UPLOADS:
        return note(f"{words}: large values are refused")
    return ok(words)


async def _database(found: Stores, _here: Here) -> AsyncIterator[Finding]:
    try:
        async with connected(found.archive) as connection:
            version = await connection.fetchval("show server_version")
            schema = await connection.fetchval("select max(version_num) from migrations.alembic_version")
    except Away as away:
        yield bad(f"Postgres is away: {away}")
        return
    yield ok(f"Postgres {version}")
    if schema == head():
        yield ok(f"database schema {schema}")
    else:
        yield bad(f"database schema {schema}, this release brings {head()}: start the stack again")


async def _projections(found: Stores, _here: Here) -> AsyncIterator[Finding]:
    """How far the read models are behind the log."""
    try:
        async with connected(found.archive) as connection:
            rows = await connection.fetch(_POSITIONS)
    except Away:
        return
    for row in rows:
        end = await found.log.reader(row["stream"]).end()
        behind = max(0, end - row["sequence"])
        words = f"projection {row['projection']} has read {row['stream']} to {row['sequence']}"
        late = (time.time() - row["time"].timestamp()) > _LAG_SECONDS  # noqa: TID251  # Told to a person, decides nothing.
        yield bad(f"{words}, {behind} behind") if behind and late else ok(words)


async def _anchors(found: Stores, _here: Here) -> AsyncIterator[Finding]:
    """Whether the past is signed as it should be."""
    try:
        last = await newest(found)
        words = await late(found.archive, last, SystemClock().now())
    except Away:
        return
    if words is not None:
        yield bad(words)
    elif last is not None:
        yield ok(f"anchor {last.number} of {last.time} covers RUNS to {last.runs.through}")
    else:
        yield note("nothing is anchored yet: the first anchor comes soon after the first run")
