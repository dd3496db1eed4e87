"""Messages that no code could handle: how one is told to the log, and how the list of them is made from it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from chassis.ids import derived
from chassis.ports import Letters, Stored
from chassis.postgres import Pool
from contracts.limits import COMMIT_BYTES
from contracts.subjects import DLQ, NOBODY, RUNS, dead_letter
from projections import queries
from projections.arrived import Letter
from projections.models import Position, PostgresPositions, Step, in_order, insert, writing
from projections.rows import DeadLetterRow
from projections.sanitised import text

REASON: Final = "reason"
SOURCE: Final = "source"


async def report(letters: Letters, letter: Letter, stream: str = RUNS) -> None:
    """Store a message with the reason why nobody could handle it. Telling it twice leaves one row."""
    source = f"{stream} {letter.epoch} {letter.stored.sequence} {letter.trouble}"
    headers = {REASON: header(letter.reason), SOURCE: source}
    await letters.store(dead_letter(stream, letter.org, letter.run), letter.stored.body, headers)


def header(value: str) -> str:
    """One line of plain characters."""
    return "".join(each if " " <= each <= "~" else "?" for each in value)[:500]


def row_of(stored: Stored, epoch: int) -> DeadLetterRow:
    """One letter as a row; its id is the same for every time that it was told."""
    _, stream, org, run = stored.subject.split(".")
    source = stored.headers.get(SOURCE, "")
    place = source or f"{DLQ} {epoch} {stored.sequence}"
    return DeadLetterRow(
        org=org,
        id=derived("dead letter", place),
        stream=stream,
        run="" if run == NOBODY else run,
        time=datetime.fromtimestamp(stored.time, UTC),
        reason=text(stored.headers.get(REASON, "")),
        source=text(source),
        size=len(stored.body),
        body=stored.body[:COMMIT_BYTES],
        epoch=epoch,
        sequence=stored.sequence,
    )


class DeadLetterTable:
    """The table that follows DLQ."""

    name = "dead_letters"
    stream = DLQ

    def __init__(self, pool: Pool, schema: str = "read") -> None:
        self._pool = pool
        self._positions = PostgresPositions(pool, self.name, self.stream, schema)
        self._insert = queries.DEAD_LETTERS.insert(schema) + " on conflict (org, id) do nothing"

    async def position(self) -> Position:
        return await self._positions.position()

    def forget(self) -> None:
        """It remembers nothing."""

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        rows = {(row.org, row.id): row for row in (row_of(stored, step.epoch) for stored in reversed(batch))}
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
            await insert(connection, self._insert, in_order(rows))

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        """A letter about a letter would go round in circles: it stays in DLQ, where it can be read."""
        await self.go_past(step)

    async def go_past(self, step: Step) -> None:
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
