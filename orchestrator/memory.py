"""What this process remembers of the runs it owns: each run's state as the fold of its history.

A memory is never the truth: the expected sequence of every append checks it, and it is forgotten at every take-over.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from chassis.ids import digest
from chassis.ports import Stored
from contracts.cloudevents import TRACE
from contracts.codec import Unknown, decode_commit, decode_envelope
from contracts.commits import FIRST_HASH, Commit
from contracts.runs import RunContinued, RunEvent, RunParked, RunStarted
from contracts.subjects import partition
from orchestrator.run import RULES, Run, evolve
from orchestrator.segments import Segment, further

REMEMBERED_RUNS: Final = 20_000
PARKED: Final = f'"{RunParked.__struct_config__.tag}"'.encode()


class Known(Struct, frozen=True, kw_only=True):
    """A run as it was at its last commit that we have seen."""

    run: Run
    sequence: int = 0
    version: int = 0
    events: int = 0
    """Of the whole history."""
    segment: Segment = Segment()
    hash: str = FIRST_HASH
    receipt: str = ""
    key_id: str = ""
    trace: str = ""
    at: datetime | None = None
    """The time of the last commit."""
    emitted: bool = False
    """We emitted what the state asks for ourselves: nothing can be missing unless an executor lost it."""
    needs_release: str = ""
    """The history holds an event that this release cannot read."""
    said_so: bool = False
    """The history behind that event says that the run is parked."""
    archived: bool = False
    """Only the tombstone is left in the log; the history lies in the archive."""
    archive_asked: bool = False
    """The archive was asked for the rest, and has nothing."""
    gone: bool = False
    """Nothing is left of the run but its id in the archive."""


def add_commit(known: Known, commit: Commit[RunEvent], stored: Stored, body_hash: str) -> Known:
    """What is known after one more commit."""
    run = known.run
    for event in commit.events:
        run = evolve(run, event, commit.time)
    return structs.replace(
        known,
        run=run,
        sequence=stored.sequence,
        version=commit.version,
        events=known.events + len(commit.events),
        segment=further(known.segment, commit.events, len(stored.body), stored.sequence),
        hash=body_hash,
        receipt=commit.correlation_id,
        key_id=commit.key_id or known.key_id,
        at=commit.time,
    )


def lying_at(known: Known, events: Sequence[RunEvent], sequence: int) -> Known:
    """The commit of these events, which was the last to be decided, lies there now."""
    segment = known.segment
    if isinstance(events[0], RunContinued):
        segment = structs.replace(segment, sequence=sequence)
    return structs.replace(known, sequence=sequence, segment=segment)


def fold(org: str, run_id: str, history: Sequence[Stored], seam: Run | None = None) -> Known:
    """Fold a history. One that begins neither at version 1 nor at a seam is a tombstone: the run is archived.

    `seam`: the state with which the first commit goes on. An event from a newer release ends the fold there; what follows keeps only its place, so that `run.parked` can be
    appended behind it.
    """
    known = Known(run=Run.new(org, run_id) if seam is None else seam)
    for stored in history:
        body_hash = digest(stored.body)
        if known.needs_release:
            known = _place(known, stored, body_hash)
            continue
        try:
            commit = decode_commit(stored.body)
        except Unknown as unknown:
            known = _place(known, stored, body_hash, unknown.needs_release)
            continue
        if any(isinstance(event, RunStarted) and event.rules > RULES for event in commit.events):
            # Decided by rules that this release does not know: it must not go on by its own.
            known = _place(known, stored, body_hash, commit.engine_version)
            continue
        if known.version == 0 and commit.version != 1:
            first = commit.events[0]
            before = first.events if isinstance(first, RunContinued) else 0
            known = structs.replace(known, archived=seam is None, events=before)
        known = add_commit(known, commit, stored, body_hash)
        if not known.trace:
            known = structs.replace(known, trace=stored.headers.get(TRACE, ""))
    return known


def _place(known: Known, stored: Stored, body_hash: str, needs_release: str = "") -> Known:
    envelope = decode_envelope(stored.body)
    parked = any(PARKED in bytes(event) for event in envelope.events)
    return structs.replace(
        known,
        sequence=stored.sequence,
        version=envelope.version,
        hash=body_hash,
        needs_release=needs_release or known.needs_release,
        said_so=known.said_so or parked,
    )


class Memory:
    """The runs seen last, by partition; the longest unseen is dropped first."""

    def __init__(self, room: int = REMEMBERED_RUNS) -> None:
        self._room = room
        self._runs: OrderedDict[str, Known] = OrderedDict()

    def get(self, run_id: str) -> Known | None:
        known = self._runs.get(run_id)
        if known is not None:
            self._runs.move_to_end(run_id)
        return known

    def keep(self, run_id: str, known: Known) -> None:
        self._runs[run_id] = known
        self._runs.move_to_end(run_id)
        if len(self._runs) > self._room:
            self._runs.popitem(last=False)

    def drop(self, run_id: str) -> None:
        self._runs.pop(run_id, None)

    def forget(self, number: int) -> None:
        """A partition is ours anew: nothing remembered of its runs counts."""
        for run_id in [run_id for run_id in self._runs if partition(run_id) == number]:
            del self._runs[run_id]

    def __len__(self) -> int:
        return len(self._runs)
