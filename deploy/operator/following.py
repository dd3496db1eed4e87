"""Follows runs live, from the log itself."""

from collections.abc import AsyncIterator
from datetime import datetime

from chassis.ports import Stored
from contracts.codec import Malformed, Unknown, decode_commit, encode
from contracts.commits import Commit
from contracts.runs import RunEvent
from contracts.subjects import RUNS
from contracts.subjects import run as run_subject
from deploy.operator import timeline
from deploy.operator.histories import read
from deploy.operator.reach import Stores
from orchestrator.run import Run, evolve


async def follow_all(stores: Stores, org: str, *, as_json: bool) -> AsyncIterator[str]:
    """What happens to any run of the org from now on, for ever."""
    reader = stores.log.reader(RUNS, run_subject(org, "*"))
    async for batch in reader.read(await reader.end()):
        for stored in batch:
            commit = _read(stored)
            if isinstance(commit, str):
                yield commit
                continue
            for each in timeline.numbered([commit]):
                yield _json(each, commit) if as_json else timeline.glance(each)


def _json(each: timeline.Numbered, commit: Commit[RunEvent]) -> str:
    """Without the event's number: of a run that was under way before we listened nobody told us."""
    told = timeline.as_json(each)
    del told["number"]
    return encode({"run": commit.run, **told}).decode()


async def follow_one(stores: Stores, org: str, run: str, *, as_json: bool) -> AsyncIterator[str]:
    """A run's history from its beginning, and what is added to it, until it has ended."""
    subject = run_subject(org, run)
    last = (await stores.log.log.last([subject])).get(subject)
    history = await read(stores, org, run)
    told = _Told(Run.new(org, run), history.commits[0].time, as_json=as_json)
    for commit in history.commits:
        for line in told.add(commit):
            yield line
    if last is None or not told.run.active:
        return
    async for batch in stores.log.reader(RUNS, subject).read(last.sequence):
        for stored in batch:
            more = _read(stored)
            for line in [more] if isinstance(more, str) else told.add(more):
                yield line
        if not told.run.active:
            return


class _Told:
    """A run as far as it was told."""

    def __init__(self, run: Run, began: datetime, *, as_json: bool) -> None:
        self.run = run
        self._began = began
        self._as_json = as_json
        self._version = self._count = 0

    def add(self, commit: Commit[RunEvent]) -> list[str]:
        """The lines of one more commit; none when it was told already."""
        if commit.version <= self._version:
            return []
        lines = []
        for each in timeline.numbered([commit], self._count):
            self.run = evolve(self.run, each.event, commit.time)
            lines.append(
                encode(timeline.as_json(each)).decode() if self._as_json else timeline.line(each, self._began)
            )
        self._version, self._count = commit.version, self._count + len(commit.events)
        return lines


def _read(stored: Stored) -> Commit[RunEvent] | str:
    try:
        return decode_commit(stored.body)
    except (Unknown, Malformed) as reason:
        return f"{stored.subject}: cannot be read ({reason})"
