"""The projection of SCHEDULES: when each schedule fires next, what became of its last times, and what was missed."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from msgspec import Struct, field, structs

from chassis.ports import Letters, Stored
from chassis.postgres import Pool, connected
from contracts.codec import Malformed, Unknown, decode_schedule_commit
from contracts.schedules import (
    FirePlanned,
    FireRefused,
    FireStarted,
    ScheduleCommit,
    ScheduleFired,
    ScheduleMissed,
)
from contracts.subjects import SCHEDULES
from projections import queries
from projections.arrived import Letter, Trouble, letter_about
from projections.dead_letters import report
from projections.figures import Figures
from projections.models import Position, PostgresPositions, Step, in_order, insert, writing
from projections.rows import DeliveryRow, ScheduleRow
from projections.sanitised import moment, text

Key = tuple[str, str]
SETTLED: Final = timedelta(seconds=5)
"""By then a run that was asked for has started, or somebody should look."""


class Fires(Struct):
    """What a batch asks of the tables."""

    rows: dict[Key, ScheduleRow] = field(default_factory=dict)
    deliveries: dict[tuple[str, str], DeliveryRow] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)


def fold(known: dict[Key, ScheduleRow], batch: Sequence[Stored], epoch: int) -> Fires:
    """The rows that change, as they are after the batch. `known` is left as it was."""
    fires = Fires()
    for stored in batch:
        _, org, schedule = stored.subject.split(".")
        try:
            commit = decode_schedule_commit(stored.body)
        except (Malformed, Unknown) as error:
            trouble: Trouble = "unknown" if isinstance(error, Unknown) else "malformed"
            fires.letters.append(letter_about(stored, epoch, trouble, str(error)))
            continue
        if (commit.org, commit.schedule) != (org, schedule):
            reason = f"the commit belongs to {commit.org}.{commit.schedule}"
            fires.letters.append(letter_about(stored, epoch, "misplaced", reason))
            continue
        before = fires.rows.get((org, schedule)) or known.get((org, schedule))
        if before is None or commit.version > before.head_version:
            row = before or ScheduleRow(org=org, id=schedule, updated=commit.time)
            fires.rows[org, schedule] = _after(row, commit, stored, epoch)
            for delivery in _deliveries(commit, stored, epoch):
                fires.deliveries[delivery.org, delivery.receipt] = delivery
    return fires


def _after(row: ScheduleRow, commit: ScheduleCommit, stored: Stored, epoch: int) -> ScheduleRow:
    """The state stands in the commit as a whole; what is counted is counted from as far back as the log goes."""
    row = structs.replace(
        row,
        revision=commit.state.revision,
        next=commit.state.next,
        trouble=text(commit.state.trouble),
        updated=moment(commit.time),
        look_at=commit.time + SETTLED if commit.state.pending else commit.state.next,
        head_version=commit.version,
        epoch=epoch,
        sequence=stored.sequence,
    )
    for event in commit.events:
        match event:
            case ScheduleFired():
                row.last, row.last_run = event.planned, event.run
                row.last_result, row.last_error = "pending", ""
                row.fired += 1
            case ScheduleMissed():
                row.last_missed = event.last
                row.missed += event.count
            case FireStarted() if event.run == row.last_run:
                row.last_result = "started"
            case FireRefused():
                row.refused += 1
                if event.run == row.last_run:
                    row.last_result, row.last_error = "refused", text(event.error.message)
            case FirePlanned() | FireStarted():
                pass
    return row


def _deliveries(commit: ScheduleCommit, stored: Stored, epoch: int) -> list[DeliveryRow]:
    """What started no run stands beside what did: that is told by the run's own first commit."""
    told: list[DeliveryRow] = []
    for place, event in enumerate(commit.events):
        if isinstance(event, ScheduleMissed):
            more = "" if event.exact else " or more"
            spans = f"{event.first.isoformat()} to {event.last.isoformat()}"
            reason = f"{event.count}{more} planned times from {spans}; {event.made_up} made up for"
            told.append(
                _delivery(commit, stored, epoch, f"missed-{commit.version}-{place}", "missed", reason)
            )
        elif isinstance(event, FireRefused):
            reason = f"planned for {event.planned.isoformat()}: {event.error.code}: {event.error.message}"
            told.append(_delivery(commit, stored, epoch, f"refused-{event.run}", "refused", reason))
    return told


def _delivery(  # The fields of a row.
    commit: ScheduleCommit, stored: Stored, epoch: int, name: str, result: str, reason: str
) -> DeliveryRow:
    return DeliveryRow(
        org=commit.org,
        receipt=f"{commit.schedule}-{name}",
        trigger=commit.schedule,
        time=moment(commit.time),
        result=result,
        method="SCHEDULE",
        reason=text(reason),
        stream=SCHEDULES,
        epoch=epoch,
        sequence=stored.sequence,
    )


class ScheduleTables:
    """`read.schedules`, and the part of `read.deliveries` that follows SCHEDULES."""

    name = "schedules"
    stream = SCHEDULES

    def __init__(self, pool: Pool, letters: Letters, figures: Figures, *, schema: str = "read") -> None:
        self._pool, self._letters, self._figures, self._schema = pool, letters, figures, schema
        self._positions = PostgresPositions(pool, self.name, self.stream, schema)
        self._put = queries.SCHEDULES.insert(schema) + queries.DECIDED
        self._insert = queries.DELIVERIES.insert(schema) + queries.NOT_ACCEPTED

    async def position(self) -> Position:
        return await self._positions.position()

    def forget(self) -> None:
        """It remembers nothing."""

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        fires = fold(await self._known(batch), batch, step.epoch)
        for letter in fires.letters:
            await self._report(letter)
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
            await insert(connection, self._put, in_order(fires.rows))
            await insert(connection, self._insert, in_order(fires.deliveries))

    async def _known(self, batch: Sequence[Stored]) -> dict[Key, ScheduleRow]:
        wanted = {(org, schedule) for _, org, schedule in (stored.subject.split(".") for stored in batch)}
        async with connected(self._pool) as connection:
            rows = await connection.fetch(
                queries.SCHEDULES.select(self._schema), *zip(*sorted(wanted), strict=True)
            )
        return {(row["org"], row["id"]): ScheduleRow(**dict(row)) for row in rows}

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        await self._report(letter_about(stored, step.epoch, "refused", f"{type(error).__name__}: {error}"))
        await self.go_past(step)

    async def go_past(self, step: Step) -> None:
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)

    async def _report(self, letter: Letter) -> None:
        await report(self._letters, letter, SCHEDULES)
        self._figures.troubles[letter.trouble] += 1
