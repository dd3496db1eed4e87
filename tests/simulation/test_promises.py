"""The checker proves itself: planted violations of each promise are found, and so are saboteurs within few schedules."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from msgspec import structs

from chassis.ids import digest
from chassis.ports import Proposal, Stored
from chassis.testing.world import CALM, START
from contracts import runs
from contracts.codec import decode_commit, encode
from contracts.commits import FIRST_HASH
from contracts.errors import Failure
from contracts.messages import Task
from contracts.plans import Plan
from contracts.runs import RunEvent
from contracts.triggers import HeaderKey, Webhook
from ingress.replies import Reply
from projections.models import Step
from projections.runs import Changes
from tests.orchestrator.stories import action, control, drawn
from tests.promises.checker import check
from tests.promises.evidence import Evidence, Outage
from tests.simulation.clients import SECRET, signature
from tests.simulation.installation import Installation
from tests.simulation.outside import Behaviour
from tests.simulation.schedule import STORM, lived, quiet
from tests.simulation.workflows import Delivery, Drawn, Story, story


def calls() -> Plan:
    once: dict[str, Any] = {"type": "call.once", "repeat": "no", "config": {}, "timeout_s": 4}
    return drawn(
        "a>b b>r", action("a", **once), action("b", **once), control("r", "respond", {"body": "hello"})
    )


@cache
def well() -> Evidence:
    """What is left of a schedule in which nothing went wrong: two runs, one of them asked for twice."""
    told = Story(
        workflows=[
            Drawn(
                trigger="trigger0",
                token="t" * 22,
                webhook=Webhook(dedupe=HeaderKey(header="x-key"), mode="respond"),
                plan=calls(),
            )
        ],
        deliveries=[Delivery(trigger="trigger0", key=key, at=1.0) for key in ("one", "one", "two")],
        cancels=0,
        retries=0,
        retries_later=0,
        broken_code=False,
    )
    with quiet():
        played, evidence = lived(Installation(1, told, CALM))
    assert played.violations == []
    return evidence


def first_run() -> str:
    return str(decode_commit(well().messages[0].body).run)


def rewritten(change: Callable[[list[RunEvent]], list[RunEvent]]) -> Evidence:
    """The evidence with the first run's events changed, and its chain made good again: a consistent rewrite."""
    messages, before = list[Stored](), FIRST_HASH
    for stored in well().messages:
        commit = decode_commit(stored.body)
        if commit.run == first_run():
            commit = structs.replace(commit, events=tuple(change(list(commit.events))), prev_hash=before)
            messages.append(structs.replace(stored, body=encode(commit)))
            before = digest(messages[-1].body)
        else:
            messages.append(stored)
    return structs.replace(well(), messages=messages)


def with_commit(*events: RunEvent) -> Evidence:
    """The evidence with one more commit in the first run's history."""
    last = [stored for stored in well().messages if decode_commit(stored.body).run == first_run()][-1]
    commit = decode_commit(last.body)
    more = structs.replace(
        commit, id="more", version=commit.version + 1, prev_hash=digest(last.body), events=events
    )
    return structs.replace(well(), messages=[*well().messages, structs.replace(last, body=encode(more))])


def without(event: type) -> Evidence:
    return rewritten(lambda events: [each for each in events if not isinstance(each, event)] or events[:1])


def said(evidence: Evidence) -> list[str]:
    return [str(violation) for violation in check(evidence)]


def found(evidence: Evidence, promise: str, words: str) -> None:
    """The violation is found, under its promise."""
    assert [line for line in said(evidence) if line.startswith(promise) and words in line], said(evidence)


def started() -> runs.RunStarted:
    start = decode_commit(well().messages[0].body).events[0]
    assert isinstance(start, runs.RunStarted)
    return start


def events_of_first_run() -> list[RunEvent]:
    return [
        event
        for stored in well().messages
        if of_first_run(stored)
        for event in decode_commit(stored.body).events
    ]


def of_first_run(stored: Stored) -> bool:
    return bool(decode_commit(stored.body).run == first_run())


# --- P1 -----------------------------------------------------------------------------------------


def test_an_accepted_delivery_whose_run_is_not_there() -> None:
    lost = [stored for stored in well().messages if not of_first_run(stored)]
    found(structs.replace(well(), messages=lost), "P1", "there is no such run")


def test_an_accepted_delivery_that_is_told_of_another_key() -> None:
    ledger = [structs.replace(entry, key="another") for entry in well().ledger]
    found(structs.replace(well(), ledger=ledger), "P1", "another key")


def test_a_duplicate_that_is_told_a_wrong_receipt() -> None:
    ledger = [structs.replace(entry, receipt="wrong", result="duplicate") for entry in well().ledger]
    found(structs.replace(well(), ledger=ledger), "P1", "was told receipt wrong")


def test_an_answer_that_the_run_never_gave() -> None:
    ledger = [structs.replace(entry, answer=b'"bye"') for entry in well().ledger]
    found(structs.replace(well(), ledger=ledger), "P1", "the sender was answered")


def test_two_receipts_for_one_delivery_without_a_key() -> None:
    entry = structs.replace(well().ledger[0], key="", receipt="another", result="accepted")
    start = structs.replace(started(), dedupe=None)

    def without_key(events: list[RunEvent]) -> list[RunEvent]:
        return [start if isinstance(event, runs.RunStarted) else event for event in events]

    found(structs.replace(rewritten(without_key), ledger=[entry]), "P1", "receipt another was accepted")


def test_a_late_sender_that_is_told_to_be_the_first() -> None:
    late = structs.replace(
        well().ledger[0],
        result="accepted",
        receipt="another",
        answer=None,
        status=202,
        sent=well().now.timestamp(),
    )
    found(structs.replace(well(), ledger=[late]), "P1", "starts a run, which had been there")


# --- P2 -----------------------------------------------------------------------------------------


def test_two_runs_of_one_key() -> None:
    twins = list(well().messages)
    for stored in well().messages:
        if of_first_run(stored):
            commit = structs.replace(decode_commit(stored.body), run="twin", id=f"twin-{stored.sequence}")
            twins.append(structs.replace(stored, subject="run.org.twin", body=encode(commit)))
    found(structs.replace(well(), messages=twins), "P2", "2 runs of org trigger0 for one key")


def test_a_run_that_was_started_twice() -> None:
    start = decode_commit(well().messages[0].body).events[0]
    found(with_commit(start), "P2", "started 2 times")


def test_two_runs_of_one_receipt() -> None:
    twins = list(well().messages)
    for stored in well().messages:
        if of_first_run(stored):
            commit = decode_commit(stored.body)
            first = structs.replace(started(), dedupe=None)
            events = (first, *commit.events[1:]) if commit.version == 1 else commit.events
            commit = structs.replace(commit, run="twin", id=f"twin-{stored.sequence}", events=events)
            twins.append(structs.replace(stored, subject="run.org.twin", body=encode(commit)))
    found(structs.replace(well(), messages=twins), "P2", "2 runs for receipt")


# --- P3 -----------------------------------------------------------------------------------------


def test_a_run_that_has_not_ended() -> None:
    found(without(runs.RunCompleted), "P3", "still running")


def test_a_task_that_nobody_takes() -> None:
    found(structs.replace(well(), left=["task x"]), "P3", "left over: task x")


def test_a_dead_letter_that_got_lost() -> None:
    found(structs.replace(well(), poison=1), "P3", "unreadable")


def waiting(due: datetime) -> Evidence:
    """The first run waits for a moment, and nothing came after that."""
    opened = runs.WaitOpened(wait="delay:a", kind="delay", step="a", due=due)

    def until_then(events: list[RunEvent]) -> list[RunEvent]:
        if any(isinstance(event, runs.RunStarted) for event in events):
            return [started(), opened]
        return [runs.CancelRequested(by="key:1")]

    first = [stored for stored in rewritten(until_then).messages if of_first_run(stored)][:1]
    return structs.replace(well(), messages=first)


def test_a_wait_that_is_overdue() -> None:
    found(waiting(well().now - timedelta(seconds=6)), "P3", "overdue: ")
    assert not [line for line in said(waiting(well().now)) if "overdue" in line]


def test_a_wait_that_ended_too_early() -> None:
    opened = runs.WaitOpened(wait="delay:a", kind="delay", step="a", due=well().now + timedelta(days=1))
    found(with_commit(opened, runs.WaitEnded(wait="delay:a")), "P3", "delay:a ended before it was due")


def test_a_run_that_goes_on_although_it_shall_stop() -> None:
    def drowned(events: list[RunEvent]) -> list[RunEvent]:
        wished = runs.CancelRequested(by="key:1")
        return [*events, wished] if started() in events else events

    found(rewritten(drowned), "P3", "RunCompleted although it shall stop")
    found(rewritten(drowned), "P3", "AttemptScheduled although it shall stop")


def test_a_run_that_waits_for_nothing() -> None:
    only_begun = [stored for stored in well().messages if of_first_run(stored)][:1]
    body = encode(structs.replace(decode_commit(only_begun[0].body), events=(started(),)))
    begun = structs.replace(only_begun[0], body=body)
    evidence = structs.replace(well(), messages=[begun], everything_over=False)
    found(evidence, "P3", "waits for nothing that has a name")


# --- P4 -----------------------------------------------------------------------------------------


def test_a_changed_byte() -> None:
    messages = list(well().messages)
    messages[0] = structs.replace(messages[0], body=messages[0].body.replace(b'"n":1', b'"n":2'))
    found(structs.replace(well(), messages=messages), "P4", "does not follow")


def test_a_commit_that_is_missing() -> None:
    mine = [stored for stored in well().messages if of_first_run(stored)]
    gone = [stored for stored in well().messages if stored is not mine[1]]
    found(structs.replace(well(), messages=gone), "P4", "version 3 stands at place 2")


def test_commits_in_another_order() -> None:
    found(structs.replace(well(), messages=well().messages[::-1]), "P4", "stands at place 1")


def test_a_commit_that_is_there_twice() -> None:
    found(structs.replace(well(), messages=[*well().messages, well().messages[-1]]), "P4", "have the id")


def test_a_second_end() -> None:
    found(with_commit(runs.RunCompleted()), "P4", "RunCompleted although it was not open")


def test_a_consistent_rewrite_is_betrayed_by_deciding_anew() -> None:
    def other_port(events: list[RunEvent]) -> list[RunEvent]:
        return [
            structs.replace(event, ports=("error",)) if isinstance(event, runs.StepSucceeded) else event
            for event in events
        ]

    found(rewritten(other_port), "P4", "diverges")


def test_a_commit_that_lies_under_another_run() -> None:
    messages = [
        structs.replace(stored, subject=f"{stored.subject}0") if of_first_run(stored) else stored
        for stored in well().messages
    ]
    found(structs.replace(well(), messages=messages), "P4", "belongs to org.")


def test_a_commit_that_is_earlier_than_the_one_before() -> None:
    last = [stored for stored in well().messages if of_first_run(stored)][-1]
    commit = structs.replace(decode_commit(last.body), time=START - timedelta(days=1))
    messages = [
        structs.replace(stored, body=encode(commit)) if stored is last else stored
        for stored in well().messages
    ]
    found(structs.replace(well(), messages=messages), "P4", "is earlier than the one before")


def test_an_attempt_that_was_scheduled_twice_and_a_run_that_was_opened_twice() -> None:
    again = next(e for e in events_of_first_run() if isinstance(e, runs.AttemptScheduled))
    found(with_commit(again), "P4", "was scheduled 2 times")

    def opened_again(events: list[RunEvent]) -> list[RunEvent]:
        return [*events, runs.RunReopened(by="key:1", steps=("a",))] if started() in events else events

    found(rewritten(opened_again), "P4", "opened twice without an end between")


def test_a_dead_letter_of_the_log_and_one_that_nobody_poisoned() -> None:
    found(structs.replace(well(), dead_letters=["dlq.RUNS.org.x"]), "P4", "that should not be")
    found(structs.replace(well(), dead_letters=["dlq.INBOX._.unreadable"]), "P4", "that should not be")


# --- P5 -----------------------------------------------------------------------------------------


def test_an_effect_under_another_key() -> None:
    effects = [structs.replace(effect, key="fresh") for effect in well().effects]
    found(structs.replace(well(), effects=effects), "P5", "acted under key fresh")


def test_an_effect_that_happened_twice() -> None:
    found(structs.replace(well(), effects=[*well().effects, well().effects[0]]), "P5", "acted 2 times")


def test_an_effect_that_happened_again_without_a_word() -> None:
    again = structs.replace(well().effects[0], attempt=2)
    found(structs.replace(well(), effects=[*well().effects, again]), "P5", "both acted, and nobody said so")


def test_a_result_that_the_world_never_gave() -> None:
    effects = [structs.replace(effect, result="something else") for effect in well().effects]
    found(structs.replace(well(), effects=effects), "P5", "the world never answered")


def test_a_doubt_about_a_call_that_nobody_claimed() -> None:
    doubted = runs.AttemptDoubted(step="a", attempt=7, error=Failure(code="unreachable", message="?"))
    found(with_commit(doubted), "P5", "in doubt without a claim")


def test_an_effect_whose_attempt_is_told_to_have_failed() -> None:
    failed = runs.AttemptFailed(step="a", attempt=1, error=Failure(code="refused", message="no"))
    found(with_commit(failed), "P5", "the history says that it failed")


def test_two_claims_on_one_attempt() -> None:
    claims = dict.fromkeys(well().claims, 2)
    found(structs.replace(well(), claims=claims), "P5", "2 claims")


def test_a_wish_that_nobody_had() -> None:
    found(with_commit(runs.CancelRequested(by="key:1")), "P5", "cancel happened 1 times")


def test_an_effect_of_a_run_that_never_was() -> None:
    effects = [structs.replace(effect, run="nowhere") for effect in well().effects]
    found(structs.replace(well(), effects=effects), "P5", "but there is no such run")


def test_an_effect_whose_attempt_is_told_not_to_have_touched_the_world() -> None:
    cancelled = runs.AttemptCancelled(step="a", attempt=1, effect="none")
    found(with_commit(cancelled), "P5", "the history says that it did not")


def test_attempts_under_different_keys() -> None:
    scheduled = next(e for e in events_of_first_run() if isinstance(e, runs.AttemptScheduled))
    found(with_commit(structs.replace(scheduled, attempt=2, key="fresh")), "P5", "have different keys")


# --- P6 -----------------------------------------------------------------------------------------


def test_a_row_that_says_something_else_and_one_that_is_missing() -> None:
    rows = well().tables.runs
    key = next(iter(rows))
    kept = rows[key]
    try:
        rows[key] = structs.replace(kept, steps_done=kept.steps_done + 1, status="running")
        found(well(), "P6", "runs ('org'")
        found(well(), "P6", "the row says running, the run is completed")
        del rows[key]
        found(well(), "P6", "the row says nothing")
    finally:
        rows[key] = kept
    assert said(well()) == []


def test_usage_that_was_counted_twice() -> None:
    (usage,) = well().tables.usage.values()
    usage.runs_started += 1
    try:
        found(well(), "P6", "usage")
    finally:
        usage.runs_started -= 1


def test_an_end_that_the_archive_does_not_know() -> None:
    ended = well().tables.ended
    key = next(iter(ended))
    kept = ended.pop(key)
    try:
        found(well(), "P6", "the archive does not know its last commit")
    finally:
        ended[key] = kept


# --- P9, P11, P12 ---------------------------------------------------------------------------------


def test_a_process_that_never_comes_back_and_one_that_takes_too_long() -> None:
    outages = [Outage(process="o1", at=3.0), Outage(process="e1", at=3.0, back=14.0)]
    evidence = structs.replace(well(), outages=outages)
    found(evidence, "P9", "o1 died at 3.0 s and never came back")
    found(evidence, "P9", "e1 was away for 11.0 s")
    assert not said(structs.replace(well(), outages=[Outage(process="o1", at=3.0, back=12.9)]))


def test_a_refusal_that_does_not_say_when_to_come_again() -> None:
    refused = structs.replace(well().ledger[0], result="refused", status=503, says_when=False)
    found(structs.replace(well(), ledger=[refused]), "P11", "503 for trigger0")
    assert not said(structs.replace(well(), ledger=[structs.replace(refused, says_when=True)]))


def test_a_forged_delivery_that_was_accepted_and_one_that_started_a_run() -> None:
    forged = [structs.replace(entry, forged=True) for entry in well().ledger]
    found(structs.replace(well(), ledger=forged), "P12", "a forged delivery to trigger0 was accepted")
    refused = [structs.replace(entry, result="refused", status=401) for entry in forged]
    found(structs.replace(well(), ledger=refused), "P12", "a forged delivery to trigger0 started a run")


# --- Saboteurs: one mechanism taken away ----------------------------------------------------------


def no_expectation(installation: Installation) -> None:
    """The log stores whatever comes."""
    log = installation.runs
    place = log._place

    def carelessly(proposal: Proposal) -> int | None:
        before = log._by_subject[proposal.subject]
        return place(structs.replace(proposal, expected=before[-1].sequence if before else 0))

    log._place = carelessly  # type: ignore[method-assign]  # In its place.


def acknowledge_all(installation: Installation) -> None:
    """Acknowledging a message acknowledges all before it: the first trap of the real inbox."""
    installation.inbox._ack_all = True


def accept_before_it_is_stored(installation: Installation) -> None:
    async def forgetfully(partition: int, bundle: bytes) -> None:
        await asyncio.sleep(0.001)

    installation.inbox.put = forgetfully  # type: ignore[method-assign]  # In its place.


def a_fresh_key_for_every_attempt(installation: Installation) -> None:
    call = installation.outside.call

    async def freshly(task: Task, key: str, behaviour: Behaviour) -> str:
        return await call(task, f"{key}/{task.attempt}/{installation.world.random.random()}", behaviour)

    installation.outside.call = freshly  # type: ignore[method-assign]  # In its place.


def no_ledger(installation: Installation) -> None:
    """Every claim is granted."""
    log = installation.effects

    async def granted(proposals: Sequence[Proposal]) -> list[int | None]:
        await asyncio.sleep(0.001)
        for proposal in proposals:
            log.put(proposal.subject, proposal.body)
        return [1] * len(proposals)

    log.append = granted  # type: ignore[method-assign]  # In its place.


def a_position_outside_of_the_transaction(installation: Installation) -> None:
    models, world = installation.models, installation.world

    async def store(changes: Changes, step: Step) -> None:
        write = models.disk.write
        await world.operation(lambda: write(lambda: models.tables.apply(changes)))
        await world.operation(lambda: write(lambda: setattr(models, "at", step.after())))

    models.store = store  # type: ignore[method-assign]  # In its place.


def purged_before_it_is_on_disk(installation: Installation) -> None:
    """The archive says that what it has is on disk, and it is not."""

    async def not_at_all() -> None:
        await asyncio.sleep(0.001)

    installation.shelf.flush = not_at_all  # type: ignore[method-assign]  # In its place.


def every_signature_is_right(installation: Installation) -> None:
    post = installation.web.post

    async def signed(token: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        told = dict(headers)
        if "x-hub-signature-256" in told:
            told["x-hub-signature-256"] = signature(body, SECRET)
        return await post(token, told, body)

    installation.web.post = signed  # type: ignore[method-assign]  # In its place.


SCHEDULES = 1_200
"""In so many each saboteur must be found: the rarest needs a disk that dies right behind a purge."""
SABOTEURS: dict[Callable[[Installation], None], str] = {
    no_expectation: r"P4 .*stands at place",
    acknowledge_all: r"P1 .*no such run|P3 .*still",
    accept_before_it_is_stored: r"P1 .*no such run|P3 .*still",
    a_fresh_key_for_every_attempt: r"P5 .*acted under key",
    no_ledger: r"P5 .*acted 2 times",
    a_position_outside_of_the_transaction: r"P6 .*usage",
    purged_before_it_is_on_disk: r"P6 .*archive|P3 .*not over",
    every_signature_is_right: r"P12 .*forged",
}


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda saboteur: saboteur.__name__)
def test_a_saboteur_is_found_out(saboteur: Callable[[Installation], None]) -> None:
    with quiet():
        for seed in range(SCHEDULES):
            told = story(seed)
            if saboteur is purged_before_it_is_on_disk and not told.retires:
                continue  # Nothing leaves the log, so nothing is lost with it.
            installation = Installation(seed, told, STORM)
            saboteur(installation)
            violations = lived(installation)[0].violations
            if any(re.search(SABOTEURS[saboteur], str(violation)) for violation in violations):
                return
    pytest.fail(f"{SCHEDULES} schedules did not notice")
