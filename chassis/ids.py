"""Ids. What can be derived is derived, so that a retry makes the same one; a receipt alone is new each time."""

import hashlib
from typing import Final

import uuid_utils

_NAMESPACE: Final = uuid_utils.uuid5(uuid_utils.NAMESPACE_DNS, "automateos")


def receipt() -> str:
    """A new id whose order is the order of time (UUIDv7)."""
    return str(uuid_utils.uuid7())


def received_at(name: str) -> float | None:
    """The Unix seconds in which a receipt was made; None when it is not one of ours."""
    plain = name.replace("-", "")
    try:
        return int(plain[:12], 16) / 1000 if len(plain) == 32 and plain[12] == "7" else None
    except ValueError:
        return None


def run_id(org: str, source: str, key: str) -> str:
    """The id of the one run that this key may start (UUIDv5 of org, trigger and key).

    The parts are joined by a byte that none of them may hold, so that no two triples share an id.
    """
    return str(uuid_utils.uuid5(_NAMESPACE, f"run\0{org}\0{source}\0{key}"))


def commit_id(subject: str, version: int, prev_hash: str, events: bytes) -> str:
    """The id of a commit: the same decision made again has the same one, another decision another."""
    return str(
        uuid_utils.uuid5(
            _NAMESPACE, f"{subject}\0{version}\0{prev_hash}\0{hashlib.sha256(events).hexdigest()}"
        )
    )


def derived(*parts: str) -> str:
    """An id for what these parts name together."""
    return str(uuid_utils.uuid5(_NAMESPACE, "\0".join(("id", *parts))))


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()
