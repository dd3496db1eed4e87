"""The public half of the key that signs anchors, as others keep it: PEM, which every tool for keys reads."""

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from chassis.sealing import KeyFileUnusable, SigningKey
from deploy.refusals import Refused

_FILE_BYTES: Final = 64_000


def public_of(signing_key: Path) -> bytes:
    """The 32 bytes that belong to a private key on this machine."""
    try:
        return SigningKey.from_file(signing_key).public
    except KeyFileUnusable as unusable:
        raise Refused(f"The signing key cannot be used: {unusable}.") from unusable


def pem(public: bytes) -> str:
    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read(file: Path) -> bytes:
    """The 32 bytes of a public key in a file."""
    with file.open("rb") as opened:
        data = opened.read(_FILE_BYTES)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(f"{file} holds no public key in PEM.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise Refused(f"{file} holds a key, but no Ed25519 key.")
    return key.public_bytes_raw()
