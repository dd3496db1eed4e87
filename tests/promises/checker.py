"""The promises as functions over what is left after a schedule: the log, the ledger of the senders, the world's record.

Each function gives the violations that it found; none is what a promise means. They know nothing of the simulator, so the
same functions can judge what real servers have stored.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from contracts import runs
from contracts.commits import FIRST_HASH
from contracts.limits import EVENTS_PER_COMMIT
from contracts.payloads import Inline, Payload
from contracts.runs import TERMINAL, RunStarted
from orchestrator.acceptance import EARLY
from orchestrator.history import replay
from orchestrator.run import Graph, waiting_for
from tests.promises.again import past_deliveries_run_again_once
from tests.promises.answers import (
    only_answers_in_time_count,
    only_what_somebody_meant_counts,
    what_was_answered_counts_once,
)
from tests.promises.children import (
    children_are_one_with_their_parents,
    failures_are_told,
    what_was_asked_for_was_published,
    who_is_not_awaited_is_stopped,
)
from tests.promises.effects import effects_happen_as_told
from tests.promises.evidence import Entry, Evidence, History, Violation
from tests.promises.gates import gates_are_kept
from tests.promises.gathering import every_start_is_done_once
from tests.promises.items import items_are_done_once_and_in_order
from tests.promises.merges import merges_give_what_came
from tests.promises.models import models_are_the_fold, models_say_what_the_runs_say
from tests.promises.occasions import events_start_their_runs
from tests.promises.orgs import each_org_is_alone
from tests.promises.polls import what_is_found_starts_once
from tests.promises.segments import a_history_goes_on_from_every_seam, segments_are_bounded
from tests.promises.signals import what_was_said_counts_once, what_was_said_is_heard
from tests.promises.timetables import planned_times_are_kept
from tests.promises.undos import what_was_done_is_undone_once

OVERDUE: Final = timedelta(seconds=5)
BACK_SECONDS: Final = 10.0
_ENDS: Final = (runs.RunCompleted, runs.RunFailed, runs.RunCancelled)

Promise: TypeAlias = Callable[[Evidence, Sequence[History]], Iterator[Violation]]


def check(evidence: Evidence) -> list[Violation]:
    """Every violation of every promise."""
    histories = evidence.histories()
    found = [violation for promise in PROMISES for violation in promise(evidence, histories)]
    return sorted(found, key=lambda violation: violation.promise)


# --- P1: an accepted delivery is never lost ----------------------------------------------------


def accepted_is_never_lost(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    by_run = {history.run: history for history in histories}
    for entry in evidence.ledger:
        if entry.result not in ("accepted", "duplicate"):
            continue
        history = by_run.get(entry.run)
        start = history.start if history is not None else None
        if history is None or start is None:
            yield Violation(
                "P1", f"{entry.status} for {entry.trigger} {entry.key!r}, but there is no such run", entry.run
            )
            continue
        dedupe = hashlib.sha256(entry.key.encode()).hexdigest() if entry.key else None
        if (start.trigger, start.dedupe) != (entry.trigger, dedupe):
            yield Violation("P1", f"the run was started by another key than {entry.key!r}", entry.run)
        if entry.result == "duplicate" and entry.receipt and entry.receipt != start.receipt:
            yield Violation(
                "P1", f"a duplicate was told receipt {entry.receipt}, not {start.receipt}", entry.run
            )
        if not entry.key and entry.receipt and entry.receipt != start.receipt:
            yield Violation(
                "P1", f"receipt {entry.receipt} was accepted, {start.receipt} started the run", entry.run
            )
        if _was_there_before(entry, history, start):
            yield Violation("P1", f"told that {entry.key!r} starts a run, which had been there", entry.run)
        if entry.answer is not None:
            yield from _answered_as_recorded(entry, history)


def _was_there_before(entry: Entry, history: History, start: RunStarted) -> bool:
    """Whether a sender who came later was told to be the first."""
    if (
        entry.result != "accepted"
        or not entry.receipt
        or entry.receipt == start.receipt
        or entry.sent is None
    ):
        return False
    return history.stored[0].time < entry.sent


def _answered_as_recorded(entry: Entry, history: History) -> Iterator[Violation]:
    """Respond mode: what the sender was told is what the history says."""
    said = history.state.responded
    body: Payload = said.body if said is not None else history.state.output
    status = said.status if said is not None else 200
    recorded = bytes(body.value) if isinstance(body, Inline) else None
    if entry.status != status or (recorded is not None and recorded != entry.answer):
        yield Violation(
            "P1",
            f"the sender was answered {entry.status} {entry.answer!r}, not {status} {recorded!r}",
            entry.run,
        )


# --- P2: at most one run per key ---------------------------------------------------------------


def one_run_per_key(_evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    started = defaultdict[tuple[str, str], list[str]](list)
    receipts = defaultdict[str, list[str]](list)
    for history in histories:
        starts = [event for event in history.events if isinstance(event, RunStarted)]
        if len(starts) != 1:
            yield Violation("P2", f"the run was started {len(starts)} times", history.run)
        for start in starts:
            receipts[start.receipt].append(history.run)
            if start.dedupe is not None and start.cause.kind != "redelivery":  # tests/promises/again.py
                started[f"{history.org} {start.trigger}", start.dedupe].append(history.run)
    for (trigger, _), found in started.items():
        if len(found) > 1:
            yield Violation("P2", f"{len(found)} runs of {trigger} for one key: {found}")
    for receipt, found in receipts.items():
        if len(found) > 1:
            yield Violation("P2", f"{len(found)} runs for receipt {receipt}: {found}")


# --- P3: terminal, or waiting for something that has a name -------------------------------------


def every_run_ends_or_waits(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    for history in histories:
        run = history.state
        if run.status in TERMINAL:
            continue
        named = waiting_for(run)
        if not named:
            yield Violation("P3", f"{run.status}, and waits for nothing that has a name", history.run)
        if evidence.everything_over:
            waits = ", ".join(f"{each.kind} {each.name}" for each in named)
            yield Violation("P3", f"still {run.status}, waiting for {waits}", history.run)
            overdue = [each.name for each in named if each.due and each.due + OVERDUE < evidence.now]
            if overdue:
                yield Violation("P3", f"overdue: {overdue}", history.run)
    if evidence.everything_over:
        for left in evidence.left:
            yield Violation("P3", f"left over: {left}")


def wishes_and_waits_are_kept(_evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """A run that shall stop begins nothing and does not end well, and no wait ends before it is due."""
    for history in histories:
        stops, undoes, due = False, False, dict[str, datetime]()
        for commit in history.commits:
            for event in commit.events:
                match event:
                    case runs.CancelRequested() | runs.RunStopping():
                        stops = not undoes
                    case runs.RunCompensating():  # What begins then is another promise.
                        stops, undoes = False, True
                    case runs.RunReopened():
                        stops = False
                    case runs.AttemptScheduled() | runs.RunCompleted() if stops:
                        yield Violation("P3", f"{type(event).__name__} although it shall stop", history.run)
                    case runs.WaitOpened() if event.due is not None:
                        due[event.wait] = event.due
                    case runs.WaitEnded() if commit.time < due.get(event.wait, commit.time) - EARLY:
                        yield Violation("P3", f"{event.wait} ended before it was due", history.run)


# --- P4: append-only, gap-free, tamper-evident; the same history gives the same decisions --------


def histories_are_whole(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    ids = Counter[str]()
    for history in histories:
        before = FIRST_HASH
        last: datetime | None = None
        for number, (stored, commit) in enumerate(zip(history.stored, history.commits, strict=True), 1):
            ids[commit.id] += 1
            if commit.version != number:
                yield Violation("P4", f"version {commit.version} stands at place {number}", history.run)
            if commit.prev_hash != before:
                yield Violation(
                    "P4", f"version {commit.version} does not follow from the one before", history.run
                )
            if (commit.org, commit.run) != (history.org, history.run):
                yield Violation("P4", f"version {number} belongs to {commit.org}.{commit.run}", history.run)
            if last is not None and commit.time < last:
                yield Violation("P4", f"version {number} is earlier than the one before", history.run)
            before, last = hashlib.sha256(stored.body).hexdigest(), commit.time
        yield from _one_end_per_opening(history)
        yield from _decided_again(evidence, history)
    for commit_id, count in ids.items():
        if count > 1:
            yield Violation("P4", f"{count} commits have the id {commit_id}")


def _one_end_per_opening(history: History) -> Iterator[Violation]:
    is_open = False
    for event in history.events:
        if isinstance(event, runs.RunStarted | runs.RunReopened):
            if is_open:
                yield Violation("P4", "opened twice without an end between", history.run)
            is_open = True
        elif not is_open and not isinstance(event, runs.RunParked | runs.RunUnparked | runs.RunContinued):
            yield Violation("P4", f"{type(event).__name__} although it was not open", history.run)
        if isinstance(event, _ENDS):
            is_open = False
    attempts = Counter(
        (event.step, event.attempt) for event in history.events if isinstance(event, runs.AttemptScheduled)
    )
    for (step, attempt), count in attempts.items():
        if count > 1:
            yield Violation("P4", f"attempt {attempt} of {step} was scheduled {count} times", history.run)


def _decided_again(evidence: Evidence, history: History) -> Iterator[Violation]:
    plan = evidence.plans.get(history.start.plan) if history.start is not None else None
    graph = Graph.of(plan) if plan is not None else None
    divergence = replay(history.org, history.run, history.commits, graph)
    if divergence is not None:
        yield Violation("P4", f"decided anew it diverges: {divergence}", history.run)


def commits_are_bounded(_evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    for history in histories:
        for commit in history.commits:
            if len(commit.events) > EVENTS_PER_COMMIT:
                yield Violation(
                    "P4", f"version {commit.version} holds {len(commit.events)} events", history.run
                )


# --- Poison -------------------------------------------------------------------------------------


def poison_is_kept(evidence: Evidence, _histories: Sequence[History]) -> Iterator[Violation]:
    """What nobody could read lies in the dead letters; nothing else does."""
    unreadable = sum(subject.endswith(".unreadable") for subject in evidence.dead_letters)
    if evidence.everything_over and evidence.poison > unreadable:
        yield Violation("P3", f"{evidence.poison} unreadable messages, {unreadable} dead letters")
    for subject in evidence.dead_letters:
        if subject.startswith("dlq.RUNS") or (subject.endswith(".unreadable") and not evidence.poison):
            yield Violation("P4", f"a dead letter that should not be: {subject}")


# --- P9, P11, P12: who was killed comes back, who is refused is told when, who has no secret gets nothing --------


def every_process_comes_back(evidence: Evidence, _histories: Sequence[History]) -> Iterator[Violation]:
    for outage in evidence.outages:
        if outage.back is None:
            if evidence.everything_over:
                yield Violation("P9", f"{outage.process} died at {outage.at:.1f} s and never came back")
        elif outage.back - outage.at > BACK_SECONDS:
            yield Violation("P9", f"{outage.process} was away for {outage.back - outage.at:.1f} s")


def refusals_say_when_to_come_again(evidence: Evidence, _histories: Sequence[History]) -> Iterator[Violation]:
    for entry in evidence.ledger:
        if entry.status in (429, 503) and entry.says_when is False:
            yield Violation("P11", f"{entry.status} for {entry.trigger} {entry.key!r} without Retry-After")


def failure_closes(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """Whatever is away: what was not signed as its trigger asks starts nothing."""
    forged: set[tuple[str, str | None]] = set()
    for entry in evidence.ledger:
        if entry.forged:
            forged.add((entry.trigger, hashlib.sha256(entry.key.encode()).hexdigest()))
            if entry.result in ("accepted", "duplicate"):
                yield Violation("P12", f"a forged delivery to {entry.trigger} was {entry.result}", entry.run)
    for history in histories:
        start = history.start
        if start is not None and (start.trigger, start.dedupe) in forged:
            yield Violation("P12", f"a forged delivery to {start.trigger} started a run", history.run)


PROMISES: Final[tuple[Promise, ...]] = (
    accepted_is_never_lost,
    one_run_per_key,
    planned_times_are_kept,
    gates_are_kept,
    every_start_is_done_once,
    events_start_their_runs,
    what_is_found_starts_once,
    past_deliveries_run_again_once,
    every_run_ends_or_waits,
    what_was_said_counts_once,
    what_was_said_is_heard,
    what_was_answered_counts_once,
    only_answers_in_time_count,
    only_what_somebody_meant_counts,
    children_are_one_with_their_parents,
    who_is_not_awaited_is_stopped,
    failures_are_told,
    what_was_asked_for_was_published,
    wishes_and_waits_are_kept,
    histories_are_whole,
    commits_are_bounded,
    segments_are_bounded,
    a_history_goes_on_from_every_seam,
    items_are_done_once_and_in_order,
    merges_give_what_came,
    effects_happen_as_told,
    what_was_done_is_undone_once,
    models_are_the_fold,
    models_say_what_the_runs_say,
    poison_is_kept,
    every_process_comes_back,
    refusals_say_when_to_come_again,
    failure_closes,
    each_org_is_alone,
)
