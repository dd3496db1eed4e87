"""Sealed values: what is secret or personal leaves memory only as ciphertext.

Rules that hold here, all of it pure but the reading of a key file:
a master key wraps one 256-bit data key per org and generation; a subkey for one object is HKDF-SHA256 of the data key
with that object's random salt, so that dropping the salt shreds the object; AES-256-GCM binds each ciphertext to
org, object, field and generation, so that a copied row does not open under another id.
"""

import base64
import binascii
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chassis.seals import SEALED, is_sealed, replaced
from chassis.secret import Secret
from chassis.written import written
from contracts.codec import decode_json
from contracts.limits import JSON_DEPTH

Purpose: TypeAlias = Literal["vault.secret", "run.value", "worker.lease"]
Why: TypeAlias = Literal["malformed", "unknown key", "not authentic", "too deep"]

KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_BLOB: Final = re.compile(r"v1\|([1-9][0-9]{0,8})\|([A-Za-z0-9_-]{16})\|([A-Za-z0-9_-]{22,})", re.ASCII)
_WRAPPED: Final = re.compile(r"w1\|([0-9a-f]{16})\|([A-Za-z0-9_-]{16})\|([A-Za-z0-9_-]{64})", re.ASCII)


class Unsealable(Exception):
    """A sealed value does not open: damaged, moved to another place, or its key is gone."""

    def __init__(self, why: Why) -> None:
        super().__init__(f"a sealed value does not open: {why}")
        self.why: Why = why


class KeyFileUnusable(Exception):
    """The file with a key is missing, readable by others, or not a key."""


class MasterKey:
    """Wraps the data keys. `id` tells which master key wrapped a row, and nothing about the key.

    `links` proves resumption links; a link that was sent is no link any more when the master key is another one.
    `causes` proves to our own addresses which run asks.
    """

    __slots__ = ("causes", "cipher", "id", "links")

    def __init__(self, key: Secret) -> None:
        if len(key.reveal()) != KEY_BYTES:
            raise ValueError("a master key has 32 bytes")
        self.cipher = AESGCM(_derive(key, salt=b"", info=b"automateos wrap data key").reveal())
        self.id = _derive(key, salt=b"", info=b"automateos master key id").reveal()[:8].hex()
        self.links = _derive(key, salt=b"", info=b"automateos resumption links")
        self.causes = _derive(key, salt=b"", info=b"automateos causes")

    @classmethod
    def from_file(cls, path: Path) -> "MasterKey":
        return cls(read_key_file(path))

    @classmethod
    def generate(cls, path: Path) -> "MasterKey":
        """Make a key in a file that did not exist before."""
        return cls(write_key_file(path))


class DataKey(msgspec.Struct, frozen=True, kw_only=True):
    """One org's key of one generation, in memory only."""

    org: str
    generation: int
    key: Secret


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sealed value belongs. It opens nowhere else."""

    org: str
    object: str
    field: str


def new_data_key(org: str, generation: int) -> DataKey:
    return DataKey(org=org, generation=generation, key=Secret(secrets.token_bytes(KEY_BYTES)))


def new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def wrap_data_key(master: MasterKey, key: DataKey) -> str:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = master.cipher.encrypt(nonce, key.key.reveal(), _aad("data key", key.org, str(key.generation)))
    return f"w1|{master.id}|{_text(nonce)}|{_text(sealed)}"


def unwrap_data_key(masters: Sequence[MasterKey], org: str, generation: int, wrapped: str) -> DataKey:
    """Open a row of `vault.data_keys` with whichever of the master keys wrapped it."""
    parts = _WRAPPED.fullmatch(wrapped)
    if parts is None:
        raise Unsealable("malformed")
    master = next((key for key in masters if key.id == parts[1]), None)
    if master is None:
        raise Unsealable("unknown key")
    try:
        key = master.cipher.decrypt(
            _bytes(parts[2]), _bytes(parts[3]), _aad("data key", org, str(generation))
        )
    except InvalidTag:
        raise Unsealable("not authentic") from None
    return DataKey(org=org, generation=generation, key=Secret(key))


def wrapped_by(wrapped: str) -> str:
    """The id of the master key that wrapped a data key."""
    parts = _WRAPPED.fullmatch(wrapped)
    if parts is None:
        raise Unsealable("malformed")
    return parts[1]


def seal(key: DataKey, salt: bytes, purpose: Purpose, place: Place, plaintext: bytes) -> str:
    """Make a blob: `v1|generation|nonce|ciphertext`."""
    return Sealer(key, salt, purpose, place).seal(plaintext)


def open_sealed(keys: Mapping[int, DataKey], salt: bytes, purpose: Purpose, place: Place, blob: str) -> bytes:
    """Open a blob with the data key of its generation."""
    return Opener(keys, salt, purpose, place).open(blob)


def generation_of(blob: str) -> int:
    """Which generation of the org's data key a blob needs."""
    return int(_parts(blob)[1])


class Sealer:
    """Seals values of one place; the subkey is derived once."""

    def __init__(self, key: DataKey, salt: bytes, purpose: Purpose, place: Place) -> None:
        self._cipher = _subkey(key, salt, purpose)
        self._key, self._salt, self._purpose = key, salt, purpose
        self._generation = key.generation
        self._aad = _place(place, key)

    def seal(self, plaintext: bytes) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return (
            f"v1|{self._generation}|{_text(nonce)}|{_text(self._cipher.encrypt(nonce, plaintext, self._aad))}"
        )

    def proof(self, said: bytes) -> str:
        """A hash that only who has the key can make, so that it tells nothing of what may be guessed.

        The same for the same bytes, until the org has another data key.
        """
        proving = _derive(self._key.key, salt=self._salt, info=f"{self._purpose} proof".encode())
        return hmac.digest(proving.reveal(), said, "sha256").hex()


class Opener:
    """Opens values of one place, whichever generation of the data key sealed them."""

    def __init__(self, keys: Mapping[int, DataKey], salt: bytes, purpose: Purpose, place: Place) -> None:
        self._keys, self._salt, self._purpose, self._place = keys, salt, purpose, place
        self._ciphers: dict[int, tuple[AESGCM, bytes]] = {}

    def open(self, blob: str) -> bytes:
        parts = _parts(blob)
        cipher, aad = self._cipher(int(parts[1]))
        try:
            return cipher.decrypt(_bytes(parts[2]), _bytes(parts[3]), aad)
        except InvalidTag:
            raise Unsealable("not authentic") from None

    def _cipher(self, generation: int) -> tuple[AESGCM, bytes]:
        if generation not in self._ciphers:
            if generation not in self._keys:
                raise Unsealable("unknown key")
            key = self._keys[generation]
            self._ciphers[generation] = _subkey(key, self._salt, self._purpose), _place(self._place, key)
        return self._ciphers[generation]


class BadPointer(ValueError):
    """Not a JSON pointer (RFC 6901)."""


def parse_pointer(text: str) -> tuple[str, ...]:
    """The tokens of a JSON pointer; a token `*` stands for every item or key."""
    if text and not text.startswith("/"):
        raise BadPointer(f"a JSON pointer begins with a slash: {text!r}")
    if re.search(r"~(?![01])", text):
        raise BadPointer(f"in a JSON pointer, ~ stands only as ~0 or ~1: {text!r}")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def seal_paths(document: object, paths: Sequence[str], sealer: Sealer) -> object:
    """The document with the value at each pointer replaced by `{"$sealed": blob}`. Absent places are ignored.

    Bytes are read as JSON (`Malformed` when they are not). A value that already looks sealed is sealed again: its looks prove nothing.
    Sealed values are bound to the sealer's place, not to their pointer, so that expressions may carry them on.
    """
    value = decode_json(document) if isinstance(document, bytes) else document
    return _sealed(value, [parse_pointer(path) for path in paths], sealer)


def in_body(marks: Sequence[str]) -> tuple[str, ...]:
    """The same places of a body, seen from what expressions call `trigger`."""
    return tuple(f"/body{mark}" for mark in marks)


class Opens(Protocol):
    """What opens values of one place."""

    def open(self, blob: str) -> bytes: ...


def open_document(value: object, opener: Opens) -> object:
    """The document with every sealed value opened, also inside of texts. Raises `Unsealable` when one does not open."""
    return _opened(value, opener, JSON_DEPTH + 8)


def _sealed(value: Any, paths: Sequence[tuple[str, ...]], sealer: Sealer) -> Any:
    if () in paths:
        return {SEALED: sealer.seal(msgspec.json.encode(value))}
    if not paths:
        return value
    if isinstance(value, dict):
        return {key: _sealed(item, _below(paths, key), sealer) for key, item in value.items()}
    if isinstance(value, list):
        return [_sealed(item, _below(paths, str(index)), sealer) for index, item in enumerate(value)]
    return value


def _below(paths: Sequence[tuple[str, ...]], token: str) -> list[tuple[str, ...]]:
    return [path[1:] for path in paths if path[0] in (token, "*")]


def _opened(value: Any, opener: Opens, depth: int) -> Any:
    if is_sealed(value):
        return msgspec.json.decode(opener.open(value[SEALED]))
    if isinstance(value, str):
        return replaced(value, lambda blob: written(msgspec.json.decode(opener.open(blob))))
    if depth == 0 and isinstance(value, dict | list):
        raise Unsealable("too deep")
    if isinstance(value, dict):
        return {key: _opened(item, opener, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_opened(item, opener, depth - 1) for item in value]
    return value


class SigningKey:
    """Signs anchors (Ed25519). The database never holds it."""

    __slots__ = ("_key",)

    def __init__(self, seed: Secret) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed.reveal())

    @classmethod
    def from_file(cls, path: Path) -> "SigningKey":
        return cls(read_key_file(path))

    @classmethod
    def generate(cls, path: Path) -> "SigningKey":
        return cls(write_key_file(path))

    @property
    def public(self) -> bytes:
        """The 32 bytes that anybody may have."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of the key to `public` signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_key_file(path: Path) -> Secret:
    """32 bytes in base64 from a regular file that only its owner may read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileUnusable(f"{path}: {error.strerror}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileUnusable(f"{path}: not a regular file")
        if mode & 0o077:
            raise KeyFileUnusable(f"{path}: others may read it; chmod 600 it")
        text = os.read(descriptor, 1024).strip()
    finally:
        os.close(descriptor)
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise KeyFileUnusable(f"{path}: not base64") from error
    if len(key) != KEY_BYTES:
        raise KeyFileUnusable(f"{path}: not {KEY_BYTES} bytes in base64")
    return Secret(key)


def write_key_file(path: Path) -> Secret:
    """A new random key on disk, mode 0600. Refuses to touch a file that is there."""
    key = Secret(secrets.token_bytes(KEY_BYTES))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileUnusable(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(key.reveal()) + b"\n")
        file.flush()
        os.fsync(descriptor)  # What is sealed with it must not outlive it by a power cut.
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key


def _derive(key: Secret, *, salt: bytes, info: bytes) -> Secret:
    return Secret(HKDF(hashes.SHA256(), KEY_BYTES, salt, info).derive(key.reveal()))


def _subkey(key: DataKey, salt: bytes, purpose: Purpose) -> AESGCM:
    if len(salt) != SALT_BYTES:
        raise ValueError("a salt has 32 bytes")
    return AESGCM(_derive(key.key, salt=salt, info=purpose.encode()).reveal())


def _place(place: Place, key: DataKey) -> bytes:
    if place.org != key.org:
        raise ValueError("a data key seals only for its own org")
    return _aad(place.org, place.object, place.field, str(key.generation))


def _aad(*parts: str) -> bytes:
    # Escaped, so that no two lists of parts give the same bytes.
    return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts).encode()


def _parts(blob: str) -> re.Match[str]:
    parts = _BLOB.fullmatch(blob)
    if parts is None:
        raise Unsealable("malformed")
    return parts


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Unsealable("malformed") from None
    if _text(data) != text:
        raise Unsealable("malformed")  # One blob has one spelling.
    return data
