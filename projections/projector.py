"""Follows a stream: batches as they come, each in one transaction with the position after it.

A store that is away is tried again for ever. A message that cannot be projected is found by halving its batch, reported
and passed by: it never delays the others by more than those tries.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ports import Away, Reader, Stored
from chassis.tasks import heedful
from projections.figures import Progress
from projections.models import Moved, Position, Step, require

log = structlog.get_logger()

BATCH: Final = 2_000
REST: Final = 3
"""Between two transactions it rests so many times as long as the last one took: small batches cost the most."""
REST_SECONDS: Final = 0.08
"""At the most this: so much later a row may stand there than it could."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
LOOK_SECONDS: Final = 5.0


class Projection(Protocol):
    """Tables that follow one stream."""

    @property
    def name(self) -> str: ...

    @property
    def stream(self) -> str: ...

    async def position(self) -> Position: ...

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        """Rows and position in one transaction. Raises `Away` or `Moved`; anything else means: not these messages."""
        ...

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        """Go past one message that cannot be projected, and tell somebody."""
        ...

    async def go_past(self, step: Step) -> None:
        """Move the position alone."""
        ...

    def forget(self) -> None:
        """Remember no rows: they may not be what we think."""
        ...


class Projector:
    """Keeps one projection up with its stream."""

    def __init__(
        self, projection: Projection, reader: Reader, epoch: int, clock: Clock, progress: Progress
    ) -> None:
        self._projection, self._reader, self._epoch = projection, reader, epoch
        self._clock, self._progress = clock, progress

    async def run(self) -> None:
        """Follow for ever."""
        pause = FIRST_PAUSE
        while True:
            before = self._progress.transactions
            try:
                await heedful(self._follow_and_watch())
            except* (Away, Moved) as reasons:
                reason = str(reasons.exceptions[0])
                self._projection.forget()
                self._progress.failures += 1
                self._progress.trouble = reason
                log.warning("projection.waits", projection=self._projection.name, reason=reason)
            pause = FIRST_PAUSE if self._progress.transactions > before else min(pause * 2, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _follow_and_watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            await self._follow()
            watching.cancel()

    async def _follow(self) -> None:
        position = await self._projection.position()
        self._see(position)
        self._progress.trouble = ""
        async for batch in self._reader.read(position.sequence, BATCH):
            if not batch:
                self._progress.end = position.sequence
                continue
            began = self._clock.seconds()
            position = await advance(self._projection, batch, position, self._epoch, self._progress)
            self._see(position)
            self._progress.last_time = batch[-1].time
            self._progress.lag.observe(max(0.0, self._clock.now().timestamp() - batch[-1].time))
            if len(batch) < BATCH:
                await asyncio.sleep(min(REST * (self._clock.seconds() - began), REST_SECONDS))

    async def _watch(self) -> None:
        """Notice when Postgres crashed and has lost what we wrote last: nothing else would, until something new comes.

        Transactions of a projection are committed without waiting for the disk.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            seen = (self._progress.epoch, self._progress.sequence)
            position = await self._projection.position()
            if (position.epoch, position.sequence) < seen:
                raise Moved(f"position {position.sequence} is stored, {seen[1]} was")

    def _see(self, position: Position) -> None:
        self._progress.epoch, self._progress.sequence = position.epoch, position.sequence


async def advance(
    projection: Projection, batch: Sequence[Stored], position: Position, epoch: int, progress: Progress
) -> Position:
    """Project a batch; when it is refused, its halves; when it is one message, go past it."""
    last = batch[-1]
    step = Step(before=position, epoch=epoch, sequence=last.sequence, time=last.time)
    try:
        await projection.project(batch, step)
    except (Away, Moved):
        raise
    except Exception as error:  # Whatever it is, it must not stop the others.
        projection.forget()
        require(await projection.position(), position)  # Else it is not the messages' fault.
        if len(batch) == 1:
            log.error(
                "projection.refused", projection=projection.name, sequence=last.sequence, exc_info=error
            )
            await _go_past(projection, last, step, error)
            progress.refused += 1
        else:
            middle = len(batch) // 2
            position = await advance(projection, batch[:middle], position, epoch, progress)
            return await advance(projection, batch[middle:], position, epoch, progress)
    crash("project.after_batch")
    progress.messages += len(batch)
    progress.transactions += 1
    return step.after()


async def _go_past(projection: Projection, stored: Stored, step: Step, error: Exception) -> None:
    try:
        await projection.give_up(stored, step, error)
    except (Away, Moved):
        raise
    except Exception as again:  # Not even what is left of it can be kept: the dead letter has it.
        projection.forget()
        log.error("projection.gave-up", projection=projection.name, sequence=stored.sequence, exc_info=again)
        await projection.go_past(step)
