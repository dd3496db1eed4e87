"""What compose.yaml's servers and services are given before they start: their keys and their configurations.

Each gets a folder of its own with nothing in it that it does not need. The keys themselves lie in the data directory and
are made once; handing them over again changes nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from chassis.settings import Settings
from deploy.data_directory import DataDirectory, write_whole
from deploy.keys import Keys
from deploy.servers.nats import NatsOptions, configuration, share_of_volume
from deploy.servers.postgres import SUPERUSER
from deploy.servers.redis import LIMITED
from deploy.stack import SERVICES, Service

SEED: Final = "nats.seed"
PASSWORD: Final = "postgres.password"  # noqa: S105  # The name of a file.
MASTER: Final = "master.key"
SIGNING: Final = "signing.key"
# The network is the stack's own.
_REDIS: Final = f"bind *\nprotected-mode no\nport 6379\ndir /tmp\n{LIMITED}"


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
    return configuration(
        client="0.0.0.0:4222",
        monitor="0.0.0.0:8222",
        store=Path(store),
        options=NatsOptions(
            sync_interval="1s" if settings.unsafe_fast else "always",
            max_file_store=settings.nats_max_file_store or str(share_of_volume(volume)),
            accounts=accounts,
        ),
    )


def _give(folder: Path, files: Mapping[str, Path]) -> None:
    """Exactly these files, each readable by its owner alone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for stale in folder.iterdir():
        if stale.name not in files and not stale.is_dir():
            stale.unlink()
    for name, source in files.items():
        write_whole(folder / name, source.read_bytes())
