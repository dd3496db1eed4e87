"""Somebody pauses what runs, the whole org even, and takes it up again: what was held goes on by itself."""

import asyncio
import random
from typing import Any, Final

from tests.chaos import stores
from tests.chaos.field import Field
from tests.chaos.opening import Opening

_ORG: Final = "org_default"
_TRIES: Final = 3
"""So often somebody tries whom nobody hears, each time as patiently as whoever opens a campaign's workflows."""


class Paused:
    """A workflow, a pool or the org (F26)."""

    kind = "F26"
    kills = False
    alone = False

    def __init__(self, chance: random.Random) -> None:
        self._what = chance.choice(("workflow", "workflow", "pool", "pool", "org"))
        self._part = chance.random()
        self.name = f"a {self._what} is paused"
        self.seconds = chance.uniform(2, 12)
        self._told: dict[str, Any] = {}

    async def begin(self, field: Field) -> dict[str, Any]:
        self._told = {"what": self._what, "name": self._named(field)}
        return {"of": self._told["name"]} | await _said(field, "/pauses/begin", self._told)

    async def end(self, field: Field) -> dict[str, Any]:
        """Also when nobody has heard that it began: it may have been heard."""
        held = await _held(field)
        for _ in range(_TRIES):
            trouble = await _said(field, "/pauses/end", self._told)
            if not trouble:
                return {"held": held}
        return {"wrong": f"the pause of {self._told['name']} could not be ended: {trouble['why']}"}

    def _named(self, field: Field) -> str:
        match self._what:
            case "workflow":
                names = [target.workflow for target in field.targets for _ in range(target.weight)]
            case "pool":
                names = ["default", stores.OUTSIDE]
            case _:
                names = [_ORG]
        return names[int(self._part * len(names))]


async def _said(field: Field, path: str, what: dict[str, Any]) -> dict[str, Any]:
    """Why nobody has heard it; empty when somebody has."""
    try:
        await asyncio.to_thread(Opening(field.installed).call, "POST", path, what)
    except (RuntimeError, OSError) as error:
        return {"why": repr(error)[:200]}
    return {}


async def _held(field: Field) -> int | None:
    """How many attempts are held by pauses; None: nobody could say it."""
    try:
        told = await asyncio.to_thread(field.installed.call, "GET", "/pauses")
    except (RuntimeError, OSError):
        return None
    held: int = sum(each["paused"] for each in told["held"])
    return held
