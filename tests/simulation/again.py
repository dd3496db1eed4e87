"""Somebody who has past deliveries run again in a simulated installation, as the gateway does it (gateway/triggers/retroactive.py)."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from chassis.dispatch import Dispatch
from chassis.ids import digest, run_id
from chassis.ports import Away, Stored
from chassis.testing.world import World
from contracts.messages import StartRun
from contracts.runs import Cause, RunStarted, beginning
from tests.promises.evidence import Again, Decoded

UNDERTAKINGS: Final = ("mended", "mended", "new")
MOST: Final = 3
"""So many past deliveries are run again."""
_WEBHOOK: Final = "webhook"


class Historian:
    """Asks for the same page again and again: whoever does not know what became of it asks once more."""

    def __init__(
        self,
        world: World,
        histories: Mapping[str, Sequence[Stored]],
        dispatch: Dispatch,
        decoded: Decoded,
    ) -> None:
        self._world, self._histories, self._dispatch, self._decoded = world, histories, dispatch, decoded
        self._asked = Counter[str]()
        self._receipts = 0
        self._ends = False
        self.again: list[Again] = []
        """What was answered."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(self._dispatch.run())
            while not self._ends:
                await asyncio.sleep(0.5 + 2 * self._world.random.random())
                for subject, stored in list(self._histories.items())[:MOST]:
                    _, org, _ = subject.split(".")
                    started = beginning(self._decoded[stored[0].body].events)
                    if started is None or started.cause.kind != _WEBHOOK or self._asked[subject] > 2:
                        continue
                    self._asked[subject] += 1
                    await self._start(org, started, self._world.random.choice(UNDERTAKINGS))
            carrying.cancel()

    def end(self) -> None:
        self._ends = True

    async def _start(self, org: str, past: RunStarted, undertaking: str) -> None:
        source = f"{past.trigger}:again:{undertaking}:{past.workflow}"
        self._receipts += 1
        start = StartRun(
            org=org,
            run=run_id(org, source, f"idempotency:{past.receipt}"),
            plan=past.plan,
            workflow=past.workflow,
            version=past.version,
            receipt=f"again-{self._receipts}",
            cause=Cause(kind="redelivery", id=past.receipt),
            input=past.input,
            dedupe=digest(past.receipt.encode()),
            request=digest(undertaking.encode()),
            actor="key:historian",
        )
        while True:
            try:
                answer = await self._dispatch.send(start)
            except Away:
                await asyncio.sleep(0.3)
                continue
            if answer.result != "refused":
                told = Again(org=org, run=start.run, receipt=past.receipt, undertaking=undertaking)
                self.again.append(told)
            return
