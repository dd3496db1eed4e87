"""Deliveries that started no run, kept in HOOKS so that a trigger's inbox shows them too.

Stored beside the answer, not before it: a duplicate's record must not cost its sender time. What waits is bounded; what
finds no place is counted.
"""

import asyncio
from typing import Final, Literal, TypeAlias

import structlog
from msgspec import Struct, structs

from chassis.clock import Clock
from chassis.ports import Away, Letters
from contracts.codec import encode
from contracts.limits import HOOK_RECORD_BYTES
from contracts.payloads import NULL, Payload
from contracts.subjects import NOBODY, hook
from contracts.triggers import Hook
from ingress.deliveries import Request, hidden_header, visible_headers
from ingress.directory import Trigger

log = structlog.get_logger()

WAITING: Final = 5_000
UNKNOWN_TRIGGER: Final = "unknown"
AT_ONCE: Final = 64

HookResult: TypeAlias = Literal["duplicate", "refused", "captured"]


class Kept(Struct, frozen=True, kw_only=True):
    """What became of a delivery that started no run. Of a refused one there is no body: nobody vouches for it."""

    result: HookResult
    reason: str = ""
    run: str | None = None
    """Which run had been started by the one that it repeats."""
    body: Payload = NULL
    key_id: str = ""


class Hooks:
    """One per process. `run` stores what the others take."""

    def __init__(self, letters: Letters, clock: Clock) -> None:
        self._letters = letters
        self._clock = clock
        self._waiting: asyncio.Queue[Hook] = asyncio.Queue(WAITING)
        self.dropped = 0

    def keep(self, trigger: Trigger, receipt: str, request: Request, kept: Kept) -> None:
        """Store soon what came to this trigger; what is too large loses its body."""
        self._put(
            Hook(
                receipt=receipt,
                org=trigger.org,
                trigger=trigger.id,
                time=self._clock.now().timestamp(),
                result=kept.result,
                method="FORM" if trigger.form is not None else request.method[:16],
                address=request.address[:64],
                run=kept.run,
                reason=kept.reason,
                headers=visible_headers(request.headers, hidden_header(trigger.webhook)),
                body=kept.body,
                key_id=kept.key_id,
                size=len(request.body),
            )
        )

    def unmatched(
        self, receipt: str, method: str, address: str, reason: str, trigger: Trigger | None = None
    ) -> None:
        """Store soon that somebody knocked where nothing is taken; None: at nobody's door."""
        self._put(
            Hook(
                receipt=receipt,
                org=trigger.org if trigger else NOBODY,
                trigger=trigger.id if trigger else UNKNOWN_TRIGGER,
                time=self._clock.now().timestamp(),
                result="unmatched",
                method=method[:16],
                address=address[:64],
                reason=reason,
            )
        )

    def _put(self, record: Hook) -> None:
        try:
            self._waiting.put_nowait(record)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Store for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._store_each())

    async def drained(self) -> None:
        """Return when everything taken so far was stored."""
        await self._waiting.join()

    async def _store_each(self) -> None:
        while True:
            record = await self._waiting.get()
            try:
                await self._letters.store(hook(record.org, record.trigger), _bytes(record))
            except Away as away:
                self.dropped += 1
                log.warning("hook.dropped", trigger=record.trigger, reason=str(away))
            finally:
                self._waiting.task_done()


def _bytes(record: Hook) -> bytes:
    body = encode(record)
    if len(body) <= HOOK_RECORD_BYTES:
        return body
    return encode(
        structs.replace(record, body=NULL, reason=f"{record.reason} (body left out: too large)".strip())
    )
