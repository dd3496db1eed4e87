"""A campaign of seconds on real processes, and that its verdict finds what is planted in the evidence."""

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct, structs

from chassis.ports import Stored
from contracts.codec import decode_commit, encode
from contracts.runs import WaitOpened
from deploy.wiring import quiet_logs
from tests.chaos.attempts import early
from tests.chaos.campaign import Plan, Round, judged, play
from tests.chaos.field import Field, field
from tests.chaos.record import Record
from tests.chaos.report import counted, summed, told
from tests.promises.evidence import Entry, History

PLAN = Plan(number=0, seed="test", runs=120, faults=4, rate=16, retention_days="7", only=("F1", "F2"))


class Played(Struct, frozen=True):
    """A field after its round, its stack still up."""

    field: Field
    round: Round

    def judged(self, record: Record | None = None) -> set[str]:
        """The promises that are broken by what is there now."""
        found = asyncio.run(judged(self.field, record or self.round.record, self.round.witness))
        return {violation.promise for violation in found.violations}

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
    assert found.runs == PLAN.runs
    assert len(played.round.struck) == PLAN.faults
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
    record = played.record()
    run, call = next(
        (run, call)
        for run, calls in record.calls.items()
        for call in calls
        if call.acted and call.manner == "put"
    )
    forged = structs.replace(call, body='{"effect": "forged", "path": "/put/s1"}')
    record.calls[run] = [forged if each is call else each for each in record.calls[run]]
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
    stored = [
        Stored(subject=f"run.org_default.{run}", sequence=version, body=bytes(body))
        for version, body in played.sql(
            "select version, body from archive.commits where run = $1 order by version", run
        )
    ]
    assert list(early(History("org_default", run, stored))) == []
    late = [structs.replace(each, body=_due_later(each.body)) for each in stored]
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
        "violations": 1,
        "lost": 1,
        "duplicated": 0,
        "stuck": 0,
        "diverged": 0,
        "chain_breaks": 0,
        "rebuilt_differences": 0,
    }
