"""Opens what an attempt may see: secrets by their reference, sealed values where they stand."""

from typing import Any, Protocol

from msgspec import Struct

from chassis.egress import Credential
from chassis.sealing import Opener, Sealer, Unsealable, open_document, parse_pointer, seal_paths
from chassis.seals import MARK, SEALED
from chassis.vault import NoSuchSecret, OpenedSecret, Shredded, VaultAway
from contracts.codec import decode_json, encode
from contracts.messages import Task
from executor.errors import SecretMissing
from executor.node import SecretReference
from executor.patience import insist
from executor.redaction import leaves

_SEALED = (f'"{SEALED}"'.encode(), MARK.encode())
_SECRET = "$secret"  # noqa: S105  # The name of a field.


class Secrets(Protocol):
    """As much of the vault as an executor needs."""

    async def open(self, org: str, secret_id: str) -> OpenedSecret:
        """A secret's value, for one use in memory. Raises `NoSuchSecret`, `Unsealable` or `VaultAway`."""
        ...

    async def sealer(self, org: str, run: str) -> tuple[str, Sealer]:
        """What seals values of a run, and the name of its salt. Raises `VaultAway`."""
        ...

    async def opener(self, org: str, run: str, key_id: str) -> Opener:
        """What opens the values sealed for a run. Raises `Shredded`, `Unsealable` or `VaultAway`."""
        ...


class Unsealed(Struct, frozen=True):
    """A configuration as an attempt may see it."""

    config: bytes
    texts: tuple[str, ...] = ()
    """What was opened in it, which must not be seen anywhere else."""


class _Remembering:
    """Remembers what it opened."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.opened: list[bytes] = []

    def open(self, blob: str) -> bytes:
        self.opened.append(self._opener.open(blob))
        return self.opened[-1]


class Opening(Struct, frozen=True):
    """The vault, as one process' attempts see it."""

    secrets: Secrets

    async def credential(self, task: Task, config: bytes, reference: SecretReference) -> Credential:
        """The secret that a marked field of this task's configuration names; no other one opens."""
        if reference.id not in named(decode_json(config), task.secrets):
            raise SecretMissing("The field that names this secret is not one that may hold a secret.")
        try:
            opened = await insist(lambda: self.secrets.open(task.org, reference.id), VaultAway)
        except NoSuchSecret as error:
            raise SecretMissing("The secret does not exist.") from error
        except Unsealable as error:
            raise SecretMissing("The secret cannot be opened.") from error
        return Credential(value=opened.value, allowed_hosts=opened.allowed_hosts)

    async def unsealed(self, task: Task, config: bytes) -> Unsealed:
        """The configuration with its sealed values open; the same bytes when the run never sealed anything."""
        if not any(each in config for each in _SEALED) or not (task.key_id or task.seals):
            return Unsealed(config)
        try:
            key_id = task.key_id or (await self._sealer(task))[0]
            opener = await insist(lambda: self.secrets.opener(task.org, task.run, key_id), VaultAway)
            remembering = _Remembering(opener)
            opened = encode(open_document(decode_json(config), remembering))
        except (Shredded, Unsealable) as error:
            raise SecretMissing("A sealed value of this run cannot be opened.") from error
        texts = (text for each in remembering.opened for text in leaves(decode_json(each)))
        return Unsealed(opened, tuple(texts))

    async def sealed(self, task: Task, output: bytes) -> bytes:
        """The output with its marked values sealed: it is kept in no other form."""
        if not task.sensitive:
            return output
        _, sealer = await self._sealer(task)
        return encode(seal_paths(output, task.sensitive, sealer))

    async def _sealer(self, task: Task) -> tuple[str, Sealer]:
        try:
            return await insist(lambda: self.secrets.sealer(task.org, task.run), VaultAway)
        except Shredded as error:
            raise SecretMissing("What this run sealed cannot be opened any more.") from error


def marked_values(output: Any, pointers: tuple[str, ...]) -> list[Any]:
    """What stands at these JSON pointers."""
    found: list[Any] = []
    for pointer in pointers:
        places = [output]
        for token in parse_pointer(pointer):
            places = [item for place in places for item in _below(place, token)]
        found += places
    return found


def named(config: Any, pointers: tuple[str, ...]) -> set[str]:
    """The secrets that the fields at these JSON pointers name; `*` stands for every item."""
    return {
        place[_SECRET]
        for place in marked_values(config, pointers)
        if isinstance(place, dict) and isinstance(place.get(_SECRET), str)
    }


def _below(place: Any, token: str) -> list[Any]:
    if isinstance(place, dict):
        return list(place.values()) if token == "*" else [place[token]] if token in place else []  # noqa: S105  # A token of a pointer.
    if isinstance(place, list):
        return list(place) if token == "*" else place[int(token) :][:1] if token.isdecimal() else []  # noqa: S105  # A token of a pointer.
    return []
