"""What `automateos doctor` looks at: what a stack stands on, and the stack that runs in the data directory."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from chassis.clock import SystemClock
from chassis.disk import Disk
from chassis.ports import Away
from chassis.postgres import connected
from chassis.reconcile import drift
from chassis.sealing import KeyFileUnusable, MasterKey
from contracts.codec import Malformed
from contracts.limits import DISK_STOPS_STARTS, DISK_STOPS_UPLOADS
from contracts.subjects import DLQ
from deploy.commands.here import Here
from deploy.database import head
from deploy.operator import premises
from deploy.operator.anchored import late, newest
from deploy.operator.api import request
from deploy.operator.findings import Finding, bad, note, ok
from deploy.operator.planned import missed
from deploy.operator.reach import Stores, stores
from deploy.refusals import Refused
from deploy.stack import Running, pids, running_stack
from deploy.supervisor import last_line
from projections.guard import FOLLOWED, REPAIR, why_not
from projections.models import Position
from projections.streams import JetStreamStreams, StreamFacts

_LAG_SECONDS: Final = 10.0
_LOOKS_AGAIN: Final = 6
_LOOK_SECONDS: Final = 0.5
_SERVICE_SECONDS: Final = 5.0
_STORE_SECONDS: Final = 15.0
_POSITIONS: Final = (
    "select projection, stream, epoch, sequence, created, generation, time from read.positions "
    "order by projection, stream"
)
_POSITION: Final = "select sequence from read.positions where projection = $1 and stream = $2"
_MASTER_KEYS: Final = "select distinct split_part(wrapped, '|', 2) as id from vault.data_keys"


async def findings(here: Here) -> AsyncIterator[Finding]:
    """Everything, one after the other, as far as it can be looked at."""
    settings, folder = here.settings(), here.data_dir()
    for finding in premises.machine(settings, folder):
        yield finding
    usable = True
    for finding in premises.data_directory(folder):
        usable = usable and finding.level != "bad"
        yield finding
    running = running_stack(folder) if folder.is_dir() else None
    if running is not None:
        async for finding in _running(running, here):
            yield finding
    elif usable:
        for finding in premises.nothing_ready(settings, folder):
            yield finding


async def _running(running: Running, here: Here) -> AsyncIterator[Finding]:
    """The stack that is ready: each of its services, and what lies in its stores."""
    for finding in services(running, here.data_dir()):
        yield finding
    async with AsyncExitStack() as opened:
        store = "nats"
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                found = await opened.enter_async_context(stores(here))
            for stands_on, look in _LOOKS:
                store = stands_on
                async with asyncio.timeout(_STORE_SECONDS):
                    seen = [finding async for finding in look(found, here)]
                for finding in seen:
                    yield finding
        except (Away, Refused, OSError, TimeoutError) as reason:
            yield _silent(store, here, reason)


def _silent(store: str, here: Here, reason: Exception) -> Finding:
    """The rest is not looked at: what stands on a store that is away would only say the same."""
    folder = here.data_dir()
    pid = pids(folder).get(store)
    which = f"{store} (pid {pid})" if pid else f"{store}, which does not run,"
    words = " ".join(str(reason).split()).rstrip(": .") or type(reason).__name__
    return bad(
        f"{which} does not answer ({words}): look into {folder}/logs/{store}.log; "
        "it is started again when it ends, so a wedged one may be killed"
    )


def services(running: Running, folder: Path) -> Iterator[Finding]:
    """Whether each service says that it can do its work."""
    yield ok(f"stack ready as pid {running.pid}: API {running.gateway_url}, webhooks {running.public_url}")
    alive = pids(folder)
    for name, port in running.ports.items():
        base = running.gateway_url if name == "gateway" else running.ingress_url if name == "ingress" else ""
        log = folder / "logs" / f"{name}.log"
        if name not in alive:
            yield bad(
                f"{name} does not run{last_line(log)}; it is started again and again: mend that (more in {log})"
            )
            continue
        try:
            answer = request(base or f"http://127.0.0.1:{port}", "GET", "/readyz", seconds=_SERVICE_SECONDS)
            reasons = answer.json().get("reasons", []) if answer.body else []
        except (Refused, Malformed) as reason:
            words = f"does not answer ({str(reason).rstrip('.')}){last_line(log)}"
            yield bad(f"{name} (pid {alive[name]}) {words}; look into {log}, or kill it: it is started again")
            continue
        if answer.status == 200:
            yield ok(f"{name} is ready")
        else:
            yield bad(f"{name} is not ready: {'; '.join(reasons)}. Look into {log}")


async def _log(found: Stores, here: Here) -> AsyncIterator[Finding]:
    running, connection = here.running(), found.log.connection
    yield ok(f"nats-server {running.servers.nats_version}, batches staged {running.servers.nats_staging}")
    disk = Disk(connection, running.servers.nats_monitor_url)
    quota = await disk.quota()
    different = await drift(connection, replicas=here.settings().replicas, quota=quota)
    for each in different:
        yield bad(f"stream {each}: start the stack again, which makes it what this release declares")
    if not different:
        yield ok("streams and buckets are what this release declares")
    if quota:
        share = (await disk.look()).used_share
        yield _disk(share, f"the log fills {share:.1%} of its quota of {quota / 2**20:.0f} MiB")
    letters = await connection.api(f"STREAM.INFO.{DLQ}")
    count = int(letters.get("state", {}).get("messages", 0))
    yield ok("no dead letters") if not count else note(f"{count} dead letters: automateos dead-letters list")


def _disk(share: float, words: str) -> Finding:
    remedy = "raise AUTOMATEOS_NATS_MAX_FILE_STORE or lower AUTOMATEOS_RETENTION_DAYS"
    if share >= DISK_STOPS_STARTS:
        return bad(f"{words}, no run starts any more: {remedy}")
    if share >= DISK_STOPS_UPLOADS:
        return note(f"{words}, large values are refused: {remedy}")
    return ok(words)


async def _database(found: Stores, here: Here) -> AsyncIterator[Finding]:
    async with connected(found.archive) as connection:
        version = await connection.fetchval("show server_version")
        schema = await connection.fetchval("select max(version_num) from migrations.alembic_version")
        wrapped = {row["id"] for row in await connection.fetch(_MASTER_KEYS)}
    yield ok(f"Postgres {version}")
    if schema == head():
        yield ok(f"database schema {schema}")
    else:
        yield bad(f"database schema {schema}, this release brings {head()}: start the stack again")
    file = here.data_dir() / "secrets" / "master.key"
    try:
        strange = wrapped - {MasterKey.from_file(file).id}
    except KeyFileUnusable:
        return  # The look at the data directory has said so.
    if strange:
        yield bad(f"{file} is not the key that sealed what lies in Postgres: put back the one that did")


async def _projections(found: Stores, _here: Here) -> AsyncIterator[Finding]:
    """Whether the read models stand on the log that is there, and how far behind it they are."""
    streams, truths = JetStreamStreams(found.log.connection), {each.stream for each in FOLLOWED if each.truth}
    async with connected(found.archive) as connection:
        rows = await connection.fetch(_POSITIONS)
    for row in rows:
        stream = await streams.facts(row["stream"])
        position = Position(
            epoch=row["epoch"],
            sequence=row["sequence"],
            generation=row["generation"],
            created=row["created"],
        )
        if (trouble := why_not(position, stream)) and stream.name in truths:
            yield bad(f"{trouble}. Stop the stack, then run: {REPAIR} {stream.name}")
            continue
        behind = max(0, stream.last - position.sequence)
        words = f"projection {row['projection']} has read {stream.name} to {position.sequence}"
        late = (time.time() - row["time"].timestamp()) > _LAG_SECONDS  # noqa: TID251  # Told to a person, decides nothing.
        if behind and late and not await _catches_up(found, row["projection"], stream):
            yield bad(f"{words}, {behind} behind: look into the log of projections")
        else:
            yield ok(words)


async def _catches_up(found: Stores, projection: str, stream: StreamFacts) -> bool:
    """Whether it soon has read what is there now: what came while we looked is nobody's delay."""
    for _ in range(_LOOKS_AGAIN):
        await asyncio.sleep(_LOOK_SECONDS)
        async with connected(found.archive) as connection:
            if await connection.fetchval(_POSITION, projection, stream.name) >= stream.last:
                return True
    return False


async def _anchors(found: Stores, _here: Here) -> AsyncIterator[Finding]:
    """Whether the past is signed as it should be."""
    last = await newest(found)
    words = await late(found.archive, last, SystemClock().now())
    if words is not None:
        yield bad(f"{words}: look into the log of projections, which signs")
    elif last is not None:
        yield ok(f"anchor {last.number} of {last.time} covers RUNS to {last.runs.through}")
    else:
        yield note("nothing is anchored yet: the first anchor comes soon after the first run")


async def _schedules(found: Stores, _here: Here) -> AsyncIterator[Finding]:
    yield await missed(found.archive, SystemClock().now())


_LOOKS: Final = (
    ("nats", _log),
    ("postgres", _database),
    ("postgres", _projections),
    ("postgres", _anchors),
    ("postgres", _schedules),
)
