"""Keys and passwords: made at the first start, kept in files that only their owner reads."""

import base64
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from deploy.data_directory import DataDirectory, write_whole

_KEY_BYTES: Final = 32


class NatsUser(Struct, frozen=True, kw_only=True):
    """One user of nats-server: it proves itself with the seed, the server knows the public key."""

    seed_file: Path
    public_key: str


class Keys:
    """Everything under `secrets/`. A key that is there is never made again."""

    def __init__(self, data: DataDirectory) -> None:
        self._folder = data.secrets
        self.master_key = self._key("master.key")
        """32 bytes in base64; wraps the data keys of the orgs."""
        self.signing_key = self._key("signing.key")
        """An Ed25519 private key (its 32-byte seed) in base64; signs the anchors."""

    def postgres_password(self, role: str) -> Path:
        path = self._folder / "postgres" / f"{role}.password"
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(_KEY_BYTES).encode())
        return path

    def nats_users(self, names: Iterable[str]) -> dict[str, NatsUser]:
        return {name: self._nats_user(name) for name in names}

    def _key(self, name: str) -> Path:
        path = self._folder / name
        if not path.exists():
            write_whole(path, base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
        return path

    def _nats_user(self, name: str) -> NatsUser:
        """The public key stands in a file beside the seed: deriving it would cost each start an import."""
        seed = self._folder / "nats" / f"{name}.seed"
        public = seed.with_suffix(".public")
        if not (seed.exists() and public.exists()):
            import nkeys

            written = seed.read_bytes() if seed.exists() else _new_seed()
            write_whole(seed, written)
            write_whole(public, nkeys.from_seed(bytearray(written)).public_key)
        return NatsUser(seed_file=seed, public_key=public.read_text())


def _new_seed() -> bytes:
    import nkeys

    return bytes(nkeys.encode_seed(secrets.token_bytes(_KEY_BYTES), nkeys.PREFIX_BYTE_USER))
