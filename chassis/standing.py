"""How an attempt stands in the history of its run: still open, unwanted, or over.

Read before an attempt whose task may be an echo: after a crash of the log, finished tasks can come again.
"""

from collections.abc import Iterable
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from chassis.ports import Log, Stored
from contracts import runs
from contracts.cloudevents import RUN_ENDED, seam_in
from contracts.codec import Decoder, begins_segment, decode_envelope
from contracts.subjects import run

Standing: TypeAlias = Literal["open", "stopping", "closed"]
"""`stopping`: the attempt is open, but its run wants no new effects."""


class Attempted(Protocol):
    """Names one attempt."""

    @property
    def org(self) -> str: ...

    @property
    def run(self) -> str: ...

    @property
    def step(self) -> str: ...

    @property
    def attempt(self) -> int: ...


class Glance(Struct, frozen=True):
    """As much of an event as is needed here; so a history from a newer release can be read as well."""

    type: str
    step: str | None = None
    attempt: int = 0
    attempts: dict[str, int] = {}
    """Of a new segment's first event: what was under way before it."""
    stopping: bool = False


def _tags(*kinds: type[Struct]) -> frozenset[str]:
    return frozenset(str(kind.__struct_config__.tag) for kind in kinds)


_glance: Final = Decoder[Glance](Glance)
_SCHEDULED: Final = _tags(runs.AttemptScheduled)
_STOPPING: Final = _tags(runs.RunStopping)
_ENDS_RUN: Final = _tags(runs.RunCompleted, runs.RunFailed, runs.RunCancelled)
_ENDS_STEP: Final = _tags(
    runs.StepSucceeded, runs.StepFailed, runs.StepSkipped, runs.StepCancelled, runs.DoubtResolved
)
_ENDS_ATTEMPT: Final = _tags(
    runs.StepReported, runs.AttemptFailed, runs.AttemptDoubted, runs.AttemptCancelled
)
_CONTINUED: Final = _tags(runs.RunContinued)


def told_by(task: Attempted, last: Stored | None) -> Standing | None:
    """What the newest commit of its run alone says of an attempt; None when it says nothing."""
    if last is None or RUN_ENDED in last.headers:
        return "closed"
    return _fold(task, [last])


async def standing_of(task: Attempted, log: Log) -> Standing:
    """Ask RUNS about one attempt. Raises `Away`, or `Malformed` when the history cannot be read.

    An attempt that the history does not know is closed: nobody waits for it.
    """
    subject = run(task.org, task.run)
    last = (await log.last([subject])).get(subject)
    # The newest commit alone often says it, and spares the reading of all; a new segment says how everything stands.
    told = told_by(task, last)
    return told or (_fold(task, await _segment(last, log)) if last is not None else None) or "closed"


async def _segment(last: Stored, log: Log) -> list[Stored]:
    """The history from where its newest segment begins, or all of it where the last commit does not know."""
    place = seam_in(last.headers, log.epoch)
    if place:
        segment = await log.history(last.subject, place - 1)
        if segment and begins_segment(segment[0].body):
            return segment
    return await log.history(last.subject)


def _fold(task: Attempted, commits: Iterable[Stored]) -> Standing | None:
    standing: Standing | None = None
    for commit in commits:
        for event in decode_envelope(commit.body).events:
            standing = _after(standing, _glance(event), task)
    return standing


def _after(standing: Standing | None, event: Glance, task: Attempted) -> Standing | None:
    if event.type in _ENDS_RUN:
        return "closed"
    if event.type in _CONTINUED:
        ours = event.attempts.get(task.step) == task.attempt
        return ("stopping" if event.stopping else "open") if ours else "closed"
    if event.type in _STOPPING:
        return "stopping" if standing == "open" else standing
    if event.step != task.step:
        return standing
    if event.type in _SCHEDULED:
        return _scheduled(event.attempt, task.attempt, standing)
    over = event.type in _ENDS_STEP or (event.type in _ENDS_ATTEMPT and event.attempt == task.attempt)
    return "closed" if over else standing


def _scheduled(attempt: int, ours: int, standing: Standing | None) -> Standing | None:
    if attempt == ours:
        return "open"
    return "closed" if attempt > ours else standing
