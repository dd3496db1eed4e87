"""A history of any length is gone on with from its newest seam, and a seam says nothing that the events before it do not."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from hashlib import sha256
from typing import Any

import pytest
from msgspec import Raw, structs

from chassis.ports import Stored
from contracts.cloudevents import RUN_SEAM
from contracts.codec import begins_segment, decode_commit, encode
from contracts.commits import FIRST_HASH, Commit
from contracts.limits import BLOB_BYTES
from contracts.payloads import Blob, Inline
from contracts.plans import Plan
from contracts.reference import VERSION
from contracts.runs import RunContinued, RunEvent, WaitOpened
from contracts.subjects import run as run_subject
from orchestrator.history import replay, state_at
from orchestrator.run import RULES, Graph, Run, evolve
from orchestrator.segments import FORMAT, Bounds, Segment, continued, further, restored, snapshot
from orchestrator.state import Step
from tests.histories.corpus import recorded
from tests.orchestrator.rooms import Room
from tests.orchestrator.states import fields, kept, shown
from tests.orchestrator.stories import REFUSED, RETRY, action, broken, control, done, drawn

SUBJECT = run_subject("org", "run-1")
LONG = drawn(" ".join(f"s{n}>s{n + 1}" for n in range(9)))


class Counted(Room):
    """Short segments, and a log that notes from where it is read."""

    def __init__(self, plan: Plan, events: int = 6) -> None:
        super().__init__(plan)
        self.bounds = Bounds(events=events)
        self.read: list[int] = []
        whole = self.log.history

        async def history(subject: str, after: int = 0) -> list[Stored]:
            self.read.append(after)
            return await whole(subject, after)

        self.log.history = history  # type: ignore[method-assign]  # It reads what it always read.

    @property
    def stored(self) -> Sequence[Stored]:
        return self.log.ever[SUBJECT]

    @property
    def commits(self) -> list[Commit[RunEvent]]:
        return [decode_commit(stored.body) for stored in self.stored]

    @property
    def seams(self) -> list[Stored]:
        return [stored for stored in self.stored if begins_segment(stored.body)]

    def forget(self) -> None:
        self.service._memory.drop("run-1")
        self.read.clear()

    async def go_on(self, first: int, last: int) -> None:
        for number in range(first, last):
            await self.say(done(f"s{number}", output={"n": number}))


def told(plan: Plan, events: int = 6) -> Callable[[Callable[[Counted], Coroutine[Any, Any, None]]], None]:
    return lambda story: Counted(plan, events).play(story)


def without_seams(commits: Sequence[Commit[RunEvent]]) -> list[RunEvent]:
    return [each for commit in commits for each in commit.events if not isinstance(each, RunContinued)]


# --- One history --------------------------------------------------------------------------------


def test_a_long_history_is_cut_and_is_still_one_history() -> None:
    whole: list[list[RunEvent]] = []
    for events in (6, 4_000):

        @told(LONG, events)
        async def story(room: Counted) -> None:
            await room.say(room.start)
            await room.go_on(0, 10)
            assert room.events[-1] == "run.completed"
            before = FIRST_HASH
            for number, (stored, commit) in enumerate(zip(room.stored, room.commits, strict=True), 1):
                assert (commit.version, commit.prev_hash) == (number, before)
                before = sha256(stored.body).hexdigest()
            assert replay("org", "run-1", room.commits, Graph.of(LONG)) is None
            assert bool(room.seams) == (room.bounds.events == 6)
            whole.append(without_seams(room.commits))

    assert whole[0] == whole[1]


def test_seams_are_numbered_and_say_how_many_events_are_before_them() -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 10)
        before, number = 0, 1
        for commit in room.commits:
            first = commit.events[0]
            if isinstance(first, RunContinued):
                number += 1
                assert (first.segment, first.events, first.opening) == (number, before, 1)
                assert first.attempts == {f"s{commit.version - 2}": 1}
            before += len(commit.events)
        assert number > 3


def test_every_commit_behind_a_seam_says_where_it_lies() -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 10)
        seam = 0
        for stored in room.stored:
            if begins_segment(stored.body):
                seam = stored.sequence
                assert RUN_SEAM not in stored.headers
            else:
                assert stored.headers.get(RUN_SEAM, "") == (f"1-{seam}" if seam else "")


# --- Going on -----------------------------------------------------------------------------------


def test_who_takes_a_run_up_reads_from_its_newest_seam_only() -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 5)
        room.forget()
        await room.go_on(5, 6)
        assert room.read == [room.seams[-1].sequence - 1] or room.read == [room.seams[-2].sequence - 1]
        await room.go_on(6, 10)
        assert room.events[-1] == "run.completed"
        assert replay("org", "run-1", room.commits, Graph.of(LONG)) is None


def test_a_run_goes_on_when_what_is_before_its_seam_has_left_the_log() -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 6)
        room.log.purge(lambda subject: subject == SUBJECT, room.seams[-1].sequence)
        room.forget()
        await room.go_on(6, 10)
        assert room.commits[-1].version == len(room.stored)
        assert replay("org", "run-1", room.commits, Graph.of(LONG)) is None
        assert state_at("org", "run-1", room.commits).status == "completed"


@pytest.mark.parametrize("archived", [False, True])
def test_a_state_that_cannot_be_read_sends_its_reader_back_to_the_events(archived: bool) -> None:
    big = drawn(
        " ".join(f"s{n}>s{n + 1}" for n in range(9)),
        *(action(f"s{n}", config={"value": "x" * 12_000}) for n in range(10)),
    )

    @told(big)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        for number in range(7):
            await room.say(done(f"s{number}", output="y" * 12_000))
        by_reference = [
            seam for seam in room.seams if isinstance(decode_commit(seam.body).events[0].state, Blob)
        ]
        assert by_reference
        for seam in by_reference:
            event: Any = decode_commit(seam.body).events[0]
            del room.blobs.kept[event.state.sha256]
        if archived:
            room.archive.kept = [stored.body for stored in room.stored]
            room.log.purge(lambda subject: subject == SUBJECT, by_reference[-1].sequence)
        room.forget()
        for number in range(7, 10):
            await room.say(done(f"s{number}"))
        assert room.events[-1] == "run.completed"
        assert replay("org", "run-1", room.commits, Graph.of(big)) is None


def test_a_hint_that_leads_nowhere_is_not_believed() -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 5)
        lying = room.log._by_subject[SUBJECT]
        lying[-1] = structs.replace(lying[-1], headers={RUN_SEAM: f"1-{lying[-1].sequence - 1}"})
        room.forget()
        await room.go_on(5, 10)
        assert room.events[-1] == "run.completed"
        assert replay("org", "run-1", room.commits, Graph.of(LONG)) is None


def test_an_ended_run_is_opened_again_from_a_tombstone_that_begins_a_segment() -> None:
    @told(LONG, events=2)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 3)
        await room.say(broken("s3", error=REFUSED))
        assert room.events[-1] == "run.failed"
        assert begins_segment(room.stored[-1].body)
        room.log.purge(lambda subject: subject == SUBJECT, room.stored[-1].sequence)
        room.forget()
        [answer] = await room.say(RETRY)
        assert answer.result == "accepted"
        await room.say(done("s3", 2))
        await room.go_on(4, 10)
        assert room.events[-1] == "run.completed"
        assert replay("org", "run-1", room.commits, Graph.of(LONG)) is None


def test_a_run_that_waits_is_woken_over_a_seam() -> None:
    plan = drawn("a>nap nap>b", control("nap", "delay", {"seconds": 100}))

    @told(plan, events=2)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.say(done("a"))
        room.forget()
        await asyncio.sleep(120)
        await room.say(done("b"))
        assert room.events[-1] == "run.completed"
        waits = [event for event in without_seams(room.commits) if isinstance(event, WaitOpened)]
        assert len(waits) == 1


# --- What a seam says ---------------------------------------------------------------------------


def altered(commits: Sequence[Commit[RunEvent]], **changes: Any) -> list[Commit[RunEvent]]:
    """The history with a first seam that says something else."""
    changed, found = list[Commit[RunEvent]](), False
    for commit in commits:
        first = commit.events[0]
        if isinstance(first, RunContinued) and not found:
            found = True
            events = (structs.replace(first, **changes), *commit.events[1:])
            changed.append(structs.replace(commit, events=events))
        else:
            changed.append(commit)
    return changed


@pytest.mark.parametrize(
    "changes",
    [
        {"segment": 7},
        {"events": 1},
        {"opening": 2},
        {"stopping": True},
        {"attempts": {}},
        {"doubts": {"s1": 1}},
        {"state": Inline(value=Raw(b'{"org":"org","id":"run-1"}'))},
        {"state": Blob(sha256="ab" * 32, size=100_000)},
    ],
)
def test_a_seam_that_says_something_else_than_the_events_is_found(changes: dict[str, Any]) -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 5)
        divergence = replay("org", "run-1", altered(room.commits, **changes), Graph.of(LONG))
        assert divergence is not None
        assert isinstance(divergence.fact, RunContinued)
        assert divergence.version == decode_commit(room.seams[0].body).version
        assert room.commits[divergence.version - 1].events[0] == divergence.recomputed


def test_what_another_release_wrote_as_the_state_is_not_judged_but_what_it_says_of_it_is() -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 5)
        strange = {"format": FORMAT + 1, "state": Inline(value=Raw(b"{}"))}
        assert replay("org", "run-1", altered(room.commits, **strange), Graph.of(LONG)) is None
        lying = altered(room.commits, **strange, events=1)
        assert replay("org", "run-1", lying, Graph.of(LONG)) is not None


def test_the_numbers_of_events_go_on_over_a_seam() -> None:
    @told(LONG)
    async def story(room: Counted) -> None:
        await room.say(room.start)
        await room.go_on(0, 6)
        place = next(place for place, each in enumerate(room.commits) if each.version == 5)
        while not isinstance(room.commits[place].events[0], RunContinued):
            place += 1
        seam: Any = room.commits[place].events[0]
        run = restored(bytes(seam.state.value), seam, "org", "run-1")
        assert run is not None
        for event in range(seam.events, seam.events + 9):
            whole = state_at("org", "run-1", room.commits, event)
            assert state_at("org", "run-1", room.commits[place:], event, seam=run) == whole


# --- The state ----------------------------------------------------------------------------------


def seam_of(run: Run) -> RunContinued:
    event = continued(run, 2, 1)
    assert event is not None
    return event


def test_every_state_of_every_recorded_run_is_restored_as_it_was() -> None:
    states = 0
    for each in recorded(VERSION):
        run = Run.new(each.org, each.run)
        for commit in each.decoded():
            for event in commit.events:
                run = evolve(run, event, commit.time)
            assert restored(snapshot(run), seam_of(run), each.org, each.run) == run, each.name
            states += 1
    assert states > 300


def test_every_state_that_was_ever_written_can_be_read_and_together_they_show_every_field() -> None:
    seen = {field for run in kept() for field in shown(run)}
    assert fields() - seen == set(), "keep a state that has it: python -m tests.orchestrator.states"


def test_a_state_is_refused_that_this_release_would_not_say_so() -> None:
    run = structs.replace(Run.new("org", "run-1"), plan="ab" * 32)
    seam = seam_of(run)
    state = snapshot(run)
    assert restored(state, seam, "org", "run-1") == run
    assert restored(state, structs.replace(seam, format=FORMAT + 1), "org", "run-1") is None
    assert restored(state, seam, "other", "run-1") is None
    assert restored(state, seam, "org", "run-2") is None
    assert restored(state[:-1] + b',"children":{"a":1}}', seam, "org", "run-1") is None
    assert restored(state[:-5], seam, "org", "run-1") is None
    newer = structs.replace(run, rules=RULES + 1)
    assert restored(snapshot(newer), seam, "org", "run-1") is None


def test_what_stands_at_its_default_is_not_written() -> None:
    assert snapshot(Run.new("org", "run-1")) == b'{"org":"org","id":"run-1"}'
    started = structs.replace(Run.new("org", "run-1"), steps={"a": Step(status="succeeded")})
    assert snapshot(started) == b'{"org":"org","id":"run-1","steps":{"a":{"status":"succeeded"}}}'


def test_a_state_that_no_store_takes_makes_no_seam() -> None:
    assert continued(structs.replace(Run.new("org", "r"), org_vars={"x": "a" * BLOB_BYTES}), 2, 1) is None


def test_a_segment_is_not_cut_while_it_is_smaller_than_its_state() -> None:
    bounds = Bounds(events=10, size=1_000)
    assert not bounds.reached(Segment(events=9, size=999))
    assert bounds.reached(Segment(events=10, size=1))
    assert bounds.reached(Segment(events=1, size=1_000))
    assert not bounds.reached(Segment(events=500, size=5_000, state=5_001))
    seam = seam_of(structs.replace(Run.new("org", "r"), org_vars={"x": "a" * 5_000}))
    assert further(Segment(), [seam], 6_000, 17) == Segment(
        number=2,
        events=1,
        size=6_000,
        state=len(snapshot(structs.replace(Run.new("org", "r"), org_vars={"x": "a" * 5_000}))),
        sequence=17,
    )
    assert encode(seam.state.value) == encode(
        Raw(snapshot(structs.replace(Run.new("org", "r"), org_vars={"x": "a" * 5_000})))
    )
