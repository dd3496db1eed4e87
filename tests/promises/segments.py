"""What the promises mean for long histories: they are cut in time, and whoever goes on from a seam knows what all readers know."""

from collections.abc import Iterator, Mapping, Sequence

from contracts import runs
from contracts.payloads import Inline
from orchestrator.history import state_at
from orchestrator.segments import Segment, further, restored
from tests.promises.evidence import Evidence, History, Violation


def segments_are_bounded(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """A seam stands first in its commit, and no commit goes behind a segment that is long enough without one."""
    for history in histories:
        segment = Segment()
        for stored, commit in zip(history.stored, history.commits, strict=True):
            first, *others = commit.events
            if any(isinstance(event, runs.RunContinued) for event in others):
                yield Violation("P4", f"a seam in the middle of version {commit.version}", history.run)
            held = isinstance(first, runs.RunParked | runs.RunContinued)
            long_enough = segment.events >= evidence.segment and segment.size >= segment.state
            if long_enough and not held:
                yield Violation(
                    "P4", f"version {commit.version} lies behind {segment.events} events", history.run
                )
            segment = further(segment, commit.events, len(stored.body))


def a_history_goes_on_from_every_seam(
    evidence: Evidence, histories: Sequence[History]
) -> Iterator[Violation]:
    """What is restored at a seam and folded on is what all of the history says."""
    for history in histories:
        for place, commit in enumerate(history.commits):
            first = commit.events[0]
            if not isinstance(first, runs.RunContinued):
                continue
            state = _state_of(first, evidence.values)
            if state is None:
                continue  # Nobody has looked at the object store.
            seam = restored(state, first, history.org, history.run)
            if seam is None:
                yield Violation("P4", f"the state in version {commit.version} cannot be read", history.run)
                continue
            if state_at(history.org, history.run, history.commits[place:], seam=seam) != history.state:
                yield Violation("P4", f"from version {commit.version} on another run goes on", history.run)


def _state_of(event: runs.RunContinued, values: Mapping[str, bytes]) -> bytes | None:
    if isinstance(event.state, Inline):
        return bytes(event.state.value)
    return values.get(event.state.sha256)
