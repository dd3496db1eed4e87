"""Makes a signed token (JWT, RFC 7519) of claims, for APIs that ask for one at every call."""

import hmac
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Meta, Struct

from chassis.secret import HmacSecret, Secret, SecretValue, TextSecret
from contracts.limits import TOKEN_BYTES, TOKEN_SECONDS
from contracts.nodes import NodeSpec
from executor.encodings import encoded
from executor.errors import BadConfig, TooLarge
from executor.forms import form
from executor.node import Context, Result, SecretField

Algorithm: TypeAlias = Literal["HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA"]
_OURS: Final = ("iat", "exp")
_RSA_BITS: Final = 2_048
"""RFC 7518 asks for as much."""
_P256_BYTES: Final = 32
_KEY: Final = (
    "For HS256, HS384 and HS512 a secret of the kind `hmac`; for the others one of the kind `text`: a private key in PEM, without a "
    "password."
)


class CryptoJwt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    claims: Annotated[
        dict[str, Any],
        Meta(
            title="Claims",
            description="What the token says, such as iss, sub and aud. When it was made and until when it is good is added.",
        ),
    ] = {}
    key: Annotated[SecretField, Meta(title="Key", description=_KEY)] = None
    algorithm: Annotated[Algorithm, Meta(title="Algorithm")] = "HS256"
    key_id: Annotated[
        str, Meta(title="Key id", description="By which the other side finds its key (kid).", max_length=200)
    ] = ""
    lifetime_s: Annotated[int, Meta(title="Good for (seconds)", ge=1, le=TOKEN_SECONDS)] = 300


class CryptoJwtNode:
    """The key becomes known to nobody. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="crypto.jwt",
        title="Sign a token (JWT)",
        help="Signs claims with a stored key. Gives `token` and `expires`. Whoever has the token may use it until then, so it is "
        "sealed before anything is kept of it: hand it to another node, such as in `Bearer {{ steps.sign.output.token }}`. Where "
        'people are to see it, say `"sensitive": []`.',
        icon="key-round",
        category="Security",
        repeat="yes",
        config=form(CryptoJwt),
        timeout_s=60,
        sensitive=("/token",),
    )
    config: ClassVar = CryptoJwt

    async def run(self, config: CryptoJwt, context: Context) -> Result:
        for name in _OURS:
            if name in config.claims:
                raise BadConfig("This is added, by how long the token is good for.", field=f"/claims/{name}")
        if config.key is None:
            raise BadConfig("A key is needed.", field="/key")
        made = int(context.now.timestamp())
        claims = {**config.claims, "iat": made, "exp": made + config.lifetime_s}
        header = {"alg": config.algorithm, "typ": "JWT"} | ({"kid": config.key_id} if config.key_id else {})
        body = ".".join(encoded(msgspec.json.encode(part), "base64url") for part in (header, claims)).encode()
        if len(body) > TOKEN_BYTES:
            raise TooLarge(f"The token has more than {TOKEN_BYTES:,} bytes.", field="/claims")
        sign = _signer(config.algorithm, (await context.open(config.key)).value)
        token = f"{body.decode()}.{encoded(sign(body), 'base64url')}"
        return Result(output={"token": token, "expires": claims["exp"]})


def _signer(algorithm: Algorithm, secret: SecretValue) -> Callable[[bytes], bytes]:
    if algorithm in _HASHES:
        if not isinstance(secret, HmacSecret):
            raise BadConfig("The secret is not of the kind `hmac`.", field="/key")
        return _symmetric(secret.key, _HASHES[algorithm])
    if not isinstance(secret, TextSecret):
        raise BadConfig("The secret is not of the kind `text`.", field="/key")
    return _asymmetric(secret.text, algorithm)


_HASHES: Final[Mapping[str, str]] = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def _symmetric(key: Secret, name: str) -> Callable[[bytes], bytes]:
    least = int(name.removeprefix("sha")) // 8
    if len(key.reveal()) < least:
        # A token is seen by others, who have all the time of the world to guess a short key.
        raise BadConfig(f"For this algorithm the key has at least {least} bytes (RFC 7518).", field="/key")
    return lambda body: hmac.digest(key.reveal(), body, name)


def _asymmetric(pem: Secret, algorithm: Algorithm) -> Callable[[bytes], bytes]:
    try:
        key = load_pem_private_key(pem.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says may show a part of the key.
        raise BadConfig("The secret is no private key in PEM without a password.", field="/key") from None
    match key, algorithm:
        case rsa.RSAPrivateKey() as pair, "RS256" if pair.key_size >= _RSA_BITS:
            return lambda body: pair.sign(body, padding.PKCS1v15(), hashes.SHA256())
        case rsa.RSAPrivateKey() as salted, "PS256" if salted.key_size >= _RSA_BITS:
            return lambda body: salted.sign(body, _PSS, hashes.SHA256())
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()) as point, "ES256":
            return lambda body: _joined(point.sign(body, ec.ECDSA(hashes.SHA256())))
        case ed25519.Ed25519PrivateKey() as edwards, "EdDSA":
            return edwards.sign
        case _:
            message = f"{algorithm} needs {_NEEDS[algorithm]}, and the secret is another key."
            raise BadConfig(message, field="/key")


_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)
_NEEDS: Final[Mapping[str, str]] = {
    "RS256": f"an RSA key of at least {_RSA_BITS} bits",
    "PS256": f"an RSA key of at least {_RSA_BITS} bits",
    "ES256": "a key on the curve P-256",
    "EdDSA": "an Ed25519 key",
}


def _joined(signature: bytes) -> bytes:
    """Both numbers of the signature beside each other, as RFC 7518 wants them, not in DER."""
    first, second = decode_dss_signature(signature)
    return first.to_bytes(_P256_BYTES) + second.to_bytes(_P256_BYTES)


node = CryptoJwtNode()
