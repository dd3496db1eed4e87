"""Whether this is still the log that was read, before anything is projected.

A stream that ends before what was read of it has lost messages that were acknowledged, and gives their numbers to others.
Going on would leave read models that are no fold of any log.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from msgspec import Struct

from chassis.ids import receipt
from chassis.lifecycle import CannotStart
from chassis.postgres import Connection, Pool, connected
from contracts.subjects import DLQ, DOMAIN, HOOKS, LOGS, RUNS, SCHEDULES
from projections import queries
from projections.models import Position
from projections.streams import StreamFacts, Streams

log = structlog.get_logger()

REBUILD: Final = "automateos projections rebuild"
REPAIR: Final = "automateos projections repair"
NEVER: Final = datetime.fromtimestamp(0, UTC)


class Followed(Struct, frozen=True):
    """A projection, its stream, and whether that stream is truth that nobody may lose."""

    projection: str
    stream: str
    truth: bool


FOLLOWED: Final = (
    Followed("runs", RUNS, truth=True),
    Followed("domain", DOMAIN, truth=True),
    # Bounded and stored lazily: their last messages may go with the power.
    Followed("deliveries", HOOKS, truth=False),
    Followed("dead_letters", DLQ, truth=False),
    # The newest commits of each schedule: what is counted of it begins anew with them.
    Followed("schedules", SCHEDULES, truth=False),
    Followed("logs", LOGS, truth=False),
    # What is read again starts nothing again: the runs' ids follow from the events.
    Followed("triggers", RUNS, truth=False),
    Followed("domain_triggers", DOMAIN, truth=False),
    Followed("schedule_triggers", SCHEDULES, truth=False),
)


class _Read(Struct, frozen=True):
    """How far a stream was read, and whether the archive holds anything of it."""

    position: Position | None
    is_archived: bool


async def check(
    pool: Pool, streams: Streams, followed: Sequence[Followed] = FOLLOWED
) -> dict[str, StreamFacts]:
    """The facts of every stream, when it is safe to go on. Raises `CannotStart` with the command to run.

    Another service may read on meanwhile. So whatever is to be there later is looked at later: what the archive holds, how
    far was read, and then where the stream ends.
    """
    async with connected(pool) as connection:
        read = [await _read(connection, each) for each in followed]
        facts = {name: await streams.facts(name) for name in dict.fromkeys(each.stream for each in followed)}
        for each, known in zip(followed, read, strict=True):
            await _check_one(connection, each, known, facts[each.stream])
    return facts


async def _read(connection: Connection, each: Followed) -> _Read:
    is_archived = each.truth and await connection.fetchval(queries.ARCHIVE_HOLDS[each.stream])
    row = await connection.fetchrow(queries.POSITION.format(schema="read"), each.projection, each.stream)
    return _Read(None if row is None else Position(**row), is_archived)


async def _check_one(connection: Connection, each: Followed, known: _Read, stream: StreamFacts) -> None:
    position = known.position
    if position is None:
        if known.is_archived:
            raise CannotStart(
                f"The read models are empty but the archive of {each.stream} is not. Run: {REBUILD}"
            )
        await begin(connection, each, stream, 0)
        return
    trouble = why_not(position, stream)
    if not trouble:
        if position.epoch < stream.epoch:
            await begin(connection, each, stream, 0)
        return
    if each.truth:
        raise CannotStart(f"{trouble}. Run: {REPAIR} {each.stream}")
    log.warning("projection.begins-anew", projection=each.projection, reason=trouble)
    same = position.created == stream.created and position.epoch == stream.epoch
    # Of what is kept by its number and its time nothing is doubled: it is read from the first message on.
    await begin(connection, each, stream, stream.last if same and each.stream != LOGS else 0)


def why_not(position: Position, stream: StreamFacts) -> str:
    """Why this is not the stream that was read; empty when it is, or is its restored copy in a new epoch."""
    if stream.epoch > position.epoch:
        return ""
    if stream.epoch < position.epoch:
        return f"{stream.name} is at epoch {stream.epoch}, and epoch {position.epoch} was read"
    if stream.created != position.created:
        return f"{stream.name} was made anew at {stream.created}; the one that was read was made at {position.created}"
    if stream.last < position.sequence:
        return f"{stream.name} ends at {stream.last}, and {position.sequence} was read"
    return ""


async def begin(connection: Connection, each: Followed, stream: StreamFacts, sequence: int) -> None:
    """Read from the beginning: what is there already is known by its version and skipped."""
    await connection.execute(
        queries.BEGIN.format(schema="read"),
        each.projection,
        each.stream,
        stream.epoch,
        sequence,
        stream.created,
        receipt(),
        NEVER,
    )
