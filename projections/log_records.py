"""The projection of LOGS: what the nodes of all runs say, for whoever searches in it.

LOGS is bounded and stored lazily, and so is this copy: it has what LOGS still has, as far as it was read. A message that is
no record of an org's run is counted and passed by: lines are no truth that somebody would have to mend.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from chassis.clock import Clock
from chassis.jetstream.reader import WentBackwards
from chassis.ports import Away, Reader, Stored
from chassis.postgres import Pool, connected
from contracts.codec import Decoder, Malformed, encode
from contracts.limits import LOG_RECORD_BYTES
from contracts.logs import LEVELS, LogRecord
from contracts.subjects import LOGS
from projections import queries
from projections.figures import Figures
from projections.guard import FOLLOWED, begin
from projections.models import Moved, Position, PostgresPositions, Step, in_order, insert, writing
from projections.rows import LogRecordRow
from projections.streams import Streams

log = structlog.get_logger()

ROUND_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 1.0
LONGEST_REST: Final = 1.0
_LARGEST: Final = 4 * LOG_RECORD_BYTES
_decode = Decoder[LogRecord](LogRecord)


def row_of(stored: Stored, epoch: int) -> LogRecordRow | str:
    """One message of LOGS as a row, or why it cannot be one."""
    _, org, run, _ = stored.subject.split(".")
    if len(stored.body) > _LARGEST:
        return f"{len(stored.body)} bytes"
    try:
        record = _decode(stored.body)
        # Written anew: whatever a stranger put into it, JSON of our own is text that Postgres takes.
        body = encode(record).decode()
    except (Malformed, ValueError, OverflowError) as error:
        return str(error)
    if (record.org, record.run) != (org, run):
        return f"it belongs to {record.org}.{record.run}"
    times = [line.time for line in record.lines]
    return LogRecordRow(
        org=org,
        time=datetime.fromtimestamp(times[0], UTC),
        epoch=epoch,
        sequence=stored.sequence,
        run=run,
        level=max(LEVELS.index(line.level) for line in record.lines),
        body=body,
    )


class LogRecords:
    """`read.log_records`."""

    name = "logs"
    stream = LOGS

    def __init__(
        self,
        pool: Pool,
        figures: Figures,
        clock: Clock,
        *,
        schema: str = "read",
        longest_rest: float = LONGEST_REST,
    ) -> None:
        """`longest_rest`: after each batch it rests as long as that took, at the most so long. What runs do comes first."""
        self._pool, self._figures, self._clock = pool, figures, clock
        self._longest_rest = longest_rest
        self._positions = PostgresPositions(pool, self.name, self.stream, schema)
        self._insert = queries.LOG_RECORDS.insert(schema) + queries.KNOWN_RECORD

    async def position(self) -> Position:
        return await self._positions.position()

    def forget(self) -> None:
        """It remembers nothing."""

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        began = self._clock.seconds()
        rows: dict[tuple[str, int], LogRecordRow] = {}
        for stored in batch:
            row = row_of(stored, step.epoch)
            if isinstance(row, str):
                self._pass_by(stored, row)
            else:
                rows[row.org, row.sequence] = row
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
            await insert(connection, self._insert, in_order(rows))
        await asyncio.sleep(min(self._clock.seconds() - began, self._longest_rest))

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        self._pass_by(stored, f"{type(error).__name__}: {error}")
        await self.go_past(step)

    async def go_past(self, step: Step) -> None:
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)

    def _pass_by(self, stored: Stored, reason: str) -> None:
        self._figures.unreadable_logs += 1
        log.warning("log-record.unreadable", sequence=stored.sequence, reason=reason[:500])


class LossyReader:
    """Reads LOGS. That it ends before what was read of it is nobody's fault: it waits until the position is another."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def end(self) -> int:
        return await self._reader.end()

    async def read(self, after: int, most: int = 2_000) -> AsyncGenerator[Sequence[Stored], None]:
        try:
            async for batch in self._reader.read(after, most):
                yield batch
        except WentBackwards as lost:
            raise Away(str(lost)) from lost


class LogRetention:
    """Lets the copy go of what LOGS has let go of, and begin anew when LOGS has lost its end."""

    def __init__(self, pool: Pool, streams: Streams, figures: Figures, *, most: int = 10_000) -> None:
        self._pool, self._streams, self._figures, self._most = pool, streams, figures, most
        self._positions = PostgresPositions(pool, LogRecords.name, LOGS)

    async def run(self) -> None:
        """For ever."""
        rounds = 0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            rounds += 1
            try:
                await self.look()
                if rounds * WATCH_SECONDS >= ROUND_SECONDS:
                    rounds = 0
                    await self.expire()
            except (Away, Moved) as reason:
                log.warning("log-records.put-off", reason=str(reason))

    async def look(self) -> None:
        """A nats-server that was killed loses lines that nobody was promised, and gives their numbers to others."""
        facts = await self._streams.facts(LOGS)
        position = await self._positions.position()
        if (position.epoch, position.sequence) > (facts.epoch, facts.last):
            log.warning("log-records.begin-anew", read=position.sequence, end=facts.last)
            # The projector sees within moments that its position is another.
            async with writing(self._pool) as connection:
                await begin(connection, _FOLLOWED, facts, 0)

    async def expire(self) -> None:
        """A part at a time, until nothing is left that LOGS has let go of."""
        facts = await self._streams.facts(LOGS)
        gone = self._most
        while gone == self._most:
            async with connected(self._pool) as connection:
                told = await connection.execute(queries.EXPIRE_RECORDS, facts.epoch, facts.first, self._most)
            gone = int(told.rpartition(" ")[2])
            self._figures.expired_logs += gone


_FOLLOWED: Final = next(each for each in FOLLOWED if each.stream == LOGS)
