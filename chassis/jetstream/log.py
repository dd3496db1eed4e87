"""A stream of histories: append under optimistic concurrency, many commits for one sync, never lost, never doubled.

Rule: an answer that did not come is not an answer. Whatever is unclear is looked up in the stream itself: the message
that follows `expected` on its subject is either ours (the same bytes), or another's, or not there.

In a cluster "not there" proves nothing: a leader that is cut off answers too, and does not know what the others stored.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from chassis.crash import crash
from chassis.jetstream.connection import ACK_SECONDS, Connection
from chassis.jetstream.questions import Question, Reply
from chassis.jetstream.reads import direct, leader_read, led
from chassis.jetstream.wire import (
    CONFLICTS,
    EPOCH,
    EXPECTED,
    IN_FLIGHT,
    acknowledged,
    block,
    lines_of,
    refused,
)
from chassis.ports import Ambiguous, Away, Full, Proposal, Stored
from contracts.limits import BATCH_COMMITS, MIB

BATCH_FROM: Final = 16
"""So many proposals at once are cheaper as atomic batches; 3 when the staging folder lies in memory."""
_BATCH_BYTES: Final = 8 * MIB
_PAGE: Final = 500
_SUBJECTS: Final = 1_000
"""JetStream gives the last messages of at most 1,024 subjects at once."""
_AWAY_SECONDS: Final = 1.5
_DOUBT_SECONDS: Final = 8.0
STREAM_GONE: Final = "there is no stream {} yet: the streams are made when the stack starts"
_PAUSE_SECONDS: Final = 0.1


class _Unclear(Exception):
    """No answer: stored or not, nobody knows."""


class _Open:
    """One proposal on its way to a verdict."""

    __slots__ = ("clear", "doubted", "head", "lost_race", "proposal", "reason", "sequence")

    def __init__(self, proposal: Proposal, more: bytes) -> None:
        self.proposal = proposal
        self.head = more + lines_of(proposal.headers)
        self.sequence = 0
        self.lost_race = False
        self.clear = True
        """False: it may have been stored, and no look has said otherwise since."""
        self.doubted = False
        """It was sent to several copies and no answer came: only finding what follows `expected` ends this doubt."""
        self.reason: Away = Away("not connected to nats-server")

    @property
    def settled(self) -> bool:
        return self.sequence > 0 or self.lost_race

    def refused(self, reason: Away) -> None:
        """Stored nothing, this time. What an earlier try did is another matter."""
        self.clear = not self.doubted
        self.reason = reason

    def question(self, *more: bytes) -> Question:
        proposal = self.proposal
        return proposal.subject, proposal.body, block(EXPECTED % proposal.expected, self.head, *more)


class JetStreamLog:
    """One stream. Made by `open`, which asks for its epoch and its number of copies."""

    def __init__(
        self, connection: Connection, stream: str, *, batch_from: int = BATCH_FROM, more: bytes = b""
    ) -> None:
        """`more`: header lines that every message carries."""
        self._more = more
        self._connection = connection
        self._stream = stream
        self._batch_from = batch_from
        self._epoch = 0
        self._replicas = 1
        self._generation = -1

    @classmethod
    async def open(
        cls, connection: Connection, stream: str, *, batch_from: int = BATCH_FROM
    ) -> "JetStreamLog":
        """Raises `Away` when there is no such stream yet."""
        log = cls(connection, stream, batch_from=batch_from)
        await log._look_up()
        return log

    @property
    def epoch(self) -> int:
        return self._epoch

    async def end(self) -> int:
        """The stream's last sequence now."""
        return int((await self._look_up())["state"]["last_seq"])

    async def _look_up(self) -> dict[str, Any]:
        generation = self._connection.generation
        information = await self._connection.api(f"STREAM.INFO.{self._stream}")
        if "error" in information:
            raise Away(STREAM_GONE.format(self._stream))
        led(self._stream, information)
        config = information["config"]
        self._epoch = int((config.get("metadata") or {}).get(EPOCH, "1"))
        self._replicas = int(config.get("num_replicas", 1))
        self._generation = generation
        return information

    async def _ready(self) -> None:
        """After a new connection the log may be a restored one."""
        if self._generation != self._connection.generation:
            await self._look_up()

    # --- Appending ----------------------------------------------------------------------------

    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        if len({proposal.subject for proposal in proposals}) != len(proposals):
            raise ValueError("a subject stands twice in one append")
        every = [_Open(proposal, self._more) for proposal in proposals]
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            unsettled = [each for each in every if not each.settled]
            if not unsettled:
                return [each.sequence or None for each in every]
            await self._try(unsettled)
            if _hopeless(every, loop.time() - started):
                break
            if not all(each.settled for each in every):
                await asyncio.sleep(_PAUSE_SECONDS)
        raise _verdict(every)

    async def _try(self, unsettled: Sequence[_Open]) -> None:
        """Look what became of the unclear ones, then send what is not there."""
        try:
            await self._ready()
            await self._look([each for each in unsettled if not each.clear])
            await self._send([each for each in unsettled if not each.settled])
        except Away as away:
            for each in unsettled:
                each.reason = away

    async def _send(self, to_send: Sequence[_Open]) -> None:
        if len(to_send) >= self._batch_from:
            to_send = await self._batches(to_send)
        await self._singles(to_send)
        # A conflict may be our own commit, stored by a try whose answer was lost.
        await self._look([each for each in to_send if each.lost_race or not each.clear])

    async def _batches(self, to_send: Sequence[_Open]) -> list[_Open]:
        """Store in atomic batches. What a batch refused comes back, to be sent alone."""
        batches = _cut(to_send)
        replies = await self._asked(to_send, [_questions(batch) for batch in batches])
        refused_ones: list[_Open] = []
        for batch, reply in zip(batches, replies, strict=True):
            try:
                end = _stored(reply)
            except _Unclear:
                continue
            except Away as away:
                _nothing_stored(batch, away)
                continue
            _nothing_stored(batch, Away("a batch was refused"))
            if end:
                for place, each in enumerate(batch):
                    each.sequence = end - len(batch) + 1 + place
            else:
                self._connection.counts["refused_batches"] += 1
                refused_ones += batch  # One of them is stale: alone each tells for itself.
        return refused_ones

    async def _singles(self, to_send: Sequence[_Open]) -> None:
        if not to_send:
            return
        replies = await self._asked(to_send, [[each.question()] for each in to_send])
        for each, reply in zip(to_send, replies, strict=True):
            try:
                each.sequence = _stored(reply, in_flight=self._replicas > 1)
            except _Unclear:
                continue
            except Away as away:
                each.refused(away)
                continue
            each.clear = True
            each.lost_race = each.sequence == 0

    async def _asked(
        self, proposals: Sequence[_Open], batches: Sequence[Sequence[Question]]
    ) -> list[Reply | None]:
        """Send all; only the last of each batch is answered."""
        crash("append.before_send")
        asking = self._connection.ask_last(batches, ACK_SECONDS)  # Raises `Away` before anything has left.
        for each in proposals:
            each.clear = False
        # Behind the bytes, which leave at the end of this turn of the loop.
        asyncio.get_running_loop().call_soon(crash, "append.after_send")
        answers = await asking
        crash("append.after_ack")
        return answers

    async def _look(self, unsure: Sequence[_Open]) -> None:
        """Read what follows `expected`: our own bytes, another's, or nothing."""
        if not unsure:
            return
        found = await self._messages(
            [{"seq": each.proposal.expected + 1, "next_by_subj": each.proposal.subject} for each in unsure]
        )
        for each, message in zip(unsure, found, strict=True):
            if message is None and self._replicas > 1 and not each.lost_race:
                each.doubted = True
            elif message is None:
                each.clear = True  # Not there. Where it was refused, its expectation is wrong.
            elif message.body == each.proposal.body:
                each.sequence, each.lost_race = message.sequence, False
            else:
                each.lost_race = True

    # --- Reading ------------------------------------------------------------------------------

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        await self._ready()
        if self._replicas == 1:
            return [message async for message in self._pages(subject, after)]
        [newest] = await self._messages([{"last_by_subj": subject}])
        if newest is None:
            return []
        history = [message async for message in self._pages(subject, after)]
        # Any copy may have answered, also one that lags behind: the leader knows the rest.
        while (history[-1].sequence if history else after) < newest.sequence:
            start = history[-1].sequence if history else after
            [following] = await self._messages([{"seq": start + 1, "next_by_subj": subject}])
            if following is None:
                break
            history.append(following)
        return history

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        await self._ready()
        if self._replicas > 1:
            found = await self._messages([{"last_by_subj": subject} for subject in subjects])
            return {message.subject: message for message in found if message is not None}
        newest: dict[str, Stored] = {}
        for start in range(0, len(subjects), _SUBJECTS):
            request = {"multi_last": list(subjects[start : start + _SUBJECTS])}
            messages, _ = await direct(self._connection, self._stream, request)
            newest |= {message.subject: message for message in messages}
        return newest

    async def first(self, subjects: Sequence[str]) -> dict[str, Stored]:
        """The oldest message of each subject that has one."""
        await self._ready()
        found: dict[str, Stored] = {}
        for start in range(0, len(subjects), _PAGE):
            asked = [{"seq": 1, "next_by_subj": subject} for subject in subjects[start : start + _PAGE]]
            messages = await self._messages(asked)
            found |= {message.subject: message for message in messages if message is not None}
        return found

    async def _pages(self, subject: str, after: int) -> AsyncIterator[Stored]:
        more = True
        while more:
            request = {"batch": _PAGE, "next_by_subj": subject, "seq": after + 1}
            messages, more = await direct(self._connection, self._stream, request)
            for message in messages:
                after = message.sequence
                yield message

    async def _messages(self, requests: Sequence[dict[str, Any]]) -> list[Stored | None]:
        """Single messages, read from the leader."""
        return await leader_read(self._connection, self._stream, requests)


def _cut(proposals: Sequence[_Open]) -> list[list[_Open]]:
    """Batches within the bounds of number and size."""
    cut: list[list[_Open]] = []
    size = 0
    for each in proposals:
        size += len(each.proposal.body)
        if not cut or size > _BATCH_BYTES or len(cut[-1]) >= BATCH_COMMITS:
            cut.append([])
            size = len(each.proposal.body)
        cut[-1].append(each)
    return cut


def _questions(batch: Sequence[_Open]) -> list[Question]:
    """One atomic batch: all of it is stored, or nothing."""
    name = secrets.token_hex(8).encode()
    return [
        each.question(
            b"Nats-Batch-Id: %s\r\nNats-Batch-Sequence: %d\r\n" % (name, place),
            b"Nats-Batch-Commit: 1\r\n" if place == len(batch) else b"",
        )
        for place, each in enumerate(batch, 1)
    ]


def _nothing_stored(proposals: Sequence[_Open], reason: Away) -> None:
    for each in proposals:
        each.refused(reason)


def _stored(reply: Reply | None, *, in_flight: bool = False) -> int:
    """The sequence of an acknowledgement, 0 for a conflict. Raises `_Unclear`, `Away` (nothing stored), `Refusal`.

    `in_flight`: somebody's undecided proposal is not a conflict yet.
    """
    if reply is None:
        raise _Unclear
    acknowledgement = acknowledged(*reply)
    if acknowledgement.error is None:
        return acknowledgement.seq
    if in_flight and acknowledgement.error.err_code == IN_FLIGHT:
        raise Away("another proposal for the subject is in flight")
    if acknowledgement.error.err_code in CONFLICTS:
        return 0
    raise refused(acknowledgement.error)


def _hopeless(every: Sequence[_Open], seconds: float) -> bool:
    """Whether trying on would only keep the caller waiting: a little while for what is away, longer for a doubt."""
    unsettled = [each for each in every if not each.settled]
    if not unsettled or seconds > _DOUBT_SECONDS:
        return bool(unsettled)
    clear = all(each.clear for each in unsettled)
    return clear and (seconds > _AWAY_SECONDS or any(isinstance(each.reason, Full) for each in unsettled))


def _verdict(every: Sequence[_Open]) -> Away:
    """What to tell the caller about an append that did not come to its end."""
    unsettled = [each for each in every if not each.settled]
    if len(unsettled) < len(every) or not all(each.clear for each in unsettled):
        return Ambiguous(f"{len(unsettled)} of {len(every)} commits may or may not be stored")
    full = [each.reason for each in unsettled if isinstance(each.reason, Full)]
    reason = full[0] if full else unsettled[0].reason
    # Nothing was stored: a question about it that had no answer leaves nothing in doubt.
    return Away(str(reason)) if isinstance(reason, Ambiguous) else reason
