"""Secrets, salts and API keys: sealed rows in Postgres, opened in memory, one at a time."""

from chassis.vault.rows import (
    ApiKey,
    IssuedKey,
    NameTaken,
    NoSuchSecret,
    OpenedSecret,
    Salt,
    SecretDescription,
    Shredded,
    VaultAway,
    api_key_hash,
    new_api_key,
)
from chassis.vault.store import Vault

__all__ = [
    "Vault",
    "OpenedSecret",
    "SecretDescription",
    "Salt",
    "ApiKey",
    "IssuedKey",
    "api_key_hash",
    "new_api_key",
    "NameTaken",
    "NoSuchSecret",
    "Shredded",
    "VaultAway",
]
