"""People at work on an installation under chaos: they cancel, try again, and decide about steps in doubt, over the API.

A wish is written down once, before it is told; it is told again until somebody answers, in words that mean the same wish.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from tests.chaos.answering import Answering, Wishes
from tests.chaos.wire import Answer, Wire
from tests.chaos.world import result_of, share

_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 4
_PAGE: Final = 100
_CANCELLED: Final[Mapping[str, float]] = {
    "timer": 0.04,
    "family": 0.2,
    "undo": 0.3,
    "burst": 0.1,
    "batch": 0.1,
}
"""How many runs of a workflow somebody stops."""
_ASKING: Final = ("approval", "signal")
_DOUBTFUL: Final = ("doubt", "outside")
_TRIED_AGAIN: Final = 0.5
_API: Final = "/api/v1"


class People:
    """Look every second at what waits for them."""

    def __init__(  # Where everybody is whom they speak to.
        self,
        *,
        gateway: str,
        ingress: str,
        key: str,
        actor: str,
        world: str,
        workflows: Mapping[str, str],
        wishes: Wishes,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._gateway, self._world = Wire(gateway, headers), Wire(world)
        self._answering = Answering(
            gateway=self._gateway, ingress=Wire(ingress), world=self._world, actor=actor, wishes=wishes
        )
        self._workflows = workflows
        self._wishes = wishes
        self._wished: set[tuple[str, ...]] = set()
        self._to_cancel: list[tuple[float, str]] = []
        self._room = asyncio.Semaphore(_AT_ONCE)

    def met(self, shape: str, run: str) -> None:
        """A run of ours was accepted; a few of those that take their time are cancelled, and some ask for something."""
        if shape in _ASKING:
            self._answering.met(shape, run)
        if share(run) < _CANCELLED.get(shape, 0.0):
            self._to_cancel.append((time.monotonic() + 3 * share(f"{run}/when"), run))

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answering.run())
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                for moment, run in list(self._to_cancel):
                    if moment < time.monotonic():
                        self._to_cancel.remove((moment, run))
                        group.create_task(self._wish(run, "cancel", {"opening": 1, "reason": "chaos"}))
                for shape in _DOUBTFUL:
                    for waiting in await self._list("waiting", self._workflows.get(shape, "nowhere")):
                        if waiting["steps_in_doubt"]:
                            group.create_task(self._decide(waiting["id"]))
                for failed in await self._list("failed"):
                    if failed["opening"] == 1 and share(failed["id"]) < _TRIED_AGAIN:
                        group.create_task(self._wish(failed["id"], "retry", {"opening": 1}))

    async def _list(self, status: str, workflow: str = "") -> list[dict[str, Any]]:
        which = f"&workflow={workflow}" if workflow else ""
        answer = await self._gateway.ask(
            "GET", f"{_API}/runs?status={status}&limit={_PAGE}{which}", seconds=5
        )
        items: list[dict[str, Any]] = (
            answer.json()["items"] if answer is not None and answer.status == 200 else []
        )
        return items

    async def _decide(self, run: str) -> None:
        """Look at the world: what happened is done; what did not is tried again or given up."""
        async with self._room:
            answer = await self._gateway.ask("GET", f"{_API}/runs/{run}/steps", seconds=5)
        if answer is None or answer.status != 200:
            return
        for step in answer.json()["items"]:
            if (
                step["status"] == "in_doubt"
                and ("resolve", run, step["path"], str(step["attempt"])) not in self._wished
            ):
                await self._resolve(run, step["path"], step["attempt"])

    async def _resolve(self, run: str, step: str, attempt: int) -> None:
        seen = await self._world.ask("GET", f"/seen/{quote(f'{run}/{step}', safe='')}", seconds=5)
        if seen is None:
            return
        done = seen.json()["answer"]
        wish: dict[str, Any] = {"step": step, "attempt": attempt}
        if done is not None:
            wish |= {"resolution": "done", "output": result_of(json.dumps(done))}
        else:
            wish |= {"resolution": "retry" if share(f"{run}/{attempt}") < 0.6 else "failed"}
        await self._wish(run, "resolve", wish, step, str(attempt))

    async def _wish(self, run: str, kind: str, body: dict[str, Any], *more: str) -> None:
        name = (kind, run, *more)
        if name in self._wished:
            return
        self._wished.add(name)
        self._wishes.write(
            t=time.time(),
            run=run,
            kind=kind,
            step=body.get("step", ""),
            resolution=body.get("resolution", ""),
        )
        while not final(await self._tell(f"{_API}/runs/{run}/{kind}", body)):
            await asyncio.sleep(1.0)

    async def _tell(self, path: str, body: dict[str, Any]) -> Answer | None:
        async with self._room:
            return await self._gateway.ask("POST", path, json.dumps(body).encode(), seconds=10)


def final(answer: Answer | None) -> bool:
    """Whether asking again brings nothing new."""
    return answer is not None and answer.status < 500 and answer.status not in {401, 429}
