"""Signs a text or file with a secret key (RFC 2104)."""

import hmac
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from chassis.secret import HmacSecret
from contracts.limits import FILE_BYTES
from contracts.nodes import NodeSpec
from executor.contents import Content, data_of
from executor.encodings import Encoding, encoded
from executor.errors import BadConfig
from executor.forms import form
from executor.node import Context, Result, SecretField


class CryptoHmac(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Content
    key: Annotated[SecretField, Meta(title="Key", description="A secret of the kind `hmac`.")] = None
    algorithm: Annotated[Literal["sha256", "sha384", "sha512", "sha1"], Meta(title="Algorithm")] = "sha256"
    encoding: Encoding = "hex"


class CryptoHmacNode:
    """Only the signature becomes known. Touches nothing."""

    spec: ClassVar = NodeSpec(
        type="crypto.hmac",
        title="Sign (HMAC)",
        help="Computes the HMAC of a text or file with a stored key, for APIs that want signed requests.",
        icon="key-round",
        category="Security",
        repeat="yes",
        config=form(CryptoHmac),
        timeout_s=60,
    )
    config: ClassVar = CryptoHmac

    async def run(self, config: CryptoHmac, context: Context) -> Result:
        if config.key is None:
            raise BadConfig("A key is needed.", field="/key")
        secret = (await context.open(config.key)).value
        if not isinstance(secret, HmacSecret):
            raise BadConfig("The secret is not of the kind `hmac`.", field="/key")
        data = await data_of(config.content, context, most=FILE_BYTES)
        signature = hmac.digest(secret.key.reveal(), data, config.algorithm)
        return Result(output=encoded(signature, config.encoding))


node = CryptoHmacNode()
