"""Somebody who has past deliveries run again in a simulated installation, and tries workflows out with them.

As the gateway does it: gateway/triggers/retroactive.py and gateway/cases/trying.py.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import structs

from chassis.dispatch import Dispatch
from chassis.ids import digest, run_id
from chassis.ports import Away, Stored
from chassis.testing.world import World
from contracts.messages import Answer, StartRun
from contracts.runs import Cause, RunStarted, beginning
from tests.promises.evidence import Again, Decoded

UNDERTAKINGS: Final = ("mended", "mended", "new")
TRIALS: Final = 0.25
"""Of all that he starts, what is a trial, and so nobody else's business: it passes no gate, and tells nobody of its failure."""
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
                    if self._world.random.random() < TRIALS:
                        await self._try_out(org, started)
                    else:
                        await self._start(org, started, self._world.random.choice(UNDERTAKINGS))
            carrying.cancel()

    def end(self) -> None:
        self._ends = True

    async def _start(self, org: str, past: RunStarted, undertaking: str) -> None:
        source = f"{past.trigger}:again:{undertaking}:{past.workflow}"
        start = self._of(past, org, run_id(org, source, f"idempotency:{past.receipt}"))
        start = structs.replace(
            start, dedupe=digest(past.receipt.encode()), request=digest(undertaking.encode())
        )
        taken = (await self._said(start)).result != "refused"
        self.again.append(
            Again(org=org, run=start.run, receipt=past.receipt, undertaking=undertaking, taken=taken)
        )

    async def _try_out(self, org: str, past: RunStarted) -> None:
        start = self._of(past, org, run_id(org, f"{past.workflow}:test", f"receipt:{self._receipts}"))
        await self._said(structs.replace(start, mode="test", cause=Cause(kind="test")))

    def _of(self, past: RunStarted, org: str, run: str) -> StartRun:
        """The same once more."""
        self._receipts += 1
        return StartRun(
            org=org,
            run=run,
            plan=past.plan,
            workflow=past.workflow,
            version=past.version,
            receipt=f"again-{self._receipts}",
            cause=Cause(kind="redelivery", id=past.receipt),
            input=past.input,
            actor="key:historian",
        )

    async def _said(self, start: StartRun) -> Answer:
        """Until somebody has taken it."""
        while True:
            try:
                return await self._dispatch.send(start)
            except Away:
                await asyncio.sleep(0.3)
