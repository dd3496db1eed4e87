"""Which attempt a call of the world belonged to, and what a run's history lets one expect of the next commit."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from contracts import runs
from contracts.nodes import Repeat
from contracts.pools import WORKERS
from contracts.subjects import effect
from tests.chaos.record import Call
from tests.promises.evidence import Effect, History, Violation

_SKEW_SECONDS: Final = 0.05
_PROMISES: Final[Mapping[str, Repeat]] = {
    "put": "yes",
    "feed": "yes",
    "odd": "yes",
    "keyed": "by-key",
    "flaky": "by-key",
    "post": "no",
    "shout": "no",
}


def effects_of(history: History, calls: Sequence[Call], claimed: Mapping[str, float]) -> Iterator[Effect]:
    """What happened in the world for one run.

    The world knows a step's key and not the attempt. Where it matters (calls that must not be made twice), each call is
    given to an attempt that was claimed, in the way that speaks best for us: what is still wrong then is wrong.
    """
    by_step: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.acted:
            by_step[call.step].append(call)
    for step, acted in by_step.items():
        repeat = _PROMISES[acted[0].manner]
        given = _claimed(history, step, claimed) if repeat == "no" else []
        for number, call in enumerate(sorted(acted, key=lambda each: each.t)):
            attempt = given[min(number, len(given) - 1)] if given else _latest(history, step, call.t)
            yield Effect(
                at=call.t,
                run=history.run,
                step=step,
                attempt=attempt,
                key=call.key,
                repeat=repeat,
                process="",
                result=call.result(),
            )


def _claimed(history: History, step: str, claimed: Mapping[str, float]) -> list[int]:
    """The attempts at a step that were claimed, those first that may have acted by what the history says."""
    scheduled = [e.attempt for e in history.events if isinstance(e, runs.AttemptScheduled) and e.step == step]
    found = [n for n in scheduled if effect(history.org, history.run, step, n) in claimed]
    denied = {
        event.attempt
        for event in history.events
        if (isinstance(event, runs.AttemptFailed) and event.step == step)
        or (isinstance(event, runs.AttemptCancelled) and event.step == step and event.effect == "none")
    }
    return [n for n in found if n not in denied] + [n for n in found if n in denied]


def _latest(history: History, step: str, moment: float) -> int:
    latest = 0
    for commit in history.commits:
        for event in commit.events:
            if isinstance(event, runs.AttemptScheduled) and event.step == step:
                if latest and commit.time.timestamp() > moment + _SKEW_SECONDS:
                    return latest
                latest = event.attempt
    return latest


def untold(history: History, calls: Sequence[Call]) -> Iterator[Violation]:
    """Calls that must not be made twice, happened, and are told neither as done nor as possible."""
    acted = Counter(call.step for call in calls if call.acted and _PROMISES[call.manner] == "no")
    room = Counter[str]()
    for event in history.events:
        match event:
            case runs.AttemptDoubted() | runs.StepReported():
                room[event.step] += 1
            case runs.AttemptCancelled() if event.effect != "none":
                room[event.step] += 1
            case _:
                continue
    for step, times in acted.items():
        if times > room[step]:
            yield Violation(
                "P5", f"{step} happened {times} times; the history leaves room for {room[step]}", history.run
            )


def early(history: History) -> Iterator[Violation]:
    """Waits that ended before they were due."""
    due: dict[str, datetime] = {}
    for commit in history.commits:
        for event in commit.events:
            if isinstance(event, runs.WaitOpened) and event.due is not None:
                due[event.wait] = event.due
            elif isinstance(event, runs.WaitEnded) and commit.time < due.get(event.wait, commit.time):
                yield Violation("P3", f"{event.wait} ended before it was due", history.run)


class Span:
    """From one commit to the next: what was under way, and when something had to happen at the latest."""

    __slots__ = ("begin", "end", "expected")

    def __init__(self, begin: float, end: float, expected: float | None) -> None:
        self.begin, self.end, self.expected = begin, end, expected

    def late(self, moment: float) -> float | None:
        """Seconds from a moment (or from when it was due, if that was later) to the next commit; None: nothing to do."""
        if self.expected is None or not self.begin <= moment < self.end:
            return None
        return self.end - max(moment, self.expected)


def spans(history: History) -> Iterator[Span]:
    """Every stretch between two commits in which the run had something under way that nobody must decide about."""
    attempts: set[tuple[str, int]] = set()
    waits: dict[str, datetime] = {}
    for commit, following in zip(history.commits, history.commits[1:], strict=False):
        for event in commit.events:
            _follow(event, attempts, waits)
        begin = commit.time.timestamp()
        if attempts:
            yield Span(begin, following.time.timestamp(), begin)
        elif waits:
            due = min(waits.values()).timestamp()
            yield Span(begin, following.time.timestamp(), due)


def _follow(event: runs.RunEvent, attempts: set[tuple[str, int]], waits: dict[str, datetime]) -> None:
    match event:
        case runs.AttemptScheduled():
            # A worker outside has its lease for half a minute, whoever dies: that is no time of ours.
            if not event.pool.startswith(WORKERS):
                attempts.add((event.step, event.attempt))
        case runs.StepReported() | runs.AttemptFailed() | runs.AttemptDoubted() | runs.AttemptCancelled():
            attempts.discard((event.step, event.attempt))
        case runs.WaitOpened() if event.due is not None:
            waits[event.wait] = event.due
        case runs.WaitEnded() | runs.WaitDropped():
            waits.pop(event.wait, None)
        case _:
            return
