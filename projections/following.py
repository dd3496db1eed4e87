"""Starts the runs of triggers that follow events: a projection whose rows are runs.

Rules that hold here:
  * which events a trigger wants follows from the log alone, and so does the id of the run that each may start: whatever is
    read again starts nothing again, and the position only saves work;
  * the position goes on when every run that the batch asks for has been accepted, or its refusal is kept for the trigger;
  * a type of events that nobody in the org wants costs a look at a header; a filter that cannot say yes or no is told to
    its trigger and holds up nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.crash import crash
from chassis.expressions import Language
from chassis.filters import FilterFailed, holds
from chassis.ports import Away, Blobs, Letters, Reader, Stored
from chassis.tasks import side_by_side
from contracts.causes import goes_round, too_deep
from contracts.codec import Malformed, Unknown, encode
from contracts.limits import CAUSES_ALIKE, CAUSES_DEEP, INLINE_BYTES
from contracts.occasions import run_of
from contracts.payloads import Inline, Payload
from contracts.runs import Cause
from contracts.subjects import hook
from contracts.triggers import Hook, Poll
from projections.arrived import Letter
from projections.dead_letters import report
from projections.intake import Intakes, Sender
from projections.models import Position, Step
from projections.occurrences import (
    Occurrence,
    Origin,
    cause_of,
    given_to,
    is_for,
    occurrences,
    receipt_for,
    start_of,
)
from projections.origins import Origins
from projections.subscriptions import Subscription, Subscriptions, Watched

log = structlog.get_logger()

AT_ONCE: Final = 64
"""Runs that are asked for side by side."""
IDLE_SECONDS: Final = 1.0
METHODS: Final = {"run_end": "RUN_END", "event": "EVENT", "poll": "POLL"}


class Places(Protocol):
    """Where it is kept how far a stream was read: `projections.models.PostgresPositions`, or its like."""

    async def position(self) -> Position: ...

    async def advance(self, step: Step) -> None:
        """Raises `Moved` when it is not where the step begins."""
        ...


class Wanted(Struct, frozen=True, kw_only=True):
    """An event that a trigger follows, and what it was then."""

    subscription: Subscription
    on: Watched
    occurrence: Occurrence
    origin: Origin | None


class Means(Struct, frozen=True, kw_only=True):
    """What starting runs takes, for every stream that is followed."""

    subscriptions: Subscriptions
    origins: Origins
    intakes: Intakes
    sender: Sender
    blobs: Blobs
    letters: Letters
    language: Language
    clock: Clock
    is_full: Callable[[], bool]
    """Whether the log's disk has no room for new runs."""
    counts: defaultdict[str, int]


class Following:
    """One stream of events: RUNS, DOMAIN or SCHEDULES."""

    def __init__(self, name: str, stream: str, means: Means, places: Places) -> None:
        self.name, self.stream = name, stream
        self._means, self._places = means, places
        self._room = asyncio.Semaphore(AT_ONCE)

    async def position(self) -> Position:
        return await self._places.position()

    def forget(self) -> None:
        """What it remembers never changes."""

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        """Start what the batch asks for; only then go on."""
        await self._means.subscriptions.up_to_date()
        happened = [each for stored in batch for each in self._happened(stored)]
        if happened:
            await self._serve(happened)
        crash("follow.before_position")
        await self._places.advance(step)

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        """Go past a message that our code cannot handle, and tell somebody."""
        words = stored.subject.split(".")
        letter = Letter(
            stored=stored,
            epoch=step.epoch,
            trouble="refused",
            reason=f"no trigger was served: {type(error).__name__}: {error}",
            org=words[1],
            run=words[-1],
        )
        await report(self._means.letters, letter, self.stream)
        self._means.counts["gave_up"] += 1
        await self.go_past(step)

    async def go_past(self, step: Step) -> None:
        await self._places.advance(step)

    # --- What happened, and who wants it --------------------------------------------------------

    def _happened(self, stored: Stored) -> Sequence[Occurrence]:
        _, org, *_ = stored.subject.split(".") if stored.subject else ("", "")
        wanted = self._means.subscriptions.types_in(org)
        if not wanted:
            return ()
        try:
            return list(occurrences(stored, wanted))
        except (Malformed, Unknown) as error:
            # The projection of the stream has kept it as a dead letter.
            self._means.counts["unreadable"] += 1
            log.error("following.unreadable", subject=stored.subject, reason=str(error))
            return ()

    async def _serve(self, happened: Sequence[Occurrence]) -> None:
        means = self._means
        if means.is_full():
            raise Away("the log's disk is nearly full; no run starts until there is room")
        origins = await means.origins.of([(each.org, each.run) for each in happened if each.run is not None])
        wanted = [
            each
            for occurrence in happened
            for each in self._wanted(
                occurrence, origins.get((occurrence.org, occurrence.run)) if occurrence.run else None
            )
        ]
        crash("follow.before_start")
        await side_by_side(self._one(each) for each in wanted)
        crash("follow.after_start")

    def _wanted(self, occurrence: Occurrence, origin: Origin | None) -> Sequence[Wanted]:
        subscriptions, found = self._means.subscriptions, []
        for trigger in subscriptions.types_in(occurrence.org).get(occurrence.type, ()):
            subscription = subscriptions.of(occurrence.org, trigger)
            on = subscription.wanted(occurrence.commit.time)
            if on is None:
                continue
            if origin is None and occurrence.run is not None:
                self._means.counts["unreadable"] += 1
                log.error("following.no-beginning", org=occurrence.org, run=occurrence.run)
            if is_for(on, occurrence, origin, subscription):
                found.append(Wanted(subscription=subscription, on=on, occurrence=occurrence, origin=origin))
        return found

    # --- One run --------------------------------------------------------------------------------

    async def _one(self, wanted: Wanted) -> None:
        async with self._room:
            reason = await self._asked(wanted)
            if reason:
                await self._refused(wanted, reason)

    async def _asked(self, wanted: Wanted) -> str:
        """Ask for the run. Why it was not, in words for the trigger's owner; empty when all is well."""
        if isinstance(wanted.on, Poll):
            return await self._taken_in(wanted)
        means, subscription = self._means, wanted.subscription
        given = given_to(wanted.on, wanted.occurrence, wanted.origin)
        try:
            if not holds(wanted.on.filter, means.language, given):
                means.counts["unwanted"] += 1
                return ""
        except FilterFailed as failed:
            means.counts["filter_failed"] += 1
            return f"the filter: {failed}"
        cause = cause_of(wanted.on, wanted.occurrence, wanted.origin)
        loop = await self._loop(subscription, cause)
        if loop:
            means.counts["loops"] += 1
            return f"a loop: {loop}"
        says = means.subscriptions.says(subscription.org)
        payload = await self._payload(given)
        answer = await means.sender.send(start_of(subscription, wanted.occurrence, cause, payload, says))
        if answer.result != "refused":
            means.counts["started"] += 1
            return ""
        if answer.error is not None and answer.error.retryable:
            raise Away(answer.error.message)
        means.counts["refused"] += 1
        return f"{answer.error.code}: {answer.error.message}" if answer.error else "the run was refused"

    async def _taken_in(self, wanted: Wanted) -> str:
        """What a poll has found."""
        assert wanted.origin is not None  # noqa: S101  # `is_for` asked.
        cause = cause_of(wanted.on, wanted.occurrence, wanted.origin)
        reason = await self._means.intakes.serve(wanted.subscription, wanted.occurrence, wanted.origin, cause)
        self._means.counts["polls_failed" if reason else "polls"] += 1
        return reason

    async def _payload(self, given: bytes) -> Payload:
        return Inline(value=Raw(given)) if len(given) <= INLINE_BYTES else await self._means.blobs.put(given)

    async def _loop(self, subscription: Subscription, cause: Cause) -> str:
        """The workflows whose runs have started each other too often, the first of them first; empty when all is well."""
        if cause.depth < CAUSES_ALIKE:
            return ""
        org, chain, before = subscription.org, [subscription.workflow], cause
        while len(chain) <= CAUSES_DEEP and (run := _run_behind(before)):
            origin = (await self._means.origins.of([(org, run)]))[org, run]
            if origin is None:
                break
            chain.append(origin.start.workflow)
            before = origin.start.cause
        chain.reverse()
        return " → ".join(chain) if too_deep(cause) or goes_round(chain) else ""

    async def _refused(self, wanted: Wanted, reason: str) -> None:
        """Kept beside the trigger's deliveries, once for each event, before the position goes on."""
        subscription, occurrence = wanted.subscription, wanted.occurrence
        log.warning("following.refused", org=subscription.org, trigger=subscription.trigger, reason=reason)
        record = Hook(
            receipt=receipt_for(subscription, occurrence),
            org=subscription.org,
            trigger=subscription.trigger,
            time=occurrence.commit.time.timestamp(),
            result="refused",
            method=METHODS[str(wanted.on.__struct_config__.tag)],
            reason=f"{occurrence.id}: {reason}"[:2_000],
        )
        await self._means.letters.store(hook(subscription.org, subscription.trigger), encode(record))


def _run_behind(cause: Cause) -> str | None:
    match cause.kind:
        case "run":
            return cause.id
        case "event":
            return run_of(cause.id)
        case _:
            return cause.run


class WhileWanted:
    """Reads a stream while anybody wants its events. Meanwhile it only says up to where nobody wanted any."""

    def __init__(self, reader: Reader, subscriptions: Subscriptions, clock: Clock) -> None:
        self._reader, self._subscriptions, self._clock = reader, subscriptions, clock

    async def end(self) -> int:
        return await self._reader.end()

    async def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        while True:
            # Asked first: whoever wanted what lies before this end is known by then.
            end = await self._reader.end()
            await self._subscriptions.up_to_date()
            if not self._subscriptions.any:
                if end > after:
                    after = end
                    yield [Stored(subject="", sequence=end, body=b"", time=self._clock.now().timestamp())]
                else:
                    yield []
                await asyncio.sleep(IDLE_SECONDS)
                continue
            async with aclosing(self._reader.read(after, most)) as batches:  # type: ignore[type-var]  # Readers are generators.
                async for batch in batches:
                    if batch:
                        after = batch[-1].sequence
                    yield batch
                    if not self._subscriptions.any:
                        break
