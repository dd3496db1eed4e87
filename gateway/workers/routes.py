"""The worker API over HTTPS. The same words go over gRPC (contracts/worker.proto, gateway/workers/rpc.py)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler

from chassis.edge.problems import Problem
from chassis.lifecycle import companions
from contracts.workers import (
    AnnouncedTypes,
    AnnounceTypes,
    BeginTask,
    BegunTask,
    FetchBlob,
    FetchedBlob,
    KeepLeases,
    KeptLeases,
    PollTasks,
    ReportedTask,
    ReportTask,
    WorkerTasks,
)
from gateway.callers import Caller
from gateway.domain import cause_of
from gateway.workers.desk import Desk
from gateway.workers.means import Worker
from gateway.workers.types import Types
from gateway.workers.waiting import Gone


@post("/worker/types", status_code=200)
async def announce_types(
    caller: NamedDependency[Caller], worker_types: NamedDependency[Types], data: JSONBody[AnnounceTypes]
) -> AnnouncedTypes:
    """Offer node types: the org's workflows may use them, and their attempts come to this pool."""
    return await worker_types.announce(worker_of(caller).pool, data, cause_of(caller))


@post("/worker/poll", status_code=200)
async def poll_tasks(
    caller: NamedDependency[Caller],
    desk: NamedDependency[Desk],
    request: Request[Any, Any, Any],
    data: JSONBody[PollTasks],
) -> WorkerTasks:
    """Ask for work: answered as soon as there is some, or with none when the wait is over."""
    async with leaving(request) as gone:
        return await desk.poll(worker_of(caller), data, gone)


@post("/worker/keep", status_code=200)
async def keep_leases(
    caller: NamedDependency[Caller], desk: NamedDependency[Desk], data: JSONBody[KeepLeases]
) -> KeptLeases:
    """Prolong leases; say it every ten seconds. Told is which attempts nobody wants any more."""
    return await desk.keep(worker_of(caller), data)


@post("/worker/begin", status_code=200)
async def begin_task(
    caller: NamedDependency[Caller], desk: NamedDependency[Desk], data: JSONBody[BeginTask]
) -> BegunTask:
    """Say that the call to the outside begins now. Before its first byte, where it must not be made twice."""
    return await desk.begin(worker_of(caller), data)


@post("/worker/fetch", status_code=200)
async def fetch_blob(
    caller: NamedDependency[Caller], desk: NamedDependency[Desk], data: JSONBody[FetchBlob]
) -> FetchedBlob:
    """The bytes behind a reference in the configuration of a task that the worker holds, in base64."""
    return await desk.fetch(worker_of(caller), data)


@post("/worker/report", status_code=200)
async def report_task(
    caller: NamedDependency[Caller], desk: NamedDependency[Desk], data: JSONBody[ReportTask]
) -> ReportedTask:
    """Say what came of an attempt. Said again it changes nothing."""
    return await desk.report(worker_of(caller), data)


def worker_of(caller: Caller) -> Worker:
    """Raises `Problem` for a key that is of no pool."""
    if not caller.pool:
        raise Problem("forbidden", "This asks for a token of one pool of workers.")
    return Worker(org=caller.org, pool=caller.pool, token=caller.key)


@asynccontextmanager
async def leaving(request: Request[Any, Any, Any]) -> AsyncIterator[Gone]:
    """Notices that the worker has gone, so that nothing is given to nobody."""
    gone = Gone()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()

    failed: Exception | None = None
    async with companions() as beside:
        beside.create_task(watch())
        try:
            yield gone
        except Exception as error:  # Raised below, without the wrapping of the group.
            failed = error
    if failed is not None:
        raise failed


ROUTES: Final[list[ControllerRouterHandler]] = [
    announce_types,
    poll_tasks,
    keep_leases,
    begin_task,
    fetch_blob,
    report_task,
]
