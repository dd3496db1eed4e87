"""What is promised of triggers that follow events: each event that one wants has its run, and only one; nothing else has.

A trigger that is changed while an event is on its way may have been read before the change or behind it. So an event asks
for a run where every reading of the trigger from then on wants it, and allows one where any does.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final

from msgspec import Struct

from chassis.expressions import Language
from chassis.filters import FilterFailed, holds
from chassis.ids import run_id
from chassis.ports import Stored
from contracts.codec import decode_domain_commit
from contracts.limits import CAUSES_ALIKE, CAUSES_DEEP
from contracts.runs import Cause, RunStarted
from contracts.triggers import Follows, Poll, RunEnd
from projections.occurrences import Occurrence, Origin, given_to, occurrences
from projections.subscriptions import Subscription, add
from tests.promises.evidence import Evidence, History, Violation

PROMISE: Final = "P2"


@cache
def _language() -> Language:
    return Language()


class Follower(Struct):
    """One trigger, after each of its commits, and when that one was stored."""

    readings: list[tuple[float, Subscription]]

    @property
    def newest(self) -> Subscription:
        return self.readings[-1][1]

    def since(self, moment: float) -> list[Subscription]:
        """How it may have been read for something that was stored at this moment."""
        before = [reading for at, reading in self.readings if at <= moment][-1:]
        return before + [reading for at, reading in self.readings if at > moment]


def events_start_their_runs(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    following = {
        name: follower
        for name, follower in followers(evidence.triggers).items()
        if not isinstance(follower.newest.on, Poll)  # tests/promises/polls.py
    }
    if not following:
        return
    scene = _Scene(
        runs={history.run: history.start for history in histories},
        origins={history.run: _origin(history) for history in histories},
        told=Counter((record.trigger, record.reason.partition(":")[0]) for record in evidence.hooks),
    )
    readings = [each for follower in following.values() for _, each in follower.readings]
    types: dict[str, Sequence[str]] = {kind: () for each in readings for kind in each.types}
    happened = [
        (stored, each)
        for stored in (*evidence.messages, *evidence.triggers)
        for each in occurrences(stored, types)
    ]
    for name, follower in following.items():
        allowed: set[str] = set()
        for stored, each in happened:
            asked = _asked(scene, name, follower, stored, each)
            if asked is not None:
                allowed.add(asked.run)
                if evidence.everything_over and asked.surely:
                    yield from _answered(scene, name, each, asked)
        started = {
            run: start for run, start in scene.runs.items() if start is not None and start.trigger == name
        }
        for run in started.keys() - allowed:
            yield Violation(PROMISE, f"{name}: a run was started that no event asks for", run)
        yield from _one_each(name, list(started.values()))


class _Scene(Struct):
    runs: Mapping[str, RunStarted | None]
    origins: Mapping[str, Origin | None]
    told: Counter[tuple[str, str]]
    """How often a trigger was told that an event has started nothing."""


class _Asked(Struct):
    run: str
    surely: bool
    """However the trigger was read."""
    refused: bool
    """It may be that this must not start."""


def _asked(scene: _Scene, name: str, follower: Follower, stored: Stored, each: Occurrence) -> _Asked | None:
    """What an event asks for; None where no reading of the trigger wants it, or it is another org's."""
    if each.commit.org != follower.newest.org:
        return None
    origin = scene.origins.get(each.run) if each.run is not None else None
    verdicts = [_verdict(reading, each, origin) for reading in follower.since(stored.time)]
    if not any(verdicts):
        return None
    return _Asked(
        run=run_id(follower.newest.org, name, f"event:{each.id}"),
        surely=all(verdicts),
        refused="refused" in verdicts or _goes_round(follower.newest, origin, scene.runs),
    )


def _answered(scene: _Scene, name: str, each: Occurrence, asked: _Asked) -> Iterator[Violation]:
    if scene.runs.get(asked.run) is not None:
        return
    if not asked.refused:
        yield Violation("P1", f"{name}: {each.id} has no run", asked.run)
    elif not scene.told[name, each.id]:
        yield Violation("P1", f"{name}: nobody was told why {each.id} has no run", asked.run)


def _one_each(name: str, starts: Sequence[RunStarted]) -> Iterator[Violation]:
    by_receipt = Counter(start.receipt for start in starts)
    for receipt, count in by_receipt.items():
        if count > 1:
            yield Violation(PROMISE, f"{name}: one event has started {count} runs ({receipt})")
    for start in starts:
        if start.cause.depth > CAUSES_DEEP:
            yield Violation(PROMISE, f"{name}: a chain is {start.cause.depth} runs long")


def followers(triggers: Sequence[Stored]) -> dict[str, Follower]:
    found: dict[str, Follower] = {}
    for stored in triggers:
        _, _, aggregate, id_ = stored.subject.split(".")
        if aggregate != "trigger":
            continue
        before = found[id_].newest if id_ in found else None
        after = add(before, decode_domain_commit(stored.body, "trigger"))
        if after is not None:
            found.setdefault(id_, Follower([])).readings.append((stored.time, after))
    return found


def _origin(history: History) -> Origin | None:
    start = history.start
    return Origin(start=start, at=history.commits[0].time) if start is not None else None


def _verdict(reading: Subscription, each: Occurrence, origin: Origin | None) -> str:
    """`yes`, `refused` (its filter says neither yes nor no), or empty: not wanted."""
    on = reading.wanted(each.commit.time)
    if on is None or isinstance(on, Poll) or not _follows(on, each, origin, reading.workflow):
        return ""
    try:
        return "yes" if holds(on.filter, _language(), given_to(on, each, origin)) else ""
    except FilterFailed:
        return "refused"


def _follows(on: Follows, each: Occurrence, origin: Origin | None, own: str) -> bool:
    """Said again by other words than the engine's."""
    if origin is not None and origin.start.mode == "test":
        return False
    if isinstance(on, RunEnd):
        ended = each.type.removeprefix("run.")
        if ended not in on.outcomes or origin is None:
            return False
        if on.workflows:
            return origin.start.workflow in on.workflows
        return origin.start.workflow not in {own, origin.start.trigger}  # What looks is no workflow's run.
    return each.type in on.types


def _goes_round(reading: Subscription, origin: Origin | None, runs: Mapping[str, RunStarted | None]) -> bool:
    """Whether a run for it would be one too many of those that have started each other."""
    if origin is None:
        return False
    chain, cause = [origin.start.workflow], origin.start.cause
    depth = cause.depth + 1
    while (before := _before(cause)) is not None and (start := runs.get(before)) is not None:
        chain.append(start.workflow)
        cause = start.cause
    return depth > CAUSES_DEEP or chain.count(reading.workflow) >= CAUSES_ALIKE


def _before(cause: Cause) -> str | None:
    if cause.kind == "run":
        return cause.id
    if cause.kind == "event":
        return cause.id.split(".")[1] if cause.id.startswith("run.") else None
    return cause.run
