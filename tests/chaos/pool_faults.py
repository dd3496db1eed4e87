"""What befalls pools: an executor that is sent home under load, and a worker outside that dies in the middle of its work."""

import asyncio
import random
import time
from typing import Any, Final

from tests.chaos.faults import Once
from tests.chaos.field import Field

_POOL: Final = "default"
_TRIES: Final = 8
_HOME_SECONDS: Final = 40.0
"""Longer than any attempt takes."""


class SentHome(Once):
    """An executor takes nothing more, ends what it has, leaves, and is started again by its supervisor (F25)."""

    def __init__(self) -> None:
        super().__init__("F25", "an executor is sent home")

    async def begin(self, field: Field) -> dict[str, Any]:
        before, began = field.pids().get("executor", 0), time.monotonic()
        drained, trouble = 0, "nobody is there"
        for _ in range(_TRIES):
            try:
                drained = await asyncio.to_thread(_drain, field)
                break
            except (RuntimeError, OSError) as error:  # Somebody is away: another fault, or it is busy.
                trouble = repr(error)[:200]
            await asyncio.sleep(1.0)
        if not drained:
            return {"drained": 0, "why": trouble}
        while field.pids().get("executor", 0) in {0, before}:
            if time.monotonic() > began + _HOME_SECONDS:
                return {"drained": drained, "why": "it has not left yet"}
            await asyncio.sleep(0.1)
        return {"drained": drained, "left_s": round(time.monotonic() - began, 2)}


def _drain(field: Field) -> int:
    """How many were told to go."""
    told = 0
    for executor in field.installed.call("GET", f"/pools/{_POOL}")["executors"]:
        if not executor["lost"] and not executor["draining"]:
            field.installed.call("POST", f"/pools/{_POOL}/executors/{executor['id']}/drain")
            told += 1
    return told


class WorkerKilled(Once):
    """SIGKILL to the worker outside, once or twice in a row; it is there again a moment later (F24)."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__("F24", "kill -9 the worker outside")
        self._pauses = [chance.uniform(0.0, 1.0) for _ in range(chance.choice((1, 1, 2)))]

    async def begin(self, field: Field) -> dict[str, Any]:
        if field.worker is None:
            return {"why": "there is none"}
        pids = []
        for pause in self._pauses:
            await asyncio.sleep(pause)
            pids.append(field.worker.kill())
        return {"pids": pids}
