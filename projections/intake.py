"""What a poll has found starts its runs, and only then the cursor moves on.

A run that looks is planned by the clock and attempted by an executor as any other. When it has ended, each item that it
found starts the run that is named by its key; a cursor that did not move finds the same again, and starts nothing again.
"""

from typing import Final, Protocol

from msgspec import Raw

from chassis.ports import Away, Blobs, Log, Proposal
from chassis.tasks import side_by_side
from contracts.codec import Decoder, Malformed, encode
from contracts.limits import INLINE_BYTES, POLL_BYTES
from contracts.messages import Answer, StartRun
from contracts.occasions import Cursor, Found, Intake, Told
from contracts.payloads import Blob, Inline, Payload
from contracts.runs import Cause, RunCompleted, RunFailed
from contracts.subjects import cursor as cursor_subject
from projections.occurrences import Occurrence, Origin, item_start
from projections.subscriptions import Subscription, Subscriptions


class Sender(Protocol):
    """`chassis.dispatch.Dispatch`, or its like."""

    async def send(self, message: StartRun) -> Answer: ...


_intake = Decoder[Intake](Intake)
_cursor = Decoder[Cursor](Cursor)
NULL: Final = b"null"


class Intakes:
    """Serves the ends of runs that look."""

    def __init__(self, sender: Sender, blobs: Blobs, marks: Log, subscriptions: Subscriptions) -> None:
        self._sender, self._blobs, self._marks = sender, blobs, marks
        self._subscriptions = subscriptions

    async def serve(
        self, subscription: Subscription, occurrence: Occurrence, origin: Origin, cause: Cause
    ) -> str:
        """Start what was found. Why something did not start, in words for the trigger's owner; empty when all is well."""
        event = occurrence.event
        if isinstance(event, RunFailed):
            return f"the poll failed: {event.error.code}: {event.error.message}"
        if not isinstance(event, RunCompleted):
            return "the poll was cancelled"
        try:
            intake = await self._read(event.output)
        except Malformed as malformed:
            return f"the poll gave something else than items with keys: {malformed} {malformed.pointer}"
        refused: list[str] = []

        async def ask(found: Found) -> None:
            answer = await self._sender.send(await self._start(subscription, occurrence, found, cause))
            if answer.result == "refused":
                refused.append(f"{found.key}: {_reason(answer)}")

        await side_by_side(ask(found) for found in {each.key: each for each in intake.items}.values())
        await self._move(subscription, origin, intake.cursor)
        return f"{len(refused)} items were refused: {'; '.join(sorted(refused))}" if refused else ""

    async def _start(
        self, subscription: Subscription, occurrence: Occurrence, found: Found, cause: Cause
    ) -> StartRun:
        at = occurrence.commit.time.isoformat()
        given = encode(Told(body=found.item, method="POLL", received_at=at))
        payload: Payload = Inline(value=Raw(given))
        if len(given) > INLINE_BYTES:
            payload = await self._blobs.put(given)
        says = self._subscriptions.says(subscription.org)
        return item_start(subscription, found, cause, payload, says)

    async def _read(self, output: Payload) -> Intake:
        """Raises `Malformed`, or `Away`."""
        if isinstance(output, Inline):
            return _intake(output.value)
        if output.size > POLL_BYTES:
            raise Malformed(f"it is {output.size} bytes large, and {POLL_BYTES} may be")
        return _intake(await self._fetched(output))

    async def _fetched(self, blob: Blob) -> bytes:
        try:
            return await self._blobs.get(blob)
        except KeyError:
            raise Malformed("its value is no longer in the object store") from None

    async def _move(self, subscription: Subscription, origin: Origin, cursor: Raw) -> None:
        """Forwards only: polls may end in another order than they began."""
        if bytes(cursor).strip() == NULL:
            return
        subject = cursor_subject(subscription.org, subscription.trigger)
        moved = Cursor(planned=origin.planned, cursor=cursor)
        while True:
            before = (await self._marks.last([subject])).get(subject)
            if before is not None and _cursor(before.body).planned >= moved.planned:
                return
            expected = before.sequence if before is not None else 0
            if await self._marks.append([Proposal(subject, encode(moved), expected)]) != [None]:
                return


def _reason(answer: Answer) -> str:
    """Raises `Away` where asking again helps."""
    if answer.error is None:
        return "the run was refused"
    if answer.error.retryable:
        raise Away(answer.error.message)
    return f"{answer.error.code}: {answer.error.message}"
