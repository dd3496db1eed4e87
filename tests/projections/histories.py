"""Histories of runs as they lie in RUNS, and tables in memory that may fail."""

import copy
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw, structs

from chassis.ids import digest
from chassis.ports import Away, Stored
from contracts.codec import encode
from contracts.commits import Commit
from contracts.errors import Failure
from contracts.payloads import Inline
from contracts.runs import (
    ApprovalDecided,
    ApprovalEscalated,
    AttemptFailed,
    AttemptScheduled,
    Cause,
    ChildAsked,
    ChildBegan,
    ChildEnded,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunReopened,
    RunStarted,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSucceeded,
    WaitDropped,
    WaitEnded,
    WaitKind,
    WaitOpened,
)
from contracts.waits import Approval
from projections.arrived import RunKey
from projections.models import Moved, Position, Step
from projections.rows import CommitRow, DeliveryRow, RunIdRow, RunRow, StepRow, UsageRow
from projections.runs import Changes, StepKey

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PLAN = "ab" * 32
ORG = "org_default"


def value(of: Any) -> Inline:
    return Inline(value=Raw(encode(of)))


def started(trigger: str | None = "hook1", body: Any = None, receipt: str = "receipt1") -> RunStarted:
    return RunStarted(
        plan=PLAN,
        workflow="flow1",
        version=1,
        trigger=trigger,
        receipt=receipt,
        cause=Cause(kind="webhook", id="hook1"),
        input=value({"body": body}),
    )


def scheduled(step: str, attempt: int = 1) -> AttemptScheduled:
    return AttemptScheduled(
        step=step,
        node=step.rpartition(".")[2],
        node_type="echo",
        attempt=attempt,
        key=f"key/{step}",
        pool="default",
        repeat="yes",
        timeout_s=60,
        config=value({}),
    )


def reported(step: str, output: Any = None, attempt: int = 1) -> StepReported:
    return StepReported(step=step, attempt=attempt, output=value(output), took_ms=7)


def succeeded(step: str) -> StepSucceeded:
    return StepSucceeded(step=step, node=step)


def asking(step: str, *, waits: bool = True, child: str = "child") -> tuple[WaitOpened, ChildAsked]:
    """A step starts a run."""
    asked = ChildAsked(
        step=step,
        node=step.rpartition(".")[2].partition("[")[0],
        attempt=1,
        child=child,
        workflow="flow2",
        version=1,
        plan=PLAN,
        waits=waits,
        input=value({"body": 1}),
    )
    kind: WaitKind = "child" if waits else "start"
    return WaitOpened(wait=f"{kind}:{step}:1", kind=kind, step=step), asked


class Writer:
    """Appends commits to one stream as the orchestrator does."""

    def __init__(self, org: str = ORG) -> None:
        self.org = org
        self.messages: list[Stored] = []
        self._heads: dict[str, tuple[int, str]] = {}

    def commit(self, run: str, *events: RunEvent, after_s: float | None = None, **more: Any) -> Stored:
        version, prev_hash = self._heads.get(run, (0, ""))
        seconds = len(self.messages) if after_s is None else after_s
        fields: dict[str, Any] = {
            "id": digest(f"{run} {version}".encode())[:32],
            "org": self.org,
            "run": run,
            "version": version + 1,
            "events": events,
            "time": NOON + timedelta(seconds=seconds),
            "actor": "system",
            "causation_id": "",
            "correlation_id": "",
            "engine_version": "0.1.0",
            "key_id": "",
            "prev_hash": prev_hash,
        }
        return self.raw(run, encode(Commit[RunEvent](**fields | more)))

    def raw(self, run: str, body: bytes, *, counts: bool = True, org: str | None = None) -> Stored:
        """Any bytes on a run's subject. The next commit follows from them when they count as one."""
        if counts:
            self._heads[run] = (self._heads.get(run, (0, ""))[0] + 1, digest(body))
        stored = Stored(
            subject=f"run.{org or self.org}.{run}",
            sequence=len(self.messages) + 1,
            body=body,
            time=(NOON + timedelta(seconds=len(self.messages))).timestamp(),
        )
        self.messages.append(stored)
        return stored

    def forget_last(self, run: str) -> None:
        """As if the run's newest commit had not been written."""
        self.messages.pop()
        version, _ = self._heads[run]
        earlier = [m for m in self.messages if m.subject == f"run.{self.org}.{run}" and m.body != b"garbage"]
        self._heads[run] = (version - 1, digest(earlier[-1].body) if earlier else "")

    def three_steps(self, run: str) -> None:
        """The main path: three actions, one after the other."""
        self.commit(run, started(receipt=f"receipt-{run}"), scheduled("one"))
        self.commit(run, reported("one"), succeeded("one"), scheduled("two"))
        self.commit(run, reported("two"), succeeded("two"), scheduled("three"))
        self.commit(run, reported("three"), succeeded("three"), RunCompleted(output=value({"n": 3})))


def approvals(step: str) -> list[tuple[RunEvent, ...]]:
    """What may happen to a step that asks people."""
    wait, other, due = f"approval:{step}", f"escalation:{step}", NOON + timedelta(minutes=1)
    decided = ApprovalDecided(
        wait=wait, step=step, decision="approved", by="link", on=NOON, request="ab" * 32, fields=value({})
    )
    return [
        (
            WaitOpened(wait=wait, kind="approval", step=step, approval=Approval(question="no\0 \u202e")),
            WaitOpened(wait=other, kind="escalation", due=due, step=step),
        ),
        (WaitEnded(wait=other), ApprovalEscalated(wait=wait, step=step, to=())),
        (WaitEnded(wait=wait), StepSucceeded(step=step, node="one", ports=("timeout",))),
        (decided, StepSucceeded(step=step, node="one", ports=("approved",))),
    ]


def eventful(seed: int, runs: int = 5, *, garbage: bool = True) -> list[Stored]:
    """Runs side by side that fail, wait, end, are reopened, and sometimes hold what nobody can read."""
    chance = random.Random(seed)
    writer = Writer()
    steps = ("one", "two[1].inner", "three")
    failure = Failure(code="http.status", message="no\0 \u202e", node="one")
    for number in range(runs):
        writer.commit(f"run{number}", started(receipt=f"r{number}", trigger=chance.choice([None, "hook1"])))
    for _ in range(chance.randrange(60)):
        if garbage and chance.random() < 0.04:
            writer.raw(f"run{chance.randrange(runs + 1)}", b"garbage", counts=False)
        if chance.random() < 0.02:
            run = f"run{chance.randrange(runs)}"
            future = writer.commit(run, RunCompleted()).body.replace(b"run.completed", b"run.dreamt")
            writer.forget_last(run)
            writer.raw(run, future)
        step = chance.choice(steps)
        wait = f"retry:{step}"
        events = chance.choice(
            [
                (scheduled(step, chance.randrange(1, 4)),),
                (reported(step, "out"), StepSucceeded(step=step, node="one")),
                (AttemptFailed(step=step, attempt=1, error=failure),),
                (StepFailed(step=step, node="one", error=failure, handled=True),),
                (WaitOpened(wait=wait, kind="retry", due=NOON + timedelta(minutes=1), step=step),),
                (WaitEnded(wait=wait), scheduled(step, 2)),
                (WaitOpened(wait=f"signal:{step}", kind="signal", step=step, signal="paid"),),
                (SignalReceived(signal="paid", key="k", by="key:1", step=chance.choice([step, None])),),
                (StepSucceeded(step=step, node="one", output=value(5)),),
                *approvals(step),
                asking(step, waits=chance.random() < 0.7),
                (ChildEnded(step=step, child="child", outcome=chance.choice(["completed", "failed"])),),
                (ChildBegan(step=step, child="child"),),
                (WaitDropped(wait=f"child:{step}:1"), StepCancelled(step=step, node="one")),
                (RunCompleted(),),
                (RunFailed(error=failure, step=step),),
                (RunReopened(by="key:1", steps=(step,)),),
            ]
        )
        writer.commit(f"run{chance.randrange(runs)}", *events)
    return writer.messages


class Tables:
    """The tables of RUNS in memory. One transaction is one assignment."""

    def __init__(self) -> None:
        self.at = Position(epoch=1, sequence=0, generation="one")
        self.runs: dict[RunKey, RunRow] = {}
        self.steps: dict[StepKey, StepRow] = {}
        self.deliveries: dict[RunKey, DeliveryRow] = {}
        self.usage: dict[Any, UsageRow] = {}
        self.commits: dict[tuple[str, str, int], CommitRow] = {}
        self.ended: dict[RunKey, RunIdRow] = {}
        self.transactions = 0

    async def position(self) -> Position:
        return self.at

    async def load_runs(self, keys: Collection[RunKey]) -> dict[RunKey, RunRow]:
        return {key: copy.copy(self.runs[key]) for key in keys if key in self.runs}

    async def load_steps(self, keys: Collection[StepKey]) -> dict[StepKey, StepRow]:
        return {key: copy.copy(self.steps[key]) for key in keys if key in self.steps}

    async def store(self, changes: Changes, step: Step) -> None:
        if step.before != self.at:
            raise Moved("moved")
        assert changes.new_runs.isdisjoint(self.runs)
        assert changes.new_steps.isdisjoint(self.steps)
        assert changes.runs.keys() - changes.new_runs <= self.runs.keys()
        assert changes.steps.keys() - changes.new_steps <= self.steps.keys()
        for commit in changes.commits:
            key = commit.org, commit.run, commit.version
            assert key not in self.commits
            self.commits[key] = commit
        self.runs |= {key: copy.copy(row) for key, row in changes.runs.items()}
        self.steps |= {key: copy.copy(row) for key, row in changes.steps.items()}
        self.deliveries |= changes.deliveries
        self.ended |= changes.ended
        for day, added in changes.usage.items():
            known = self.usage.setdefault(day, UsageRow(org=added.org, day=added.day))
            for name in UsageRow.__struct_fields__[2:]:
                setattr(known, name, getattr(known, name) + getattr(added, name))
        self.at = step.after()
        self.transactions += 1

    def content(self) -> list[Any]:
        """Everything but the position, comparable."""
        tables = (self.runs, self.steps, self.deliveries, self.usage, self.commits, self.ended)
        return [{key: structs.asdict(row) for key, row in table.items()} for table in tables]


class TornTables(Tables):
    """As a real store under a bad star: nothing stored, or stored and nobody told."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def store(self, changes: Changes, step: Step) -> None:
        fate = self._chance.random()
        if fate < 0.3:
            raise Away("killed before the commit")
        await super().store(changes, step)
        if fate > 0.7:
            raise Away("killed after the commit")


class Pages:
    """A reader that cuts a stream as the seed says."""

    def __init__(self, messages: Sequence[Stored], chance: random.Random) -> None:
        self._messages, self._chance = messages, chance

    async def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        while after < len(self._messages):
            batch = self._messages[after : after + self._chance.randrange(1, 12)]
            yield batch
            after += len(batch)
        raise Away("the end of the test's stream")

    async def end(self) -> int:
        return len(self._messages)


class Letterbox:
    """Keeps letters."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, bytes, Mapping[str, str]]] = []

    async def store(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        self.stored.append((subject, body, dict(headers or {})))
        return len(self.stored)

    @property
    def troubles(self) -> list[str]:
        return [headers["source"].rpartition(" ")[2] for _, _, headers in self.stored]
