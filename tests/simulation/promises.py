"""The promises as functions over what is left after a schedule: the log, the ledger of the senders, the world's record.

Each function gives the violations that it found; none is what a promise means. They know nothing of the simulator, so the
same functions can judge what real servers have stored.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct

from chassis.ports import Stored
from contracts import runs
from contracts.codec import decode_commit, encode
from contracts.commits import FIRST_HASH, Commit
from contracts.payloads import Inline, Payload
from contracts.plans import Plan
from contracts.runs import TERMINAL, RunEvent, RunStarted
from contracts.subjects import effect
from orchestrator.history import replay, state_at
from orchestrator.run import Graph, Run, waiting_for
from projections.arrived import read
from projections.runs import Known, fold, touched
from tests.simulation.clients import Entry
from tests.simulation.models import Tables
from tests.simulation.outside import Effect
from tests.simulation.people import Wish

OVERDUE: Final = timedelta(seconds=5)
_ENDS: Final = (runs.RunCompleted, runs.RunFailed, runs.RunCancelled)


class Violation(Struct, frozen=True):
    """A promise that was not kept."""

    promise: str
    what: str
    run: str = ""

    def __str__(self) -> str:
        return f"{self.promise} {self.run}: {self.what}"


class History:
    """One run as the log tells it."""

    def __init__(self, org: str, run: str, stored: Sequence[Stored]) -> None:
        self.org = org
        self.run = run
        self.stored = stored

    @cached_property
    def commits(self) -> list[Commit[RunEvent]]:
        return [decode_commit(message.body) for message in self.stored]

    @cached_property
    def events(self) -> list[RunEvent]:
        return [event for commit in self.commits for event in commit.events]

    @cached_property
    def state(self) -> Run:
        return state_at(self.org, self.run, self.commits)

    @property
    def start(self) -> RunStarted | None:
        return next((event for event in self.events if isinstance(event, RunStarted)), None)

    def of_step(self, step: str) -> list[RunEvent]:
        """What was said about a step, and what was said about the whole run."""
        return [event for event in self.events if getattr(event, "step", step) == step]


class Evidence(Struct, kw_only=True):
    """Everything that the promises are judged by."""

    messages: Sequence[Stored]
    """RUNS, in its order."""
    ledger: Sequence[Entry]
    effects: Sequence[Effect]
    claims: Mapping[str, int]
    """How many messages lie on each subject of EFFECTS."""
    wishes: Sequence[Wish]
    plans: Mapping[str, Plan]
    tables: Tables
    now: datetime
    everything_over: bool = True
    """Faults have stopped long ago and people have done what they were asked: nothing may be left."""
    left: Sequence[str] = ()
    """What still lies in INBOX and TASKS."""
    poison: int = 0
    dead_letters: Sequence[str] = ()
    seed: int = 0

    def histories(self) -> list[History]:
        found: dict[str, list[Stored]] = defaultdict(list)
        for message in self.messages:
            found[message.subject].append(message)
        histories: list[History] = []
        for subject, stored in found.items():
            _, org, run = subject.split(".")
            histories.append(History(org, run, stored))
        return histories


Promise = Callable[[Evidence, Sequence[History]], Iterator[Violation]]


def check(evidence: Evidence) -> list[Violation]:
    """Every violation of every promise."""
    histories = evidence.histories()
    found = [violation for promise in PROMISES for violation in promise(evidence, histories)]
    return sorted(found, key=lambda violation: violation.promise)


# --- P1: an accepted delivery is never lost ----------------------------------------------------


def accepted_is_never_lost(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    by_run = {history.run: history for history in histories}
    sent = defaultdict[tuple[str, str], set[str]](set)
    for entry in evidence.ledger:
        if entry.receipt and entry.result == "accepted":
            sent[entry.trigger, entry.key].add(entry.receipt)
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
        if entry.answer is not None:
            yield from _answered_as_recorded(entry, history)


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
            if start.dedupe is not None:
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
        elif not is_open and not isinstance(event, runs.RunParked | runs.RunUnparked):
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


# --- P5: an effect repeats only under the same key ----------------------------------------------


def effects_happen_as_told(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    by_run = {history.run: history for history in histories}
    by_step = defaultdict[tuple[str, str], list[Effect]](list)
    for happened in evidence.effects:
        by_step[happened.run, happened.step].append(happened)
    for (run, step), happenings in by_step.items():
        history = by_run.get(run)
        if history is None:
            yield Violation("P5", f"step {step} had an effect, but there is no such run", run)
            continue
        yield from _under_its_key(history, step, happenings)
        if happenings[0].repeat == "no":
            yield from _once(history, step, happenings)
    for history in histories:
        yield from _results_are_the_worlds(history, by_step)
        yield from _doubts_are_justified(evidence, history)
        yield from _people_are_obeyed_once(evidence, history)


def _under_its_key(history: History, step: str, happenings: Sequence[Effect]) -> Iterator[Violation]:
    scheduled = {
        event.attempt: event.key
        for event in history.events
        if isinstance(event, runs.AttemptScheduled) and event.step == step
    }
    if len(set(scheduled.values())) > 1:
        yield Violation("P5", f"attempts at {step} have different keys: {scheduled}", history.run)
    for happened in happenings:
        if scheduled.get(happened.attempt) != happened.key:
            yield Violation(
                "P5", f"attempt {happened.attempt} at {step} acted under key {happened.key}, decided was "
                f"{scheduled.get(happened.attempt)}", history.run
            )  # fmt: skip


def _once(history: History, step: str, happenings: Sequence[Effect]) -> Iterator[Violation]:
    """What must not be repeated blindly happened once per attempt, and again only because a person said so."""
    counts = Counter(happened.attempt for happened in happenings)
    for attempt, count in counts.items():
        if count > 1:
            yield Violation("P5", f"attempt {attempt} at {step} acted {count} times", history.run)
        said = [e for e in history.of_step(step) if getattr(e, "attempt", 0) == attempt]
        if any(isinstance(event, runs.AttemptFailed) for event in said):
            yield Violation(
                "P5", f"attempt {attempt} at {step} acted, and the history says that it failed", history.run
            )
        if any(isinstance(event, runs.AttemptCancelled) and event.effect == "none" for event in said):
            yield Violation(
                "P5", f"attempt {attempt} at {step} acted, and the history says that it did not", history.run
            )
    for earlier, later in pairwise(sorted(counts)):
        if not _allowed_again(history.of_step(step), earlier, later):
            yield Violation(
                "P5", f"attempts {earlier} and {later} at {step} both acted, and nobody said so", history.run
            )


def _allowed_again(events: Sequence[RunEvent], earlier: int, later: int) -> bool:
    """Whether between two attempts a person decided that the first one does not count."""
    between = False
    for event in events:
        if isinstance(event, runs.AttemptScheduled):
            between = earlier <= event.attempt < later
        elif between and isinstance(event, runs.DoubtResolved):
            return event.resolution in ("retry", "failed")
    return False


def _results_are_the_worlds(
    history: History, by_step: Mapping[tuple[str, str], Sequence[Effect]]
) -> Iterator[Violation]:
    for event in history.events:
        if not isinstance(event, runs.StepReported):
            continue
        results = {encode(happened.result) for happened in by_step.get((history.run, event.step), ())}
        if not any(_is(event.output, result) for result in results):
            yield Violation(
                "P5",
                f"the world never answered {event.step} what attempt {event.attempt} reports",
                history.run,
            )


def _is(payload: Payload, value: bytes) -> bool:
    if isinstance(payload, Inline):
        return bool(msgspec.json.decode(payload.value) == msgspec.json.decode(value))
    return payload.sha256 == hashlib.sha256(value).hexdigest()


def _doubts_are_justified(evidence: Evidence, history: History) -> Iterator[Violation]:
    """In doubt only where a call was claimed: the world may have been touched."""
    for event in history.events:
        if isinstance(event, runs.AttemptDoubted):
            subject = effect(history.org, history.run, event.step, event.attempt)
            if not evidence.claims.get(subject):
                yield Violation(
                    "P5", f"attempt {event.attempt} at {event.step} is in doubt without a claim", history.run
                )
    for subject, count in evidence.claims.items():
        if count > 1 and f".{history.run}." in subject:
            yield Violation("P5", f"{count} claims on {subject}", history.run)


def _people_are_obeyed_once(evidence: Evidence, history: History) -> Iterator[Violation]:
    """However often a wish is told, it is granted once. To stop a run that was parked meanwhile is the same wish."""
    wished = Counter[str](wish.kind for wish in evidence.wishes if wish.run == history.run)
    granted, stopped_in, opening = Counter[str](), set[int](), 1
    for event in history.events:
        match event:
            case runs.RunReopened():
                granted["retry"] += 1
                opening += 1
            case runs.CancelRequested():
                stopped_in.add(opening)
            case runs.DoubtResolved():
                granted["resolve"] += 1
    granted["cancel"] = len(stopped_in)
    for kind, count in granted.items():
        if count > wished[kind]:
            yield Violation(
                "P5", f"{kind} happened {count} times and was wished {wished[kind]} times", history.run
            )


# --- P6: read models are a fold of the log -------------------------------------------------------


def models_are_the_fold(evidence: Evidence, _histories: Sequence[History]) -> Iterator[Violation]:
    if not evidence.everything_over:
        return
    for cut in (random.Random(evidence.seed), None):
        for difference in evidence.tables.differences(folded(evidence.messages, cut)):
            yield Violation("P6", difference)


def models_say_what_the_runs_say(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """A row shows the status that decisions are made by."""
    if not evidence.everything_over:
        return
    for history in histories:
        state, row = history.state, evidence.tables.runs.get((history.org, history.run))
        if row is None or row.status != state.status:
            shown = row.status if row is not None else "nothing"
            yield Violation("P6", f"the row says {shown}, the run is {state.status}", history.run)
        for path, step in state.steps.items():
            shown_step = evidence.tables.steps.get((history.org, history.run, path))
            if shown_step is None or shown_step.status != step.status:
                shown = shown_step.status if shown_step is not None else "nothing"
                yield Violation(
                    "P6", f"the row of {path} says {shown}, the step is {step.status}", history.run
                )
        ended = evidence.tables.ended.get((history.org, history.run))
        if state.status in TERMINAL and (ended is None or ended.version != history.commits[-1].version):
            yield Violation("P6", "the archive does not know its last commit", history.run)


def folded(messages: Sequence[Stored], cuts: random.Random | None) -> Tables:
    """The tables made anew from the log, cut into batches by chance, or in one."""
    tables, left = Tables(), list(messages)
    while left:
        size = cuts.randint(1, 4) if cuts is not None else len(left)
        batch = [read(stored, 1) for stored in left[:size]]
        del left[:size]
        paths = touched(batch)
        known = Known(
            runs={key: tables.runs[key] for key in paths if key in tables.runs},
            steps={
                (*key, path): tables.steps[*key, path]
                for key, of_run in paths.items()
                for path in of_run
                if (*key, path) in tables.steps
            },
        )
        tables.apply(fold(known, batch))
    return tables


# --- Poison -------------------------------------------------------------------------------------


def poison_is_kept(evidence: Evidence, _histories: Sequence[History]) -> Iterator[Violation]:
    """What nobody could read lies in the dead letters; nothing else does."""
    unreadable = sum(subject.endswith(".unreadable") for subject in evidence.dead_letters)
    if evidence.everything_over and evidence.poison > unreadable:
        yield Violation("P3", f"{evidence.poison} unreadable messages, {unreadable} dead letters")
    for subject in evidence.dead_letters:
        if subject.startswith("dlq.RUNS") or (subject.endswith(".unreadable") and not evidence.poison):
            yield Violation("P4", f"a dead letter that should not be: {subject}")


PROMISES: Final[tuple[Promise, ...]] = (
    accepted_is_never_lost,
    one_run_per_key,
    every_run_ends_or_waits,
    histories_are_whole,
    effects_happen_as_told,
    models_are_the_fold,
    models_say_what_the_runs_say,
    poison_is_kept,
)
