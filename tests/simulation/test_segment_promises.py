"""What is wrong about the segments of a history is found, and what is right is not."""

from collections.abc import Sequence
from functools import cache

from msgspec import Raw, structs

from chassis.ports import Stored
from contracts.codec import decode_commit, encode
from contracts.payloads import Blob, Inline
from contracts.runs import RunContinued, RunEvent
from tests.orchestrator.test_segments import LONG, Counted
from tests.promises.evidence import Evidence, History
from tests.promises.segments import a_history_goes_on_from_every_seam, segments_are_bounded
from tests.simulation.test_promises import well


@cache
def whole() -> Sequence[Stored]:
    """A run of ten steps whose segments hold six events."""
    told: list[Stored] = []

    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 10)
        told.extend(room.stored)

    Counted(LONG).play(story)  # type: ignore[arg-type]  # It plays stories of its own kind.
    return told


def seams() -> list[int]:
    """The places of commits that begin a segment."""
    commits = [decode_commit(stored.body) for stored in whole()]
    return [place for place, commit in enumerate(commits) if isinstance(commit.events[0], RunContinued)]


def altered(place: int, *events: RunEvent) -> History:
    """The history with other events in one commit."""
    stored = list(whole())
    commit = structs.replace(decode_commit(stored[place].body), events=events)
    stored[place] = structs.replace(stored[place], body=encode(commit))
    return History("org", "run-1", stored)


def found(history: History, segment: int = 6) -> list[str]:
    evidence: Evidence = structs.replace(well(), segment=segment)
    promises = (segments_are_bounded, a_history_goes_on_from_every_seam)
    return [violation.what for promise in promises for violation in promise(evidence, [history])]


def test_a_history_in_segments_is_well() -> None:
    assert len(seams()) > 2
    assert found(History("org", "run-1", whole())) == []


def test_a_segment_that_goes_on_and_on_is_found() -> None:
    place = seams()[1]
    events = decode_commit(whole()[place].body).events[1:]
    assert any("lies behind" in what for what in found(altered(place, *events)))


def test_a_seam_in_the_middle_of_a_commit_is_found() -> None:
    place = seams()[0]
    seam, fact, *others = decode_commit(whole()[place].body).events
    assert any("in the middle" in what for what in found(altered(place, fact, seam, *others)))


def test_a_state_that_nobody_can_read_and_one_of_another_moment_are_found() -> None:
    first, second = seams()[:2]
    seam, *others = decode_commit(whole()[second].body).events
    earlier = decode_commit(whole()[first].body).events[0]
    assert isinstance(seam, RunContinued)
    assert isinstance(earlier, RunContinued)
    broken = structs.replace(seam, state=Inline(value=Raw(b'{"org":"org","id":"run-1","unheard":1}')))
    assert any("cannot be read" in what for what in found(altered(second, broken, *others)))
    stale = structs.replace(seam, state=earlier.state)
    assert any("another run goes on" in what for what in found(altered(second, stale, *others)))
    elsewhere = structs.replace(seam, state=Blob(sha256="ab" * 32, size=9))
    assert found(altered(second, elsewhere, *others)) == [], "nobody has looked at the object store"
