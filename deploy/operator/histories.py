"""Reads a run's whole history for a command, and the plan that it follows."""

from collections.abc import AsyncIterator, Sequence

from msgspec import Struct

from chassis.archive import HistoryDropped, archived_commits, commits_of
from chassis.ports import Away
from chassis.postgres import as_org
from contracts.codec import Decoder, Malformed, Unknown, decode_commit
from contracts.commits import Commit
from contracts.payloads import Blob
from contracts.plans import Plan
from contracts.runs import RunEvent, RunStarted, beginning
from contracts.subjects import run as run_subject
from deploy.operator.agreement import Verdict, verdict
from deploy.operator.reach import Stores
from deploy.refusals import Refused
from orchestrator.readiness import Graph

_decode_plan = Decoder[Plan](Plan)


class History(Struct, frozen=True, kw_only=True):
    """One run's commits, the oldest first."""

    org: str
    run: str
    commits: Sequence[Commit[RunEvent]]

    @property
    def started(self) -> RunStarted | None:
        return beginning(event for commit in self.commits for event in commit.events)


async def read(stores: Stores, org: str, run: str) -> History:
    """Refused when there is no such run, or when this release cannot read it."""
    try:
        bodies = await commits_of(stores.archive, stores.log.log, org, run)
    except HistoryDropped:
        raise Refused(f"The history of run {run} is older than the archive keeps.") from None
    if not bodies:
        raise Refused(f"There is no run {run} in org {org}.")
    return History(org=org, run=run, commits=decoded(bodies))


def decoded(bodies: Sequence[bytes]) -> list[Commit[RunEvent]]:
    try:
        return [decode_commit(body) for body in bodies]
    except (Unknown, Malformed) as reason:
        raise Refused(f"The history cannot be read: {reason}.") from reason


async def graph_of(stores: Stores, history: History) -> Graph | None:
    """The plan that the run follows; none when it started without one."""
    started = history.started
    if started is None:
        return None
    try:
        return Graph.of(_decode_plan(await stores.log.blobs.get(Blob(sha256=started.plan, size=0))))
    except KeyError:
        return None


_RUNS = """
select id from read.runs r where org = $1 and id > $2
and not exists (select from archive.run_ids d where d.org = r.org and d.run = r.id and d.dropped is not null)
order by id limit 1000
"""


async def every_run(stores: Stores, org: str) -> AsyncIterator[str]:
    """The ids of all runs whose history must be there."""
    last = ""
    while True:
        async with as_org(stores.archive, org) as connection:
            rows = await connection.fetch(_RUNS, org, last)
        for row in rows:
            last = row["id"]
            yield last
        if not rows:
            return


async def judged(stores: Stores, org: str, run: str) -> Verdict:
    """Compare what the log and the archive have of a run. A log that goes on meanwhile is no fault."""
    logged = [stored.body for stored in await stores.log.log.history(run_subject(org, run))]
    try:
        found = await archived_commits(stores.archive, org, run)
    except Away:
        return verdict(logged, None, (org, run))
    # Below version 1 the archive keeps what lay among the commits and was none.
    return verdict(logged, [commit.body for commit in found if commit.version > 0], (org, run))
