"""Deliveries that started no run, kept in HOOKS so that a trigger's inbox shows them too.

Stored beside the answer, not before it: a duplicate's record must not cost its sender time. What waits is bounded; what
finds no place is counted.
"""

import asyncio
from typing import Final

import structlog
from msgspec import structs

from chassis.ports import Away, Letters
from contracts.codec import encode
from contracts.limits import HOOK_RECORD_BYTES
from contracts.payloads import NULL
from contracts.subjects import hook
from contracts.triggers import Hook

log = structlog.get_logger()

WAITING: Final = 5_000
UNKNOWN_TRIGGER: Final = "unknown"
AT_ONCE: Final = 64


class Hooks:
    """One per process. `run` stores what `keep` takes."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters
        self._waiting: asyncio.Queue[Hook] = asyncio.Queue(WAITING)
        self.dropped = 0

    def keep(self, record: Hook) -> None:
        """Store this record soon; one that is too large loses its body."""
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
