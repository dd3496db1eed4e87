"""What comes out of the vault, and the ways in which it does not."""

import hashlib
import secrets
import zlib
from datetime import datetime

from msgspec import Struct

from chassis.secret import Secret, SecretValue, key_material


class VaultAway(Exception):
    """Postgres does not answer and the value was not opened before. Trying again helps."""


class NoSuchSecret(Exception):
    """The org has no secret of this id."""


class NameTaken(Exception):
    """Another secret of the org has this name."""


class Shredded(Exception):
    """The salt is gone, and with it what was sealed under it."""


class Salt(Struct, frozen=True, kw_only=True):
    """The random part of a run's subkey, and the name of its row, which commits carry as `key_id`."""

    key_id: str
    salt: bytes


class SecretDescription(Struct, frozen=True, kw_only=True):
    """All that anybody may read about a secret."""

    id: str
    name: str
    kind: str
    allowed_hosts: tuple[str, ...]
    created: datetime
    rotated: datetime | None
    last_used: datetime | None
    previous_until: datetime | None
    revision: int


class OpenedSecret(Struct, frozen=True, kw_only=True):
    """A secret in memory: its value, and in a rotation's window the one before."""

    kind: str
    values: tuple[SecretValue, ...]
    allowed_hosts: tuple[str, ...]
    revision: int

    @property
    def value(self) -> SecretValue:
        return self.values[0]

    @property
    def keys(self) -> tuple[Secret, ...]:
        """What signatures may be made with, the newest first."""
        return tuple(key_material(value) for value in self.values)


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key as its holder's requests are judged by it."""

    id: str
    org: str
    name: str
    scopes: tuple[str, ...]
    created: datetime
    expires: datetime | None
    last_used: datetime | None
    revoked: datetime | None


class IssuedKey(Struct, frozen=True, kw_only=True):
    """A new key, the only time that its text is known."""

    id: str
    text: Secret


class SealedRow(Struct, frozen=True):
    """A secret as it lies in the table: ciphertext, and what is needed to open it."""

    kind: str
    salt: bytes
    blob: str
    previous_blob: str | None
    previous_until: datetime | None
    allowed_hosts: tuple[str, ...]
    revision: int


def new_api_key(key_id: str, environment: str) -> str:
    """The text of a new API key: `ao_<environment>_<id>_<secret>_<crc>`."""
    body = f"ao_{environment}_{key_id}_{secrets.token_hex(32)}"
    return f"{body}_{zlib.crc32(body.encode()):08x}"


def api_key_hash(text: str) -> bytes | None:
    """What is looked up for a key's text; None when it cannot be one of ours, told without a query."""
    body, _, checksum = text.rpartition("_")
    if not body.startswith("ao_") or not text.isascii() or checksum != f"{zlib.crc32(body.encode()):08x}":
        return None
    return hashlib.sha256(text.encode()).digest()
