"""Makes the node types of this process known, again and again: the catalogue can be made anew from nothing."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from contracts.nodes import NodeSpec
from executor.patience import insist

ANNOUNCE_SECONDS: Final = 60.0


class Catalogue(Protocol):
    """Where compiler, gateway and builder look for node types."""

    async def announce(self, spec: NodeSpec) -> None:
        """Put one spec there; saying it again changes nothing. Raises `Away`."""
        ...


class Announcing:
    """Announces for ever; `done` from the first complete round on."""

    def __init__(self, catalogue: Catalogue, specs: Sequence[NodeSpec]) -> None:
        self._catalogue = catalogue
        self._specs = specs
        self.done = False

    async def run(self) -> None:
        while True:
            for spec in self._specs:
                await self._say(spec)
            self.done = True
            await asyncio.sleep(ANNOUNCE_SECONDS)

    async def _say(self, spec: NodeSpec) -> None:
        await insist(lambda: self._catalogue.announce(spec))
