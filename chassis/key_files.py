"""The keys of a service, from the files that its settings name: one that cannot be used is a reason not to start."""

from pathlib import Path

from chassis.lifecycle import CannotStart
from chassis.sealing import KeyFileUnusable, MasterKey, SigningKey
from chassis.settings import Settings


def master_key(settings: Settings) -> MasterKey:
    """What opens secrets. Raises `CannotStart` without one."""
    try:
        return MasterKey.from_file(Path(settings.master_key_file))
    except KeyFileUnusable as error:
        raise CannotStart(f"AUTOMATEOS_MASTER_KEY_FILE: {error}") from error


def signing_key(settings: Settings) -> SigningKey:
    """What anchors of histories are signed with. Raises `CannotStart` without one."""
    try:
        return SigningKey.from_file(Path(settings.signing_key_file))
    except KeyFileUnusable as error:
        raise CannotStart(f"AUTOMATEOS_SIGNING_KEY_FILE: {error}") from error
