"""The sending side of INBOX and of every plain store: returning means that it is on disk."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from chassis.ids import receipt
from chassis.jetstream.connection import Connection
from chassis.jetstream.questions import Question, Reply
from chassis.jetstream.wire import acknowledged, block, lines_of, refused
from chassis.ports import Ambiguous, Away, Full
from contracts import subjects
from contracts.codec import encode
from contracts.messages import Timed

_AWAY_SECONDS: Final = 1.5
_DOUBT_SECONDS: Final = 6.0
_PAUSE_SECONDS: Final = 0.1


async def store(connection: Connection, questions: Sequence[Question]) -> list[int]:
    """Publish all, and again what had no answer: their sequences. For messages that may lie there twice.

    Raises `Full` or `Away` when nothing was stored, `Ambiguous` when nobody knows.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    kept: dict[int, int] = {}
    doubt = False
    while True:
        reason, unanswered = await _try(connection, questions, kept)
        if len(kept) == len(questions):
            return [kept[place] for place in range(len(questions))]
        doubt = doubt or unanswered
        unclear = doubt or bool(kept)
        if isinstance(reason, Full) or loop.time() - started > (_DOUBT_SECONDS if unclear else _AWAY_SECONDS):
            raise Ambiguous("no acknowledgement came") if unclear else reason
        await asyncio.sleep(_PAUSE_SECONDS)


async def _try(
    connection: Connection, questions: Sequence[Question], kept: dict[int, int]
) -> tuple[Away, bool]:
    """Send what is not kept yet. Gives why something is still not, and whether an answer did not come."""
    left = [place for place in range(len(questions)) if place not in kept]
    reason, unanswered = Away("no acknowledgement came"), False
    try:
        replies = await connection.ask([questions[place] for place in left])
    except Away as away:
        return away, False
    for place, reply in zip(left, replies, strict=True):
        if reply is None:
            unanswered = True
            continue
        try:
            kept[place] = _sequence(reply)
        except Ambiguous:
            unanswered = True
        except Away as away:
            reason = away
    return reason, unanswered


def _sequence(reply: Reply) -> int:
    acknowledgement = acknowledged(*reply)
    if acknowledgement.error is not None:
        raise refused(acknowledgement.error)
    return acknowledgement.seq


class JetStreamInbox:
    """Implements `Inbox`. What is put twice is heard twice: every message is idempotent at its owner."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, partition: int, bundle: bytes) -> None:
        await store(self._connection, [(subjects.bundle(partition), bundle, b"")])

    async def look(self, partition: int, org: str, run: str, message: bytes) -> None:
        await store(self._connection, [(subjects.inbox(partition, org, run), message, b"")])

    async def wake_at(self, wakes: Sequence[tuple[Timed, datetime]]) -> None:
        await store(self._connection, [_schedule(wake, due) for wake, due in wakes])


def _schedule(wake: Timed, due: datetime) -> Question:
    """One subject per wait: a later schedule on it replaces the earlier one."""
    at = due.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    target = subjects.inbox(subjects.partition(wake.run), wake.org, wake.run)
    headers = f"Nats-Schedule: @at {at}\r\nNats-Schedule-Target: {target}\r\n".encode()
    return subjects.timer(wake.org, wake.run, wake.wait), encode(wake), block(headers)


class JetStreamLetters:
    """Implements `Letters`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def store(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        # An id of its own: what is sent again because an answer got lost is stored once.
        head = block(f"Nats-Msg-Id: {receipt()}\r\n".encode(), lines_of(headers or {}))
        return (await store(self._connection, [(subject, body, head)]))[0]
