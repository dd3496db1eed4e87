"""Sealed values that one run recorded, sealed for the test run that goes on with them. Nobody sees them on the way."""

from typing import Any

import msgspec
from msgspec import Struct, structs

from chassis.ports import Blobs
from chassis.sealing import Opener, Sealer, Unsealable
from chassis.seals import SEALED, is_sealed, mark, replaced
from chassis.vault import Shredded
from contracts.cases import Pins
from contracts.codec import encode
from contracts.payloads import Payload
from gateway.cases.values import LEFT_OUT, may_be_sealed
from gateway.payloads import bytes_of, payload_of
from gateway.sealing import Seals


class Moved(Struct, frozen=True):
    """Pins for a run, and the salt under which values of them are sealed; empty when none is."""

    pins: Pins
    key_id: str = ""


class Resealing:
    def __init__(self, vault: Seals, blobs: Blobs) -> None:
        self._vault, self._blobs = vault, blobs

    async def moved(self, pins: Pins, org: str, old: str, new: str) -> Moved:
        """What cannot be opened any more, or never was sealed by us, is left out."""
        sealed = [name for name, pin in pins.items() if await may_be_sealed(pin.output, self._blobs)]
        if not sealed:
            return Moved(pins)
        opener = await self._opener(org, old)
        key_id, sealer = await self._vault.sealer(org, new)
        kept = dict(pins)
        for name in sealed:
            output = await self._anew(pins[name].output, opener, sealer)
            kept[name] = structs.replace(pins[name], output=output)
        return Moved(kept, key_id)

    async def _opener(self, org: str, run: str) -> Opener | None:
        """None: the run was shredded."""
        try:
            key_id, _ = await self._vault.sealer(org, run)
            return await self._vault.opener(org, run, key_id)
        except Shredded:
            return None

    async def _anew(self, payload: Payload, opener: Opener | None, sealer: Sealer) -> Payload:
        value = msgspec.json.decode(await bytes_of(payload, self._blobs))
        return await payload_of(encode(_anew(value, opener, sealer)), self._blobs)


def _anew(value: Any, opener: Opener | None, sealer: Sealer) -> Any:
    if is_sealed(value):
        moved = _moved(value[SEALED], opener, sealer)
        return LEFT_OUT if moved is None else {SEALED: moved}
    if isinstance(value, str):
        return replaced(value, lambda blob: mark(_moved(blob, opener, sealer) or "") or LEFT_OUT)
    if isinstance(value, dict):
        return {key: _anew(item, opener, sealer) for key, item in value.items()}
    if isinstance(value, list):
        return [_anew(item, opener, sealer) for item in value]
    return value


def _moved(blob: str, opener: Opener | None, sealer: Sealer) -> str | None:
    """The same value, sealed anew; None when it does not open."""
    try:
        return None if opener is None else sealer.seal(opener.open(blob))
    except Unsealable:
        return None
