"""What is promised of polls: each key that a look has found starts one run, for ever, and no look begins behind what has none.

What is polled in our worlds has numbers for keys, from 1 on without a gap, and a cursor is the last number that was seen.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from chassis.ids import run_id
from contracts import runs
from contracts.triggers import Poll
from projections.occurrences import Origin, looks
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.occasions import Follower, followers
from tests.promises.values import UNKNOWN, Values

PROMISE: Final = "P2"


class Look(Struct, kw_only=True):
    """One end of a run that looked."""

    run: str
    event: str
    """As the log names it."""
    ended: runs.RunEvent
    found: Mapping[str, Any]
    """By key."""
    surely: bool
    """However its trigger was read, it was wanted."""


def what_is_found_starts_once(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    polls = {
        name: follower
        for name, follower in followers(evidence.triggers).items()
        if isinstance(follower.newest.on, Poll)
    }
    told = Counter((record.trigger, record.reason.partition(":")[0]) for record in evidence.hooks)
    values = Values(evidence.values)
    for name, follower in polls.items():
        ours = [history for history in histories if history.start and history.start.trigger == name]
        looking = [history for history in ours if _looks(history)]
        started = {history.run: history for history in ours if not _looks(history)}
        ends = [end for history in looking for end in _ends(history, follower, values)]
        yield from _only_what_was_found(follower, started, ends, values)
        if evidence.everything_over:
            for end in ends:
                if end.surely and not told[name, end.event]:
                    yield from _nothing_is_missing(follower, started, end)
            yield from _nothing_is_passed_by(follower, started, looking, values)


def _looks(history: History) -> bool:
    return history.start is not None and looks(Origin(start=history.start, at=history.commits[0].time))


def _ends(history: History, follower: Follower, values: Values) -> Iterator[Look]:
    for stored, commit in zip(history.stored, history.commits, strict=True):
        for place, event in enumerate(commit.events):
            if isinstance(event, runs.RunCompleted | runs.RunFailed | runs.RunCancelled):
                told = values.read(event.output) if isinstance(event, runs.RunCompleted) else {}
                items = told.get("items", ()) if told is not UNKNOWN else ()
                yield Look(
                    run=history.run,
                    event=f"run.{history.run}.{commit.version}.{place}",
                    ended=event,
                    found={each["key"]: each["item"] for each in items},
                    surely=all(
                        reading.wanted(commit.time) is not None for reading in follower.since(stored.time)
                    ),
                )


def _run_of(follower: Follower, key: str) -> str:
    return run_id(follower.newest.org, follower.newest.trigger, f"item:{key}")


def _only_what_was_found(
    follower: Follower, started: Mapping[str, History], ends: Sequence[Look], values: Values
) -> Iterator[Violation]:
    """Whatever was started was found by a look, and is given what that look has seen."""
    found = {_run_of(follower, key): item for end in ends for key, item in end.found.items()}
    by_look = {end.run for end in ends}
    for run, history in started.items():
        start = history.start
        assert start is not None, run
        if run not in found:
            yield Violation(PROMISE, "started for something that no look has found", run)
        elif start.cause.id not in by_look:
            yield Violation(PROMISE, f"started because of {start.cause.id}, which did not look", run)
        elif (given := values.read(start.input)) is not UNKNOWN and given["body"] != found[run]:
            yield Violation(PROMISE, f"given {given['body']}, and {found[run]} was found", run)


def _nothing_is_missing(follower: Follower, started: Mapping[str, History], end: Look) -> Iterator[Violation]:
    """What a look has found has its runs; of a look that did not end well somebody is told."""
    if not isinstance(end.ended, runs.RunCompleted):
        yield Violation("P1", f"{follower.newest.trigger}: nobody was told of {end.event}", end.run)
    for key in end.found:
        if _run_of(follower, key) not in started:
            yield Violation("P1", f"{follower.newest.trigger}: {key} was found, and has no run", end.run)


def _nothing_is_passed_by(
    follower: Follower, started: Mapping[str, History], looking: Sequence[History], values: Values
) -> Iterator[Violation]:
    """Nobody looks behind a number before everything up to it has its run, or will have it."""
    cursors = {history.run: _cursor(history, values) for history in looking}
    run, last = max(cursors.items(), key=lambda each: each[1], default=("", 0))
    for number in range(1, last + 1):
        if _run_of(follower, str(number)) not in started:
            name = follower.newest.trigger
            yield Violation("P1", f"{name}: a look began behind {last}, and {number} has no run", run)


def _cursor(history: History, values: Values) -> int:
    given = values.read(history.start.input) if history.start is not None else UNKNOWN
    return int(given.get("cursor") or 0) if given is not UNKNOWN else 0
