"""What compose.yaml's servers and services are given before they start: their keys and their configurations.

Each gets a folder of its own with nothing in it that it does not need. The keys themselves lie in the data directory and
are made once; handing them over again changes nothing.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chassis.settings import Settings
from deploy.data_directory import DataDirectory, write_whole
from deploy.keys import Keys
from deploy.servers.postgres import SUPERUSER
from deploy.stack import SERVICES, Service

SEED: Final = "nats.seed"
PASSWORD: Final = "postgres.password"  # noqa: S105  # The name of a file.
MASTER: Final = "master.key"
SIGNING: Final = "signing.key"
_SHARE_OF_VOLUME: Final = 0.8
_NATS: Final = """\
listen: "0.0.0.0:4222"
http: "0.0.0.0:8222"
server_name: automateos
max_payload: 1MB
jetstream {{ store_dir: "{store}", max_file_store: {size}, sync_interval: {sync} }}
{accounts}
"""
# As in the embedded stack: no Lua, nothing that reaches the file system or other clients. The network is the stack's own.
_REDIS: Final = """\
bind *
protected-mode no
port 6379
dir /tmp
save ""
appendonly no
maxmemory 64mb
maxmemory-policy volatile-ttl
rename-command EVAL ""
rename-command EVALSHA ""
user default on nopass ~* &* +@all -@scripting -@dangerous +info
"""


class Places(Struct, frozen=True, kw_only=True):
    """Where the folders are written, and where nats-server's container keeps its store."""

    root: Path = Path("/handed")
    nats_store: str = "/nats/store"


def hand_over(data: DataDirectory, settings: Settings, accounts: str, places: Places) -> None:
    """Write every folder. `accounts`: who may do what, as it stands in nats-server's configuration.

    Safe to run again while everything runs.
    """
    keys = Keys(data)
    for service in SERVICES:
        _give(places.root / service.name, keys_of(service, keys))
    _give(places.root / "postgres", {PASSWORD: keys.postgres_password(SUPERUSER)})
    nats = places.root / "nats"
    write_whole(nats / "nats.conf", nats_configuration(settings, accounts, nats, places.nats_store).encode())
    write_whole(places.root / "redis" / "redis.conf", _REDIS.encode())


def keys_of(service: Service, keys: Keys) -> dict[str, Path]:
    """The name of each key that the service needs, and where it lies."""
    wanted = {SEED: keys.nats_users([service.name])[service.name].seed_file}
    if service.postgres_role:
        wanted[PASSWORD] = keys.postgres_password(service.postgres_role)
    if service.opens_secrets:
        wanted[MASTER] = keys.master_key
    if service.signs:
        wanted[SIGNING] = keys.signing_key
    return wanted


def nats_configuration(settings: Settings, accounts: str, volume: Path, store: str) -> str:
    """`volume`: a folder on the volume that the store will lie on, whose size bounds it."""
    usage = shutil.disk_usage(volume)
    taken = sum(file.lstat().st_size for file in volume.rglob("*") if file.is_file())
    return _NATS.format(
        store=store,
        size=settings.nats_max_file_store or int(_SHARE_OF_VOLUME * (usage.free + taken)),
        sync="1s" if settings.unsafe_fast else "always",
        accounts=accounts,
    )


def _give(folder: Path, files: Mapping[str, Path]) -> None:
    """Exactly these files, each readable by its owner alone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for stale in folder.iterdir():
        if stale.name not in files and not stale.is_dir():
            stale.unlink()
    for name, source in files.items():
        write_whole(folder / name, source.read_bytes())
