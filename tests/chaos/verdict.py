"""Judges what a round has left: every run by the promises of tests/promises, the stores by one another.

Histories come from the archive, which has all of them, a few hundred runs at a time; what crosses runs is judged on small
indexes. The log is compared with the archive message by message.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import asyncpg
from msgspec import Struct, field, structs

from chassis.jetstream.connection import Connection
from chassis.ports import Stored
from contracts import runs
from contracts.codec import decode_commit
from contracts.plans import Plan
from contracts.subjects import DLQ, RUNS
from contracts.subjects import run as run_subject
from projections.rows import RunIdRow, RunRow, StepRow
from tests.chaos import stores
from tests.chaos.across import ACROSS, Related, related
from tests.chaos.attempts import Span, early, effects_of, spans, untold
from tests.chaos.record import Record
from tests.promises.checker import PROMISES, check, poison_is_kept
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.gates import gates_are_kept
from tests.promises.models import models_are_the_fold
from tests.promises.tables import Tables

_CHUNK: Final = 250
_FETCH: Final = 2_000
_PER_RUN: Final = [
    each for each in PROMISES if each not in (models_are_the_fold, poison_is_kept, gates_are_kept, *ACROSS)
]
R = TypeVar("R", bound=Struct)


class Found(Struct, kw_only=True):
    """What was found, to be added up over rounds."""

    runs: int = 0
    commits: int = 0
    events: int = 0
    purged: int = 0
    """Runs whose history had left the log but for its last commit."""
    violations: list[Violation] = []
    by_status: Counter[str] = Counter()
    by_cause: Counter[str] = Counter()
    """What started them: `webhook` is a delivery."""
    related: Related = field(default_factory=Related)
    doubts: int = 0
    doubts_touched: int = 0
    """In doubt, and the world had heard the call."""
    effects: int = 0
    ghosts: int = 0
    """Tasks that were done and lie there again since nats-server was killed."""
    spans: list[Span] = []


def _ends(stored: Stored) -> bool:
    """Whether a run ended with this commit: then it is the tombstone."""
    last = decode_commit(stored.body).events[-1]
    return isinstance(last, runs.RunCompleted | runs.RunFailed | runs.RunCancelled)


def left_in_order(history: Sequence[Stored], gone: Sequence[Stored]) -> bool:
    """Whether all went that came before an end of the run, and nothing else. That end stays; so does what a reopening
    brought after it, until the run has ended for as long again."""
    left = history[len(gone) :]
    return bool(left) and list(gone) == list(history[: len(gone)]) and _ends(left[0])


class Expected(Struct, frozen=True, kw_only=True):
    """What the faults put into the installation on purpose."""

    poison: int = 0
    """Unreadable messages."""
    strange_runs: frozenset[str] = frozenset()
    """Names under `run.<org>.…` on which something lies that is no commit."""
    clocks: bool = False
    """The times of commits say nothing."""
    outside: bool = False
    """Workers outside take tasks, too."""
    purges: bool = False
    """Histories leave the log; for some that was not written down yet, or Postgres has lost the note: it is done again."""


class Verdict:
    """One round's evidence, judged as it is read."""

    def __init__(
        self,
        postgres: asyncpg.Connection,
        log: Connection,
        record: Record,
        witness: stores.Witness,
        expected: Expected,
    ) -> None:
        self._postgres, self._log = postgres, log
        self._record, self._witness, self._expected = record, witness, expected
        self._plans: dict[str, Plan] = {}
        self._claims: dict[str, list[str]] = defaultdict(list)
        for subject in witness.claims:
            if subject.split(".")[2] not in expected.strange_runs:
                self._claims[subject.split(".")[2]].append(subject)
        self._started: Counter[tuple[str, str, str]] = Counter()
        self._receipts: Counter[str] = Counter()
        self._commit_ids: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._read = dict(witness.commits)
        self._gone: list[tuple[str, list[Stored], bool]] = []
        """Runs some of whose commits the log did not have when it was read."""
        self.found = Found(violations=[], by_status=Counter(), by_cause=Counter(), spans=[])

    async def judge(self) -> Found:
        in_log = await stores.digests(self._log, RUNS)
        self.found.related = await related(self._log, self._expected.strange_runs)
        async for histories in self._histories(in_log):
            await self._judge(histories)
        await self._look_again()
        self.found.violations += self.found.related.judged()
        for sequence, (subject, _) in in_log.items():
            if subject.split(".")[2] not in self._expected.strange_runs:
                self._say("P4", f"{subject} at {sequence} is in the log and not in the archive")
        for sequence, (subject, _) in self._read.items():
            if subject.split(".")[2] not in self._expected.strange_runs:
                self._say("P4", f"{subject} at {sequence} was read from the log, and nobody has it any more")
        for reason in self._witness.wrong:
            self._say("P4", reason)
        self._across_runs()
        await self._dead_letters()
        self.found.ghosts = await stores.ghosts(self._log, outside=self._expected.outside)
        return self.found

    def _say(self, promise: str, what: str, run: str = "") -> None:
        self.found.violations.append(Violation(promise, what, run))

    # --- Reading ------------------------------------------------------------------------------

    async def _histories(self, in_log: dict[int, tuple[str, bytes]]) -> AsyncIterator[list[History]]:
        """Every run of the archive; its commits are struck off the log on the way."""
        sql = (
            "select org, run, version, sequence, extract(epoch from time)::float8 as time, body "
            "from archive.commits where version > 0 order by org, run, version"
        )
        purged = {
            (row["org"], row["run"])
            for row in await self._postgres.fetch(
                "select org, run from archive.run_ids where purged is not null"
            )
        }
        chunk: list[History] = []
        async with self._postgres.transaction():
            stored: list[Stored] = []
            owner = ("", "")
            async for row in self._postgres.cursor(sql, prefetch=_FETCH):
                if (row["org"], row["run"]) != owner:
                    chunk += self._history(owner, stored, in_log, owner in purged)
                    owner, stored = (row["org"], row["run"]), []
                    if len(chunk) >= _CHUNK:
                        yield chunk
                        chunk = []
                stored.append(
                    Stored(
                        subject=run_subject(*owner),
                        sequence=row["sequence"],
                        body=bytes(row["body"]),
                        time=row["time"],
                    )
                )
            chunk += self._history(owner, stored, in_log, owner in purged)
        yield chunk

    def _history(
        self, owner: tuple[str, str], stored: list[Stored], in_log: dict[int, tuple[str, bytes]], purged: bool
    ) -> list[History]:
        """One run, compared with what the log has of it."""
        org, run = owner
        if not stored or run in self._expected.strange_runs:
            return []
        gone: list[Stored] = []
        for message in stored:
            kept = (message.subject, hashlib.sha256(message.body).digest())
            there = in_log.pop(message.sequence, None)
            if there is None:
                gone.append(message)
            elif there != kept:
                self._say("P4", f"log and archive differ at {message.sequence}", run)
            if self._read.pop(message.sequence, kept) != kept:
                self._say("P4", f"at {message.sequence} something else was read before", run)
        if gone:
            self._gone.append((run, stored, purged))
        self.found.purged += bool(gone)
        return [History(org, run, stored)]

    async def _look_again(self) -> None:
        """What was missing has left, or was leaving at the very moment in which the log was read."""
        in_log = await stores.digests(self._log, RUNS) if self._gone else {}
        for run, stored, purged in self._gone:
            gone = [message for message in stored if message.sequence not in in_log]
            may_leave = purged or self._expected.purges
            if not (may_leave and left_in_order(stored, gone)):
                told = f"{len(gone)} of {len(stored)} commits are missing in the log (purged: {purged})"
                self._say("P4", told, run)

    async def _tables(self, names: Sequence[str]) -> Tables:
        """The rows of these runs."""
        tables = Tables()
        for row in await self._rows("select * from read.runs where id = any($1)", RunRow, names):
            tables.runs[row.org, row.id] = row
        for step in await self._rows("select * from read.steps where run = any($1)", StepRow, names):
            tables.steps[step.org, step.run, step.path] = step
        for ended in await self._rows("select * from archive.run_ids where run = any($1)", RunIdRow, names):
            tables.ended[ended.org, ended.run] = ended
        return tables

    async def _rows(self, sql: str, kind: type[R], names: Sequence[str]) -> list[R]:
        fields = {each.name for each in structs.fields(kind)}
        return [
            kind(**{name: value for name, value in row.items() if name in fields})
            for row in await self._postgres.fetch(sql, names)
        ]

    # --- Judging ------------------------------------------------------------------------------

    async def _judge(self, histories: list[History]) -> None:
        if not histories:
            return
        await self._fetch_plans(histories)
        names = [history.run for history in histories]
        subjects = [subject for name in names for subject in self._claims.get(name, ())]
        times = {subject: self._witness.times[subject] for subject in subjects}
        effects = [
            happened
            for history in histories
            for happened in effects_of(history, self._record.calls.get(history.run, ()), times)
        ]
        evidence = Evidence(
            messages=(),
            ledger=[entry for name in names for entry in self._record.entries.get(name, ())],
            effects=effects,
            claims={subject: self._witness.claims[subject] for subject in subjects},
            wishes=[wish for name in names for wish in self._record.wishes.get(name, ())],
            said=[said for name in names for said in self._record.said.get(name, ())],
            answered=[told for name in names for told in self._record.answered.get(name, ())],
            meant=[each for name in names for each in self._record.meant.get(name, ())],
            plans=self._plans,
            tables=await self._tables(names),
            now=datetime.now(UTC),
        )
        self.found.effects += len(effects)
        for promise in _PER_RUN:
            self.found.violations += promise(evidence, histories)
        self.found.related.keep(histories, self._plans)
        for history in histories:
            self._count(history)

    async def _fetch_plans(self, histories: Iterable[History]) -> None:
        for history in histories:
            start = history.start
            if start is not None and start.plan not in self._plans:
                self._plans[start.plan] = await stores.plan_of(self._log, start.plan)

    def _count(self, history: History) -> None:
        found = self.found
        found.runs += 1
        found.commits += len(history.commits)
        found.events += len(history.events)
        found.by_status[history.state.status] += 1
        found.spans += spans(history)
        self._seen.add(history.run)
        for commit in history.commits:
            self._commit_ids[commit.id] += 1
        start = history.start
        if start is not None:
            found.by_cause[start.cause.kind] += 1
            self._receipts[start.receipt] += 1
            if start.dedupe is not None and start.trigger is not None:
                self._started[history.org, start.trigger, start.dedupe] += 1
        self._doubts(history)
        if not self._expected.clocks:
            self.found.violations += early(history)

    def _doubts(self, history: History) -> None:
        """In doubt exactly where a call had begun; and no call that happened is told as nothing."""
        calls = self._record.calls.get(history.run, ())
        heard = {call.step for call in calls}
        for event in history.events:
            if isinstance(event, runs.AttemptDoubted):
                self.found.doubts += 1
                self.found.doubts_touched += event.step in heard
        self.found.violations += untold(history, calls)

    # --- Across runs --------------------------------------------------------------------------

    def _across_runs(self) -> None:
        for (_, trigger, dedupe), count in self._started.items():
            if count > 1:
                self._say("P2", f"{count} runs of {trigger} for one key (sha256 {dedupe})")
        for receipt, count in self._receipts.items():
            if count > 1:
                self._say("P2", f"{count} runs for receipt {receipt}")
        for name, count in self._commit_ids.items():
            if count > 1:
                self._say("P4", f"{count} commits have the id {name}")
        self._refused()
        # What was told of runs that are nowhere: the checker says what that means.
        lost = [
            entry for run, told in self._record.entries.items() if run not in self._seen for entry in told
        ]
        strange = [
            happened
            for run, calls in self._record.calls.items()
            if run not in self._seen
            for happened in effects_of(History("", run, []), calls, {})
        ]
        for run, subjects in self._claims.items():
            if run not in self._seen:
                self._say("P5", f"{len(subjects)} claims for a run that is nowhere", run)
        self.found.violations += check(nothing_but(ledger=lost, effects=strange))

    def _refused(self) -> None:
        """Nobody was told of a defect of ours, and what was forged has started nothing; `check` says the rest."""
        for entry in self._record.entries.get("", ()):
            if entry.status == 500:
                self._say("P11", f"{entry.trigger} {entry.key!r} was answered 500")
        forged = {
            (entry.trigger, hashlib.sha256(entry.key.encode()).hexdigest())
            for told in self._record.entries.values()
            for entry in told
            if entry.forged
        }
        for _, trigger, dedupe in self._started:
            if (trigger, dedupe) in forged:
                self._say("P12", f"a forged delivery to {trigger} started a run")

    async def _dead_letters(self) -> None:
        letters = [stored.subject async for stored in stores.all_of(self._log, DLQ)]
        for subject in letters:
            if subject.split(".")[-1] in self._seen:
                self._say("P3", f"a dead letter: {subject}", subject.split(".")[-1])
        known = [each for each in letters if each.split(".")[-1] not in self._expected.strange_runs]
        evidence = nothing_but(
            dead_letters=known,
            poison=self._expected.poison,
            left=await stores.left(self._log, outside=self._expected.outside),
        )
        self.found.violations += check(evidence)


def nothing_but(**what: Any) -> Evidence:
    """For promises that look at one thing only."""
    nothing: dict[str, Any] = {
        "messages": (),
        "ledger": (),
        "effects": (),
        "claims": {},
        "wishes": (),
        "plans": {},
        "tables": Tables(),
        "now": datetime.now(UTC),
    }
    return Evidence(**(nothing | what))
