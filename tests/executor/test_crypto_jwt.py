"""Tokens that whoever has the public half, or the same key, can verify, and nobody can make who has not."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chassis.egress import Credential
from chassis.secret import BearerSecret, HmacSecret, Secret, SecretValue, TextSecret
from contracts.codec import Malformed, decode_json
from contracts.limits import TOKEN_BYTES, TOKEN_SECONDS
from executor.errors import BadConfig, StepError, TooLarge
from executor.node import SecretReference
from executor.outputs import pack
from executor.registry import registry
from tests.executor.fakes import simulated

NODE: Final = registry(()).nodes["crypto.jwt"]
NOON: Final = datetime(2026, 11, 21, 12, 0, 0, 900_000, tzinfo=UTC)
MADE: Final = 1_795_262_400
SHARED: Final = b"k" * 64
KEY: Final = {"$secret": "sec_1"}
PAIRS: Final[dict[str, Any]] = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "point": ec.generate_private_key(ec.SECP256R1()),
    "edwards": ed25519.Ed25519PrivateKey.generate(),
}


class Attempt:
    """A moment and one secret."""

    now = NOON

    def __init__(self, secret: SecretValue) -> None:
        self._secret = secret

    async def open(self, _reference: SecretReference) -> Credential:
        return Credential(value=self._secret, allowed_hosts=())


def pem(pair: Any) -> TextSecret:
    written = pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return TextSecret(text=Secret(written))


def made(secret: SecretValue, **config: Any) -> Any:
    attempt: Any = Attempt(secret)
    decoded = NODE.decode(msgspec.json.encode({"key": KEY} | config))
    return decode_json(pack(simulated(NODE.node.run(decoded, attempt)).output).body)


def part(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def taken_apart(token: str) -> tuple[Any, Any, bytes, bytes]:
    """Header, claims, what is signed, and the signature."""
    header, claims, signature = token.split(".")
    return (
        msgspec.json.decode(part(header)),
        msgspec.json.decode(part(claims)),
        f"{header}.{claims}".encode(),
        part(signature),
    )


def refused(error: type[StepError], secret: SecretValue, **config: Any) -> StepError:
    with pytest.raises(error) as caught:
        made(secret, **config)
    return caught.value


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_shared_key_signs_what_the_claims_say(algorithm: str) -> None:
    told = made(
        HmacSecret(key=Secret(SHARED)),
        claims={"iss": "us", "aud": ["them", "ü"], "n": 1.5},
        algorithm=algorithm,
        key_id="first",
        lifetime_s=60,
    )
    header, claims, signed, signature = taken_apart(told["token"])
    assert header == {"alg": algorithm, "typ": "JWT", "kid": "first"}
    assert claims == {"iss": "us", "aud": ["them", "ü"], "n": 1.5, "iat": MADE, "exp": MADE + 60}
    assert told["expires"] == MADE + 60
    assert signature == hmac.digest(SHARED, signed, f"sha{algorithm[2:]}")


def test_a_private_key_signs_what_its_public_half_verifies() -> None:
    _, claims, signed, signature = taken_apart(made(pem(PAIRS["rsa"]), algorithm="RS256")["token"])
    assert claims == {"iat": MADE, "exp": MADE + 300}
    PAIRS["rsa"].public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    header, _, signed, signature = taken_apart(made(pem(PAIRS["rsa"]), algorithm="PS256")["token"])
    assert header == {"alg": "PS256", "typ": "JWT"}
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), hashlib.sha256().digest_size)
    PAIRS["rsa"].public_key().verify(signature, signed, scheme, hashes.SHA256())
    _, _, signed, signature = taken_apart(made(pem(PAIRS["point"]), algorithm="ES256")["token"])
    assert len(signature) == 64
    numbers = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    PAIRS["point"].public_key().verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashes.SHA256()))
    _, _, signed, signature = taken_apart(made(pem(PAIRS["edwards"]), algorithm="EdDSA")["token"])
    PAIRS["edwards"].public_key().verify(signature, signed)


def test_the_signature_of_a_number_that_begins_with_a_zero_is_as_long_as_any() -> None:
    tokens = [made(pem(PAIRS["point"]), algorithm="ES256")["token"] for _ in range(300)]
    assert {len(taken_apart(token)[3]) for token in tokens} == {64}


@pytest.mark.parametrize(
    ("secret", "algorithm"),
    [
        (BearerSecret(token=Secret("t" * 64)), "HS256"),
        (TextSecret(text=Secret("t" * 64)), "HS256"),
        (HmacSecret(key=Secret("k" * 31)), "HS256"),
        (HmacSecret(key=Secret("k" * 63)), "HS512"),
        (HmacSecret(key=Secret(SHARED)), "RS256"),
        (TextSecret(text=Secret("no PEM")), "EdDSA"),
        (pem(PAIRS["rsa"]), "ES256"),
        (pem(PAIRS["point"]), "RS256"),
        (pem(PAIRS["edwards"]), "PS256"),
        (pem(PAIRS["point"]), "EdDSA"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "ES256"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "RS256"),
    ],
)
def test_a_key_that_does_not_fit_its_algorithm_signs_nothing(secret: SecretValue, algorithm: str) -> None:
    assert refused(BadConfig, secret, algorithm=algorithm).field == "/key"


def test_a_broken_key_is_not_quoted() -> None:
    broken = "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n"
    error = refused(BadConfig, TextSecret(text=Secret(broken)), algorithm="EdDSA")
    assert "CANARY" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_how_long_a_token_is_good_for_is_said_in_one_place_and_bounded() -> None:
    shared = HmacSecret(key=Secret(SHARED))
    for name in ("iat", "exp"):
        assert refused(BadConfig, shared, claims={name: 9e9}).field == f"/claims/{name}"
    assert made(shared, lifetime_s=TOKEN_SECONDS)["expires"] == MADE + TOKEN_SECONDS
    for seconds in (0, TOKEN_SECONDS + 1):
        with pytest.raises(Malformed):
            made(shared, lifetime_s=seconds)


def test_a_token_is_bounded_and_needs_a_key() -> None:
    shared = HmacSecret(key=Secret(SHARED))
    assert refused(TooLarge, shared, claims={"x": "y" * TOKEN_BYTES}).field == "/claims"
    assert refused(BadConfig, shared, key=None).field == "/key"
    for algorithm in ("none", "HS1"):
        with pytest.raises(Malformed):
            made(shared, algorithm=algorithm)
