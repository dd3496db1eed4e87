"""From commits of RUNS to rows: a pure fold over whatever batch came, given the rows as they are.

The rows depend on the history alone, never on how it was cut into batches: each run remembers the newest commit it has
seen, so one that comes again changes nothing and one that is missing is noticed.
"""

import copy
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, get_args

from msgspec import Struct, field, structs

from contracts.cloudevents import ENDING
from contracts.runs import TERMINAL, RunContinued, RunEvent, RunStarted
from contracts.subjects import RUNS
from projections.arrived import Arrived, Letter, RunKey, Trouble
from projections.events import NAME_CHARS, Scene, apply, settle
from projections.rows import (
    CommitRow,
    DeliveryRow,
    RunIdRow,
    RunRow,
    SeamRow,
    StepRow,
    UsageRow,
    week_of,
)
from projections.sanitised import moment, preview, text

StepKey: TypeAlias = tuple[str, str, str]
_EPOCH_AT: Final = 44
"""What is not a commit has no version: epoch and sequence take its place, below zero."""


class Known(Struct):
    """Rows as they are in the tables. A key that is not here has no row."""

    runs: dict[RunKey, RunRow] = field(default_factory=dict)
    steps: dict[StepKey, StepRow] = field(default_factory=dict)


class Changes(Struct):
    """What a batch asks of the tables. Rows are whole; `new_…` says which have none yet."""

    runs: dict[RunKey, RunRow] = field(default_factory=dict)
    new_runs: set[RunKey] = field(default_factory=set)
    steps: dict[StepKey, StepRow] = field(default_factory=dict)
    new_steps: set[StepKey] = field(default_factory=set)
    deliveries: dict[RunKey, DeliveryRow] = field(default_factory=dict)
    usage: dict[tuple[str, Any], UsageRow] = field(default_factory=dict)
    commits: list[CommitRow] = field(default_factory=list)
    seams: list[SeamRow] = field(default_factory=list)
    ended: dict[RunKey, RunIdRow] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    seen_again: int = 0


def touched(batch: Sequence[Arrived]) -> dict[RunKey, set[str]]:
    """The runs of a batch, and the paths of their steps that it speaks of."""
    paths: dict[RunKey, set[str]] = {}
    for arrived in batch:
        of_run = paths.setdefault(arrived.key, set())
        if arrived.commit is None:
            continue
        for event in arrived.commit.events:
            path = getattr(event, "step", None)
            if path is not None:
                of_run.add(path)
            elif (steps := getattr(event, "steps", None)) is not None:
                of_run.update(steps)
    return paths


def fold(known: Known, batch: Sequence[Arrived]) -> Changes:
    """The rows that change, as they are after the batch. `known` is left as it was."""
    folding = _Folding(known)
    for arrived in batch:
        folding.add(arrived)
    return folding.changes


def park(known: Known, arrived: Arrived, reason: str) -> Changes:
    """What is left to do for a commit whose rows were refused: keep its bytes, and say why its run does not go on."""
    folding = _Folding(known)
    if arrived.version:
        folding.add(structs.replace(arrived, commit=None, needs_release=None, reason=text(reason)))
    return folding.changes


class _Folding:
    """One batch on its way into rows."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.changes = Changes()

    def add(self, arrived: Arrived) -> None:
        if arrived.version == 0:
            self._park_unreadable(arrived)
            return
        run = self._run(arrived)
        if arrived.version <= run.head_version:
            self.changes.seen_again += 1
            return
        digest = hashlib.sha256(arrived.stored.body).digest()
        self._check_chain(run, arrived)
        readable = arrived.commit is not None and not run.stuck
        self._keep(run, arrived, digest)
        if readable:
            self._apply(run, arrived)
        elif run.needs_release is None and run.parked_reason is None:
            self._park(run, arrived)

    def _run(self, arrived: Arrived) -> RunRow:
        """The run's row, ready to be changed."""
        key = arrived.key
        if key in self.changes.runs:
            return self.changes.runs[key]
        if key in self._known.runs:
            run = copy.copy(self._known.runs[key])
        else:
            at = _time(arrived)
            run = RunRow(org=arrived.org, id=arrived.run, week=week_of(at), started=at, last_time=at)
            self.changes.new_runs.add(key)
        self.changes.runs[key] = run
        return run

    def _step(self, run: RunRow, path: str, number: int) -> StepRow:
        key = (run.org, run.id, path)
        if key in self.changes.steps:
            return self.changes.steps[key]
        if key in self._known.steps:
            step = copy.copy(self._known.steps[key])
        else:
            node = path.rpartition(".")[2].partition("[")[0]
            step = StepRow(org=run.org, run=run.id, path=path, node=node, position=number)
            self.changes.new_steps.add(key)
            run.steps_total += 1
        self.changes.steps[key] = step
        return step

    def _check_chain(self, run: RunRow, arrived: Arrived) -> None:
        expected = run.head_version + 1
        if arrived.version > expected:
            missing = f"versions {expected} to {arrived.version - 1} are missing"
            self._complain(arrived, "gap", missing)
        elif arrived.prev_hash != run.head_hash.hex():
            self._complain(arrived, "chain", f"version {arrived.version} does not follow from the one before")

    def _complain(self, arrived: Arrived, trouble: Trouble, reason: str) -> None:
        self.changes.letters.append(
            Letter(
                stored=arrived.stored,
                epoch=arrived.epoch,
                trouble=trouble,
                reason=reason,
                org=arrived.org,
                run=arrived.run,
            )
        )

    def _keep(self, run: RunRow, arrived: Arrived, digest: bytes) -> None:
        """Into the archive, whatever it says."""
        stored, commit = arrived.stored, arrived.commit
        ended = commit is not None and _ends(commit.events)
        self.changes.commits.append(
            CommitRow(
                week=run.week,
                org=run.org,
                run=run.id,
                version=arrived.version,
                epoch=arrived.epoch,
                sequence=stored.sequence,
                time=_time(arrived),
                ended=ended,
                hash=digest,
                body=stored.body,
            )
        )
        if run.folded_version == run.head_version and commit is not None:
            run.folded_version = arrived.version
        run.head_version, run.head_hash = arrived.version, digest
        run.epoch, run.sequence = arrived.epoch, stored.sequence

    def _apply(self, run: RunRow, arrived: Arrived) -> None:
        commit = arrived.commit
        assert commit is not None  # noqa: S101  # `add` asked.
        at, was_ended = _time(arrived), run.ended
        if arrived.version == 1:
            run.actor, run.key_id = text(commit.actor), text(commit.key_id)
        scene = Scene(
            run=run,
            at=at,
            number=run.events,
            step=lambda path: self._step(run, path, scene.number),
            usage=self._usage(run.org, at),
        )
        for event in commit.events:
            scene.number += 1
            apply(scene, event)
            match event:
                case RunStarted():
                    self._deliver(run, event, arrived)
                case RunContinued():
                    self._note_seam(run, event, arrived)
                case _:
                    pass
        run.events = scene.number
        run.last_time, run.last_event = at, _tag(commit.events[-1])
        settle(run)
        # Also when it ended at the very moment of its last end: time may stand still in a history.
        if run.ended != was_ended or _ends(commit.events):
            self._note_end(run)

    def _usage(self, org: str, at: datetime) -> UsageRow:
        key = org, at.date()
        if key not in self.changes.usage:
            self.changes.usage[key] = UsageRow(org=org, day=key[1])
        return self.changes.usage[key]

    def _deliver(self, run: RunRow, event: RunStarted, arrived: Arrived) -> None:
        if event.trigger is None or event.workflow == event.trigger:
            return  # Nobody's, or a run that only looks for something to deliver.
        shown = preview(event.input)
        self.changes.deliveries[run.org, event.receipt] = DeliveryRow(
            org=run.org,
            receipt=event.receipt,
            trigger=event.trigger,
            workflow=event.workflow,
            time=_time(arrived),
            result="accepted",
            method="",
            run=run.id,
            reason=text(event.cause.id) if event.cause.kind == "redelivery" else "",
            size=shown.size,
            preview=shown.text,
            stream=RUNS,
            epoch=arrived.epoch,
            sequence=arrived.stored.sequence,
        )
        self._usage(run.org, _time(arrived)).deliveries += 1

    def _note_seam(self, run: RunRow, event: RunContinued, arrived: Arrived) -> None:
        """From where the history may be read, and up to where it may leave the log."""
        self.changes.seams.append(
            SeamRow(
                org=run.org,
                run=run.id,
                version=arrived.version,
                week=run.week,
                segment=event.segment,
                events=event.events,
                epoch=arrived.epoch,
                sequence=arrived.stored.sequence,
                time=_time(arrived),
            )
        )

    def _note_end(self, run: RunRow) -> None:
        """What the archiver goes by: an ended run may leave the log, a reopened one may not."""
        self.changes.ended[run.org, run.id] = RunIdRow(
            org=run.org,
            run=run.id,
            week=run.week,
            receipt=run.receipt,
            keyed=run.dedupe is not None,
            request=run.request,
            ended=run.ended,
            version=run.head_version,
            hash=run.head_hash,
            epoch=run.epoch,
            sequence=run.sequence,
        )

    def _park(self, run: RunRow, arrived: Arrived) -> None:
        """The frame could be read, the events could not: the run waits for a release that can."""
        run.status, run.needs_release = "parked", _short(arrived.needs_release)
        run.parked_reason = arrived.reason
        settle(run)
        if arrived.trouble == "malformed":
            self._complain(arrived, "malformed", arrived.reason)

    def _park_unreadable(self, arrived: Arrived) -> None:
        """Not a commit at all. If the run is known, it says so."""
        self._complain(arrived, arrived.trouble or "malformed", arrived.reason)
        stored, at = arrived.stored, _time(arrived)
        self.changes.commits.append(
            CommitRow(
                week=week_of(at),
                org=arrived.org,
                run=arrived.run,
                version=-(arrived.epoch << _EPOCH_AT | stored.sequence),
                epoch=arrived.epoch,
                sequence=stored.sequence,
                time=at,
                ended=False,
                hash=hashlib.sha256(stored.body).digest(),
                body=stored.body,
            )
        )
        before = self.changes.runs.get(arrived.key) or self._known.runs.get(arrived.key)
        if before is not None and before.status not in TERMINAL:
            run = self._run(arrived)
            run.status, run.parked_reason = "parked", arrived.reason
            settle(run)


def _time(arrived: Arrived) -> datetime:
    if arrived.commit is not None:
        return moment(arrived.commit.time)
    return datetime.fromtimestamp(arrived.stored.time, UTC)


def _ends(events: Sequence[RunEvent]) -> bool:
    return not _ENDS.isdisjoint(map(type, events))


_ENDS: Final = frozenset(kind for kind in get_args(RunEvent) if kind.__struct_config__.tag in ENDING)


def _tag(event: RunEvent) -> str:
    return str(type(event).__struct_config__.tag)


def _short(value: str | None) -> str | None:
    return None if value is None else text(value, NAME_CHARS)
