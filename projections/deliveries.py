"""The projection of HOOKS: deliveries that started no run, as far back as HOOKS keeps them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from chassis.ports import Letters, Stored
from chassis.postgres import Pool
from contracts.codec import Decoder, Malformed
from contracts.subjects import HOOKS
from contracts.triggers import Hook
from projections import queries
from projections.arrived import Letter, letter_about
from projections.dead_letters import report
from projections.figures import Figures
from projections.models import Position, PostgresPositions, Step, in_order, insert, writing
from projections.rows import DeliveryRow
from projections.sanitised import moment, preview, text

_decode = Decoder[Hook](Hook)


def row_of(stored: Stored, epoch: int) -> DeliveryRow | Letter:
    """One record of HOOKS as a row, or why it cannot be one."""
    _, org, trigger = stored.subject.split(".")
    try:
        hook = _decode(stored.body)
        at = moment(datetime.fromtimestamp(hook.time, UTC))
    except Malformed as malformed:
        return letter_about(stored, epoch, "malformed", str(malformed))
    except (OverflowError, ValueError, OSError):
        return letter_about(stored, epoch, "malformed", "the time is out of range")
    if (hook.org, hook.trigger) != (org, trigger):
        return letter_about(stored, epoch, "misplaced", f"the record belongs to {hook.org}.{hook.trigger}")
    shown = preview(hook.body)
    return DeliveryRow(
        org=org,
        receipt=hook.receipt,
        trigger=trigger,
        time=at,
        result=hook.result,
        method=text(hook.method),
        run=hook.run,
        reason=text(hook.reason),
        address=text(hook.address),
        size=hook.size or shown.size,
        preview=shown.text,
        stream=HOOKS,
        epoch=epoch,
        sequence=stored.sequence,
    )


class DeliveryTable:
    """The part of `read.deliveries` that follows HOOKS. What started a run stands above it."""

    name = "deliveries"
    stream = HOOKS

    def __init__(self, pool: Pool, letters: Letters, figures: Figures, *, schema: str = "read") -> None:
        self._pool, self._letters, self._figures = pool, letters, figures
        self._positions = PostgresPositions(pool, self.name, self.stream, schema)
        self._insert = queries.DELIVERIES.insert(schema) + queries.NOT_ACCEPTED

    async def position(self) -> Position:
        return await self._positions.position()

    def forget(self) -> None:
        """It remembers nothing."""

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        rows: dict[tuple[str, str], DeliveryRow] = {}
        for stored in batch:
            row = row_of(stored, step.epoch)
            if isinstance(row, Letter):
                await self._report(row)
            else:
                rows.setdefault((row.org, row.receipt), row)
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)
            await insert(connection, self._insert, in_order(rows))

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        await self._report(letter_about(stored, step.epoch, "refused", f"{type(error).__name__}: {error}"))
        await self.go_past(step)

    async def go_past(self, step: Step) -> None:
        async with writing(self._pool) as connection:
            await self._positions.move(connection, step)

    async def _report(self, letter: Letter) -> None:
        await report(self._letters, letter, HOOKS)
        self._figures.troubles[letter.trouble] += 1
