"""The key with which a new installation is entered: made once, written to a file that only its owner may read."""

import os
from pathlib import Path
from typing import Final

from chassis.vault import api_key_hash
from gateway.keys.store import KeyKeeper, new_key_id
from gateway.permissions import SCOPES

ORG: Final = "org_default"
NAME: Final = "first start"


async def ensure_first_key(vault: KeyKeeper, path: Path, org: str = ORG) -> bool:
    """Make the key unless the file is there. True: it was made now. Safe to call at every start.

    A file that is there is left alone, whatever became of its key: a revoked key does not come back by itself.
    """
    if _holds_a_key(path):
        return False
    issued = await vault.issue_key(org, new_key_id(), name=NAME, scopes=sorted(SCOPES))
    _write(path, issued.text.reveal() + b"\n")
    return True


def _holds_a_key(path: Path) -> bool:
    if not path.exists():
        return False
    if api_key_hash(path.read_text().strip()) is None:
        raise ValueError(f"{path}: there is no API key in it; remove it to have a new one made")
    return True


def _write(path: Path, text: bytes) -> None:
    """Whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
