"""Computes the hash of a text or file."""

import hashlib
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.limits import FILE_BYTES
from contracts.nodes import NodeSpec
from executor.contents import Content, data_of
from executor.encodings import Encoding, encoded
from executor.forms import form
from executor.node import Context, Result

Algorithm: TypeAlias = Literal["sha256", "sha384", "sha512", "sha3_256", "blake2b", "sha1", "md5"]
_WEAK: Final = "sha1 and md5 are for old systems that ask for them; they prove nothing."


class CryptoHash(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    content: Content
    algorithm: Annotated[Algorithm, Meta(title="Algorithm", description=_WEAK)] = "sha256"
    encoding: Encoding = "hex"


class CryptoHashNode:
    """Touches nothing, so it may be repeated at will."""

    spec: ClassVar = NodeSpec(
        type="crypto.hash",
        title="Hash",
        help="Computes the hash of a text or file.",
        icon="hash",
        category="Security",
        repeat="yes",
        config=form(CryptoHash),
        timeout_s=60,
    )
    config: ClassVar = CryptoHash

    async def run(self, config: CryptoHash, context: Context) -> Result:
        data = await data_of(config.content, context, most=FILE_BYTES)
        digest = hashlib.new(config.algorithm, data, usedforsecurity=False).digest()
        return Result(output=encoded(digest, config.encoding))


node = CryptoHashNode()
