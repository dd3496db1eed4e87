"""A campaign of seconds on real processes, and that its verdict finds what is planted in the evidence."""

import asyncio
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from msgspec import Struct, structs

from chassis.ids import run_id
from chassis.ports import Stored
from contracts.codec import decode_commit, decode_schedule_commit, encode
from contracts.runs import (
    ChildEnded,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SignalReceived,
    SlotRefused,
    WaitOpened,
)
from contracts.schedules import ScheduleFired
from contracts.subjects import RUNS
from contracts.waits import CALLER, LINK
from deploy.wiring import quiet_logs
from tests.chaos import stores
from tests.chaos.across import Related
from tests.chaos.attempts import early
from tests.chaos.campaign import Plan, Round, judged, play
from tests.chaos.field import Field, field
from tests.chaos.record import Record
from tests.chaos.report import counted, summed, told
from tests.promises.evidence import Entry, History, Violation

PLAN = Plan(number=0, seed="test888", runs=180, faults=4, rate=20, retention_days="7", only=("F1", "F2"))
"""By this seed every workflow has three runs or more, six start others, fifteen ask somebody, and four stop and undo what they did:
something of everything ends well."""


class Played(Struct, frozen=True):
    """A field after its round, its stack still up."""

    field: Field
    round: Round

    def violations(self, record: Record | None = None) -> list[Violation]:
        """What is wrong with what is there now."""
        found = asyncio.run(judged(self.field, record or self.round.record, self.round.witness))
        return found.violations

    def judged(self, record: Record | None = None) -> set[str]:
        """The promises that are broken by it."""
        return {violation.promise for violation in self.violations(record)}

    def history(self, run: str) -> History:
        """As the archive has it."""
        every = "select sequence, body from archive.commits where run = $1 order by version"
        stored = [
            Stored(subject=f"run.org_default.{run}", sequence=sequence, body=bytes(body))
            for sequence, body in self.sql(every, run)
        ]
        return History("org_default", run, stored)

    def planted(self, history: History) -> list[str]:
        """What is found when this is what the archive says of its run; afterwards it says again what it said."""
        change = "update archive.commits set body = $3 where run = $1 and sequence = $2"
        before = dict(self.sql("select sequence, body from archive.commits where run = $1", history.run))
        try:
            for stored in history.stored:
                self.sql(change, history.run, stored.sequence, stored.body)
            return [each.what for each in self.violations() if each.run == history.run]
        finally:
            for sequence, body in before.items():
                self.sql(change, history.run, sequence, body)

    def sql(self, statement: str, *arguments: Any) -> list[Any]:
        return asyncio.run(self.field.installed.rows(statement, *arguments))

    def record(self) -> Record:
        """A record that may be changed."""
        return copy.deepcopy(self.round.record)


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    quiet_logs()
    lines: list[str] = []
    with field(PLAN.label, retention_days=PLAN.retention_days) as opened:
        opened.open()
        yield Played(opened, asyncio.run(play(opened, PLAN, lines.append)))


def test_every_promise_is_kept_while_services_and_the_log_are_killed(played: Played) -> None:
    found = played.round.found
    assert [str(violation) for violation in found.violations] == []
    assert found.by_cause["webhook"] == PLAN.runs
    assert found.by_cause["schedule"] > 5
    assert found.runs == sum(found.by_cause.values())
    shapes = {target.shape for target in played.field.targets}
    assert set(played.round.record.shapes.values()) == shapes
    assert played.round.record.said
    by = {told.by.partition(":")[0] for answers in played.round.record.answered.values() for told in answers}
    assert by == {"key", CALLER, LINK}
    assert (
        played.sql("select count(*) from read.runs where undone is not null and ended is not null")[0][0] > 0
    )
    assert len(played.round.struck) == PLAN.faults
    forged = [entry for told in played.round.record.entries.values() for entry in told if entry.forged]
    assert {entry.status for entry in forged if entry.result == "refused"} >= {401}
    assert found.effects > PLAN.runs
    sums = summed([told(played.round)])
    assert (sums["lost"], sums["duplicated"], sums["stuck"], sums["chain_breaks"]) == (0, 0, 0, 0)


def test_a_delivery_that_was_accepted_and_started_nothing_is_found(played: Played) -> None:
    record = played.record()
    [known, *_] = [entry for told in record.entries.values() for entry in told if entry.result == "accepted"]
    record.entries["nowhere"] = [structs.replace(known, key="lost", run="nowhere")]
    assert played.judged(record) == {"P1"}


def test_a_run_under_another_key_is_found(played: Played) -> None:
    record = played.record()
    [known, *_] = [entry for told in record.entries.values() for entry in told if entry.result == "accepted"]
    record.entries[known.run].append(
        Entry(at=known.at, trigger=known.trigger, key="stolen", result="duplicate", run=known.run)
    )
    assert played.judged(record) == {"P1"}


def test_a_forged_delivery_that_starts_a_run_or_is_said_to_is_found(played: Played) -> None:
    record = played.record()
    [known, *_] = [entry for told in record.entries.values() for entry in told if entry.result == "accepted"]
    forged = structs.replace(known, forged=True)
    record.entries[known.run].append(forged)
    assert played.judged(record) == {"P12"}
    record = played.record()
    record.entries[""].append(structs.replace(forged, result="refused", status=401, run="", receipt=""))
    assert played.judged(record) == {"P12"}


def test_a_refusal_that_does_not_say_when_to_come_again_and_a_defect_of_ours_are_found(
    played: Played,
) -> None:
    for status, says_when in ((503, False), (429, False), (500, None)):
        record = played.record()
        record.entries[""].append(
            Entry(at=0.0, trigger="t", key="k", result="refused", status=status, says_when=says_when)
        )
        assert played.judged(record) == {"P11"}


def test_a_call_that_was_made_twice_is_found(played: Played) -> None:
    record = played.record()
    run, call = next(
        (run, call)
        for run, calls in record.calls.items()
        for call in calls
        if call.manner == "post" and call.acted
    )
    record.calls[run].append(structs.replace(call, t=call.t + 0.01, n=call.n + 1))
    assert played.judged(record) == {"P5"}


def test_an_effect_for_a_run_that_never_was_is_found(played: Played) -> None:
    record = played.record()
    call = next(call for calls in record.calls.values() for call in calls if call.acted)
    record.calls["nowhere"] = [structs.replace(call, key="nowhere/s1")]
    assert played.judged(record) == {"P5"}


def test_a_result_that_the_world_never_gave_is_found(played: Played) -> None:
    """Of a run that completed, and whichever of its calls it was that gave the result."""
    record = played.record()
    completed = {run for [run] in played.sql("select id from read.runs where status = 'completed'")}
    run, calls = next(
        (run, calls)
        for run, calls in record.calls.items()
        if run in completed and any(call.acted and call.manner == "put" for call in calls)
    )
    forged = '{"effect": "forged", "path": "/put/s1"}'
    record.calls[run] = [
        structs.replace(call, body=forged) if call.manner == "put" else call for call in calls
    ]
    assert "P5" in played.judged(record)


def test_a_changed_byte_in_the_archive_is_found(played: Played) -> None:
    change = "update archive.commits set body = set_byte(body, 40, get_byte(body, 40) # 1) where run = $1 and version = 1"
    [[run]] = played.sql("select run from archive.commits where version = 2 order by run limit 1")
    [[before]] = played.sql("select body from archive.commits where run = $1 and version = 1", run)
    body = bytes(before)
    place = body.index(b'"time":"') + 9  # A digit of the time: it still reads, it is only not true.
    played.sql(change.replace("40", str(place)), run)
    try:
        assert "P4" in played.judged()
    finally:
        played.sql("update archive.commits set body = $2 where run = $1 and version = 1", run, body)
    assert played.judged() == set()


def test_a_commit_that_was_read_once_and_is_gone_is_found(played: Played) -> None:
    witness = copy.copy(played.round.witness)
    assert len(witness.commits) >= played.round.found.commits
    witness.commits = witness.commits | {10**9: ("run.org_default.gone", b"hash")}
    found = asyncio.run(judged(played.field, played.round.record, witness))
    assert [violation.promise for violation in found.violations] == ["P4"]


def test_a_wait_that_ended_too_early_is_found(played: Played) -> None:
    [timer] = [target for target in played.field.targets if target.shape == "timer"]
    [[run]] = played.sql(
        "select id from read.runs where trigger = $1 and status = 'completed' limit 1", timer.trigger
    )
    history = played.history(run)
    assert list(early(history)) == []
    late = [structs.replace(each, body=_due_later(each.body)) for each in history.stored]
    # One for each wait: a step that was tried again had waited too.
    assert {each.promise for each in early(History("org_default", run, late))} == {"P3"}


def _due_later(body: bytes) -> bytes:
    """The same commit, whose waits are due in another century."""
    commit = decode_commit(body)
    events = [
        structs.replace(event, due=event.due.replace(year=2126)) if isinstance(event, WaitOpened) else event
        for event in commit.events
    ]
    return encode(structs.replace(commit, events=tuple(events)))


def test_a_row_that_says_what_the_run_does_not_is_found(played: Played) -> None:
    [[run]] = played.sql("select id from read.runs where status = 'completed' order by id limit 1")
    played.sql("update read.runs set status = 'failed' where id = $1", run)
    try:
        assert played.judged() == {"P6"}
    finally:
        played.sql("update read.runs set status = 'completed' where id = $1", run)


def test_the_report_tells_violations_by_what_they_mean(played: Played) -> None:
    record = played.record()
    record.entries["nowhere"] = [
        Entry(at=0.0, trigger="t", key="lost", result="accepted", status=202, run="nowhere", receipt="r")
    ]
    found = asyncio.run(judged(played.field, record, played.round.witness))
    assert counted(found.violations) | {"rebuilt_differences": 0} == {
        "badly_refused": 0,
        "let_in": 0,
        "violations": 1,
        "lost": 1,
        "duplicated": 0,
        "stuck": 0,
        "diverged": 0,
        "chain_breaks": 0,
        "rebuilt_differences": 0,
    }


# --- What has to do with each other --------------------------------------------------------------


def broken(related: Related, **changed: Any) -> set[str]:
    """The promises that are broken when this is what the log has."""
    assert related.judged() == []
    return {violation.promise for violation in structs.replace(related, **changed).judged()}


def without(related: Related, gone: Callable[[RunStarted], bool]) -> dict[str, Any]:
    """The same histories but the first that began so."""
    lost = next(history for history in related.histories if history.start and gone(history.start))
    return {"histories": [history for history in related.histories if history is not lost]}


def changed(history: History, change: Callable[[Any], Sequence[Any]]) -> History:
    """A history in which something else stands for each event."""
    stored = []
    for message, commit in zip(history.stored, history.commits, strict=True):
        events = tuple(made for event in commit.events for made in change(event))
        stored.append(structs.replace(message, body=encode(structs.replace(commit, events=events))))
    return History(history.org, history.run, stored)


def test_a_child_whose_end_is_heard_twice_is_found(played: Played) -> None:
    related = played.round.found.related
    parent = next(
        history
        for history in related.histories
        if any(isinstance(event, ChildEnded) for event in history.events)
    )
    twice = changed(parent, lambda event: (event,) * (1 + isinstance(event, ChildEnded)))
    assert "P2" in broken(related, histories=[*related.histories, twice])


def test_a_child_of_nobody_and_one_that_is_nowhere_are_found(played: Played) -> None:
    related = played.round.found.related
    parent, child = next(
        (history.run, event.child)
        for history in related.histories
        for event in history.events
        if isinstance(event, ChildEnded) and event.outcome != "cancelled"
    )
    orphaned = [history for history in related.histories if history.run != parent]
    assert "P2" in broken(related, histories=orphaned)
    childless = [history for history in related.histories if history.run != child]
    assert "P4" in broken(related, histories=childless)


def test_a_planned_time_that_is_passed_by_and_one_whose_run_is_lost_are_found(played: Played) -> None:
    related = played.round.found.related
    lost = without(related, lambda start: start.cause.kind == "schedule" and start.workflow != start.trigger)
    assert broken(related, **lost) == {"P1"}
    fired, *_ = [each for each in related.fires if b"schedule.fired" in each.body]
    commit = decode_schedule_commit(fired.body)
    kept = tuple(event for event in commit.events if not isinstance(event, ScheduleFired))
    silent = structs.replace(fired, body=encode(structs.replace(commit, events=kept)))
    fires = [silent if each is fired else each for each in related.fires]
    assert "P2" in broken(related, fires=fires)
    twice = (*commit.events, *(event for event in commit.events if isinstance(event, ScheduleFired)))
    again = structs.replace(fired, body=encode(structs.replace(commit, events=twice)))
    assert "P2" in broken(related, fires=[again if each is fired else each for each in related.fires])


def test_what_was_found_and_never_started_is_found(played: Played) -> None:
    related = played.round.found.related
    [poll] = {
        history.start.trigger
        for history in related.histories
        if history.start is not None and history.start.workflow == history.start.trigger
    }
    first = run_id("org_default", str(poll), "item:1")  # Later looks began behind it.
    lost = [history for history in related.histories if history.run != first]
    assert len(lost) < len(related.histories)
    assert broken(related, histories=lost) == {"P1"}


def test_an_answer_and_a_signal_that_were_taken_and_are_nowhere_are_found(played: Played) -> None:
    record = played.record()
    run, [told, *_] = next(iter(record.answered.items()))
    record.answered[run].append(structs.replace(told, request="never recorded"))
    assert played.judged(record) == {"P1"}
    record = played.record()
    run, [said, *_] = next(iter(record.said.items()))
    record.said[run].append(structs.replace(said, key="never recorded"))
    assert played.judged(record) == {"P1"}


def test_an_answer_that_nobody_has_given_is_found(played: Played) -> None:
    record = played.record()
    del record.meant[next(iter(record.answered))]
    assert played.judged(record) == {"P2"}


def test_a_decision_that_came_after_its_deadline_and_counts_is_found(played: Played) -> None:
    [run, *_] = [run for run, [told, *_] in played.round.record.answered.items() if told.step == "ask"]
    history = played.history(run)

    def too_soon(event: Any) -> Sequence[Any]:
        asks = isinstance(event, WaitOpened) and event.kind == "approval"
        return (structs.replace(event, due=history.commits[0].time) if asks else event,)

    assert any("and was due at" in what for what in played.planted(changed(history, too_soon)))
    assert played.judged() == set()


def test_a_signal_that_counts_twice_is_found(played: Played) -> None:
    history = played.history(next(iter(played.round.record.said)))
    twice = changed(history, lambda event: (event,) * (1 + isinstance(event, SignalReceived)))
    assert any("was recorded 2 times" in what for what in played.planted(twice))
    assert played.judged() == set()


@pytest.mark.parametrize("why", ["gathered", "superseded"])
def test_a_start_in_whose_place_a_stranger_goes_on_is_found(played: Played, why: str) -> None:
    related = played.round.found.related
    history = next(
        history
        for history in related.histories
        for event in history.events
        if isinstance(event, SlotRefused) and event.why == why
    )
    stranger = next(
        each.run
        for each in related.histories
        if each.start is not None and each.start.cause.kind == "schedule"
    )

    def astray(event: Any) -> Sequence[Any]:
        return (structs.replace(event, by=stranger) if isinstance(event, SlotRefused) else event,)

    others = [each for each in related.histories if each is not history]
    assert broken(related, histories=[*others, changed(history, astray)]) == {"P1"}


def test_a_word_that_a_worker_outside_said_twice_is_found(played: Played) -> None:
    record = played.record()
    run, call = next(
        (run, call) for run, calls in record.calls.items() for call in calls if call.manner == "shout"
    )
    record.calls[run].append(structs.replace(call, t=call.t + 1))
    assert played.judged(record) == {"P5"}


def test_two_inside_of_a_gate_where_one_may_be_are_found(played: Played) -> None:
    related = played.round.found.related
    inside = [
        history
        for history in related.histories
        if any(isinstance(event, WaitOpened) and _is_narrow(event) for event in history.events)
    ]
    assert len(inside) > 1

    def never_ends(event: Any) -> Sequence[Any]:
        return () if isinstance(event, RunCompleted | RunFailed | RunCancelled) else (event,)

    staying = [changed(history, never_ends) for history in inside]
    others = [history for history in related.histories if history not in inside]
    assert "P2" in broken(related, histories=[*others, *staying])


def _is_narrow(wait: WaitOpened) -> bool:
    """Whether it is for a gate that bounds how many are inside."""
    return wait.slot is not None and wait.slot.bounds.at_once is not None


def test_a_commit_that_the_log_has_no_more_is_found(played: Played) -> None:
    """The last one of all: it cannot be put back."""

    async def lose_one() -> None:
        async with stores.operator(played.field.installed, "projections") as log:
            first = await anext(stores.all_of(log, RUNS))
            request = {"filter": first.subject, "seq": first.sequence + 1}
            assert (await log.api(f"STREAM.PURGE.{RUNS}", request))["purged"] == 1

    asyncio.run(lose_one())
    assert played.judged() == {"P4"}
