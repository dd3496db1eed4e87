"""Log lines over HTTP."""

from datetime import datetime
from typing import Annotated, Final, TypeAlias

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.types import ControllerRouterHandler

from contracts.limits import PAGE_ROWS
from contracts.logs import LogLevel
from gateway.callers import Caller
from gateway.live.streams import LiveStream
from gateway.logs.lines import LineFilter
from gateway.logs.live import LogStreams
from gateway.logs.reading import LogPage, Logs
from gateway.logs.search import FoundLines, LogSearch, Sought
from gateway.pages import DEFAULT_ROWS
from gateway.parameters import Cursor, LastEventId, Limit, moment
from gateway.runs.store import Runs

Step: TypeAlias = Annotated[
    str | None, QueryParameter(min_length=1, max_length=512, description="The lines of this step only.")
]
Attempt: TypeAlias = Annotated[
    int | None, QueryParameter(ge=1, le=1_000_000, description="The lines of these attempts only.")
]
Level: TypeAlias = Annotated[LogLevel | None, QueryParameter(description="Lines of this level at least.")]
Contains: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=200,
        description="Lines that hold this in their text or a field; A to Z in either case.",
    ),
]
LineCursor: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=32, description="The `next` of the page before, or a line's `id`.")
]


@get("/runs/{run_id:str}/logs")
async def list_log_lines(  # noqa: PLR0913  # Filters of a list.
    *,
    caller: NamedDependency[Caller],
    runs: NamedDependency[Runs],
    logs: NamedDependency[Logs],
    run_id: FromPath[str],
    step: Step = None,
    attempt: Attempt = None,
    level: Level = None,
    contains: Contains = None,
    cursor: LineCursor = None,
    limit: Limit = PAGE_ROWS,
) -> LogPage:
    """What its nodes said, in order, the secrets blanked out. Kept for 7 days; a quick attempt that ends well says nothing.

    A line with `missing` tells how much is not there that was said, and why; `expired_before`, that older lines of the run
    are kept no longer. A page may be short, or empty, and have a `next`: a filter looks at so much at once.
    """
    await runs.place_of(caller.org, run_id)
    wanted = LineFilter(step=step, attempt=attempt, level=level, contains=contains)
    return await logs.page(caller.org, run_id, wanted, cursor, limit)


@get("/runs/{run_id:str}/logs/live")
async def watch_log_lines(  # noqa: PLR0913  # Filters of a stream.
    *,
    caller: NamedDependency[Caller],
    runs: NamedDependency[Runs],
    log_streams: NamedDependency[LogStreams],
    run_id: FromPath[str],
    step: Step = None,
    attempt: Attempt = None,
    level: Level = None,
    contains: Contains = None,
    last_event_id: LastEventId = None,
) -> LiveStream:
    """Server-sent events: the run's log lines so far (`line`), then each as it is stored. A line's id is where to go on from.

    `expired` says that lines from before a moment may be missing from what follows, `reset` that the log does not know
    the `Last-Event-ID` and begins anew, `end` why the stream ends. It does not end with the run: that may be reopened.
    """
    await runs.place_of(caller.org, run_id)
    wanted = LineFilter(step=step, attempt=attempt, level=level, contains=contains)
    return log_streams.of_run(caller, run_id, wanted, last_event_id)


@get("/logs")
async def search_log_lines(  # noqa: PLR0913  # Filters of a list.
    *,
    caller: NamedDependency[Caller],
    log_search: NamedDependency[LogSearch],
    workflow: Annotated[str | None, QueryParameter(max_length=64)] = None,
    level: Level = None,
    contains: Contains = None,
    since: Annotated[datetime | None, QueryParameter(name="from", description="Said then or later.")] = None,
    until: Annotated[datetime | None, QueryParameter(name="to", description="Said before then.")] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> FoundLines:
    """What the nodes of all runs of the org said, the newest first, as far back as it is kept: 7 days at the most.

    A page may be short, or empty, and have a `next`: a search looks at so many lines at once. `looked_back_to` says how far
    it came. Lines are found some seconds after they are said.
    """
    sought = Sought(
        lines=LineFilter(level=level, contains=contains),
        workflow=workflow,
        since=moment(since, "from"),
        until=moment(until, "to"),
    )
    return await log_search.find(caller.org, sought, cursor, limit)


ROUTES: Final[list[ControllerRouterHandler]] = [list_log_lines, watch_log_lines, search_log_lines]
