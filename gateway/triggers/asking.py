"""A poll asks once, as it would by the clock, and what it found is shown: no cursor moves, and nothing counts as found.

The run that looks is a test of the poll's own small workflow, attempted by an executor as every poll is. Tests start nothing, so
whatever it finds is found again by the next poll.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.cursors import Cursors
from chassis.edge.problems import Problem, unavailable
from chassis.ids import receipt as new_receipt
from chassis.ports import Blobs
from contracts.codec import Decoder, Malformed, encode
from contracts.limits import POLL_BYTES, POLL_SHOWN, POLL_SHOWN_BYTES, POLL_TESTS_AT_ONCE
from contracts.occasions import Found, Intake
from contracts.payloads import Blob, Payload
from contracts.runs import Cause
from contracts.triggers import Poll
from gateway.callers import Caller
from gateway.cases.outcomes import Outcome, outcome_of
from gateway.payloads import bytes_of, payload_of
from gateway.rejected import Rejected
from gateway.runs.histories import Histories
from gateway.runs.store import Runs, Wanted
from gateway.triggers.polls import plan_of
from gateway.triggers.views import AskedOnce, FoundView
from gateway.workflows.compiling import Compiler

PATIENCE_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.2
_intake: Final = Decoder[Intake](Intake)


class Looking(Struct, frozen=True, kw_only=True):
    """What expressions see as `trigger` in a run that looks."""

    body: Raw = Raw(b"null")
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    method: str = "POLL"
    content_type: str = "application/json"
    received_at: str
    planned: str
    made_up: bool = False
    cursor: Raw


class Asked(Struct, frozen=True, kw_only=True):
    """What came of it."""

    shown: AskedOnce
    first: Found | None = None
    key_id: str = ""
    """Names the salt under which values of what was found are sealed."""


class Asking:
    """Asks as polls do, for whoever tries one out."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        runs: Runs,
        histories: Histories,
        compiler: Compiler,
        cursors: Cursors,
        blobs: Blobs,
        clock: Clock,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._runs, self._histories, self._compiler = runs, histories, compiler
        self._cursors, self._blobs, self._clock, self._patience = cursors, blobs, clock, patience
        self._waiting = 0

    async def once(self, caller: Caller, trigger_id: str, poll: Poll) -> Asked:
        """Ask, and wait for what is found. Raises `Problem`."""
        if not caller.may("runs:read"):
            raise Problem(
                "forbidden", "What a poll finds is shown: this asks for the scope runs:read as well."
            )
        if self._waiting >= POLL_TESTS_AT_ONCE:
            raise unavailable("Many polls are tried out just now.", 5)
        self._waiting += 1
        try:
            run = await self._start(caller, trigger_id, poll)
            return await self._told(run, await self._ended(caller.org, run))
        finally:
            self._waiting -= 1

    async def _start(self, caller: Caller, trigger_id: str, poll: Poll) -> str:
        now = self._clock.now().isoformat()
        cursor = await self._cursors.of(caller.org, trigger_id)
        given = Looking(received_at=now, planned=now, cursor=cursor)
        wanted = Wanted(
            workflow_id=trigger_id,
            version=1,
            plan=await plan_of(self._compiler, caller.org, trigger_id, poll),
            source=f"{trigger_id}:test",
            cause=Cause(kind="test", id=trigger_id),
            input=await payload_of(encode(given), self._blobs),
            mode="test",
            receipt=new_receipt(),
        )
        return (await self._runs.want(caller, wanted)).run

    async def _ended(self, org: str, run: str) -> Outcome | None:
        """What came of the run; None: it goes on."""
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    outcome = await self._outcome(org, run)
                    if outcome is not None and outcome.ended:
                        return outcome
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            return None

    async def _outcome(self, org: str, run: str) -> Outcome | None:
        try:
            return await outcome_of(self._histories.pages(org, run))
        except Rejected as rejected:
            if rejected.code != "not_found":
                raise
            return None  # It is queued: its owner is away.

    async def _told(self, run: str, outcome: Outcome | None) -> Asked:
        if outcome is None:
            reason = f"It has not ended within {self._patience:.0f} seconds, and goes on: look at its run."
            return Asked(shown=AskedOnce(run=run, status="running", reason=reason))
        if outcome.status != "completed":
            error = outcome.error
            reason = f"{error.code}: {error.message}" if error is not None else ""
            return Asked(shown=AskedOnce(run=run, status=outcome.status, reason=reason))
        try:
            intake = await self._read(outcome.output)
        except Malformed as malformed:
            reason = f"It gave something else than items with keys: {malformed} {malformed.pointer}".rstrip()
            return Asked(shown=AskedOnce(run=run, status="completed", reason=reason))
        return Asked(
            shown=AskedOnce(
                run=run,
                status="completed",
                found=len(intake.items),
                items=tuple(_shown(intake.items)),
                cursor=intake.cursor,
            ),
            first=intake.items[0] if intake.items else None,
            key_id=outcome.key_id,
        )

    async def _read(self, output: Payload) -> Intake:
        """Raises `Malformed`, or `Problem` where it is gone."""
        if isinstance(output, Blob) and output.size > POLL_BYTES:
            raise Malformed(f"it is {output.size} bytes large, and {POLL_BYTES} may be")
        return _intake(await bytes_of(output, self._blobs))


def _shown(found: Sequence[Found]) -> Iterator[FoundView]:
    size = 0
    for each in found[:POLL_SHOWN]:
        size += len(bytes(each.item))
        if size > POLL_SHOWN_BYTES:
            return
        yield FoundView(key=each.key, item=each.item)


def given_of(found: Found, at: str) -> dict[str, Any]:
    """`trigger` of the run that an item starts."""
    return {"body": found.item, "headers": {}, "query": {}, "method": "POLL", "received_at": at}
