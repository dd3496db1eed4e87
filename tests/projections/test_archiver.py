"""What the archiver promises: a history leaves the log only for an archive that has it whole and on disk."""

import hashlib
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from chassis.ports import Away, Proposal, Stored
from chassis.testing.clock import HandClock
from contracts.subjects import HORIZON
from projections.archiver import Archiver, Days, Tombstones
from projections.figures import Figures
from projections.models import Position
from projections.shelf import ClosedSegment, EndedRun
from projections.streams import StreamFacts
from tests.projections.histories import NOON, ORG, Writer

TODAY = NOON + timedelta(days=8)


class Marks:
    """The bucket of marks, which writes down when it is written to."""

    epoch = 1

    def __init__(self, place: "Place") -> None:
        self.set: dict[str, Stored] = {}
        self._place = place

    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        [proposal] = proposals
        self._place._happen("mark horizon")
        self.set[proposal.subject] = Stored(proposal.subject, 1, proposal.body)
        return [1]

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        raise NotImplementedError

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return {subject: self.set[subject] for subject in subjects if subject in self.set}


class Place:
    """Shelf, streams and log of one test; writes down what happened in which order."""

    def __init__(self, writer: Writer) -> None:
        self.messages = list(writer.messages)
        self.effects = [f"effect.{ORG}.run1.step.1", f"effect.{ORG}.run10.step.1"]
        self.forgotten_in_a_crash = ""
        """The run whose rows Postgres has shown, and loses before they are on disk."""
        self.claims_when_looked_at = 0
        """How many more claims are made by runs that are reopened while the archiver looks at their ends."""
        self.runs: list[EndedRun] = []
        self.happened: list[str] = []
        self.marked: list[str] = []
        self.away = ""
        self.epoch = 1
        self.forgotten: list[str] = []
        self.marks = Marks(self)
        self.seams: list[ClosedSegment] = []
        self.let_go: list[int] = []

    def end(
        self, run: str, days: float, *, whole: bool = True, body: bytes | None = None, keyed: bool = True
    ) -> None:
        last = [m for m in self.messages if m.subject == f"run.{ORG}.{run}"][-1]
        digest = hashlib.sha256(last.body if body is None else body).digest()
        ended = TODAY - timedelta(days=days)
        self.runs.append(EndedRun(org=ORG, run=run, hash=digest, ended=ended, whole=whole, keyed=keyed))

    # The shelf.
    async def ended(self, before: datetime, after: EndedRun | None, most: int) -> Sequence[EndedRun]:
        due = sorted(
            (run for run in self.runs if run.ended < before and run.run not in self.marked),
            key=lambda run: (run.ended, run.org, run.run),
        )
        if after is not None:
            due = [run for run in due if (run.ended, run.org, run.run) > (after.ended, after.org, after.run)]
        return due[:most]

    async def segments(
        self, before: datetime, after: ClosedSegment | None, most: int
    ) -> Sequence[ClosedSegment]:
        due = [each for each in self.seams if each.time < before and each.version not in self.let_go]
        return [each for each in due if after is None or each.version > after.version][:most]

    async def mark_segments(self, segments: Sequence[ClosedSegment], at: datetime) -> None:
        self._happen("let go")
        self.let_go += [each.version for each in segments]

    async def flush(self) -> None:
        self._happen("flush")
        self.runs = [run for run in self.runs if run.run != self.forgotten_in_a_crash]

    async def mark_purged(self, runs: Sequence[EndedRun], at: datetime) -> None:
        self._happen("mark")
        self.marked += [run.run for run in runs]

    async def tombstones(
        self, before: datetime, after: EndedRun | None, most: int, *, keyed: bool, beyond: int
    ) -> Sequence[EndedRun]:
        left = sorted(
            (
                r
                for r in self.runs
                if r.keyed == keyed and r.run in self.marked and r.run not in self.forgotten
            ),
            key=lambda run: (run.ended, run.org, run.run),
        )
        due = [run for run in left[: max(0, len(left) - beyond)] if run.ended < before]
        if after is not None:
            due = [run for run in due if (run.ended, run.org, run.run) > (after.ended, after.org, after.run)]
        return due[:most]

    async def mark_forgotten(self, runs: Sequence[EndedRun], at: datetime) -> None:
        self._happen("forget")
        self.forgotten += [run.run for run in runs]

    async def has_forgotten(self) -> bool:
        return any(run.keyed and run.run in self.forgotten for run in self.runs)

    async def drop(self, before: datetime, at: datetime, most: int) -> int:
        self.happened.append(f"drop {before.date()}")
        return 0

    async def drop_weeks(self, before: date) -> int:
        self.happened.append(f"weeks {before}")
        return 0

    async def prune_hooks(self, before: datetime) -> None:
        self.happened.append(f"hooks {before.date()}")

    # The streams.
    async def facts(self, stream: str) -> StreamFacts:
        last = len(self.effects) if stream == "EFFECTS" else len(self.messages)
        return StreamFacts(name=stream, created="", epoch=self.epoch, first=1, last=last)

    async def purge(self, stream: str, subjects: str, before: int | None = None) -> int:
        self._happen(f"purge {stream}")
        assert before is not None
        if stream == "EFFECTS":
            prefix = subjects.removesuffix(">")
            numbered = enumerate(self.effects, 1)
            self.effects = [e for number, e in numbered if number >= before or not e.startswith(prefix)]
            return 0
        self.messages = [m for m in self.messages if m.subject != subjects or m.sequence >= before]
        return 0

    # The log.
    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        raise NotImplementedError

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        raise NotImplementedError

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        found = {m.subject: m for m in self.messages if m.subject in subjects}
        for attempt in range(self.claims_when_looked_at):
            self.effects.append(f"effect.{ORG}.run1.step.{attempt + 2}")
        return found

    def _happen(self, what: str) -> None:
        if what == self.away:
            raise Away(what)
        self.happened.append(what)

    def left(self, run: str) -> int:
        return sum(m.subject == f"run.{ORG}.{run}" for m in self.messages)


def archiver(place: Place, log_days: Days = 7.0, archive_days: Days = 90.0, **more: Any) -> Archiver:
    clock, followed = more.pop("clock", HandClock(TODAY)), more.pop("followed", None)
    tombstones = Tombstones(marks=place.marks, **more) if more else None
    return Archiver(
        place,
        place,
        place,
        clock,
        Figures(),
        log_days=log_days,
        archive_days=archive_days,
        tombstones=tombstones,
        followed=followed,
    )


@pytest.fixture
def place() -> Place:
    writer = Writer()
    for run in ("run1", "run2", "run10"):
        writer.three_steps(run)
    return Place(writer)


async def test_an_old_run_leaves_a_tombstone_and_takes_its_claims_along(place: Place) -> None:
    place.end("run1", 7.5)
    place.end("run2", 6.5)
    await archiver(place).round()
    assert (place.left("run1"), place.left("run2"), place.left("run10")) == (1, 4, 4)
    assert place.effects == [f"effect.{ORG}.run10.step.1"]
    assert place.marked == ["run1"]
    assert place.happened[:4] == ["flush", "purge RUNS", "purge EFFECTS", "mark"]
    assert b"run.completed" in next(m for m in place.messages if m.subject.endswith("run1")).body


async def test_a_history_whose_events_were_not_read_stays_two_days_longer(place: Place) -> None:
    reached = Position(epoch=1, sequence=0, generation="one")

    async def followed() -> Position:
        return reached

    place.end("run1", 7.5)
    place.end("run2", 8.5)
    place.end("run10", 9.5)
    at_work = archiver(place, followed=followed)
    await at_work.round()
    assert place.marked == ["run10"], "a follower that stands still does not fill the disk"
    reached = structs.replace(reached, sequence=4)
    await at_work.round()
    assert place.marked == ["run10", "run1"], "its last commit is the fourth message"
    reached = structs.replace(reached, sequence=12, epoch=0)
    await at_work.round()
    assert len(place.marked) == 2, "a place of another log means nothing in this one"
    reached = structs.replace(reached, epoch=1)
    await at_work.round()
    assert sorted(place.marked) == ["run1", "run10", "run2"]


async def test_what_postgres_has_shown_and_lost_again_stays_in_the_log(place: Place) -> None:
    place.end("run1", 30)
    place.end("run2", 29)
    place.forgotten_in_a_crash = "run1"
    await archiver(place).round()
    assert (place.left("run1"), place.left("run2")) == (4, 1)
    assert place.marked == ["run2"]


async def test_a_tombstone_whose_row_is_lost_in_a_crash_stays(place: Place) -> None:
    place.end("run1", 30, keyed=False)
    await archiver(place, most=1, marked_seconds=600).round()
    place.end("run2", 29, keyed=False)
    place.forgotten_in_a_crash = "run2"
    await archiver(place, most=1, marked_seconds=600).round()
    assert place.forgotten == ["run1"]
    assert (place.left("run1"), place.left("run2")) == (0, 4)


async def test_a_run_that_is_reopened_meanwhile_keeps_its_new_claims(place: Place) -> None:
    place.end("run1", 30)
    place.claims_when_looked_at = 1
    await archiver(place).round()
    assert place.effects == [f"effect.{ORG}.run10.step.1", f"effect.{ORG}.run1.step.2"]


async def test_a_run_that_is_not_whole_in_the_archive_stays(place: Place) -> None:
    place.end("run1", 30, whole=False)
    place.end("run2", 29)
    await archiver(place).round()
    assert (place.left("run1"), place.left("run2")) == (4, 1)
    assert place.marked == ["run2"]


async def test_a_run_that_went_on_after_its_end_stays(place: Place) -> None:
    place.end("run1", 30, body=b"what was last when the archive looked")
    await archiver(place).round()
    assert place.left("run1") == 4
    assert place.marked == []


@pytest.mark.parametrize("away", ["flush", "purge RUNS", "purge EFFECTS", "mark"])
async def test_a_round_that_is_cut_off_is_done_again(place: Place, away: str) -> None:
    place.end("run1", 30)
    place.away = away
    with pytest.raises(Away):
        await archiver(place).round()
    assert place.marked == []
    if away == "flush":
        assert place.left("run1") == 4
    place.away = ""
    await archiver(place).round()
    assert (place.left("run1"), place.marked) == (1, ["run1"])


async def test_never_means_never(place: Place) -> None:
    place.end("run1", 3_000)
    await archiver(place, log_days="never", archive_days=1.0).round()
    assert place.left("run1") == 4
    assert not any(each.startswith("drop") for each in place.happened)
    await archiver(place, archive_days="never").round()
    assert place.left("run1") == 1
    assert not any(each.startswith("drop") for each in place.happened)


async def test_the_archive_lets_go_after_its_own_time(place: Place) -> None:
    await archiver(place, archive_days=90.0).round()
    assert place.happened == ["drop 2026-08-30", "weeks 2026-08-30", "hooks 2026-10-29"]


# --- Tombstones ---------------------------------------------------------------------------------


async def test_past_the_horizon_the_oldest_tombstones_leave_after_everybody_could_see_the_mark(
    place: Place,
) -> None:
    for number, run in enumerate(("run1", "run2", "run10")):
        place.end(run, 30 - number)
    clock = HandClock(TODAY)
    working = archiver(place, most=1, marked_seconds=600, clock=clock)
    await working.round()
    assert HORIZON in place.marks.set
    assert [place.left(run) for run in ("run1", "run2", "run10")] == [1, 1, 1]
    clock.moved = 599.0
    await working.round()
    assert place.forgotten == []
    clock.moved = 600.0
    await working.round()
    assert [place.left(run) for run in ("run1", "run2", "run10")] == [0, 0, 1]
    assert place.forgotten == ["run1", "run2"]
    at = place.happened.index("mark horizon")
    assert place.happened[at:].count("flush") == 1, (
        "the archive's ids are on disk before the first one leaves"
    )
    assert place.happened.index("forget") > at + place.happened[at:].index("flush")


async def test_an_archiver_that_starts_anew_waits_again_and_marks_no_second_time(place: Place) -> None:
    place.end("run1", 30)
    await archiver(place, most=0, marked_seconds=600).round()
    clock = HandClock(TODAY)
    second = archiver(place, most=0, marked_seconds=600, clock=clock)
    await second.round()
    assert place.left("run1") == 1
    clock.moved = 600.0
    await second.round()
    assert place.left("run1") == 0
    assert place.happened.count("mark horizon") == 1


async def test_below_the_horizon_nothing_is_marked_and_every_tombstone_stays(place: Place) -> None:
    for run in ("run1", "run2"):
        place.end(run, 30)
    await archiver(place, most=2, marked_seconds=0).round()
    await archiver(place, most="never", marked_seconds=0).round()
    assert place.marks.set == {}
    assert [place.left(run) for run in ("run1", "run2")] == [1, 1]


async def test_a_run_without_a_key_leaves_whole_a_day_after_its_end(place: Place) -> None:
    place.end("run1", 2, keyed=False)
    place.end("run2", 0.5, keyed=False)
    place.end("run10", 2)
    await archiver(place, log_days=0.1, most=500_000).round()
    assert [place.left(run) for run in ("run1", "run2", "run10")] == [0, 1, 1]
    assert place.effects == []
    assert place.marks.set == {}, "nobody has to ask the archive before a start with a key"


async def test_a_tombstone_of_a_run_that_was_reopened_stays(place: Place) -> None:
    place.end("run1", 30, keyed=False)
    working = archiver(place, most=0)
    place.marked = ["run1"]
    [ended] = place.runs
    place.runs = [structs.replace(ended, hash=b"of the end before this one")]
    await working.round()
    assert place.left("run1") == 4
    assert place.forgotten == []


async def test_a_log_that_lost_the_mark_gets_it_again(place: Place) -> None:
    place.end("run1", 30)
    place.marked = place.forgotten = ["run1"]
    await archiver(place, most=500).round()
    assert HORIZON in place.marks.set


@pytest.mark.parametrize("away", ["flush", "purge RUNS", "mark horizon", "forget"])
async def test_forgetting_that_is_cut_off_is_done_again(place: Place, away: str) -> None:
    place.end("run1", 30)
    place.marked = ["run1"]
    place.away = away
    with pytest.raises(Away):
        await archiver(place, most=0, marked_seconds=0).round()
    assert place.forgotten == []
    place.away = ""
    await archiver(place, most=0, marked_seconds=0).round()
    assert (place.left("run1"), place.forgotten) == (0, ["run1"])


# --- Segments of runs that go on ------------------------------------------------------------------


def lengthened(place: Place, *whole: bool, epoch: int = 1) -> list[int]:
    """Seams of run1, three commits apart, and what is in the log of it."""
    sequences = [m.sequence for m in place.messages if m.subject == f"run.{ORG}.run1"]
    place.seams = [
        ClosedSegment(
            org=ORG,
            run="run1",
            version=version,
            epoch=epoch,
            sequence=sequences[version - 1],
            time=NOON,
            whole=each,
        )
        for version, each in enumerate(whole, 2)
    ]
    return sequences


def in_the_log(place: Place) -> list[int]:
    return [m.sequence for m in place.messages if m.subject == f"run.{ORG}.run1"]


async def test_what_is_before_a_seam_leaves_after_it_was_flushed_looked_at_again_and_written_down(
    place: Place,
) -> None:
    sequences = lengthened(place, True, True)
    await archiver(place).round()
    assert in_the_log(place) == sequences[2:]
    assert place.let_go == [2, 3]
    assert place.happened[:3] == ["flush", "let go", "purge RUNS"]
    await archiver(place).round()
    assert place.happened.count("let go") == 1


@pytest.mark.parametrize(
    ("whole", "first", "let_go"), [((False, True), 0, []), ((True, False), 1, [2]), ((True, True), 2, [2, 3])]
)
async def test_a_segment_that_is_not_whole_in_the_archive_holds_those_behind_it(
    place: Place, whole: tuple[bool, bool], first: int, let_go: list[int]
) -> None:
    sequences = lengthened(place, *whole)
    await archiver(place).round()
    assert in_the_log(place) == sequences[first:]
    assert place.let_go == let_go


async def test_a_place_of_another_epoch_is_no_place_of_this_log(place: Place) -> None:
    sequences = lengthened(place, True, epoch=2)
    await archiver(place).round()
    assert in_the_log(place) == sequences


async def test_a_purge_of_a_segment_that_is_put_off_leaves_with_the_next_one(place: Place) -> None:
    sequences = lengthened(place, True)
    place.away = "purge RUNS"
    with pytest.raises(Away):
        await archiver(place).round()
    assert in_the_log(place) == sequences
    place.away = ""
    seams, place.seams = place.seams, []
    lengthened(place, True, True)
    place.seams = [*seams, place.seams[1]]
    await archiver(place).round()
    assert in_the_log(place) == sequences[2:]
