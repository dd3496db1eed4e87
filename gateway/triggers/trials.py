"""A trigger is tried out: a run in test mode with a sample, given or recorded, of what the trigger is published to start.

What the trigger would refuse is refused here too: a filter that says no, an answer that does not fit the form.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.edge.problems import Complaint, Problem
from chassis.expressions import Language
from chassis.filters import FilterFailed, holds
from chassis.ids import receipt as new_receipt
from chassis.ids import run_id
from chassis.ports import Blobs
from chassis.questions import complaints, from_json
from chassis.sealing import in_body
from contracts.codec import encode
from contracts.limits import Marks
from contracts.payloads import Payload
from contracts.runs import Cause
from contracts.triggers import Chat, ChatMessage, Follows, Form, Poll
from gateway.callers import Caller
from gateway.payloads import bytes_of, payload_of
from gateway.runs.store import Runs, Wanted
from gateway.sealing import Sealing
from gateway.triggers.asking import Asking, given_of
from gateway.triggers.redelivery import Recorded, Redelivery
from gateway.triggers.rules import TriggerState, bound
from gateway.triggers.store import Triggers
from gateway.triggers.views import TestedTrigger, TestTrigger

_METHODS: Final = {
    "webhook": "POST",
    "schedule": "SCHEDULE",
    "run_end": "RUN_END",
    "event": "EVENT",
    "form": "FORM",
    "chat": "POST",
    "poll": "POLL",
}


class Sample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What expressions see as `trigger` in a run that tries a trigger out."""

    body: Raw
    headers: dict[str, str]
    query: dict[str, Any]
    method: str
    content_type: str
    received_at: str
    planned: str | None = None
    made_up: bool | None = None


class Trials:
    """Tries triggers out."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        triggers: Triggers,
        redelivery: Redelivery,
        runs: Runs,
        asking: Asking,
        sealing: Sealing,
        blobs: Blobs,
        language: Language,
        clock: Clock,
    ) -> None:
        self._triggers, self._redelivery, self._runs, self._sealing = triggers, redelivery, runs, sealing
        self._blobs, self._language, self._clock = blobs, language, clock
        self._asking = asking

    async def attempt(self, caller: Caller, trigger_id: str, wanted: TestTrigger) -> TestedTrigger:
        """Start it once. Nothing of it counts: no delivery, no other trigger follows it."""
        trigger = await self._triggers.state(caller.org, trigger_id)
        if isinstance(trigger.on, Poll) and wanted.delivery is None and bytes(wanted.body) == b"null":
            return await self._asked(caller, trigger_id, trigger, trigger.on, start=wanted.start)
        if wanted.start:
            message = "Only a poll is asked what it finds; everything else starts with its sample."
            raise Problem("malformed", errors=[Complaint(pointer="/start", message=message)])
        bound(trigger)
        ours, source = new_receipt(), f"{trigger_id}:test"
        run = run_id(caller.org, source, f"receipt:{ours}")
        given, sealed_as = await self._given(caller.org, trigger_id, trigger, wanted, run)
        if isinstance(trigger.on, Follows):
            try:
                if not holds(trigger.on.filter, self._language, await bytes_of(given, self._blobs)):
                    return TestedTrigger(run=None, reason="The filter says no.")
            except FilterFailed as failed:
                return TestedTrigger(run=None, reason=f"The filter: {failed}")
        return TestedTrigger(run=await self._start(caller, trigger_id, trigger, ours, (given, sealed_as)))

    async def _start(
        self, caller: Caller, trigger_id: str, trigger: TriggerState, ours: str, given: tuple[Payload, str]
    ) -> str:
        started = await self._runs.want(
            caller,
            Wanted(
                workflow_id=trigger.workflow,
                version=trigger.version,
                plan=trigger.plan,
                source=f"{trigger_id}:test",
                cause=Cause(kind="test", id=trigger_id),
                input=given[0],
                mode="test",
                receipt=ours,
                sealed_as=given[1],
            ),
        )
        return started.run

    async def _asked(
        self, caller: Caller, trigger_id: str, trigger: TriggerState, poll: Poll, *, start: bool
    ) -> TestedTrigger:
        """What a poll finds now; where it is wanted, the first of it starts the workflow."""
        if start:
            bound(trigger)
        asked = await self._asking.once(caller, trigger_id, poll)
        if not start or asked.first is None:
            reason = asked.shown.reason or ("" if asked.first is not None else "It found nothing.")
            return TestedTrigger(run=None, reason=reason, asked=asked.shown)
        ours = new_receipt()
        run = run_id(caller.org, f"{trigger_id}:test", f"receipt:{ours}")
        body = encode(given_of(asked.first, self._clock.now().isoformat()))
        found = Recorded(await payload_of(body, self._blobs), asked.shown.run, asked.key_id)
        given = await self._redelivery.resealed(found, caller.org, run)
        started = await self._start(caller, trigger_id, trigger, ours, given)
        return TestedTrigger(run=started, asked=asked.shown)

    async def _given(
        self, org: str, trigger_id: str, trigger: TriggerState, wanted: TestTrigger, run: str
    ) -> tuple[Payload, str]:
        if wanted.delivery is not None:
            recorded = await self._redelivery.recorded(org, trigger_id, wanted.delivery)
            return await self._redelivery.resealed(recorded, org, run)
        now = self._clock.now().isoformat()
        body = bytes(wanted.body)
        if trigger.schedule is not None and body == b"null" and trigger.schedule.body:
            body = trigger.schedule.body.encode()
        clocks: dict[str, Any] = {}
        if trigger.schedule is not None:
            clocks = {"planned": now, "made_up": False}
        sample = Sample(
            body=Raw(_fitting(trigger, body)),
            headers=wanted.headers,
            query=wanted.query,
            method=_METHODS[trigger.kind],
            content_type="application/json",
            received_at=now,
            **clocks,
        )
        marks = in_body(sensitive_of(trigger))
        document, sealed_as = await self._sealing.sealed(org, run, encode(sample), marks)
        return await payload_of(document, self._blobs), sealed_as


def sensitive_of(trigger: TriggerState) -> Marks:
    """What the trigger marks of the body that it is given."""
    match trigger.on:
        case Form(sensitive=marks) | Chat(sensitive=marks):
            return marks
        case None:
            return trigger.webhook.sensitive
        case _:
            return ()


def _fitting(trigger: TriggerState, body: bytes) -> bytes:
    """A sample that the trigger would take. Raises `Problem` with the places of what is wrong."""
    match trigger.on:
        case Form(questions=questions):
            checked = from_json(questions, msgspec.json.decode(body))
            if checked.errors:
                raise Problem(
                    "malformed", "The sample does not fit the form.", errors=complaints(checked, "/body")
                )
            return encode(checked.values)
        case Chat():
            try:
                msgspec.json.decode(body, type=ChatMessage)
            except msgspec.DecodeError as error:
                message = str(error).partition(" - at ")[0]
                raise Problem("malformed", errors=[Complaint(pointer="/body", message=message)]) from None
            return body
        case _:
            return body
