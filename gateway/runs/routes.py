"""Runs over HTTP."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from chassis.edge.problems import unavailable
from contracts.limits import PAGE_ROWS
from contracts.runs import RunStatus
from contracts.subjects import RUNS
from gateway.callers import Caller
from gateway.live.streams import Live, LiveStream
from gateway.pages import DEFAULT_ROWS, Page
from gateway.parameters import (
    Cursor,
    IdempotencyKey,
    LastEventId,
    Limit,
    SayingKey,
    checked_key,
    moment,
    number,
)
from gateway.places import Places
from gateway.rejected import Rejected, absent
from gateway.runs.histories import Histories, events_after
from gateway.runs.inspection import Inspector
from gateway.runs.queries import RunFilter, RunQueries
from gateway.runs.store import Runs
from gateway.runs.views import (
    CancelRun,
    Events,
    ResolveDoubt,
    RetryRun,
    RunView,
    SendSignal,
    StartedRun,
    StartRun,
    StateView,
    StepView,
    WaitingFor,
    Wished,
)

_STATUS: Final = {"accepted": 202, "queued": 202, "duplicate": 200, "unchanged": 200}
T = TypeVar("T")


class Reading:
    """Reads one run, at least as new as what its caller and its history know of it."""

    def __init__(self, places: Places, runs: Runs) -> None:
        self._places, self._runs = places, runs

    async def of(self, caller: Caller, run_id: str, read: Callable[[str, str], Awaitable[T]]) -> T:
        await self._places.caught_up(caller, RUNS)
        try:
            return await read(caller.org, run_id)
        except Rejected as rejected:
            if rejected.code != "not_found":
                raise
        # Not in the read model: nowhere, or only just begun.
        place = await self._runs.place_of(caller.org, run_id)
        if not await self._places.reached(RUNS, place):
            raise unavailable("The run exists, but what is read from has not caught up with it.")
        return await read(caller.org, run_id)


@get("/runs")
async def list_runs(  # noqa: PLR0913  # Filters of a list.
    *,
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    run_queries: NamedDependency[RunQueries],
    status: FromQuery[list[RunStatus] | None] = None,
    workflow: Annotated[str | None, QueryParameter(max_length=64)] = None,
    trigger: Annotated[str | None, QueryParameter(max_length=64)] = None,
    parent: Annotated[
        str | None, QueryParameter(max_length=64, description="Started by a step of this run.")
    ] = None,
    since: Annotated[
        datetime | None, QueryParameter(name="from", description="Started then or later.")
    ] = None,
    until: Annotated[datetime | None, QueryParameter(name="to", description="Started before then.")] = None,
    mode: Annotated[
        Literal["live", "test", "any"],
        QueryParameter(description="Real runs, those that tried a workflow out, or both."),
    ] = "live",
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[RunView]:
    """The org's runs, the newest first."""
    wanted = RunFilter(
        status=tuple(status or ()),
        workflow=workflow,
        trigger=trigger,
        parent=parent,
        since=moment(since, "from"),
        until=moment(until, "to"),
        mode=None if mode == "any" else mode,
    )
    await places.caught_up(caller, RUNS)
    return await run_queries.list(caller.org, wanted, cursor, limit)


@post("/runs", status_code=202)
async def start_run(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    runs: NamedDependency[Runs],
    request: Request[Any, Any, Any],
    data: JSONBody[StartRun],
    idempotency_key: IdempotencyKey = None,
) -> Response[StartedRun]:
    """Start the published version of a workflow. 202: it is on disk. 200: this key started it before."""
    key = checked_key(idempotency_key)
    started = await runs.start(caller, data.workflow, data.input, key, await request.body())
    return told(started, started.status)


@get("/runs/{run_id:str}")
async def get_run(
    caller: NamedDependency[Caller],
    reading: NamedDependency[Reading],
    run_queries: NamedDependency[RunQueries],
    run_id: FromPath[str],
) -> RunView:
    """One run."""
    return await reading.of(caller, run_id, run_queries.get)


@get("/runs/{run_id:str}/steps")
async def list_steps(
    caller: NamedDependency[Caller],
    reading: NamedDependency[Reading],
    run_queries: NamedDependency[RunQueries],
    run_id: FromPath[str],
    cursor: Cursor = None,
    limit: Limit = PAGE_ROWS,
) -> Page[StepView]:
    """Its steps, in the order in which its history names them."""
    after = number(cursor, "cursor")
    return await reading.of(caller, run_id, lambda org, run: run_queries.steps(org, run, after, limit))


@get("/runs/{run_id:str}/children")
async def list_children(
    caller: NamedDependency[Caller],
    reading: NamedDependency[Reading],
    run_queries: NamedDependency[RunQueries],
    run_id: FromPath[str],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[RunView]:
    """The runs that its steps started, the newest first."""
    return await reading.of(caller, run_id, lambda org, run: run_queries.children(org, run, cursor, limit))


@get("/runs/{run_id:str}/events")
async def list_events(
    caller: NamedDependency[Caller],
    histories: NamedDependency[Histories],
    run_id: FromPath[str],
    after: Annotated[
        int, QueryParameter(ge=0, le=2**53 - 1, description="Number of the event to go on after.")
    ] = 0,
    limit: Limit = PAGE_ROWS,
) -> Events:
    """Its history, event by event: from the archive, and what is newer from the log."""
    items = await events_after(histories, caller.org, run_id, after, limit + 1)
    if items is None:
        raise absent("run")
    following = items[limit - 1].number if len(items) > limit else None
    return Events(run=run_id, items=items[:limit], next=following)


@get("/runs/{run_id:str}/state")
async def get_state(
    caller: NamedDependency[Caller],
    runs: NamedDependency[Runs],
    inspector: NamedDependency[Inspector],
    run_id: FromPath[str],
    at: Annotated[
        int | None, QueryParameter(ge=0, le=2**53 - 1, description="After event number `at`; now without it.")
    ] = None,
) -> StateView:
    """The run's state as the engine folds it, now or after any event."""
    await runs.place_of(caller.org, run_id)
    inspected = await inspector.inspect(caller.org, run_id, at)
    return StateView(run=run_id, at=at, state=inspected.state)


@get("/runs/{run_id:str}/waiting")
async def get_waiting(
    caller: NamedDependency[Caller],
    runs: NamedDependency[Runs],
    inspector: NamedDependency[Inspector],
    run_id: FromPath[str],
) -> WaitingFor:
    """Everything that must come before the run goes on, by name. Nothing: it has ended."""
    await runs.place_of(caller.org, run_id)
    inspected = await inspector.inspect(caller.org, run_id, None)
    return WaitingFor(run=run_id, waiting_for=inspected.waiting_for)


@get("/runs/{run_id:str}/live")
async def watch_run(
    caller: NamedDependency[Caller],
    live: NamedDependency[Live],
    run_id: FromPath[str],
    last_event_id: LastEventId = None,
) -> LiveStream:
    """Server-sent events: the run's history, then every event as it happens. An event's id is where to go on from.

    `reset` says that something before what follows is missing, and why (`reason`); `end` says why the stream ends.
    """
    return await live.of_run(caller, run_id, last_event_id)


@get("/live")
async def watch_org(
    caller: NamedDependency[Caller], live: NamedDependency[Live], last_event_id: LastEventId = None
) -> LiveStream:
    """Server-sent events of every run of the org, from now on or from after `Last-Event-ID`, archived ones included.

    `reset` comes first when that cannot be done without a gap, with its `reason`: `retention` (some of what came after
    that event was kept no longer), `restored` (the log was restored from a backup) or `unknown` (the log never had that
    event). Read the state anew then. A connection with 1 MiB unread is dropped; come back with the last id you saw.
    """
    return await live.of_org(caller, last_event_id)


@post("/runs/{run_id:str}/cancel", status_code=202)
async def cancel_run(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    runs: NamedDependency[Runs],
    run_id: FromPath[str],
    data: JSONBody[CancelRun],
) -> Response[Wished]:
    """Stop it: no new step begins, attempts under way are told to let go."""
    wished = await runs.cancel(caller, run_id, data)
    return told(wished, wished.status)


@post("/runs/{run_id:str}/retry", status_code=202)
async def retry_run(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    runs: NamedDependency[Runs],
    run_id: FromPath[str],
    data: JSONBody[RetryRun],
) -> Response[Wished]:
    """Try an ended run again from the steps that failed."""
    wished = await runs.retry(caller, run_id, data)
    return told(wished, wished.status)


@post("/runs/{run_id:str}/resolve", status_code=202)
async def resolve_doubt(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    runs: NamedDependency[Runs],
    run_id: FromPath[str],
    data: JSONBody[ResolveDoubt],
) -> Response[Wished]:
    """Say what became of an effect that nobody knows about."""
    wished = await runs.resolve(caller, run_id, data)
    return told(wished, wished.status)


@post("/runs/{run_id:str}/signals", status_code=202)
async def send_signal(
    caller: NamedDependency[Caller],
    runs: NamedDependency[Runs],
    request: Request[Any, Any, Any],
    run_id: FromPath[str],
    data: JSONBody[SendSignal],
    idempotency_key: SayingKey = None,
) -> Response[Wished]:
    """Say something to a run: to the step that waits for this signal, or to the first that will.

    Without an `Idempotency-Key` every call is a saying of its own.
    """
    key = checked_key(idempotency_key)
    wished = await runs.signal(caller, run_id, data, key, await request.body())
    return told(wished, wished.status)


def told(content: T, status: str) -> Response[T]:
    return Response(content, status_code=_STATUS[status])


ROUTES: Final[list[ControllerRouterHandler]] = [
    list_runs,
    start_run,
    get_run,
    list_steps,
    list_children,
    list_events,
    get_state,
    get_waiting,
    watch_run,
    watch_org,
    cancel_run,
    retry_run,
    resolve_doubt,
    send_signal,
]
