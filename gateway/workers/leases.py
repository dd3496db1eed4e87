"""Leases as texts: sealed with the org's data key for one pool, so that they mean nothing anywhere else and cannot be made up."""

import hashlib
from typing import Final, Protocol

import msgspec

from chassis.sealing import DataKey, Opener, Place, Sealer, Unsealable
from contracts.workers import Lease
from gateway.rejected import absent
from gateway.workers.rules import Held

_FIELD: Final = "lease"
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Held)


class DataKeys(Protocol):
    """The vault, as far as the keys of orgs go. Raises `VaultAway`."""

    async def data_key(self, org: str) -> DataKey: ...

    async def data_keys(self, org: str, generation: int = 0) -> dict[int, DataKey]: ...


class Leases:
    def __init__(self, keys: DataKeys) -> None:
        self._keys = keys
        self.foreign = 0
        """Leases that were none of the caller's."""

    async def seal(self, held: Held) -> Lease:
        key = await self._keys.data_key(held.org)
        sealer = Sealer(key, _salt(held.pool), "worker.lease", _place(held.org, held.pool))
        return sealer.seal(_encoder.encode(held))

    async def open(self, org: str, pool: str, lease: Lease) -> Held:
        """Raises `Rejected` (not found) for whatever is no lease of this org and pool."""
        keys = await self._keys.data_keys(org)
        try:
            opened = Opener(keys, _salt(pool), "worker.lease", _place(org, pool)).open(lease)
            return _decoder.decode(opened)
        except (Unsealable, msgspec.DecodeError):
            self.foreign += 1
            raise absent("task") from None


def _salt(pool: str) -> bytes:
    """A lease is short-lived and holds no secret value: its key need not be forgotten apart from others."""
    return hashlib.sha256(pool.encode()).digest()


def _place(org: str, pool: str) -> Place:
    return Place(org=org, object=pool, field=_FIELD)
