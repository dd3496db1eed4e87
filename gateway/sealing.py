"""Seals what people and programs give to runs, by the marks of whoever takes it, before anything of it is kept."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from chassis.ids import digest
from chassis.sealing import Opener, Sealer, seal_paths
from chassis.vault import Shredded
from contracts.codec import encode
from contracts.limits import Marks
from gateway.rejected import Rejected


class Seals(Protocol):
    """The vault, as far as sealed values of runs go."""

    async def sealer(self, org: str, run: str) -> tuple[str, Sealer]: ...

    async def opener(self, org: str, run: str, key_id: str) -> Opener: ...


class Sealing:
    """What nobody marked is passed on as it is, and nobody is asked for a key."""

    def __init__(self, vault: Seals) -> None:
        self._vault = vault

    async def sealed(self, org: str, run: str, document: bytes, marks: Sequence[str]) -> tuple[bytes, str]:
        """The document with its marked values sealed for the run, and the name of the salt; empty when nothing is marked.

        Raises `Rejected` when what the run sealed was shredded, and `VaultAway`.
        """
        if not marks:
            return document, ""
        key_id, sealer = await self._sealer(org, run)
        return encode(seal_paths(document, marks, sealer)), key_id

    async def request(self, org: str, run: str, said: bytes, marks: Sequence[str]) -> str:
        """The hash by which a request is known again; with marks one that nobody else can make, so that it tells nothing."""
        if not marks:
            return digest(said)
        return (await self._sealer(org, run))[1].proof(said)

    async def sealer(self, org: str, run: str, marks: Sequence[str]) -> Sealer | None:
        """What seals values of the run; None where nothing is marked."""
        return (await self._sealer(org, run))[1] if marks else None

    async def _sealer(self, org: str, run: str) -> tuple[str, Sealer]:
        try:
            return await self._vault.sealer(org, run)
        except Shredded:
            raise Rejected("conflict", "What this run sealed was made unreadable.") from None


class _Marked(Struct, frozen=True):
    sensitive: Marks = ()


def marks_in(definition: bytes) -> Marks:
    """What a workflow marks of its input; nothing where it cannot be read: its faults are the compiler's to tell."""
    try:
        return msgspec.json.decode(definition, type=_Marked).sensitive
    except msgspec.DecodeError:
        return ()
