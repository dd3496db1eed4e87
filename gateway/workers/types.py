"""The node types that workers outside announced: of each pool of an org what it said last.

Rule that holds here: whoever asks sees those of their own org and no others; what was published with them goes on.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from chassis.edge.problems import Problem
from chassis.ports import Blobs
from contracts.codec import Decoder, encode
from contracts.nodes import NodeSpec
from contracts.payloads import Blob
from contracts.subjects import DOMAIN
from contracts.workers import AnnouncedTypes, AnnounceTypes, OrgWorkersAnnounced, WorkerTypes
from gateway.directory import Directory
from gateway.domain import Cause, Domain
from gateway.orgs.rules import ORG, announce_workers
from gateway.payloads import bytes_of
from gateway.places import Places
from gateway.workers.forms import complaints, offered

KEPT: Final = 200
_REACHED_SECONDS: Final = 2.0
_decode: Final = Decoder[WorkerTypes](WorkerTypes)


class Types:
    def __init__(self, domain: Domain, directory: Directory, blobs: Blobs, places: Places) -> None:
        self._domain, self._directory, self._blobs, self._places = domain, directory, blobs, places
        self._known: dict[str, Mapping[str, NodeSpec]] = {}

    async def announce(self, pool: str, said: AnnounceTypes, cause: Cause) -> AnnouncedTypes:
        """From now on the pool offers these and no others. Safe to repeat: the same again is no change."""
        wrong = complaints(said.specs)
        if wrong:
            raise Problem("worker.bad_types", errors=wrong)
        specs = offered(said.specs, pool)
        kinds = tuple(spec.type for spec in specs)
        types = await self._blobs.put(encode(WorkerTypes(specs=specs)))
        event = OrgWorkersAnnounced(pool=pool, kinds=kinds, types=types)
        changed = await self._domain.change(
            ORG, cause.org, lambda state: announce_workers(state, event), cause
        )
        self._places.wrote(cause.org, DOMAIN, changed.place)
        async with asyncio.timeout(_REACHED_SECONDS):
            await self._directory.reached(changed.place.sequence)
        return AnnouncedTypes(pool=pool, types=kinds)

    async def of_pool(self, org: str, pool: str) -> Mapping[str, NodeSpec]:
        """What the pool offers, by type. Refused before it has announced anything."""
        announced = self._directory.workers_of(org).get(pool)
        if announced is None:
            raise Problem("worker.not_announced")
        return await self._read(announced.types)

    async def specs(self, org: str) -> Mapping[str, NodeSpec]:
        """All of an org's, by type."""
        found: dict[str, NodeSpec] = {}
        for announced in self._directory.workers_of(org).values():
            found |= await self._read(announced.types)
        return found

    def named(self, org: str, kinds: Iterable[str]) -> list[Blob]:
        """Where the types lie that are among these."""
        wanted = set(kinds)
        return [
            announced.types
            for announced in self._directory.workers_of(org).values()
            if not wanted.isdisjoint(announced.kinds)
        ]

    async def _read(self, stored: Blob) -> Mapping[str, NodeSpec]:
        """Never changed, so read once, while there is room to keep it."""
        known = self._known.get(stored.sha256)
        if known is None:
            types = _decode(await bytes_of(stored, self._blobs))
            known = self._known[stored.sha256] = {spec.type: spec for spec in types.specs}
            while len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
        return known
